/* The methods: one row each. */
#include <stdio.h>
#include <string.h>
#include "train/methods/method.h"

extern const method_t method_lora;
extern const method_t method_prompt_tuning;
extern const method_t method_p_tuning;
extern const method_t method_prefix_tuning;
extern const method_t method_control_prefix;
extern const method_t method_full;
extern const method_t method_demix;

const method_t *const methods[] = {
    &method_lora,           &method_prompt_tuning, &method_p_tuning, &method_prefix_tuning,
    &method_control_prefix, &method_full,          &method_demix,    NULL};

const method_t *method_find(const char *name) {
    for (const method_t *const *m = methods; *m; m++)
        if (!strcmp((*m)->section.type, name)) return *m;
    return NULL;
}

const method_t *method_find_peft(const char *peft_type) {
    for (const method_t *const *m = methods; *m; m++)
        if (!strcmp((*m)->peft_type, peft_type)) return *m;
    return NULL;
}

void method_peft_types(char *out, size_t size) {
    size_t n = 0;
    out[0] = 0;
    for (const method_t *const *m = methods; *m && n < size; m++)
        n += (size_t)snprintf(out + n, size - n, "%s%s", n ? ", " : "", (*m)->peft_type);
}
