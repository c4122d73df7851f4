/*
 * Loaded before libc (LD_PRELOAD): notes what a process does to the files below one directory, and may fail or delay it.
 *
 *   CRASH_ROOT    the directory, absolute and without links
 *   CRASH_TRACE   the file to which the notes are appended; without it nothing is noted
 *   CRASH_MARK    a file whose writes are noted as words of the workload ("acked 7"), among the calls
 *   CRASH_FAULT   key=value,...: fail or delay calls
 *                     call      write | sync | truncate | open | rename | unlink | mkdir
 *                     path      only files whose path ends so
 *                     nth       the first one that is hit, from 1; count: how many are (0: all from there on)
 *                     errno     the number with which they fail; left out: they succeed
 *                     short     1: the first write that is hit puts half of its bytes on the disk, the next ones fail
 *                     delay_ms  how long they take first
 *
 * crash_set(root, trace, fault) gives a running process others, NULL: none; crash_seen() says how many calls the fault
 * has counted, here and in the processes that were forked since.
 *
 * A call and its note are made under one lock, so the notes stand in the order of the effects. A file is known by its
 * inode, and named as the kernel names it (/proc/self/fd), so a descriptor that was duplicated or renamed away is seen.
 *
 * Not noted: -shm files, the index of a -wal file. SQLite makes them anew when the first process opens the database,
 * whatever they hold, so they are not durable by design. sync_file_range, which promises nothing (sync_file_range(2)).
 * What would be a hole in the notes is noted as '!': a shared writable mapping, splice, sync() and syncfs().
 *
 * A note: struct note, then the path, then the data (of a rename: the new path).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PATH_SIZE 4096
#define EXPORT __attribute__((visibility("default")))

struct note {
    uint8_t what;
    uint8_t pad[3];
    int32_t error;
    uint64_t inode;
    int64_t offset;
    uint32_t path_size;
    uint32_t data_size;
};

/* Shared with the processes that this one forks, so that it knows what they have counted. */
static struct fault {
    char call[16];
    char path[256];
    int nth, count, error, delay_ms, halve, seen;
} *fault;

static char root[PATH_SIZE];
static char mark[PATH_SIZE];
static int trace = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void read_fault(const char *text)
{
    char copy[2 * PATH_SIZE], *rest = copy, *pair;
    snprintf(copy, sizeof copy, "%s", text);
    fault->nth = fault->count = 1;
    while ((pair = strsep(&rest, ",")) != NULL) {
        char *value = strchr(pair, '=');
        if (value == NULL)
            abort();
        *value++ = 0;
        if (!strcmp(pair, "call"))
            snprintf(fault->call, sizeof fault->call, "%s", value);
        else if (!strcmp(pair, "path"))
            snprintf(fault->path, sizeof fault->path, "%s", value);
        else if (!strcmp(pair, "nth"))
            fault->nth = atoi(value);
        else if (!strcmp(pair, "count"))
            fault->count = atoi(value);
        else if (!strcmp(pair, "errno"))
            fault->error = atoi(value);
        else if (!strcmp(pair, "short"))
            fault->halve = atoi(value);
        else if (!strcmp(pair, "delay_ms"))
            fault->delay_ms = atoi(value);
        else
            abort();
    }
}

static void noted_in(const char *path)
{
    if (trace >= 0)
        syscall(SYS_close, trace);
    trace = -1;
    if (path == NULL)
        return;
    trace = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (trace < 0)
        abort();
}

__attribute__((constructor)) static void begin(void)
{
    const char *value;
    long shared = syscall(SYS_mmap, NULL, sizeof *fault, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0L);
    if (shared == -1)
        abort();
    fault = (struct fault *)shared;
    if ((value = getenv("CRASH_ROOT")) != NULL)
        snprintf(root, sizeof root, "%s", value);
    if ((value = getenv("CRASH_MARK")) != NULL)
        snprintf(mark, sizeof mark, "%s", value);
    if ((value = getenv("CRASH_FAULT")) != NULL)
        read_fault(value);
    if ((value = getenv("CRASH_TRACE")) != NULL)
        noted_in(value);
}

EXPORT void crash_set(const char *new_root, const char *new_trace, const char *new_fault)
{
    pthread_mutex_lock(&lock);
    snprintf(root, sizeof root, "%s", new_root ? new_root : "");
    noted_in(new_trace);
    memset(fault, 0, sizeof *fault);
    if (new_fault != NULL)
        read_fault(new_fault);
    pthread_mutex_unlock(&lock);
}

EXPORT int crash_seen(void) { return fault->seen; }

/* --- names --- */

static int ends(const char *text, const char *tail)
{
    size_t n = strlen(text), m = strlen(tail);
    return n >= m && !strcmp(text + n - m, tail);
}

