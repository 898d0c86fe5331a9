/*
 * The author's bash. One box for a stage, opened on the first command. In a stage that
 * may change the world, what a command left in /work/world.db is copied by a cell
 * into a new world file (worldfile.h), and the box gets that one back, so that box and
 * driver always agree; what is no world is refused and undone.
 */
#include "base/file.h"
#include "base/sha256.h"
#include "synth/stage_internal.h"
#include "synth/worldfile.h"

#include <stdio.h>
#include <unistd.h>

enum { COMMAND_MS_MAX = 30000 };
static const char world_name[] = "world.db";

static int box_open(struct agon_stage_run *run, struct agon_err *err)
{
    struct agon_bashbox_options o = {.world_path = run->draft->world_path};
    int r = run->shop.library ? agon_stage_retrieval(run, err) : 0;
    if (r)
        return r;
    if (run->retrieval)
        o.docs_dir = agon_retrieval_docs_dir(run->retrieval);
    if ((r = agon_bashbox_open(&run->box, run->shop.sandbox, &o, err)))
        return agon_err_in(err, r, "bash");
    return o.world_path ? agon_sha256_file(o.world_path, run->box_world, err) : 0;
}

int agon_author_box_world(struct agon_stage_run *run, struct agon_err *err)
{
    struct agon_buf world AGON_AUTO(agon_buf_deinit) = AGON_BUF(AGON_WORLD_BYTES_MAX);
    if (!run->box)
        return 0;
    int r = agon_file_read(&world, run->draft->world_path, AGON_WORLD_BYTES_MAX, err);
    if (r || (r = agon_bashbox_write(run->box, world_name, agon_buf_str(&world), err)))
        return agon_err_in(err, r, "bash");
    agon_sha256_of(agon_buf_str(&world), run->box_world);
    return 0;
}

int agon_author_read_work(void *user, const char *name, struct agon_buf *content,
                          struct agon_err *err)
{
    struct agon_stage_run *run = user;
    if (!run->box) {
        agon_fail(err, AGON_EINPUT, "there is no file %s below /work", name);
        return 1;
    }
    size_t most =
        content->size_max < AGON_WORLD_BYTES_MAX ? content->size_max : AGON_WORLD_BYTES_MAX;
    return agon_bashbox_read(run->box, name, most, content, err);
}

/* Copy the box's changed world into a new world file of the draft. */
static int world_take(struct agon_stage_run *run, struct agon_str content, struct agon_buf *reason,
                      struct agon_err *err)
{
    char from[4096], to[4096];
    int r;
    if ((r = agon_stage_world_path(run, from, err)) || (r = agon_stage_world_path(run, to, err)) ||
        (r = agon_file_write(from, content, false, err)))
        return r;
    r = agon_worldfile_adopt(run->shop.sandbox, from, to, reason, err);
    (void)unlink(from); /* what is left there is scratch */
    if (r)
        return r;
    return agon_draft_set_world(run->draft, to, err);
}

/* After a command: has it changed the world? Then take it over, or undo it. */
static int world_back(struct agon_stage_run *run, struct agon_buf *result, struct agon_err *err)
{
    char hex[AGON_SHA256_HEX];
    struct agon_err why = {0};
    struct agon_buf content AGON_AUTO(agon_buf_deinit) = AGON_BUF(AGON_WORLD_BYTES_MAX);
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    int r = agon_bashbox_read(run->box, world_name, AGON_WORLD_BYTES_MAX, &content, &why);
    if (r < 0)
        return agon_fail(err, r, "bash: %s", why.text);
    if (r == 0) {
        agon_sha256_of(agon_buf_str(&content), hex);
        if (strcmp(hex, run->box_world) == 0)
            return 0;
        r = world_take(run, agon_buf_str(&content), &reason, err);
    } else {
        agon_buf_adds(&reason, why.text);
    }
    if (r < 0)
        return r;
    if (r)
        agon_buf_addf(result, "error: the world that this command left is refused and undone: %s",
                      agon_buf_text(&reason));
    int back = agon_author_box_world(run, err);
    return back ? back : r ? AGON_CALL_REFUSED : 0;
}

static int box_run(struct agon_stage_run *run, struct agon_str command,
                   struct agon_bash_result *done, struct agon_err *err)
{
    int r = run->box ? 0 : box_open(run, err);
    return r ? r : agon_bashbox_run(run->box, command, COMMAND_MS_MAX, done, err);
}

/*
 * A command that was killed within a transaction leaves SQLite's journal. In a box it cannot be
 * rolled back (sandbox/filter.c: nobody may ask for a lock), so the next command could not open the
 * world; and it does not belong to the world that the driver puts there. The world's file is judged
 * as it is.
 */
static int journal_drop(struct agon_stage_run *run, struct agon_err *err)
{
    struct agon_buf content AGON_AUTO(agon_buf_deinit) = AGON_BUF(AGON_WORLD_BYTES_MAX);
    struct agon_bash_result done AGON_AUTO(agon_bash_result_deinit) = {0};
    int r = agon_bashbox_read(run->box, "world.db-journal", AGON_WORLD_BYTES_MAX, &content, NULL);
    if (r)
        return r < 0 ? agon_fail(err, r, "bash: the journal of the world") : 0;
    r = agon_bashbox_run(run->box, agon_str("rm -f world.db-journal"), COMMAND_MS_MAX, &done, err);
    return r == AGON_BASHBOX_LOST ? 0 : r; /* the next command finds out */
}

int agon_author_bash(void *user, const char *name, const json_t *arguments, struct agon_buf *result,
                     struct agon_err *err)
{
    struct agon_stage_run *run = user;
    struct agon_bash_result done AGON_AUTO(agon_bash_result_deinit) = {0};
    const json_t *command = json_object_get(arguments, "command");
    (void)name;
    int r = box_run(run, (struct agon_str){json_string_value(command), json_string_length(command)},
                    &done, err);
    if (r < 0)
        return r;
    if (r == AGON_BASHBOX_LOST) {
        agon_bashbox_close(AGON_STEAL(run->box));
        agon_buf_adds(result, "the box of bash died with this command; a new one begins with the "
                              "world as it was before, other files in /work are gone");
        return AGON_CALL_REFUSED;
    }
    agon_buf_add_str(result, agon_buf_str(&done.output));
    if (result->size > 0 && result->data[result->size - 1] != '\n')
        agon_buf_addc(result, '\n');
    if (done.output_capped)
        agon_buf_adds(result, "(output cut)\n");
    if (done.timed_out)
        agon_buf_addf(result, "(ended after %d s)\n", COMMAND_MS_MAX / 1000);
    if (done.exit_status)
        agon_buf_addf(result, "exit %d\n", done.exit_status);
    json_t *detail = json_pack("{s:i}", "exit", done.exit_status);
    if ((r = agon_stage_note(run, "bash", detail, err)))
        return r;
    if ((r = journal_drop(run, err)))
        return r;
    return run->place.stage->world ? world_back(run, result, err) : 0;
}
