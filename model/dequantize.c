/* FP8 to BF16: see dequantize.h. The header is written first, since all sizes are known, then
 * one tensor after the other; the file gets its name when it is whole. */
#include "model/dequantize.h"

#include "base/file.h"
#include "base/json.h"
#include "model/jsontext.h"
#include "model/safetensors.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { HEADER_BYTES_MAX = 100 << 20, COPY_BYTES_MAX = 128 << 20 };

static bool is_scale(const char *name)
{
    static const char suffix[] = "_scale_inv";
    size_t size = strlen(name);
    return size >= sizeof(suffix) && strcmp(name + size - sizeof(suffix) + 1, suffix) == 0;
}

static bool is_fp8(const struct agon_tensor *t)
{
    return t->readable && t->dtype == AGON_E4M3;
}

static uint64_t size_after(const struct agon_tensor *t)
{
    return is_fp8(t) ? 2 * t->size : t->size;
}

/* ---- one tensor --------------------------------------------------------------------- */

static int read_all(const struct agon_tensors *tensors, const struct agon_tensor *t, void **ret,
                    struct agon_err *err)
{
    void *data = malloc(t->size + 1);
    if (!data)
        return agon_fail(err, AGON_ENOMEM, "tensor '%s': no memory for %llu bytes", t->name,
                         (unsigned long long)t->size);
    int r = agon_tensor_read(tensors, t, data, err);
    if (r)
        free(data);
    else
        *ret = data;
    return r;
}

/* The scales of a block-scaled tensor, checked against its shape. */
static int read_scales(const struct agon_tensors *tensors, const struct agon_tensor *t, float **ret,
                       struct agon_err *err)
{
    char name[512];
    (void)snprintf(name, sizeof(name), "%s_scale_inv", t->name); /* longer ones are not found */
    const struct agon_tensor *scale = agon_tensors_find(tensors, name);
    if (!scale || !scale->readable || scale->dtype != AGON_F32 || t->n_dims != 2 ||
        scale->n_dims != 2 || scale->dims[0] != (t->dims[0] + 127) / AGON_SCALE_BLOCK ||
        scale->dims[1] != (t->dims[1] + 127) / AGON_SCALE_BLOCK)
        return agon_fail(err, AGON_EINPUT, "tensor '%s': no F32 '_scale_inv' of one value a block",
                         t->name);
    void *data;
    int r = read_all(tensors, scale, &data, err);
    if (r == 0)
        *ret = data;
    return r;
}

static int widen(const struct agon_tensors *tensors, const struct agon_tensor *t,
                 const uint8_t *codes, uint16_t *out, struct agon_err *err)
{
    float *scales = NULL;
    int r = read_scales(tensors, t, &scales, err);
    if (r)
        return r;
    int64_t n = t->dims[0], k = t->dims[1], blocks = (k + 127) / AGON_SCALE_BLOCK;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < k; j++)
            out[i * k + j] =
                agon_bf16_encode(agon_e4m3_decode(codes[i * k + j]) *
                                 scales[i / AGON_SCALE_BLOCK * blocks + j / AGON_SCALE_BLOCK]);
    free(scales);
    return 0;
}

static int write_all(FILE *file, const void *data, uint64_t size, struct agon_err *err)
{
    return fwrite(data, 1, size, file) == size
               ? 0
               : agon_fail(err, AGON_ESYS, "write: %s", strerror(errno));
}

static int write_tensor(FILE *file, const struct agon_tensors *tensors, const struct agon_tensor *t,
                        struct agon_err *err)
{
    void *data;
    int r = read_all(tensors, t, &data, err);
    if (r)
        return r;
    if (is_fp8(t)) {
        uint16_t *wide = malloc(2 * t->size + 1);
        r = wide ? widen(tensors, t, data, wide, err)
                 : agon_fail(err, AGON_ENOMEM, "tensor '%s': out of memory", t->name);
        if (r == 0)
            r = write_all(file, wide, 2 * t->size, err);
        free(wide);
    } else {
        r = write_all(file, data, t->size, err);
    }
    free(data);
    return r;
}

/* ---- the files ---------------------------------------------------------------------- */

static void header_add(struct agon_buf *b, const struct agon_tensor *t, const char *dtype,
                       uint64_t at)
{
    char shape[256];
    agon_tensor_shape(t, shape, sizeof(shape));
    agon_buf_adds(b, ", ");
    agon_json_dump_string(b, agon_str(t->name));
    agon_buf_addf(b, ": {\"dtype\": \"%s\", \"shape\": %s, \"data_offsets\": [%llu, %llu]}", dtype,
                  shape, (unsigned long long)at, (unsigned long long)(at + size_after(t)));
}

