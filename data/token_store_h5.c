/* The head of a token store: everything of it that is HDF5. */
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "data/h5_attribute.h"
#include "data/h5_memory.h"
#include "data/token_store_impl.h"

enum { HEAD_ROOM = 1 << 16, ATTRIBUTES_COMPACT = 32 };

const char *const token_store_stream_names[STORE_STREAMS] = {
    [STORE_TOKENS] = "tokens",          [STORE_OFFSETS] = "offsets",
    [STORE_METADATA] = "metadata",      [STORE_METADATA_OFFSETS] = "metadata_offsets",
    [STORE_FIELDS] = "metadata_fields",
};

status_t token_store_sizes(const token_store_info_t *info, store_layout_t *layout) {
    const int64_t most = INT64_MAX / 64; /* sums of all streams and their checksums cannot overflow */
    if (info->documents < 1 || info->documents > most || info->tokens < info->documents || info->tokens > most ||
        info->metadata_bytes < 2 * info->documents || info->metadata_bytes > most ||
        (info->token_bytes != 2 && info->token_bytes != 4) || !info->fields)
        return st_raise(ST_INPUT, "token store", "%lld documents, %lld tokens and %lld bytes of metadata are no store",
                        (long long)info->documents, (long long)info->tokens, (long long)info->metadata_bytes);
    *layout = (store_layout_t){0};
    store_stream_t *s = layout->stream;
    s[STORE_TOKENS].bytes = info->tokens * info->token_bytes;
    s[STORE_OFFSETS].bytes = s[STORE_METADATA_OFFSETS].bytes = (info->documents + 1) * 8;
    s[STORE_METADATA].bytes = info->metadata_bytes;
    s[STORE_FIELDS].bytes = (int64_t)strlen(info->fields);
    for (int i = 0; i < STORE_STREAMS; i++) s[i].blocks = (s[i].bytes + STORE_BLOCK - 1) / STORE_BLOCK;
    return ST_OK;
}

static hid_t stream_type(int i, int token_bytes) {
    if (i == STORE_TOKENS) return token_bytes == 2 ? H5T_STD_U16LE : H5T_STD_U32LE;
    return i == STORE_OFFSETS || i == STORE_METADATA_OFFSETS ? H5T_STD_I64LE : H5T_STD_U8LE;
}

/* The places must follow each other without gaps up to the end: then all of HDF5's own bytes are in the head. */
static bool is_gap_free(store_layout_t *l) {
    int64_t at = l->head_bytes = l->stream[0].at;
    for (int i = 0; i < STORE_STREAMS; i++) {
        if (l->stream[i].at != at) return false;
        at += l->stream[i].bytes;
    }
    for (int i = 0; i < STORE_STREAMS; i++) {
        if (l->stream[i].check_at != at) return false;
        at += l->stream[i].blocks * 8;
    }
    return l->end == at;
}

/* --- writing --------------------------------------------------------------------------------------------------- */

static status_t put_failed(const char *name) {
    return st_raise(ST_IO, name, "HDF5 cannot write it; check the free memory");
}

static status_t put_attribute(hid_t file, const char *name, hid_t type, const void *v) {
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attr = space < 0 ? -1 : H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool good = attr >= 0 && H5Awrite(attr, type, v) >= 0;
    if (attr >= 0 && H5Aclose(attr) < 0) good = false;
    if (space >= 0) H5Sclose(space);
    return good ? ST_OK : put_failed(name);
}

static status_t put_text(hid_t file, const char *name, const char *text) {
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type < 0) return put_failed(name);
    status_t st = H5Tset_size(type, strlen(text) + 1) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0
                      ? put_failed(name)
                      : put_attribute(file, name, type, text);
    H5Tclose(type);
    return st;
}

