#include "data/h5_attribute.h"
#include <stdbool.h>
#include <stdlib.h>
#include "kernels/buf.h"

static status_t failed(const char *name, const char *why, const char *advice) {
    return st_raise(ST_INPUT, name, "%s; %s", why, advice);
}

status_t h5_attribute_read(hid_t at, const char *name, hid_t type, const char *advice, void *v) {
    hid_t attr = H5Aopen(at, name, H5P_DEFAULT);
    if (attr < 0) return failed(name, "attribute is missing", advice);
    hid_t has = H5Aget_type(attr), space = H5Aget_space(attr);
    bool good = has >= 0 && space >= 0 && H5Tequal(has, type) > 0 && H5Sget_simple_extent_npoints(space) == 1 &&
                H5Aread(attr, type, v) >= 0;
    if (has >= 0) H5Tclose(has);
    if (space >= 0) H5Sclose(space);
    H5Aclose(attr);
    return good ? ST_OK : failed(name, "attribute has an unexpected type", advice);
}

size_t h5_text_bytes(hid_t type, size_t most) {
    if (type < 0 || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0) return 0;
    size_t n = H5Tget_size(type);
    return n <= most ? n : 0;
}

status_t h5_attribute_text(hid_t at, const char *name, size_t most, const char *advice, char **text) {
    hid_t attr = H5Aopen(at, name, H5P_DEFAULT);
    if (attr < 0) return failed(name, "attribute is missing", advice);
    hid_t type = H5Aget_type(attr), space = H5Aget_space(attr);
    status_t st = ST_OK;
    void *p = NULL;
    size_t n = h5_text_bytes(type, most);
    if (n == 0 || space < 0 || H5Sget_simple_extent_npoints(space) != 1)
        st = failed(name, "attribute is no text", advice);
    else
        st = buf_calloc(&p, (int64_t)n + 1, 1, name);
    if (st == ST_OK && H5Aread(attr, type, p) < 0) st = failed(name, "attribute cannot be read", advice);
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    H5Aclose(attr);
    if (st == ST_OK)
        *text = p;
    else
        free(p);
    return st;
}
