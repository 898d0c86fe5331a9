/* Checkpoint files: see safetensors.h. */
#include "model/safetensors.h"

#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HEADER_BYTES_MAX = 100 << 20, /* the format's own limit */
    INDEX_BYTES_MAX = 64 << 20,   /* V3.2's 92,425 names take 9 MB */
    FILES_MAX = 1024,
    TENSORS_MAX = 1 << 20,
};

struct tensor_file {
    char *name; /* owned; one path component */
    int fd;
    uint64_t size;
};

struct agon_tensors {
    struct tensor_file *files;
    int n_files;
    struct agon_tensor *tensors; /* by name, once open */
    size_t n_tensors, capacity;
};

void agon_tensors_free(struct agon_tensors *t)
{
    if (!t)
        return;
    for (int i = 0; i < t->n_files; i++) {
        free(t->files[i].name);
        if (t->files[i].fd >= 0)
            (void)close(t->files[i].fd); /* only read from */
    }
    for (size_t i = 0; i < t->n_tensors; i++)
        free(t->tensors[i].name);
    free(t->files);
    free(t->tensors);
    free(t);
}

/* ---- one header --------------------------------------------------------------------- */

static size_t dtype_parse(const char *text, struct agon_tensor *tensor)
{
    static const struct {
        const char *name;
        size_t size;
        int dtype; /* -1: other tensors may have it, the model's may not */
    } dtypes[] = {{"F32", 4, AGON_F32}, {"BF16", 2, AGON_BF16},
                  {"F16", 2, AGON_F16}, {"F8_E4M3", 1, AGON_E4M3},
                  {"F8_E5M2", 1, -1},   {"F64", 8, -1},
                  {"I64", 8, -1},       {"I32", 4, -1},
                  {"I16", 2, -1},       {"I8", 1, -1},
                  {"U64", 8, -1},       {"U32", 4, -1},
                  {"U16", 2, -1},       {"U8", 1, -1},
                  {"BOOL", 1, -1}};
    for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++)
        if (strcmp(text, dtypes[i].name) == 0) {
            tensor->readable = dtypes[i].dtype >= 0;
            tensor->dtype = tensor->readable ? (enum agon_dtype)dtypes[i].dtype : AGON_F32;
            return dtypes[i].size;
        }
    return 0;
}

/* Shape, dtype and offsets of one entry; data_at is where the file's data begins. */
static int tensor_parse(struct agon_tensor *tensor, const char *name, const json_t *entry,
                        uint64_t data_at, struct agon_err *err)
{
    const json_t *shape = json_object_get(entry, "shape");
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const char *dtype = agon_json_text(entry, "dtype", "");
    size_t item = dtype_parse(dtype, tensor);
    if (!item)
        return agon_fail(err, AGON_EINPUT, "tensor '%.200s': unknown dtype '%.20s'", name, dtype);
    if (!json_is_array(shape) || json_array_size(shape) > AGON_TENSOR_DIMS_MAX ||
        json_array_size(offsets) != 2)
        return agon_fail(err, AGON_EINPUT, "tensor '%.200s': bad shape or data_offsets", name);
    uint64_t count = 1;
    tensor->n_dims = (int)json_array_size(shape);
    for (int d = 0; d < tensor->n_dims; d++) {
        const json_t *dim = json_array_get(shape, (size_t)d);
        int64_t n = json_integer_value(dim);
        if (!json_is_integer(dim) || n < 0 || __builtin_mul_overflow(count, (uint64_t)n, &count) ||
            count > UINT64_MAX / 16)
            return agon_fail(err, AGON_EINPUT, "tensor '%.200s': bad shape", name);
        tensor->dims[d] = n;
    }
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    int64_t begin = json_integer_value(first), end = json_integer_value(last);
    if (!json_is_integer(first) || !json_is_integer(last))
        return agon_fail(err, AGON_EINPUT, "tensor '%.200s': data_offsets are no integers", name);
    if (begin < 0 || end < begin || (uint64_t)(end - begin) != count * item)
        return agon_fail(err, AGON_EINPUT,
                         "tensor '%.200s': data_offsets [%lld, %lld] do not fit its shape", name,
                         (long long)begin, (long long)end);
    tensor->at = data_at + (uint64_t)begin;
    tensor->size = (uint64_t)(end - begin);
    return 0;
}

