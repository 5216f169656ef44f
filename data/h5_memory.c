#include "data/h5_memory.h"
#include <stdlib.h>
#include <string.h>

enum { VERSION_AT = 8, END_AT = 28, SUPERBLOCK_BYTES = 48 }; /* of a version 2 superblock */

static void *memory_malloc(size_t size, H5FD_file_image_op_t op, void *udata) {
    (void)op, (void)udata;
    return malloc(size);
}

static void *memory_copy(void *to, const void *from, size_t size, H5FD_file_image_op_t op, void *udata) {
    (void)op, (void)udata;
    return memcpy(to, from, size);
}

static void *memory_realloc(void *old, size_t size, H5FD_file_image_op_t op, void *udata) {
    h5_memory_t *m = udata;
    void *p = realloc(old, size);
    if (p && op == H5FD_FILE_IMAGE_OP_FILE_RESIZE) m->size = size;
    return p;
}

/* The memory is taken over when HDF5 closes the file: H5Fget_file_image of 1.10 would give a copy whose superblock has
 * a wrong checksum. */
static herr_t memory_free(void *p, H5FD_file_image_op_t op, void *udata) {
    h5_memory_t *m = udata;
    if (op == H5FD_FILE_IMAGE_OP_FILE_CLOSE) {
        m->bytes = p;
        m->closed = true;
    } else {
        free(p);
    }
    return 0;
}

static void *memory_same(void *udata) {
    return udata;
}

static herr_t memory_forget(void *udata) {
    (void)udata;
    return 0;
}

hid_t h5_memory_writer(h5_memory_t *m, size_t increment) {
    H5FD_file_image_callbacks_t callbacks = {
        memory_malloc, memory_copy, memory_realloc, memory_free, memory_same, memory_forget, m};
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access < 0) return access;
    /* V18..V110 is readable everywhere */
    if (H5Pset_fapl_core(access, increment, 0) < 0 || H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) < 0 ||
        H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V110) < 0 ||
        H5Pset_file_image_callbacks(access, &callbacks) < 0) {
        H5Pclose(access);
        return -1;
    }
    return access;
}

uint64_t h5_memory_end(const h5_memory_t *m) {
    uint64_t v = 0;
    if (!m->closed || !m->bytes || m->size < SUPERBLOCK_BYTES || m->bytes[VERSION_AT] != 2) return 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | (unsigned char)m->bytes[END_AT + i];
    return v;
}
