/* The known word nearest to a mistyped one, for "did you mean" in error messages. *Local*, no allocation. */
#pragma once
#include <stddef.h>

/* Damerau-Levenshtein distance (insert, delete, replace, swap neighbours; optimal string alignment) of two words;
 * words longer than 63 bytes count as infinitely far (returns 64). */
int nearest_distance(const char *a, const char *b);

typedef struct nearest {
    const char *word; /* what the user wrote */
    const char *best; /* the nearest candidate so far, NULL if none is near enough */
    int distance;
} nearest_t;

/* Offers a candidate: it is taken when it is at most 3 edits away, nearer than all before it, and shares something with
 * the word (fewer edits than the shorter of the two has letters). */
void nearest_offer(nearest_t *n, const char *candidate);

/* Offers every word of a list such as "best-fit|wrapped|none", keeping a copy of the best in `store`. */
void nearest_offer_list(nearest_t *n, const char *list, char *store, size_t size);
