#include "tests/cuda_on_host/fiber.hpp"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif
#ifdef GRAFT_SANITIZE
#include <sanitizer/common_interface_defs.h>
#endif

namespace on_host {

enum { STACK = 512 * 1024, GUARD = 64 * 1024 };

#ifdef __x86_64__
/* Keeps what a called function must keep on the old stack and takes it from the new one. */
extern "C" void cuda_on_host_change(void **save_sp, void *sp);
__asm__(".text\n"
        ".globl cuda_on_host_change\n"
        ".type cuda_on_host_change,@function\n"
        "cuda_on_host_change:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp,(%rdi)\n"
        "movq %rsi,%rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\n"
        "ret\n"
        ".size cuda_on_host_change,.-cuda_on_host_change\n");
#endif

static fiber_t *fiber_new() {
    fiber_t *f = (fiber_t *)calloc(1, sizeof *f);
    if (!f) abort();
    return f;
}

fiber_t *fiber_make(void (*main)()) {
    fiber_t *f = fiber_new();
    char *low =
        (char *)mmap(NULL, STACK + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (low == MAP_FAILED || mprotect(low, GUARD, PROT_NONE) != 0) {
        perror("cuda_on_host: no memory for stacks");
        abort();
    }
    f->low = low + GUARD;
    f->bytes = STACK;
#ifdef __x86_64__
    uintptr_t *top = (uintptr_t *)(f->low + f->bytes);
    *--top = 0; /* main's return address: none */
    *--top = (uintptr_t)main;
    f->sp = top - 6; /* the registers, zero */
#else
    ucontext_t *u = (ucontext_t *)calloc(1, sizeof *u);
    if (!u) abort();
    getcontext(u);
    u->uc_stack.ss_sp = f->low;
    u->uc_stack.ss_size = f->bytes;
    makecontext(u, main, 0);
    f->sp = u;
#endif
    return f;
}

fiber_t *fiber_of_caller() {
    fiber_t *f = fiber_new();
#ifndef __x86_64__
    f->sp = calloc(1, sizeof(ucontext_t));
    if (!f->sp) abort();
#endif
    return f;
}

void fiber_change(fiber_t *from, fiber_t *to) {
#ifdef GRAFT_SANITIZE
    __sanitizer_start_switch_fiber(&from->fake_stack, to->low, to->bytes);
#endif
#ifdef __x86_64__
    cuda_on_host_change(&from->sp, to->sp);
#else
    swapcontext((ucontext_t *)from->sp, (ucontext_t *)to->sp);
#endif
#ifdef GRAFT_SANITIZE
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}

void fiber_begin(fiber_t *from) {
#ifdef GRAFT_SANITIZE
    const void *low;
    size_t bytes;
    __sanitizer_finish_switch_fiber(NULL, &low, &bytes);
    if (!from->low) { /* the program's own stack: now we know where it is */
        from->low = (char *)low;
        from->bytes = bytes;
    }
#else
    (void)from;
#endif
}

} // namespace on_host
