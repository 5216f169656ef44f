#include "train/run/registry.h"
#include "train/methods/method.h"
#include "train/objectives/objective.h"

static const method_fields_t *find(const char *type) {
    const method_t *m = method_find(type);
    return m ? &m->section : NULL;
}

static const char *type(int i) {
    return methods[i] ? methods[i]->section.type : NULL;
}

static const method_fields_t *objective(int i) {
    return objectives[i] ? &objectives[i]->section : NULL;
}

const config_methods_t *registry_methods(void) {
    static const config_methods_t table = {.find = find, .type = type, .objective = objective};
    return &table;
}
