#include "kernels/op.h"

#define OP(NAME, name) extern const op_def_t op_def_##name;
#include "kernels/ops.def"
#undef OP

const op_def_t *const op_defs[OP_COUNT] = {
#define OP(NAME, name) [OP_##NAME] = &op_def_##name,
#include "kernels/ops.def"
#undef OP
};
