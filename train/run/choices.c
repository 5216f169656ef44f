#include "train/run/choices.h"
#include <stdlib.h>
#include "kernels/buf.h"

static status_t own_choices(const device_t *d, size_t room, char **text) {
    void *p;
    TRY(buf_calloc(&p, (int64_t)room, 1, "choices of a device"));
    device_choices(d, p, room);
    *text = p;
    return ST_OK;
}

/* Rank 0's device takes over what the others have beyond its own; so it knows all. */
static status_t receive_all(comm_t *c, device_t *d, char *text, int64_t room) {
    for (int rank = 1; rank < comm_size(c); rank++) {
        if (rank == comm_rank(c)) device_choices(d, text, (size_t)room);
        TRY(comm_bcast(c, text, room, rank));
        if (comm_rank(c) == 0) (void)device_adopt(d, text);
    }
    return ST_OK;
}

status_t choices_gather(comm_t *c, device_t *d, char **text) {
    int64_t room = (int64_t)device_choices(d, NULL, 0) + 1;
    *text = NULL;
    if (d && comm_size(c) > 1) {
        TRY(comm_max_i64(c, &room, 1));
        TRY(comm_agree(c, own_choices(d, (size_t)room, text)));
        TRY(receive_all(c, d, *text, room));
        free(*text);
        *text = NULL;
        room = (int64_t)device_choices(d, NULL, 0) + 1;
    }
    return comm_agree(c, comm_rank(c) == 0 ? own_choices(d, (size_t)room, text) : ST_OK);
}
