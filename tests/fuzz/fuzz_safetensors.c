/* Any bytes as model.safetensors: refused, or every tensor of it can be read and has as many
 * bytes as its shape says. */
#include "model/safetensors.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/agon-fuzz-XXXXXX", path[64];

static void folder_remove(void)
{
    (void)unlink(path); /* at exit: nobody is left to tell */
    (void)rmdir(dir);
}

static void check_tensor(const struct agon_tensors *t, const struct agon_tensor *tensor)
{
    struct agon_err err;
    uint64_t count = 1;
    for (int d = 0; d < tensor->n_dims; d++)
        count *= (uint64_t)tensor->dims[d];
    assert(!tensor->readable || tensor->size == count * agon_dtype_size(tensor->dtype));
    assert(agon_tensors_find(t, tensor->name) == tensor);
    void *bytes = malloc(tensor->size + 1);
    assert(bytes && agon_tensor_read(t, tensor, bytes, &err) == 0);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agon_tensors *t = NULL;
    struct agon_err err;
    if (!path[0]) {
        assert(mkdtemp(dir));
        (void)snprintf(path, sizeof(path), "%s/model.safetensors", dir);
        (void)atexit(folder_remove);
    }
    FILE *file = fopen(path, "wb");
    assert(file && fwrite(data, 1, size, file) == size && fclose(file) == 0);
    if (agon_tensors_open(&t, dir, &err))
        return 0;
    for (size_t i = 0; i < agon_tensors_count(t); i++)
        check_tensor(t, agon_tensors_at(t, i));
    agon_tensors_free(t);
    return 0;
}
