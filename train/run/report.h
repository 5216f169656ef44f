/* report.html: one self-contained page about a run: summary, curves, configuration, machine. No scripts, no images, no
 * links to elsewhere. It is published atomically and may be written again at any time. Rank 0 only; *local*. */
#pragma once
#include "kernels/status.h"

typedef struct report {
    const char *title;        /* such as the run's output_dir */
    const char *metrics_path; /* the metrics.jsonl that the curves come from */
    const char *config;       /* resolved configuration, YAML */
    const char *device;       /* "cpu" */
    int ranks;
    int threads; /* of each rank */
} report_t;

/* ST_INPUT if the metrics cannot be read, ST_IO or ST_NOSPACE if the page cannot be written. */
status_t report_write(const char *path, const report_t *r);