static int below_root(const char *path)
{
    size_t n = strlen(root);
    if (n == 0 || strncmp(path, root, n) != 0 || (path[n] != '/' && path[n] != 0))
        return 0;
    return !ends(path, "-shm") && !ends(path, "-shm (deleted)");
}

static int name_of(int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_SIZE - 1);
    if (n < 0)
        return 0;
    path[n] = 0;
    return 1;
}

/* The path as the caller means it, absolute. */
static int name_at(int directory, const char *name, char *path)
{
    size_t n;
    if (name[0] == '/') {
        snprintf(path, PATH_SIZE, "%s", name);
        return 1;
    }
    if (directory == AT_FDCWD) {
        if (getcwd(path, PATH_SIZE) == NULL)
            return 0;
    } else if (!name_of(directory, path))
        return 0;
    n = strlen(path);
    snprintf(path + n, PATH_SIZE - n, "/%s", name);
    return 1;
}

static uint64_t inode_of(int fd)
{
    struct stat s;
    return fstat(fd, &s) == 0 ? s.st_ino : 0;
}

/* --- notes --- */

static void put(const void *bytes, size_t size)
{
    const char *at = bytes;
    while (size > 0) {
        ssize_t n = syscall(SYS_write, trace, at, size);
        if (n <= 0)
            abort();
        at += n;
        size -= (size_t)n;
    }
}

static void note(char what, int error, uint64_t inode, int64_t offset, const char *path, const void *data, size_t size)
{
    struct note head = {0};
    if (trace < 0)
        return;
    head.what = (uint8_t)what;
    head.error = error;
    head.inode = inode;
    head.offset = offset;
    head.path_size = (uint32_t)strlen(path);
    head.data_size = (uint32_t)size;
    put(&head, sizeof head);
    put(path, strlen(path));
    put(data, size);
}

static void hole(const char *what, const char *path)
{
    note('!', 0, 0, 0, path, what, strlen(what));
}

/* --- faults --- */

/* The errno with which this call must fail, 0: none, -1: only its first half is done. Takes its time first. */
static int struck(const char *call, const char *path)
{
    int hit, number;
    if (fault == NULL || fault->call[0] == 0 || strcmp(call, fault->call) != 0 || !ends(path, fault->path))
        return 0;
    pthread_mutex_lock(&lock);
    number = ++fault->seen;
    hit = number >= fault->nth && (fault->count == 0 || number < fault->nth + fault->count);
    pthread_mutex_unlock(&lock);
    if (!hit)
        return 0;
    if (fault->delay_ms > 0) {
        struct timespec delay = {fault->delay_ms / 1000, (fault->delay_ms % 1000) * 1000000L};
        nanosleep(&delay, NULL);
    }
    return fault->halve && number == fault->nth ? -1 : fault->error;
}

#define FAIL(e)      \
    do {             \
        errno = (e); \
        return -1;   \
    } while (0)

/* --- writes --- */

/* offset < 0: at the descriptor's own position. */
static ssize_t write_at(int fd, const struct iovec *parts, int count, off_t offset)
{
    char path[PATH_SIZE];
    char *data;
    size_t size = 0, filled = 0;
    ssize_t done;
    int i, error = 0, marked;

    if (root[0] == 0 || !name_of(fd, path))
        path[0] = 0;
    marked = mark[0] != 0 && !strcmp(path, mark);
    if (!marked && !below_root(path)) {
        if (offset >= 0)
            return syscall(SYS_pwritev, fd, parts, count, (long)offset, 0L);
        return syscall(SYS_writev, fd, parts, count);
    }
    for (i = 0; i < count; i++)
        size += parts[i].iov_len;
    if ((data = malloc(size + 1)) == NULL)
        abort();
    for (i = 0; i < count; i++) {
        memcpy(data + filled, parts[i].iov_base, parts[i].iov_len);
        filled += parts[i].iov_len;
    }
    if (!marked)
        error = struck("write", path);
    if (error < 0)
        size = (size + 1) / 2;
    pthread_mutex_lock(&lock);
    if (error > 0) {
        note('W', error, inode_of(fd), offset, path, "", 0);
        done = -1;
    } else {
        done = offset >= 0 ? syscall(SYS_pwrite64, fd, data, size, offset) : syscall(SYS_write, fd, data, size);
        error = done < 0 ? errno : 0;
        if (done >= 0) {
            off_t at = offset >= 0 ? offset : lseek(fd, 0, SEEK_CUR) - done;
            note(marked ? 'M' : 'W', 0, inode_of(fd), at, path, data, (size_t)done);
        }
    }
    pthread_mutex_unlock(&lock);
    free(data);
    errno = error;
    return done;
}

