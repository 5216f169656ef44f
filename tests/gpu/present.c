/* Tests of a real device are skipped where there is none: asked before main, as the tests are the emulator's own. */
#include <stdio.h>
#include <stdlib.h>
#include "kernels/cuda.h"

__attribute__((constructor)) static void look(void) {
    char why[256];
    if (cuda_count(why, sizeof why) > 0) return;
    printf("skipped: no usable GPU: %s\n", why);
    fflush(stdout);
    _Exit(77);
}
