#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "data/h5_attribute.h"
#include "kernels/buf.h"
#include "train/checkpoint/checkpoint_impl.h"

enum { ATTRIBUTE_MOST = 1 << 16, TEXT_MOST = 1 << 26 };
#define CHECKSUM "xxh64"

void h5_quiet(void) {
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
} /* fails only without an error stack: as wished */

hid_t h5_open(const char *path) {
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), file = -1;
    /* STRONG: closing the file closes whatever an error path left open in it */
    if (access >= 0 && H5Pset_file_locking(access, false, true) >= 0 &&
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0)
        file = H5Fopen(path, H5F_ACC_RDONLY, access);
    if (access >= 0) H5Pclose(access);
    return file;
}

int64_t checkpoint_elements(int rank, const int64_t *dim) {
    int64_t n = 1;
    if (rank < 0 || rank > CHECKPOINT_RANK) return -1;
    for (int i = 0; i < rank; i++)
        if (dim[i] < 0 || __builtin_mul_overflow(n, dim[i], &n)) return -1;
    return n > INT64_MAX / 16 ? -1 : n;
}

/* --- writing --------------------------------------------------------------------------------------------------- */

static status_t put_failed(const char *what, const char *name) {
    return st_raise(ST_IO, name, "HDF5 cannot write this %s; check the free memory", what);
}

static status_t put_attribute(hid_t at, const char *name, hid_t type, const void *v) {
    status_t st = ST_OK;
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attr = space < 0 ? -1 : H5Acreate2(at, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attr < 0 || H5Awrite(attr, type, v) < 0) st = put_failed("attribute", name);
    if (attr >= 0 && H5Aclose(attr) < 0 && st == ST_OK) st = put_failed("attribute", name);
    if (space >= 0) H5Sclose(space);
    return st;
}

status_t h5_put_i64(hid_t at, const char *name, int64_t v) {
    return put_attribute(at, name, H5T_STD_I64LE, &v);
}
status_t h5_put_u64(hid_t at, const char *name, uint64_t v) {
    return put_attribute(at, name, H5T_STD_U64LE, &v);
}