static int write_tensors(FILE *file, const struct agon_tensors *tensors, struct agon_err *err)
{
    struct agon_buf header AGON_AUTO(agon_buf_deinit) = AGON_BUF(HEADER_BYTES_MAX);
    uint64_t at = 0;
    agon_buf_adds(&header, "{\"__metadata__\": {\"format\": \"pt\"}");
    for (size_t i = 0; i < agon_tensors_count(tensors); i++) {
        const struct agon_tensor *t = agon_tensors_at(tensors, i);
        if (is_scale(t->name))
            continue;
        if (!t->readable)
            return agon_fail(err, AGON_EINPUT, "%s: tensor '%s' has a dtype of no weight",
                             agon_tensors_file(tensors, t), t->name);
        header_add(&header, t, is_fp8(t) ? "BF16" : agon_dtype_name(t->dtype), at);
        at += size_after(t);
    }
    agon_buf_addc(&header, '}');
    while (header.size % 8) /* aligned, as the format's own writer does */
        agon_buf_addc(&header, ' ');
    unsigned char prefix[8];
    for (int i = 0; i < 8; i++)
        prefix[i] = (unsigned char)((uint64_t)header.size >> (8 * i));
    int r = agon_buf_check(&header, "header", err);
    if (r || (r = write_all(file, prefix, 8, err)) ||
        (r = write_all(file, header.data, header.size, err)))
        return r;
    for (size_t i = 0; i < agon_tensors_count(tensors) && r == 0; i++)
        if (!is_scale(agon_tensors_at(tensors, i)->name))
            r = write_tensor(file, tensors, agon_tensors_at(tensors, i), err);
    return r;
}

static int path_join(char path[4096], const char *dir, const char *name, struct agon_err *err)
{
    if ((size_t)snprintf(path, 4096, "%s/%s", dir, name) < 4096)
        return 0;
    return agon_fail(err, AGON_EINPUT, "'%.100s...': path too long", dir);
}

static int write_weights(const char *to, const struct agon_tensors *tensors, struct agon_err *err)
{
    char path[4096], partial[4096];
    int r;
    if ((r = path_join(path, to, "model.safetensors", err)) ||
        (r = path_join(partial, to, ".agon-tmp-model.safetensors", err)))
        return r;
    FILE *file = fopen(partial, "wbe");
    if (!file)
        return agon_fail(err, AGON_ESYS, "%s: %s", partial, strerror(errno));
    r = write_tensors(file, tensors, err);
    if (fclose(file) && r == 0)
        r = agon_fail(err, AGON_ESYS, "%s: %s", partial, strerror(errno));
    if (r == 0 && rename(partial, path))
        r = agon_fail(err, AGON_ESYS, "%s: %s", path, strerror(errno));
    if (r)
        (void)unlink(partial); /* the error is told already */
    return r;
}

static int write_config(const char *from, const char *to, struct agon_err *err)
{
    char path[4096];
    json_t *config AGON_AUTO(agon_json_decrefp) = NULL;
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(COPY_BYTES_MAX);
    int r;
    if ((r = path_join(path, from, "config.json", err)) ||
        (r = agon_json_load_file(&config, path, COPY_BYTES_MAX, err)))
        return r;
    (void)json_object_del(config, "quantization_config"); /* absent is fine */
    agon_json_dump(&text, config);
    agon_buf_addc(&text, '\n');
    if ((r = agon_buf_check(&text, "config.json", err)) ||
        (r = path_join(path, to, "config.json", err)))
        return r;
    return agon_file_write(path, agon_buf_str(&text), false, err);
}

/* Copy a file that goes with the weights, where there is one. */
static int copy_file(const char *from, const char *to, const char *name, struct agon_err *err)
{
    char path[4096];
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(COPY_BYTES_MAX);
    int r = path_join(path, from, name, err);
    if (r || access(path, F_OK) != 0)
        return r;
    if ((r = agon_file_read(&text, path, COPY_BYTES_MAX, err)) ||
        (r = path_join(path, to, name, err)))
        return r;
    return agon_file_write(path, agon_buf_str(&text), false, err);
}

int agon_dequantize(const char *from, const char *to, struct agon_err *err)
{
    static const char *const copied[] = {"tokenizer.json", "tokenizer_config.json",
                                         "generation_config.json"};
    struct agon_tensors *tensors AGON_AUTO(agon_tensors_freep) = NULL;
    int r;
    if ((r = agon_tensors_open(&tensors, from, err)) || (r = agon_dir_make(to, err)) ||
        (r = write_weights(to, tensors, err)) || (r = write_config(from, to, err)))
        return r;
    for (size_t i = 0; i < 3 && r == 0; i++)
        r = copy_file(from, to, copied[i], err);
    return r;
}
