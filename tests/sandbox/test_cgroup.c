/* Where control groups are looked for, on made-up machines: both versions, containers, users. */
#include "sandbox/cgroup.h"

#include "base/file.h"
#include "tests/test.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct agon_err err;
static char root[64];

static void put(const char *path, const char *text)
{
    char at[400], dir[400];
    snprintf(at, sizeof(at), "%s%s", root, path);
    snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(at, '/') - at), at);
    EXPECT(agon_dir_make(dir, &err) == 0 && agon_file_write(at, agon_str(text), false, &err) == 0);
}

static bool machine(const char *mounts, const char *groups)
{
    snprintf(root, sizeof(root), "/tmp/agon-machine-XXXXXX");
    if (!EXPECT(mkdtemp(root) != NULL))
        return false;
    put("/proc/self/mounts", mounts);
    put("/proc/self/cgroup", groups);
    return true;
}

/* What is found, as paths below the root; then the machine is gone. */
static void expect_place(int version, const char *first, const char *second)
{
    struct agon_cgroup_place place;
    bool found = agon_cgroup_find(&place, root);
    if (EXPECT(found == (first != NULL)) && found) {
        EXPECT(place.version == version && place.n_dirs == (second ? 2 : 1));
        EXPECT_TEXT(place.dirs[0] + strlen(root), first);
        EXPECT_TEXT(second ? place.dirs[1] + strlen(root) : "", second ? second : "");
    }
    EXPECT(agon_dir_remove(root, &err) == 0);
}

static const char mounts_1[] = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"
                               "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
                               "cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n"
                               "cgroup /sys/fs/cgroup/pids cgroup rw,relatime,pids 0 0\n";
static const char mounts_2[] =
    "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";

TEST(version_1_gives_a_folder_a_controller)
{
    REQUIRE(machine(mounts_1, "8:pids:/\n4:memory:/some/group\n0::/\n"));
    put("/sys/fs/cgroup/memory/some/group/tasks", "");
    put("/sys/fs/cgroup/pids/tasks", "");
    expect_place(1, "/sys/fs/cgroup/memory/some/group", "/sys/fs/cgroup/pids");
}

/* A container is told a path of the host's: what is mounted there is its own group. */
TEST(a_group_that_is_not_mounted_is_the_mount_itself)
{
    REQUIRE(machine(mounts_1, "8:pids:/docker/abc\n4:memory:/docker/abc\n"));
    put("/sys/fs/cgroup/memory/tasks", "");
    put("/sys/fs/cgroup/pids/tasks", "");
    expect_place(1, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids");
}

TEST(one_controller_alone_is_none)
{
    REQUIRE(machine("cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n", "4:memory:/\n"));
    put("/sys/fs/cgroup/memory/tasks", "");
    expect_place(1, NULL, NULL);
}

/* As systemd sets a user's session up: the group of the session hands nothing down, the one above
 * does. */
TEST(version_2_climbs_to_where_both_are_handed_down)
{
    REQUIRE(machine(mounts_2, "0::/user.slice/user@1000.service/app.slice/term.scope\n"));
    put("/sys/fs/cgroup/cgroup.subtree_control", "cpu io memory pids\n");
    put("/sys/fs/cgroup/user.slice/cgroup.subtree_control", "memory pids\n");
    put("/sys/fs/cgroup/user.slice/user@1000.service/cgroup.subtree_control", "cpu memory pids\n");
    put("/sys/fs/cgroup/user.slice/user@1000.service/app.slice/cgroup.subtree_control",
        "cpu memory pids\n");
    put("/sys/fs/cgroup/user.slice/user@1000.service/app.slice/term.scope/cgroup.subtree_control",
        "\n");
    expect_place(2, "/sys/fs/cgroup/user.slice/user@1000.service/app.slice", NULL);
}

TEST(version_2_without_controllers_is_none)
{
    REQUIRE(machine(mounts_2, "0::/\n"));
    put("/sys/fs/cgroup/cgroup.subtree_control", "cpu\n");
    expect_place(2, NULL, NULL);
}

TEST(a_machine_without_groups_has_none)
{
    REQUIRE(machine("proc /proc proc rw 0 0\n", ""));
    expect_place(1, NULL, NULL);
}

/* Where this user may make groups here, they work: limits are set, and removal leaves nothing. */
TEST(groups_are_made_and_removed_here)
{
    struct agon_cgroup_place place;
    char path[600];
    if (!agon_cgroup_find(&place, ""))
        SKIP("this user can make no control groups here");
    REQUIRE(agon_cgroup_make(&place, 999, 1 << 30, 50));
    snprintf(path, sizeof(path), "%s/agon-%d-999", place.dirs[0], (int)getpid());
    EXPECT(access(path, F_OK) == 0);
    EXPECT(!agon_cgroup_make(&place, 999, 1 << 30, 50)); /* it is there; it goes with the attempt */
    agon_cgroup_remove(&place, 999);
    EXPECT(access(path, F_OK) < 0);
}