/* A UTF-8 string type for n bytes and their NUL; -1 on failure. */
static hid_t text_type(size_t n) {
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type < 0) return type;
    if (H5Tset_size(type, n + 1) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

status_t h5_put_text(hid_t at, const char *name, const char *text) {
    if (!text) text = "";
    size_t n = strlen(text);
    if (n >= ATTRIBUTE_MOST) return st_raise(ST_USAGE, name, "%zu bytes are too long for a checkpoint attribute", n);
    hid_t type = text_type(n);
    if (type < 0) return put_failed("attribute", name);
    status_t st = put_attribute(at, name, type, text);
    H5Tclose(type);
    return st;
}

/* A contiguous dataset, which has its place at once. -1 on failure. */
static hid_t create_dataset(hid_t group, const char *name, hid_t type, int rank, const int64_t *dim) {
    hsize_t extent[CHECKPOINT_RANK] = {0};
    for (int i = 0; i < rank; i++) extent[i] = (hsize_t)dim[i];
    hid_t space = rank ? H5Screate_simple(rank, extent, NULL) : H5Screate(H5S_SCALAR);
    hid_t create = H5Pcreate(H5P_DATASET_CREATE), set = -1;
    if (space >= 0 && create >= 0 && H5Pset_layout(create, H5D_CONTIGUOUS) >= 0 &&
        H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY) >= 0 && H5Pset_fill_time(create, H5D_FILL_TIME_NEVER) >= 0 &&
        H5Pset_obj_track_times(create, false) >= 0)
        set = H5Dcreate2(group, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    if (create >= 0) H5Pclose(create);
    if (space >= 0) H5Sclose(space);
    return set;
}

static status_t finish_dataset(hid_t set, const char *name, uint64_t checksum, const char *units, status_t st) {
    if (st == ST_OK) st = h5_put_u64(set, CHECKSUM, checksum);
    if (st == ST_OK && units) st = h5_put_text(set, "units", units);
    if (set >= 0 && H5Dclose(set) < 0 && st == ST_OK) st = put_failed("dataset", name);
    return st;
}

status_t h5_put_data(hid_t group, const char *name, hid_t type, int rank, const int64_t *dim, const void *data,
                     size_t bytes, const char *units) {
    hid_t text = type == H5T_C_S1 ? text_type(bytes - 1) : -1; /* a text: bytes counts its NUL */
    if (type == H5T_C_S1) type = text;
    hid_t set = type < 0 ? -1 : create_dataset(group, name, type, rank, dim);
    bool good = set >= 0 && (!bytes || H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    status_t st = finish_dataset(set, name, XXH64(data, bytes, 0), units, good ? ST_OK : put_failed("dataset", name));
    if (text >= 0) H5Tclose(text);
    return st;
}

status_t h5_place_data(hid_t group, const char *name, hid_t type, int rank, const int64_t *dim, uint64_t checksum,
                       const char *units, int64_t *at) {
    hid_t set = create_dataset(group, name, type, rank, dim);
    haddr_t place = set < 0 ? HADDR_UNDEF : H5Dget_offset(set);
    *at = place > INT64_MAX ? -1 : (int64_t)place; /* HADDR_UNDEF is the largest number */
    return finish_dataset(set, name, checksum, units, *at < 0 ? put_failed("dataset", name) : ST_OK);
}

/* --- reading --------------------------------------------------------------------------------------------------- */

#define ADVICE "the file was not written by graft or is damaged, use another checkpoint"

static status_t get_failed(const char *name, const char *why) {
    return st_raise(ST_INPUT, name, "%s; " ADVICE, why);
}

status_t h5_get_i64(hid_t at, const char *name, int64_t *v) {
    return h5_attribute_read(at, name, H5T_STD_I64LE, ADVICE, v);
}
status_t h5_get_u64(hid_t at, const char *name, uint64_t *v) {
    return h5_attribute_read(at, name, H5T_STD_U64LE, ADVICE, v);
}

status_t h5_get_text(hid_t at, const char *name, char **text) {
    return h5_attribute_text(at, name, ATTRIBUTE_MOST, ADVICE, text);
}

/* Shape and bytes of an open dataset whose elements have `size` bytes. */
static status_t shape(hid_t set, const char *name, size_t size, int *rank, int64_t *dim, size_t *bytes) {
    hid_t space = H5Dget_space(set);
    hsize_t extent[CHECKPOINT_RANK] = {0};
    int r = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    bool good = r >= 0 && r <= CHECKPOINT_RANK && H5Sget_simple_extent_dims(space, extent, NULL) == r;
    if (space >= 0) H5Sclose(space);
    if (!good) return get_failed(name, "dataset has no shape of up to three dimensions");
    for (int i = 0; i < r; i++) dim[i] = extent[i] > INT64_MAX ? -1 : (int64_t)extent[i];
    int64_t n = checkpoint_elements(r, dim);
    /* Storage lies inside the file, so this also bounds what is allocated. */
    if (n < 0 || (n > 0 && H5Dget_storage_size(set) != (hsize_t)n * size))
        return get_failed(name, "dataset's shape does not fit its storage");
    *rank = r;
    *bytes = (size_t)n * size;
    return ST_OK;
}

static status_t read_values(hid_t set, const char *name, hid_t type, size_t bytes, uint64_t sum, void **data) {
    void *p = NULL;
    TRY(buf_calloc(&p, (int64_t)bytes + 1, 1, name)); /* a NUL after a text */
    status_t st = ST_OK;
    if (bytes && H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, p) < 0)
        st = get_failed(name, "dataset cannot be read");
    else if (sum != XXH64(p, bytes, 0))
        st = get_failed(name, "checksum is wrong");
    if (st == ST_OK)
        *data = p;
    else
        free(p);
    return st;
}

status_t h5_get_data(hid_t group, const char *name, hid_t type, int *rank, int64_t dim[CHECKPOINT_RANK], void **data,
                     uint64_t *checksum) {
    hid_t set = H5Dopen2(group, name, H5P_DEFAULT);
    if (set < 0) return get_failed(name, "dataset is missing");
    status_t st = ST_OK;
    size_t bytes = 0, size;
    hid_t has = H5Dget_type(set);
    if (type == H5T_C_S1)
        type = (size = h5_text_bytes(has, TEXT_MOST)) ? has : -1;
    else
        size = H5Tget_size(type);
    if (has < 0 || type < 0 || H5Tequal(has, type) <= 0) st = get_failed(name, "dataset has an unexpected type");
    if (st == ST_OK) st = shape(set, name, size, rank, dim, &bytes);
    if (st == ST_OK) st = h5_get_u64(set, CHECKSUM, checksum);
    if (st == ST_OK && data) st = read_values(set, name, type, bytes, *checksum, data);
    if (has >= 0) H5Tclose(has);
    H5Dclose(set);
    return st;
}