static status_t put_attributes(hid_t file, const token_store_info_t *info) {
    const struct {
        const char *name;
        int64_t v;
    } numbers[] = {{"format_version", STORE_VERSION},
                   {"documents", info->documents},
                   {"tokens", info->tokens},
                   {"metadata_bytes", info->metadata_bytes}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        TRY(put_attribute(file, numbers[i].name, H5T_NATIVE_INT64, &numbers[i].v));
    TRY(put_attribute(file, "tokenizer_fingerprint", H5T_NATIVE_UINT64, &info->tokenizer_fingerprint));
    TRY(put_attribute(file, "input_fingerprint", H5T_NATIVE_UINT64, &info->input_fingerprint));
    TRY(put_text(file, "format", STORE_FORMAT));
    TRY(put_text(file, "graft_version", GRAFT_VERSION));
    TRY(put_text(file, "tokenizer", info->tokenizer));
    return put_text(file, "text_field", info->text_field);
}

/* A contiguous dataset that has its place at once and is filled later by us. */
static status_t put_dataset(hid_t group, const char *name, hid_t type, int64_t count, int64_t *at) {
    hsize_t extent = (hsize_t)count;
    hid_t space = H5Screate_simple(1, &extent, NULL), create = H5Pcreate(H5P_DATASET_CREATE), set = -1;
    if (space >= 0 && create >= 0 && H5Pset_layout(create, H5D_CONTIGUOUS) >= 0 &&
        H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY) >= 0 && H5Pset_fill_time(create, H5D_FILL_TIME_NEVER) >= 0 &&
        H5Pset_obj_track_times(create, false) >= 0)
        set = H5Dcreate2(group, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    haddr_t place = set < 0 ? HADDR_UNDEF : H5Dget_offset(set);
    if (place != HADDR_UNDEF) *at = (int64_t)place;
    if (set >= 0 && H5Dclose(set) < 0) place = HADDR_UNDEF;
    if (create >= 0) H5Pclose(create);
    if (space >= 0) H5Sclose(space);
    return place == HADDR_UNDEF ? put_failed(name) : ST_OK;
}

static status_t put_datasets(hid_t file, hid_t sums, const token_store_info_t *info, store_layout_t *l) {
    for (int i = 0; i < STORE_STREAMS; i++) {
        hid_t type = stream_type(i, info->token_bytes);
        int64_t count = l->stream[i].bytes / (int64_t)H5Tget_size(type);
        TRY(put_dataset(file, token_store_stream_names[i], type, count, &l->stream[i].at));
    }
    for (int i = 0; i < STORE_STREAMS; i++)
        TRY(put_dataset(sums, token_store_stream_names[i], H5T_STD_U64LE, l->stream[i].blocks, &l->stream[i].check_at));
    return ST_OK;
}

static hid_t create_file(h5_memory_t *m) {
    hid_t access = h5_memory_writer(m, HEAD_ROOM), create = H5Pcreate(H5P_FILE_CREATE), file = -1;
    /* One block takes all of HDF5's own bytes, and data is never put into blocks of small pieces. */
    if (access >= 0 && create >= 0 && H5Pset_meta_block_size(access, HEAD_ROOM) >= 0 &&
        H5Pset_small_data_block_size(access, 0) >= 0 && H5Pset_obj_track_times(create, false) >= 0 &&
        H5Pset_attr_phase_change(create, ATTRIBUTES_COMPACT, 0) >= 0)
        file = H5Fcreate(STORE_FORMAT, H5F_ACC_TRUNC, create, access);
    if (access >= 0) H5Pclose(access);
    if (create >= 0) H5Pclose(create);
    return file;
}

static status_t write_skeleton(h5_memory_t *m, const token_store_info_t *info, store_layout_t *l) {
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* no messages of the library on stderr */
    hid_t file = create_file(m);
    if (file < 0) return put_failed("token store");
    status_t st = put_attributes(file, info);
    hid_t create = H5Pcreate(H5P_GROUP_CREATE), sums = -1;
    if (create >= 0 && H5Pset_obj_track_times(create, false) >= 0)
        sums = H5Gcreate2(file, "checksums", H5P_DEFAULT, create, H5P_DEFAULT);
    if (create >= 0) H5Pclose(create);
    if (st == ST_OK && sums < 0) st = put_failed("checksums");
    if (st == ST_OK) st = put_datasets(file, sums, info, l);
    if (sums >= 0) H5Gclose(sums);
    if (H5Fclose(file) < 0 && st == ST_OK) st = put_failed("token store");
    return st;
}

status_t token_store_make_head(const token_store_info_t *info, store_layout_t *layout, char **head) {
    h5_memory_t m = {0};
    TRY(token_store_sizes(info, layout));
    status_t st = write_skeleton(&m, info, layout);
    layout->end = (int64_t)h5_memory_end(&m);
    if (st == ST_OK && !is_gap_free(layout))
        st = st_raise(ST_INTERNAL, "token store", "HDF5 did not lay the datasets out one behind the other");
    void *bytes = NULL;
    if (st == ST_OK) st = buf_calloc(&bytes, layout->head_bytes, 1, "head of a token store");
    if (st == ST_OK) {
        memcpy(bytes, m.bytes, m.size < (size_t)layout->head_bytes ? m.size : (size_t)layout->head_bytes);
        *head = bytes;
    }
    free(m.bytes);
    return st;
}

/* --- reading --------------------------------------------------------------------------------------------------- */

#define ADVICE "the file was not written by graft data build"

static status_t get_failed(const char *name, const char *why) {
    return st_raise(ST_INPUT, name, "%s; " ADVICE, why);
}

static status_t get_attribute(hid_t file, const char *name, hid_t type, void *v) {
    return h5_attribute_read(file, name, type, ADVICE, v);
}

static status_t get_text(hid_t file, const char *name, char **text) {
    return h5_attribute_text(file, name, STORE_TEXT_MOST, ADVICE, text);
}

static status_t get_attributes(hid_t file, token_store_info_t *info, char **version) {
    char *format = NULL, *text = NULL;
    int64_t number = 0;
    TRY(get_text(file, "format", &format));
    bool known = strcmp(format, STORE_FORMAT) == 0;
    free(format);
    if (!known) return get_failed("format", "is not '" STORE_FORMAT "'");
    TRY(get_attribute(file, "format_version", H5T_STD_I64LE, &number));
    if (number != STORE_VERSION)
        return st_raise(ST_INPUT, "format_version",
                        "is %lld, this program reads %d; use a newer graft or build it again", (long long)number,
                        STORE_VERSION);
    TRY(get_attribute(file, "documents", H5T_STD_I64LE, &info->documents));
    TRY(get_attribute(file, "tokens", H5T_STD_I64LE, &info->tokens));
    TRY(get_attribute(file, "metadata_bytes", H5T_STD_I64LE, &info->metadata_bytes));
    TRY(get_attribute(file, "tokenizer_fingerprint", H5T_STD_U64LE, &info->tokenizer_fingerprint));
    TRY(get_attribute(file, "input_fingerprint", H5T_STD_U64LE, &info->input_fingerprint));
    TRY(get_text(file, "tokenizer", &text));
    info->tokenizer = text;
    TRY(get_text(file, "text_field", &text));
    info->text_field = text;
    return get_text(file, "graft_version", version);
}

/* Place and elements of a contiguous one-dimensional dataset of this type (a negative one: uint16 or uint32). */
static status_t get_dataset(hid_t file, const char *name, hid_t type, int64_t *at, int64_t *bytes, int *size) {
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0) return get_failed(name, "dataset is missing");
    hid_t has = H5Dget_type(set), space = H5Dget_space(set);
    hsize_t extent = 0;
    bool good = has >= 0 && space >= 0 && H5Sget_simple_extent_ndims(space) == 1 &&
                H5Sget_simple_extent_dims(space, &extent, NULL) == 1 && extent < INT64_MAX / 64;
    if (type >= 0)
        good = good && H5Tequal(has, type) > 0;
    else
        good = good && (H5Tequal(has, H5T_STD_U16LE) > 0 || H5Tequal(has, H5T_STD_U32LE) > 0);
    haddr_t place = good ? H5Dget_offset(set) : HADDR_UNDEF;
    *size = good ? (int)H5Tget_size(has) : 0;
    *bytes = (int64_t)extent * *size;
    *at = place == HADDR_UNDEF || place > INT64_MAX ? -1 : (int64_t)place;
    if (has >= 0) H5Tclose(has);
    if (space >= 0) H5Sclose(space);
    H5Dclose(set);
    return good && *at >= 0 ? ST_OK : get_failed(name, "dataset has an unexpected type, shape or layout");
}

