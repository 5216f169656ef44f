/* Requests to stop: USR1, USR2, TERM and INT set a flag that the run looks at between steps and micro-batches of
 * evaluations. A second signal ends the process at once; the last checkpoint stands. *local* */
#pragma once

/* The flag; handlers are installed at the first call. */
const volatile int *signals_flag(void);
