/* A directory of its own for a test that writes files. */
#pragma once

/* cmocka set-up and tear-down: *state is the path; everything in it is removed. */
int scratch_open(void **state);
int scratch_close(void **state);

/* "dir/name" in a static buffer that lives until the next call. */
const char *scratch_path(void **state, const char *name);

/* The contents of a file as a malloc'd string. */
char *scratch_read(const char *path);
void scratch_write(const char *path, const char *text);
