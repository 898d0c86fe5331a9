/* A folder (folder.h) as a model's: each of config.json, tokenizer.json and the safetensors with
 * their index is refused, or keeps its header's promises. */
#include "model/config.h"
#include "model/safetensors.h"
#include "model/tokenizer.h"
#include "tests/fuzz/folder.h"

#include <assert.h>
#include <stdlib.h>

enum { N_VOCAB_MAX = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tensors(const struct agon_tensors *t)
{
    for (size_t i = 0; i < agon_tensors_count(t); i++) {
        const struct agon_tensor *tensor = agon_tensors_at(t, i);
        struct agon_err err;
        void *bytes = malloc(tensor->size + 1);
        assert(bytes && agon_tensor_read(t, tensor, bytes, &err) == 0);
        assert(agon_tensors_find(t, tensor->name) == tensor);
        free(bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *place = fuzz_folder(data, size);
    struct agon_config config = {.n_vocab = N_VOCAB_MAX};
    struct agon_tensors *tensors AGON_AUTO(agon_tensors_freep) = NULL;
    struct agon_tokenizer *tokenizer AGON_AUTO(agon_tokenizer_freep) = NULL;
    struct agon_err err;
    (void)!agon_config_load(&config, place, &err); /* fuzz_config.c looks closer */
    if (agon_tensors_open(&tensors, place, &err) == 0)
        check_tensors(tensors);
    int n_vocab = config.n_vocab < N_VOCAB_MAX ? config.n_vocab : N_VOCAB_MAX;
    if (agon_tokenizer_load(&tokenizer, place, n_vocab, &err) == 0)
        assert(agon_tokenizer_size(tokenizer) <= n_vocab);
    return 0;
}
