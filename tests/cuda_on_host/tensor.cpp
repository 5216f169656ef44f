/* The tensor-core operations of a warp, element by element from the layouts of the PTX manual (m16n8k16, ldmatrix). */
#include "kernels/cuda/wrap.cuh"

namespace on_host {

void mma_of_warp(thread_t *lanes) {
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const mma_t *m = (const mma_t *)lanes[lane].arg;
        int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++)
            for (int high = 0; high < 2; high++) a[g + i % 2 * 8][2 * t + i / 2 * 8 + high] = half_of(m->a[i], high);
        for (int i = 0; i < 2; i++)
            for (int high = 0; high < 2; high++) b[2 * t + i * 8 + high][g] = half_of(m->b[i], high);
    }
    for (int lane = 0; lane < 32; lane++) {
        const mma_t *m = (const mma_t *)lanes[lane].arg;
        for (int i = 0; i < 4; i++) {
            int row = lane / 4 + i / 2 * 8, col = 2 * (lane % 4) + i % 2;
            float sum = m->d[i];
            for (int k = 0; k < 16; k++) sum += a[row][k] * b[k][col];
            m->d[i] = sum;
        }
    }
}

/* The warp reads as one: what a lane wrote is not seen before a warp_sync. */
static void matrices(thread_t *lanes, bool trans) {
    uint16_t element[4][8][8];
    for (int lane = 0; lane < 32; lane++) {
        int row = ((const matrices_t *)lanes[lane].arg)->row;
        note_read<16>(row, (uint16_t)(lanes->warp * 64 + LANE_ALL));
        memcpy(element[lane / 8][lane % 8], block->memory + row, 16);
    }
    for (int lane = 0; lane < 32; lane++)
        for (int m = 0; m < 4; m++) {
            int row = lane / 4, col = 2 * (lane % 4);
            uint16_t low = trans ? element[m][col][row] : element[m][row][col];
            uint16_t high = trans ? element[m][col + 1][row] : element[m][row][col + 1];
            ((const matrices_t *)lanes[lane].arg)->r[m] = (uint32_t)high << 16 | low;
        }
}

void matrices_of_warp(thread_t *lanes) {
    matrices(lanes, false);
}

void matrices_of_warp_trans(thread_t *lanes) {
    matrices(lanes, true);
}

} // namespace on_host