EXPORT ssize_t write(int fd, const void *data, size_t size)
{
    struct iovec part = {(void *)data, size};
    return write_at(fd, &part, 1, -1);
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    struct iovec part = {(void *)data, size};
    return write_at(fd, &part, 1, offset);
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count) { return write_at(fd, parts, count, -1); }

EXPORT ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return write_at(fd, parts, count, offset);
}

EXPORT ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    return write_at(fd, parts, count, offset);
}

/* sendfile and copy_file_range: the bytes are read and written, so that they are seen. */
static ssize_t copied(int to, off_t *to_offset, int from, off_t *from_offset, size_t size)
{
    char data[65536];
    ssize_t n, done;
    size = size < sizeof data ? size : sizeof data;
    n = from_offset ? pread(from, data, size, *from_offset) : read(from, data, size);
    if (n <= 0)
        return n;
    done = to_offset ? pwrite64(to, data, (size_t)n, *to_offset) : write(to, data, (size_t)n);
    if (done >= 0 && from_offset)
        *from_offset += done;
    if (done >= 0 && to_offset)
        *to_offset += done;
    return done;
}

EXPORT ssize_t sendfile(int to, int from, off_t *offset, size_t size)
{
    char path[PATH_SIZE];
    if (!name_of(to, path) || !below_root(path))
        return syscall(SYS_sendfile, to, from, offset, size);
    return copied(to, NULL, from, offset, size);
}

EXPORT ssize_t sendfile64(int to, int from, off64_t *offset, size_t size) { return sendfile(to, from, offset, size); }

EXPORT ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned int flags)
{
    char path[PATH_SIZE];
    if (!name_of(to, path) || !below_root(path))
        return syscall(SYS_copy_file_range, from, from_at, to, to_at, size, flags);
    return copied(to, to_at, from, from_at, size);
}

EXPORT ssize_t splice(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned int flags)
{
    char path[PATH_SIZE];
    if (name_of(to, path) && below_root(path))
        hole("splice", path);
    return syscall(SYS_splice, from, from_at, to, to_at, size, flags);
}

EXPORT void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset)
{
    char path[PATH_SIZE];
    if ((flags & MAP_SHARED) && (protection & PROT_WRITE) && fd >= 0 && name_of(fd, path) && below_root(path))
        hole("mmap", path);
    return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

EXPORT void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return mmap64(at, size, protection, flags, fd, offset);
}

/* --- sizes and syncs --- */

