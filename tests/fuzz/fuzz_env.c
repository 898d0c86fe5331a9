/* A folder (folder.h) as an environment: refused, or what is stored of it loads again and has
 * the same digest, and its world goes through the cell's door. Nothing of it is run. */
#include "base/file.h"
#include "envs/env.h"
#include "envs/world.h"
#include "tests/fuzz/folder.h"

#include <assert.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void open_world(const struct agon_env *e)
{
    struct agon_buf image AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_world *w AGON_AUTO(agon_world_freep) = NULL;
    struct agon_err err;
    if (!e->world_path || agon_file_read(&image, e->world_path, 1 << 20, &err))
        return;
    int r = agon_world_open(&w, agon_buf_str(&image), &err);
    assert(r >= 0 || e->world_is_temporary || r == AGON_ENOMEM || r == AGON_ESTORE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agon_env *e AGON_AUTO(agon_env_freep) = NULL, *again AGON_AUTO(agon_env_freep) = NULL;
    struct agon_err err;
    char digest[2][65], copy[128];
    const char *place = fuzz_folder(data, size);
    int hashes = agon_env_check_hashes(place, &err);
    assert(hashes <= 1);
    if (agon_env_load(&e, place, &err))
        return 0;
    open_world(e);
    (void)snprintf(copy, sizeof(copy), "%s-stored", place);
    if (agon_env_store(e, copy, &err)) /* a world that is no file */
        return 0;
    assert(agon_env_check_hashes(copy, &err) == 0);
    assert(agon_env_digest(copy, digest[0], &err) == 0);
    assert(agon_env_load(&again, copy, &err) == 0);
    assert(agon_env_store(again, copy, &err) == 0);
    assert(agon_env_digest(copy, digest[1], &err) == 0);
    assert(strcmp(digest[0], digest[1]) == 0);
    assert(agon_dir_remove(copy, &err) == 0);
    return 0;
}
