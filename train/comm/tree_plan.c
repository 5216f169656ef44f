#include "train/comm/tree_plan.h"
#include "train/comm/tree.h"

void tree_share(int64_t M, int size, int rank, int64_t *lo, int64_t *hi) {
    int64_t each = M / size,
            more = M % size; /* the first `more` ranks take one more, so rank 0 always has micro-batch 0 */
    *lo = each * rank + (rank < more ? rank : more);
    *hi = *lo + each + (rank < more ? 1 : 0);
}

int tree_owner(int64_t M, int size, int64_t micro) {
    int64_t each = M / size, more = M % size, wide = (each + 1) * more; /* micro-batches in the longer shares */
    return (int)(micro < wide ? micro / (each + 1) : more + (micro - wide) / each);
}

/* The fewest nodes that cover [lo, hi). */
static int64_t cover(int64_t lo, int64_t hi) {
    int64_t nodes = 0;
    for (; lo < hi; nodes++) {
        int64_t span = 1;
        while (lo % (2 * span) == 0 && lo + 2 * span <= hi) span *= 2;
        lo += span;
    }
    return nodes;
}

int64_t tree_nodes(int64_t lo, int64_t hi, int64_t M) {
    int64_t most = 0, last = hi < M ? hi : hi - 1; /* how far the share may have come when one more is needed */
    for (int64_t end = lo + 1; end <= last; end++) {
        int64_t nodes = cover(lo, end);
        if (nodes > most) most = nodes;
    }
    return most + 1;
}

bool tree_next(tree_merge_t *m) {
    m->right = m->right ? m->right + 2 : 1;
    if (m->right << m->level >= m->M) { /* no such node: the first pair of the next level */
        m->level++;
        m->right = 1;
        if (m->right << m->level >= m->M) return false;
    }
    m->from = tree_owner(m->M, m->size, m->right << m->level);
    m->into = tree_owner(m->M, m->size, (m->right - 1) << m->level);
    return true;
}
