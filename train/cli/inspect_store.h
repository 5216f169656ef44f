/* What `graft inspect` says of a token store. *local* */
#pragma once
#include <stdbool.h>
#include "kernels/status.h"

/* Prints it to stdout; `verify` reads every block. */
status_t inspect_store(const char *path, bool json, bool verify);