static int tensor_add(struct agon_tensors *t, int file, const char *name, const json_t *entry,
                      uint64_t data_at, struct agon_err *err)
{
    if (t->n_tensors == TENSORS_MAX)
        return agon_fail(err, AGON_EINPUT, "more than %d tensors", TENSORS_MAX);
    if (t->n_tensors == t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : 256;
        struct agon_tensor *grown = realloc(t->tensors, capacity * sizeof(*grown));
        if (!grown)
            return agon_fail(err, AGON_ENOMEM, "out of memory");
        t->tensors = grown;
        t->capacity = capacity;
    }
    struct agon_tensor tensor = {.file = file};
    int r = tensor_parse(&tensor, name, entry, data_at, err);
    if (r)
        return r;
    if (!(tensor.name = strdup(name)))
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    t->tensors[t->n_tensors++] = tensor;
    return 0;
}

static int compare_at(const void *a, const void *b)
{
    const struct agon_tensor *x = a, *y = b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return x->size < y->size ? -1 : x->size > y->size;
}

/* A file's tensors follow each other from data_at to its end. */
static int file_check_layout(struct agon_tensors *t, size_t first, uint64_t data_at,
                             uint64_t file_size, struct agon_err *err)
{
    if (t->n_tensors > first)
        qsort(t->tensors + first, t->n_tensors - first, sizeof(*t->tensors), compare_at);
    uint64_t at = data_at;
    for (size_t i = first; i < t->n_tensors; i++) {
        const struct agon_tensor *tensor = &t->tensors[i];
        if (tensor->at != at)
            return agon_fail(err, AGON_EINPUT, "tensor '%.200s' leaves a gap or overlaps another",
                             tensor->name);
        at += tensor->size;
        if (at > file_size)
            return agon_fail(err, AGON_EINPUT,
                             "truncated: tensor '%.200s' ends at byte %llu, the file at %llu",
                             tensor->name, (unsigned long long)at, (unsigned long long)file_size);
    }
    if (at != file_size)
        return agon_fail(err, AGON_EINPUT, "%llu bytes follow the last tensor",
                         (unsigned long long)(file_size - at));
    return 0;
}

static int read_at(int fd, void *data, uint64_t size, uint64_t at, struct agon_err *err)
{
    char *to = data;
    while (size > 0) {
        ssize_t n = pread(fd, to, size < 1U << 30 ? size : 1U << 30, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return agon_fail(err, AGON_ESYS, "read: %s", strerror(errno));
        if (n == 0)
            return agon_fail(err, AGON_EINPUT, "truncated at byte %llu", (unsigned long long)at);
        to += n;
        at += (uint64_t)n;
        size -= (uint64_t)n;
    }
    return 0;
}

static int file_read_header(struct agon_tensors *t, int file, struct agon_err *err)
{
    const struct tensor_file *f = &t->files[file];
    unsigned char prefix[8];
    uint64_t size = 0;
    int r = f->size < 8 ? agon_fail(err, AGON_EINPUT, "truncated: only %llu bytes",
                                    (unsigned long long)f->size)
                        : read_at(f->fd, prefix, 8, 0, err);
    if (r)
        return r;
    for (int i = 7; i >= 0; i--)
        size = size << 8 | prefix[i];
    if (size > HEADER_BYTES_MAX || size > f->size - 8)
        return agon_fail(err, AGON_EINPUT,
                         "no safetensors, or truncated: a header of %llu bytes in a file of %llu",
                         (unsigned long long)size, (unsigned long long)f->size);
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(HEADER_BYTES_MAX);
    void *at = agon_buf_extend(&text, size);
    if (!at)
        return agon_buf_check(&text, "header", err);
    json_t *header = NULL;
    if ((r = read_at(f->fd, at, size, 8, err)) ||
        (r = agon_json_parse(&header, agon_buf_str(&text), err)))
        return r == AGON_EINPUT ? agon_err_in(err, r, "header") : r;

    size_t first = t->n_tensors;
    const char *name;
    json_t *entry;
    if (!json_is_object(header))
        r = agon_fail(err, AGON_EINPUT, "header: not a JSON object");
    json_object_foreach(header, name, entry)
    {
        if (strcmp(name, "__metadata__") != 0 && r == 0)
            r = tensor_add(t, file, name, entry, 8 + size, err);
    }
    json_decref(header);
    return r ? r : file_check_layout(t, first, 8 + size, f->size, err);
}

/* ---- the set ------------------------------------------------------------------------ */

/* Open one file of dir and read its header. */
static int tensors_add_file(struct agon_tensors *t, int dir_fd, const char *name,
                            struct agon_err *err)
{
    if (t->n_files == FILES_MAX)
        return agon_fail(err, AGON_EINPUT, "more than %d files", FILES_MAX);
    struct tensor_file *grown = realloc(t->files, ((size_t)t->n_files + 1) * sizeof(*grown));
    if (!grown)
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    t->files = grown;
    struct tensor_file *file = &t->files[t->n_files];
    *file = (struct tensor_file){.name = strdup(name), .fd = -1};
    t->n_files++;
    if (!file->name)
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    /* O_NONBLOCK: a FIFO must not hang us; regular files ignore it. */
    file->fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (file->fd < 0 || fstat(file->fd, &st) < 0)
        return agon_fail(err, AGON_ESYS, "%s: %s", name, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return agon_fail(err, AGON_EINPUT, "%s: not a regular file", name);
    file->size = (uint64_t)st.st_size;
    int r = file_read_header(t, t->n_files - 1, err);
    return r ? agon_err_in(err, r, "%s", name) : 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct agon_tensor *)a)->name, ((const struct agon_tensor *)b)->name);
}

