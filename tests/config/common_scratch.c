#include "common_scratch.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int scratch_open(void **state) {
    char *path = strdup("scratch_XXXXXX");
    *state = path;
    return path && mkdtemp(path) ? 0 : -1;
}

int scratch_close(void **state) {
    DIR *d = opendir(*state);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.') unlink(scratch_path(state, e->d_name));
    if (d) closedir(d);
    int rc = rmdir(*state);
    free(*state);
    return rc;
}

const char *scratch_path(void **state, const char *name) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", (const char *)*state, name);
    return path;
}

char *scratch_read(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    char *text = calloc(1, 1 << 20);
    if (text && fread(text, 1, (1 << 20) - 1, f) == 0) text[0] = 0;
    fclose(f);
    return text;
}

void scratch_write(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    if (!f) abort();
    fputs(text, f);
    fclose(f);
}
