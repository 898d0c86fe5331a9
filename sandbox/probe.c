/* Why boxes do not work on this machine, and what to do about it: see boxed.h. */
#include "sandbox/boxed.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* What may be in the way, the likeliest first: a file below the root, the number in it
 * (ANY: that it exists), and what to do. */
enum { ANY = -1 };
static const struct obstacle {
    const char *path;
    long value;
    const char *remedy;
} obstacles[] = {
    {"/proc/sys/kernel/unprivileged_userns_clone", 0,
     "Unprivileged user namespaces are off: sysctl -w kernel.unprivileged_userns_clone=1"},
    {"/proc/sys/user/max_user_namespaces", 0,
     "User namespaces are off: sysctl -w user.max_user_namespaces=10000"},
    {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 1,
     "AppArmor restricts user namespaces: give /usr/bin/bwrap a profile with \"userns,\" in "
     "/etc/apparmor.d, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
    {"/.dockerenv", ANY,
     "This is a container: start it with --security-opt seccomp=unconfined --security-opt "
     "apparmor=unconfined --security-opt systempaths=unconfined"},
    {"/run/.containerenv", ANY,
     "This is a container: start it with --security-opt seccomp=unconfined --security-opt "
     "unmask=ALL"},
};

static bool obstacle_is_there(const char *root, const struct obstacle *o)
{
    char path[512], text[32];
    snprintf(path, sizeof(path), "%s%s", root, o->path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    (void)close(fd); /* read only */
    text[n > 0 ? n : 0] = '\0';
    return o->value == ANY || (n > 0 && strtol(text, NULL, 10) == o->value);
}

void agon_probe_remedy(const char *root, char *ret, size_t size)
{
    snprintf(ret, size, "%s", "");
    for (size_t i = 0; i < sizeof(obstacles) / sizeof(*obstacles); i++)
        if (obstacle_is_there(root, &obstacles[i])) {
            snprintf(ret, size, "%s", obstacles[i].remedy);
            return;
        }
}
