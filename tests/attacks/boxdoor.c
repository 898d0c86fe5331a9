/* Attacks on bash boxes: see boxdoor.h. */
#include "tests/attacks/boxdoor.h"

#include "base/file.h"
#include "sandbox/cell.h"

struct agon_err door_err;
char door_said[300 << 10];
struct agon_bash_result door_result;

static struct agon_sandbox *sandbox;
static struct agon_bashbox *neighbour;

static struct agon_bashbox *box_open(size_t work_bytes_max)
{
    struct agon_bashbox *box = NULL;
    struct agon_bashbox_options o = {.work_bytes_max = work_bytes_max};
    if (!EXPECT(agon_bashbox_open(&box, sandbox, &o, &door_err) == 0))
        printf("# %s\n", door_err.text);
    return box;
}

static void neighbour_check(void)
{
    if (!sandbox && !EXPECT(agon_sandbox_open(&sandbox, NULL, &door_err) == 0)) {
        printf("# %s\n", door_err.text); /* never a skip */
        return;
    }
    if (!neighbour && (neighbour = box_open(1 << 20)))
        (void)door_run(neighbour, "echo mine > mark; echo x > /tmp/t; echo y > /dev/shm/s");
    if (neighbour)
        SAYS(neighbour, "p=(/proc/[0-9]*); echo $(cat mark /tmp/* /dev/shm/*; ls /work) ${#p[@]}",
             "mine x y mark 2\n");
}

static void neighbour_drop(void)
{
    agon_bashbox_close(AGON_STEAL(neighbour));
    agon_sandbox_close(AGON_STEAL(sandbox));
}

__attribute__((constructor)) static void neighbour_add(void)
{
    battery_neighbour(neighbour_check, neighbour_drop);
}

struct agon_sandbox *door_sandbox(void)
{
    return sandbox;
}

struct agon_bashbox *door_open(size_t work_bytes_max)
{
    return sandbox ? box_open(work_bytes_max) : NULL;
}

int door_run_for(struct agon_bashbox *box, const char *command, int timeout_ms)
{
    struct agon_bash_result r AGON_AUTO(agon_bash_result_deinit) = {0};
    door_said[0] = '\0';
    int end = agon_bashbox_run(box, agon_str(command), timeout_ms, &r, &door_err);
    if (end) {
        snprintf(door_said, sizeof(door_said), "%s", door_err.text);
        return -1;
    }
    snprintf(door_said, sizeof(door_said), "%s", agon_buf_text(&r.output));
    door_result = r;
    door_result.output = (struct agon_buf)AGON_BUF(0);
    return r.exit_status;
}

int door_run(struct agon_bashbox *box, const char *command)
{
    return door_run_for(box, command, 60000);
}

static void door_expect(bool good, const char *command, const char *wanted, int line)
{
    if (EXPECT(good))
        return;
    printf("# line %d: %s\n#   said \"%.600s\"\n#   wanted \"%.200s\"\n", line, command, door_said,
           wanted);
}

void door_says(struct agon_bashbox *box, const char *command, const char *text, int line)
{
    int r = door_run(box, command);
    door_expect(r >= 0 && strcmp(door_said, text) == 0, command, text, line);
}

void door_has(struct agon_bashbox *box, const char *command, const char *part, int line)
{
    int r = door_run(box, command);
    door_expect(r >= 0 && strstr(door_said, part) != NULL, command, part, line);
}

void door_hostile(struct agon_bashbox *box, const char *name)
{
    char command[64];
    struct agon_buf program AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 24);
    REQUIRE(agon_file_read(&program, getenv("AGON_BOX_HOSTILE"), 1 << 24, &door_err) == 0);
    REQUIRE(agon_bashbox_write(box, "hostile", agon_buf_str(&program), &door_err) == 0);
    snprintf(command, sizeof(command), "chmod +x hostile && ./hostile %s", name);
    SAYS(box, command, "done\n");
}