static status_t get_datasets(hid_t file, token_store_info_t *info, store_layout_t *l) {
    for (int i = 0; i < STORE_STREAMS; i++) {
        store_stream_t *s = &l->stream[i];
        char sums[64];
        int64_t bytes = 0;
        int size = 0;
        TRY(get_dataset(file, token_store_stream_names[i], i == STORE_TOKENS ? -1 : stream_type(i, 2), &s->at,
                        &s->bytes, &size));
        if (i == STORE_TOKENS) info->token_bytes = size;
        snprintf(sums, sizeof sums, "checksums/%s", token_store_stream_names[i]);
        TRY(get_dataset(file, sums, H5T_STD_U64LE, &s->check_at, &bytes, &size));
        s->blocks = bytes / 8;
    }
    return ST_OK;
}

/* The sizes that the attributes promise, the datasets' own, and the end must be the same. */
static status_t check_layout(const token_store_info_t *info, store_layout_t *l) {
    token_store_info_t told = *info;
    store_layout_t want;
    told.fields = ""; /* of any length */
    TRY(token_store_sizes(&told, &want));
    want.stream[STORE_FIELDS].bytes = l->stream[STORE_FIELDS].bytes;
    want.stream[STORE_FIELDS].blocks = (l->stream[STORE_FIELDS].bytes + STORE_BLOCK - 1) / STORE_BLOCK;
    int64_t end = l->end;
    for (int i = 0; i < STORE_STREAMS; i++)
        if (l->stream[i].bytes != want.stream[i].bytes || l->stream[i].blocks != want.stream[i].blocks)
            return get_failed(token_store_stream_names[i], "dataset has another size than the attributes say");
    bool head_fits = l->head_bytes == l->stream[0].at;
    if (!is_gap_free(l) || !head_fits || l->end != end) return get_failed("token store", "datasets are not in order");
    return ST_OK;
}

status_t token_store_read_head(const char *path, token_store_info_t *info, char **version, store_layout_t *layout) {
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), file = -1;
    if (access >= 0 && H5Pset_file_locking(access, false, true) >= 0 &&
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0)
        file = H5Fopen(path, H5F_ACC_RDONLY, access);
    if (access >= 0) H5Pclose(access);
    if (file < 0) return get_failed("token store", "HDF5 cannot open the file");
    status_t st = get_attributes(file, info, version);
    if (st == ST_OK) st = get_datasets(file, info, layout);
    H5Fclose(file);
    return st == ST_OK ? check_layout(info, layout) : st;
}
