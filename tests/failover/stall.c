/*
 * Loaded before libc (LD_PRELOAD): an fsync that begins while the file $STALL_WHILE exists takes STALL_S seconds, as on a
 * disk that retries. Only who syncs waits: other threads, and writes, go on.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

#define STALL_S 10

static void stall(void)
{
    const char *file = getenv("STALL_WHILE");
    if (file != NULL && access(file, F_OK) == 0)
        sleep(STALL_S);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    stall();
    return real(fd);
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    stall();
    return real(fd);
}
