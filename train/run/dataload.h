/* Opening a data set on all ranks: each tokenises its share to learn lengths, then all know all lengths. */
#pragma once
#include "data/dataset.h"
#include "train/comm/comm.h"
#include "train/config/config.h"

/* What a data set is made of; it borrows all of it. Training and evaluation share the configuration and differ in the
 * rest. */
typedef struct dataload {
    const config_data_t *config;
    const dataset_source_t *sources;
    int n_sources;
    encoder_t encoder;
    const virtual_layout_t *layout; /* what goes into every sequence */
    const int32_t *label;           /* the labels of examples that name none; NULL: none */
    const condition_t *condition;   /* what stands around documents; NULL: nothing */
    const char *score_field;        /* where the scores of examples stand; NULL: none are read */
    const threshold_t *filter;      /* which examples are taken; NULL: all */
} dataload_t;

/* *collective*. All ranks return the same status. */
status_t dataload_open(comm_t *comm, const dataload_t *load, dataset_t **out);
