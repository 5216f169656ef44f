#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "train/export/export.h"

static status_t plain(const export_source_t *s, method_result_t *out) {
    TRY(s->method->describe(s->method_self, s->model, &out->peft_config));
    json_object_del(out->peft_config, "graft");
    void *rows;
    TRY(buf_calloc(&rows, s->last_param - s->first_param + 1, sizeof *out->tensor, "tensor table"));
    out->tensor = rows;
    for (int i = s->first_param; i < s->last_param; i++) {
        const param_t *p = &s->model->params.item[i];
        if (!p->trainable) continue;
        out->tensor[out->n_tensor].name = p->own;
        out->tensor[out->n_tensor].rank = p->value.rank;
        out->tensor[out->n_tensor].data = p->value.data;
        memcpy(out->tensor[out->n_tensor].dim, p->value.dim, (size_t)p->value.rank * sizeof *p->value.dim);
        out->n_tensor++;
    }
    return ST_OK;
}

status_t export_result(const export_source_t *s, method_result_t *out) {
    memset(out, 0, sizeof *out);
    status_t st = s->method->result ? s->method->result(s->method_self, s->model, &s->choice, out) : plain(s, out);
    if (st != ST_OK) export_result_release(out);
    return st;
}

void export_result_release(method_result_t *r) {
    json_decref(r->peft_config);
    free(r->tensor);
    free(r->memory);
    memset(r, 0, sizeof *r);
}
