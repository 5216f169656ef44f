#include "common_files.h"
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

char *scratch_create(void) {
    const char *base = getenv("TMPDIR");
    char *dir = scratch_path(base ? base : "/tmp", "graft-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return dir;
}

char *scratch_path(const char *dir, const char *name) {
    size_t n = strlen(dir) + strlen(name) + 2;
    char *path = malloc(n);
    assert_non_null(path);
    snprintf(path, n, "%s/%s", dir, name);
    return path;
}

char *scratch_file(const char *dir, const char *name, const void *bytes, size_t n) {
    char *path = scratch_path(dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    if (n) assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}

static int visit(const char *dir, int delete) {
    DIR *d = opendir(dir);
    assert_non_null(d);
    int n = 0;
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        n++;
        if (!delete) continue;
        char *path = scratch_path(dir, e->d_name);
        unlink(path);
        free(path);
    }
    closedir(d);
    return n;
}

int scratch_count(const char *dir) {
    return visit(dir, 0);
}

void scratch_remove(char *dir) {
    visit(dir, 1);
    rmdir(dir);
    free(dir);
}
