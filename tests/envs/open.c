#include "tests/envs/open.h"

#include "tests/envs/samples.h"
#include "tests/test.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

void env_close(struct open_env *o)
{
    agon_instance_free(o->in);
    agon_runtime_free(o->rt);
    agon_sandbox_close(o->sandbox);
    agon_buf_deinit(&o->out);
}

bool env_start(struct open_env *o, const char *tools)
{
    *o = (struct open_env){.out = AGON_BUF(1 << 20)};
    char path[] = "/tmp/agon-test-world-XXXXXX";
    int r = agon_sandbox_open(&o->sandbox, NULL, &o->err);
    if (!r)
        r = sample_world_file(path);
    if (!r)
        r = agon_runtime_open(&o->rt, o->sandbox, path, agon_str(tools), &o->out, &o->err);
    if (!r)
        r = agon_instance_new(&o->in, o->rt, &o->err);
    (void)unlink(path);
    if (!EXPECT(r == 0))
        printf("# %d %s %s\n", r, r < 0 ? o->err.text : "", agon_buf_text(&o->out));
    return r == 0;
}

void expect_call(struct open_env *o, struct agon_instance *in, const char *tool,
                 const char *arguments, int status, const char *expected)
{
    int r = agon_instance_call(in, tool, agon_str(arguments), &o->out, &o->err);
    if (!EXPECT(r == status) || !EXPECT(!strcmp(agon_buf_text(&o->out), expected)))
        printf("# %d: %s\n", r, r < 0 ? o->err.text : agon_buf_text(&o->out));
}

static int parent_of(int pid)
{
    char path[64], stat[512] = "";
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    size_t size = fread(stat, 1, sizeof(stat) - 1, f);
    stat[size] = '\0';
    fclose(f);
    char *end = strrchr(stat, ')');
    return end ? atoi(end + 4) : 0;
}

/* SIGKILL for each process "agon-cell" that descends from this one. */
int kill_cells(void)
{
    int n = 0;
    FILE *p = popen("pgrep -f 'agon-cell --cell'", "r");
    char line[64];
    while (p && fgets(line, sizeof(line), p)) {
        int pid = atoi(line), up = pid;
        while (up > 1 && up != (int)getpid())
            up = parent_of(up);
        if (up == (int)getpid() && pid != up)
            n += kill(pid, SIGKILL) == 0;
    }
    if (p)
        pclose(p);
    return n;
}
