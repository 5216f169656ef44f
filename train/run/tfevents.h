/* TensorBoard event files, written by hand: length-prefixed protobuf records with masked CRC-32C.
 *
 * A start of the run writes one new file `events.out.tfevents.<time>.<host>.<pid>.<n>` in the run's directory. After a
 * resume TensorBoard reads the files of all starts as one run; the new file then begins with a session start, which
 * makes it drop what earlier files hold from that step on. A record is one write, so a reader never sees a torn one
 * while the run lives. Only rank 0 has a writer; all functions are *local*. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "kernels/buf.h"
#include "kernels/status.h"

typedef struct tfevents tfevents_t;

/* `resumed_step` is the step the run continues from, 0 for a new run; wall_time is in seconds since 1970. */
status_t tfevents_open(const char *dir, double wall_time, int64_t resumed_step, tfevents_t **out);
status_t tfevents_scalar(tfevents_t *t, double wall_time, int64_t step, const char *tag, double value);
/* Markdown for the text tab. */
status_t tfevents_text(tfevents_t *t, double wall_time, int64_t step, const char *tag, const char *markdown);
const char *tfevents_path(const tfevents_t *t);
void tfevents_close(tfevents_t *t); /* NULL is allowed */

/* The parts, for tests. crc32c is the plain checksum, masked as stored; the encoders append one whole record. */
uint32_t tfevents_crc32c(const void *bytes, size_t n);
uint32_t tfevents_mask(uint32_t crc);
status_t tfevents_encode_version(double wall_time, strbuf_t *out);
status_t tfevents_encode_scalar(double wall_time, int64_t step, const char *tag, double value, strbuf_t *out);
