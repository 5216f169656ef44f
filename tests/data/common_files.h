/* A scratch directory and files in it, for tests that read files. Every function asserts that it succeeds. */
#pragma once
#include <stddef.h>

char *scratch_create(void);                            /* a new directory; owned by the caller */
void scratch_remove(char *dir);                        /* with everything in it, and frees the name */
char *scratch_path(const char *dir, const char *name); /* DIR/NAME, owned */
char *scratch_file(const char *dir, const char *name, const void *bytes, size_t n); /* writes it; its path, owned */
int scratch_count(const char *dir);                                                 /* entries, hidden ones too */
