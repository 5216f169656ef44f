/* How many threads a rank should use. Ranks of a node may be bound to one core each, to a socket they share, or not at
 * all; counting for every core how many local ranks may run on it covers all three without asking which it is. */
#include "train/comm/comm_impl.h"
#include <stdlib.h>
#include <unistd.h>

enum { SHARE_UNITS = 720720 }; /* divisible by 1..16: shares of a core add up without rounding for usual rank counts */

void threads_mask(cpu_set_t *mask) {
    CPU_ZERO(mask);
    if (sched_getaffinity(0, sizeof *mask, mask) == 0 && CPU_COUNT(mask) > 0) return;
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* more cores than cpu_set_t holds: count from 0 */
    if (online < 1) online = 1;
    for (int i = 0; i < online && i < CPU_SETSIZE; i++) CPU_SET(i, mask);
}

int threads_share(const cpu_set_t *mask, const int32_t users[CPU_SETSIZE]) {
    const char *set = getenv("OMP_NUM_THREADS");
    if (set) {
        long n = strtol(set, NULL, 10); /* a list "4,2" means 4 at the outer level, the only one used here */
        if (n >= 1 && n <= CPU_SETSIZE) return (int)n;
    }
    int64_t units = 0;
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, mask)) units += SHARE_UNITS / (users[i] > 0 ? users[i] : 1);
    int64_t n = units / SHARE_UNITS;
    return n < 1 ? 1 : (int)n;
}