static int tensors_sort(struct agon_tensors *t, struct agon_err *err)
{
    if (t->n_tensors > 0)
        qsort(t->tensors, t->n_tensors, sizeof(*t->tensors), compare_names);
    for (size_t i = 1; i < t->n_tensors; i++)
        if (strcmp(t->tensors[i - 1].name, t->tensors[i].name) == 0)
            return agon_fail(err, AGON_EINPUT, "tensor '%.200s' stands in %s and in %s",
                             t->tensors[i].name, t->files[t->tensors[i - 1].file].name,
                             t->files[t->tensors[i].file].name);
    return 0;
}

/* Each name of the index is where the index says. */
static int tensors_check_index(const struct agon_tensors *t, const json_t *map,
                               struct agon_err *err)
{
    const char *name;
    json_t *file;
    json_object_foreach((json_t *)(uintptr_t)map, name, file)
    {
        const struct agon_tensor *tensor = agon_tensors_find(t, name);
        if (!tensor || strcmp(agon_tensors_file(t, tensor), json_string_value(file)) != 0)
            return agon_fail(err, AGON_EINPUT, "index: tensor '%.200s' is not in %s", name,
                             json_string_value(file));
    }
    return 0;
}

static bool has_file(const struct agon_tensors *t, const char *name)
{
    for (int i = 0; i < t->n_files; i++)
        if (strcmp(t->files[i].name, name) == 0)
            return true;
    return false;
}

static int tensors_open_shards(struct agon_tensors *t, int dir_fd, const json_t *index,
                               struct agon_err *err)
{
    json_t *map = json_object_get(index, "weight_map"), *file;
    const char *name;
    int r = json_object_size(map) > 0 ? 0 : agon_fail(err, AGON_EINPUT, "no weight_map");
    json_object_foreach(map, name, file)
    {
        const char *shard = json_string_value(file);
        if (r)
            break;
        if (!shard || !shard[0] || shard[0] == '.' || strchr(shard, '/') || strlen(shard) > 255)
            r = agon_fail(err, AGON_EINPUT, "tensor '%.200s': '%.100s' is no plain file name", name,
                          shard ? shard : "");
        else if (!has_file(t, shard))
            r = tensors_add_file(t, dir_fd, shard, err);
    }
    if (r || (r = tensors_sort(t, err)))
        return r;
    return tensors_check_index(t, map, err);
}

static int tensors_read_dir(struct agon_tensors *t, const char *dir, int dir_fd,
                            struct agon_err *err)
{
    static const char index_name[] = "model.safetensors.index.json";
    if (faccessat(dir_fd, index_name, F_OK, 0) != 0) {
        int r = tensors_add_file(t, dir_fd, "model.safetensors", err);
        return r ? r : tensors_sort(t, err);
    }
    char path[4096];
    if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, index_name) >= sizeof(path))
        return agon_fail(err, AGON_EINPUT, "path too long");
    json_t *index = NULL;
    int r = agon_json_load_file(&index, path, INDEX_BYTES_MAX, err);
    if (r)
        return r;
    r = tensors_open_shards(t, dir_fd, index, err);
    json_decref(index);
    return r ? agon_err_in(err, r, "%s", index_name) : 0;
}

int agon_tensors_open(struct agon_tensors **ret, const char *dir, struct agon_err *err)
{
    int dir_fd AGON_AUTO(agon_fd_closep) = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return agon_fail(err, AGON_ESYS, "%s: %s", dir, strerror(errno));
    struct agon_tensors *t AGON_AUTO(agon_tensors_freep) = calloc(1, sizeof(*t));
    if (!t)
        return agon_fail(err, AGON_ENOMEM, "tensors: out of memory");
    int r = tensors_read_dir(t, dir, dir_fd, err);
    if (r)
        return agon_err_in(err, r, "%s", dir);
    *ret = AGON_STEAL(t);
    return 0;
}

