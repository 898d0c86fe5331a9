/* Why boxes do not work on this machine, and what to do about it: see boxed.h. */
#include "sandbox/boxed.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The number in a file below /proc/sys, or -1 where there is none. */
static long setting(const char *path)
{
    char text[32];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        (void)close(fd); /* read only */
    if (n <= 0)
        return -1;
    text[n] = '\0';
    return strtol(text, NULL, 10);
}

void agon_probe_remedy(char *ret, size_t size)
{
    const char *remedy = "";
    if (setting("/proc/sys/kernel/unprivileged_userns_clone") == 0)
        remedy = "Unprivileged user namespaces are off: sysctl -w "
                 "kernel.unprivileged_userns_clone=1";
    else if (setting("/proc/sys/user/max_user_namespaces") == 0)
        remedy = "User namespaces are off: sysctl -w user.max_user_namespaces=10000";
    else if (setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1)
        remedy = "AppArmor restricts user namespaces: give /usr/bin/bwrap a profile with "
                 "\"userns,\" in /etc/apparmor.d, or sysctl -w "
                 "kernel.apparmor_restrict_unprivileged_userns=0";
    else if (access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0)
        remedy = "This is a container: start it with --security-opt seccomp=unconfined "
                 "--security-opt apparmor=unconfined --security-opt systempaths=unconfined";
    snprintf(ret, size, "%s", remedy);
}
