#include "data/nearest.h"
#include <string.h>

enum { WORD_MAX = 63, FAR = 64, NEAR = 3 };

static int min_int(int a, int b) {
    return a < b ? a : b;
}

int nearest_distance(const char *a, const char *b) {
    size_t na = strlen(a), nb = strlen(b);
    if (na > WORD_MAX || nb > WORD_MAX) return FAR;
    int row[3][WORD_MAX + 1]; /* rows i-2, i-1 and i of the edit table */
    int *before = row[0], *last = row[1], *now = row[2];
    for (size_t j = 0; j <= nb; j++) last[j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        now[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int edit = last[j - 1] + (a[i - 1] != b[j - 1]);
            edit = min_int(edit, min_int(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) edit = min_int(edit, before[j - 2] + 1);
            now[j] = edit;
        }
        int *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[nb];
}

void nearest_offer(nearest_t *n, const char *candidate) {
    int d = nearest_distance(n->word, candidate);
    size_t na = strlen(n->word), nb = strlen(candidate);
    size_t shorter = na < nb ? na : nb;
    if (d > NEAR || (size_t)d >= shorter || (n->best && d >= n->distance)) return;
    n->best = candidate;
    n->distance = d;
}

void nearest_offer_list(nearest_t *n, const char *list, char *store, size_t size) {
    while (*list) {
        size_t len = strcspn(list, "|");
        char word[WORD_MAX + 1];
        if (len <= WORD_MAX && len < size) {
            memcpy(word, list, len);
            word[len] = 0;
            nearest_offer(n, word);
            if (n->best == word) {
                memcpy(store, word, len + 1);
                n->best = store;
            }
        }
        list += len + (list[len] == '|');
    }
}
