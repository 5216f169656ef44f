/* Stacks to run on, and the change from one to another. *local* */
#pragma once
#include <stddef.h>

namespace on_host {

struct fiber_t {
    void *sp;         /* where it stands, x86-64; elsewhere its ucontext */
    char *low;        /* lowest address of its stack */
    size_t bytes;     /* of its stack */
    void *fake_stack; /* AddressSanitizer's */
};

/* A fiber that calls main() at its first turn; main never returns. */
fiber_t *fiber_make(void (*main)());
/* The fiber that stands for the stack of the caller. */
fiber_t *fiber_of_caller();
/* Goes on in `to`; returns when something changes back to `from`. */
void fiber_change(fiber_t *from, fiber_t *to);
/* The first thing in a fiber's main; `from` is who changed to it. */
void fiber_begin(fiber_t *from);

} // namespace on_host
