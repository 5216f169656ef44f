/* Commands: argv[0] is the command's name. Each returns a status; main prints the chain once and maps it to the exit
 * code. Results go to stdout, notices to stderr. */
#pragma once
#include "kernels/status.h"

status_t cmd_train(int argc, char **argv);
status_t cmd_eval(int argc, char **argv);
status_t cmd_score(int argc, char **argv);
status_t cmd_generate(int argc, char **argv);
status_t cmd_tokenize(int argc, char **argv);
status_t cmd_data(int argc, char **argv);
status_t cmd_export(int argc, char **argv);
status_t cmd_inspect(int argc, char **argv);
status_t cmd_doctor(int argc, char **argv);