/* ---- asking ------------------------------------------------------------------------- */

size_t agon_tensors_count(const struct agon_tensors *t)
{
    return t->n_tensors;
}

const struct agon_tensor *agon_tensors_at(const struct agon_tensors *t, size_t i)
{
    return &t->tensors[i];
}

const struct agon_tensor *agon_tensors_find(const struct agon_tensors *t, const char *name)
{
    size_t low = 0, high = t->n_tensors;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(name, t->tensors[middle].name);
        if (order == 0)
            return &t->tensors[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

void agon_tensor_scope_set(struct agon_tensor_scope *scope, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(scope->prefix, sizeof(scope->prefix), fmt, ap); /* ours, and short */
    va_end(ap);
}

int agon_tensor_scope_find(const struct agon_tensor **ret, const struct agon_tensor_scope *scope,
                           const char *name, const char *suffix, struct agon_err *err)
{
    char full[2 * sizeof(scope->prefix)];
    (void)snprintf(full, sizeof(full), "%s%s%s", scope->prefix, name, suffix); /* short, too */
    *ret = agon_tensors_find(scope->tensors, full);
    return *ret ? 0 : agon_fail(err, AGON_EINPUT, "tensor '%s' is missing", full);
}

const char *agon_tensors_file(const struct agon_tensors *t, const struct agon_tensor *tensor)
{
    return t->files[tensor->file].name;
}

uint64_t agon_tensors_bytes(const struct agon_tensors *t)
{
    uint64_t size = 0;
    for (size_t i = 0; i < t->n_tensors; i++)
        size += t->tensors[i].size;
    return size;
}

int agon_tensor_read(const struct agon_tensors *t, const struct agon_tensor *tensor, void *data,
                     struct agon_err *err)
{
    return agon_tensor_read_part(t, tensor, 0, tensor->size, data, err);
}

int agon_tensor_floats(const struct agon_tensors *t, const struct agon_tensor *tensor, float **ret,
                       struct agon_err *err)
{
    size_t n = (size_t)(tensor->size / agon_dtype_size(tensor->dtype));
    if (tensor->dtype == AGON_E4M3)
        return agon_fail(err, AGON_EINPUT, "%s: tensor '%s' is F8_E4M3, expected F32 or BF16",
                         agon_tensors_file(t, tensor), tensor->name);
    /* Values of two bytes are read to the end of their place, and widened from the front. */
    float *values = malloc(n ? n * sizeof(*values) : 1);
    if (!values)
        return agon_fail(err, AGON_ENOMEM, "tensor '%s': no memory for %zu values", tensor->name,
                         n);
    const uint16_t *halves = (const uint16_t *)(const void *)values + n;
    int r = agon_tensor_read(
        t, tensor, (char *)values + n * (sizeof(*values) - agon_dtype_size(tensor->dtype)), err);
    for (size_t i = 0; i < n && r == 0; i++) {
        if (tensor->dtype != AGON_F32) {
            uint16_t code = halves[i];
            values[i] = tensor->dtype == AGON_BF16 ? agon_bf16_decode(code) : agon_f16_decode(code);
        }
        if (!isfinite(values[i]))
            r = agon_fail(err, AGON_EINPUT, "%s: tensor '%s' holds NaN or infinity",
                          agon_tensors_file(t, tensor), tensor->name);
    }
    if (r)
        free(values);
    else
        *ret = values;
    return r;
}

int agon_tensor_read_part(const struct agon_tensors *t, const struct agon_tensor *tensor,
                          uint64_t at, uint64_t size, void *data, struct agon_err *err)
{
    int r = read_at(t->files[tensor->file].fd, data, size, tensor->at + at, err);
    return r ? agon_err_in(err, r, "%s: tensor '%.200s'", agon_tensors_file(t, tensor),
                           tensor->name)
             : 0;
}

void agon_tensor_shape(const struct agon_tensor *tensor, char *text, size_t size)
{
    size_t at = 0;
    for (int d = 0; d < tensor->n_dims && at < size; d++)
        at += (size_t)snprintf(text + at, size - at, "%s%lld", d ? ", " : "[",
                               (long long)tensor->dims[d]);
    if (at < size)
        (void)snprintf(text + at, size - at, "%s", tensor->n_dims ? "]" : "[]"); /* may be cut */
}