static int sized(char what, const char *call, int fd, off_t size, long number, long mode, off_t from)
{
    char path[PATH_SIZE];
    int error, result;
    if (!name_of(fd, path) || !below_root(path))
        path[0] = 0;
    error = path[0] ? struck(call, path) : 0;
    if (error > 0)
        FAIL(error);
    pthread_mutex_lock(&lock);
    if (number == SYS_ftruncate)
        result = (int)syscall(SYS_ftruncate, fd, size);
    else
        result = (int)syscall(SYS_fallocate, fd, mode, from, size);
    error = errno;
    if (result == 0 && path[0]) {
        if (what == 'A' && mode != 0)
            hole("fallocate", path);
        note(what, 0, inode_of(fd), what == 'A' ? from + size : size, path, "", 0);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

EXPORT int ftruncate64(int fd, off64_t size) { return sized('T', "truncate", fd, size, SYS_ftruncate, 0, 0); }
EXPORT int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
EXPORT int fallocate64(int fd, int mode, off64_t from, off64_t size)
{
    return sized('A', "write", fd, size, SYS_fallocate, mode, from);
}
EXPORT int fallocate(int fd, int mode, off_t from, off_t size) { return fallocate64(fd, mode, from, size); }
EXPORT int posix_fallocate64(int fd, off64_t from, off64_t size) { return fallocate64(fd, 0, from, size) ? errno : 0; }
EXPORT int posix_fallocate(int fd, off_t from, off_t size) { return posix_fallocate64(fd, from, size); }

EXPORT int truncate64(const char *path, off64_t size)
{
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0), result, error;
    if (fd < 0)
        return -1;
    result = ftruncate64(fd, size);
    error = errno;
    syscall(SYS_close, fd);
    errno = error;
    return result;
}
EXPORT int truncate(const char *path, off_t size) { return truncate64(path, size); }

static int synced(int fd, long number)
{
    char path[PATH_SIZE];
    int error, result = -1;
    if (!name_of(fd, path) || !below_root(path))
        return (int)syscall(number, fd);
    error = struck("sync", path);
    pthread_mutex_lock(&lock);
    if (error <= 0) {
        result = (int)syscall(number, fd);
        error = result < 0 ? errno : 0;
    }
    note('S', error, inode_of(fd), 0, path, "", 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

EXPORT int fsync(int fd) { return synced(fd, SYS_fsync); }
EXPORT int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }
EXPORT int syncfs(int fd)
{
    hole("syncfs", root);
    return (int)syscall(SYS_syncfs, fd);
}
EXPORT void sync(void)
{
    hole("sync", root);
    syscall(SYS_sync);
}

/* --- names of files --- */

static int opened(int directory, const char *name, int flags, mode_t mode)
{
    char path[PATH_SIZE];
    struct stat before;
    int fd, error, existed, writes = (flags & (O_CREAT | O_TRUNC)) != 0 || (flags & O_ACCMODE) != O_RDONLY;
    if (root[0] == 0 || !writes || !name_at(directory, name, path) || !below_root(path))
        return (int)syscall(SYS_openat, directory, name, flags, mode);
    error = struck("open", path);
    if (error > 0)
        FAIL(error);
    pthread_mutex_lock(&lock);
    existed = fstatat(directory, name, &before, 0) == 0;
    fd = (int)syscall(SYS_openat, directory, name, flags, mode);
    error = errno;
    if (fd >= 0 && !existed)
        note('C', 0, inode_of(fd), 0, path, "", 0);
    else if (fd >= 0 && (flags & O_TRUNC))
        note('T', 0, inode_of(fd), 0, path, "", 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define WITH_MODE(call)                              \
    va_list rest;                                    \
    mode_t mode = 0;                                 \
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) { \
        va_start(rest, flags);                       \
        mode = va_arg(rest, mode_t);                 \
        va_end(rest);                                \
    }                                                \
    return call

EXPORT int open(const char *name, int flags, ...) { WITH_MODE(opened(AT_FDCWD, name, flags, mode)); }
EXPORT int open64(const char *name, int flags, ...) { WITH_MODE(opened(AT_FDCWD, name, flags, mode)); }
EXPORT int openat(int directory, const char *name, int flags, ...) { WITH_MODE(opened(directory, name, flags, mode)); }
EXPORT int openat64(int directory, const char *name, int flags, ...) { WITH_MODE(opened(directory, name, flags, mode)); }
EXPORT int creat(const char *name, mode_t mode) { return opened(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }
EXPORT int creat64(const char *name, mode_t mode) { return creat(name, mode); }

static int moved(char what, int from_at, const char *from, int to_at, const char *to, unsigned int flags)
{
    char old[PATH_SIZE], new[PATH_SIZE];
    int error = 0, result, seen;
    seen = name_at(from_at, from, old) && name_at(to_at, to, new) && (below_root(old) || below_root(new));
    if (seen && (error = struck("rename", new)) > 0)
        FAIL(error);
    pthread_mutex_lock(&lock);
    if (what == 'R')
        result = (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    else
        result = (int)syscall(SYS_linkat, from_at, from, to_at, to, flags);
    error = errno;
    if (seen && result == 0)
        note(what, 0, 0, 0, old, new, strlen(new));
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

EXPORT int renameat2(int f, const char *from, int t, const char *to, unsigned int flags)
{
    if (flags != 0)
        hole("renameat2", root);
    return moved('R', f, from, t, to, flags);
}
EXPORT int rename(const char *from, const char *to) { return moved('R', AT_FDCWD, from, AT_FDCWD, to, 0); }
EXPORT int renameat(int f, const char *from, int t, const char *to) { return moved('R', f, from, t, to, 0); }
EXPORT int link(const char *from, const char *to) { return moved('L', AT_FDCWD, from, AT_FDCWD, to, 0); }
EXPORT int linkat(int f, const char *from, int t, const char *to, int flags)
{
    return moved('L', f, from, t, to, (unsigned int)flags);
}

static int named(char what, const char *call, int directory, const char *name, long number, long argument)
{
    char path[PATH_SIZE];
    int error = 0, result, seen = name_at(directory, name, path) && below_root(path);
    if (seen && (error = struck(call, path)) > 0)
        FAIL(error);
    pthread_mutex_lock(&lock);
    result = (int)syscall(number, directory, name, argument);
    error = errno;
    if (seen && result == 0)
        note(what, 0, 0, 0, path, "", 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

EXPORT int unlink(const char *name) { return named('U', "unlink", AT_FDCWD, name, SYS_unlinkat, 0); }
EXPORT int rmdir(const char *name) { return named('X', "unlink", AT_FDCWD, name, SYS_unlinkat, AT_REMOVEDIR); }
EXPORT int unlinkat(int directory, const char *name, int flags)
{
    return named(flags & AT_REMOVEDIR ? 'X' : 'U', "unlink", directory, name, SYS_unlinkat, flags);
}
EXPORT int mkdir(const char *name, mode_t mode) { return named('D', "mkdir", AT_FDCWD, name, SYS_mkdirat, mode); }
EXPORT int mkdirat(int directory, const char *name, mode_t mode)
{
    return named('D', "mkdir", directory, name, SYS_mkdirat, mode);
}
