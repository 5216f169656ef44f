#include "tests/data/common_dataset.h"
#include <stdlib.h>
#include <string.h>
#include "tests/data/common_files.h"

enum { MOST_FILES = 8 };

status_t text_dataset(const char *dir, const char *const *text, int n, dataset_options_t o, dataset_t **out) {
    char *path[MOST_FILES] = {0};
    dataset_source_t source[MOST_FILES] = {0};
    for (int i = 0; i < n; i++) {
        const char name[] = {(char)('a' + i), '.', 'j', 's', 'o', 'n', 'l', 0};
        source[i] = (dataset_source_t){scratch_file(dir, name, text[i], strlen(text[i])), 1};
        path[i] = (char *)source[i].path;
    }
    o.sources = source;
    o.n_sources = n;
    dataset_t *d = NULL;
    status_t st = dataset_open(&o, &d);
    for (int i = 0; i < n; i++) free(path[i]);
    if (st == ST_OK) st = dataset_scan(d, 0, dataset_examples(d));
    if (st == ST_OK) st = dataset_finish(d);
    if (st != ST_OK) {
        dataset_close(d);
        return st;
    }
    *out = d;
    return ST_OK;
}
