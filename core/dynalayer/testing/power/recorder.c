/* Writes down, in order, what a process does to the files below one folder. Preloaded by recording.py, which reads it.
 *
 * One record for each call that succeeded: an operation, a file's inode, a number, and two texts. What is mapped into
 * memory is not seen. A call is made and written down under one lock, so that threads stand in the order they came in.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct header {
    uint64_t inode;
    int64_t number;
    uint32_t first, second;
    char operation;
} __attribute__((packed));

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int out = -1;

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("DYNALAYER_RECORD_FOLDER"), *to = getenv("DYNALAYER_RECORD_TO");
    if (folder == NULL || to == NULL || strlen(folder) >= sizeof root)
        return;
    out = syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (out < 0)
        return;
    strcpy(root, folder);
    root_length = strlen(root);
}

static void put(const void *data, size_t size)
{
    const char *left = data;
    while (size > 0) {
        ssize_t done = syscall(SYS_write, out, left, size);
        if (done < 0)
            _exit(97); /* a record with a gap would be believed */
        left += done;
        size -= (size_t)done;
    }
}

static void record(char operation, uint64_t inode, int64_t number, const void *first, size_t first_size,
                   const void *second, size_t second_size)
{
    struct header header = {inode, number, (uint32_t)first_size, (uint32_t)second_size, operation};
    int kept = errno;
    put(&header, sizeof header);
    put(first, first_size);
    put(second, second_size);
    errno = kept;
}

static void record_path(char operation, uint64_t inode, const char *path)
{
    record(operation, inode, 0, path, strlen(path), "", 0);
}

/* Whether a path lies below the folder; it is made absolute. */
static int below(int at, const char *path, char *full)
{
    char base[PATH_MAX] = "", name[64];
    if (out < 0 || path == NULL)
        return 0;
    if (path[0] != '/') {
        if (at == AT_FDCWD) {
            if (getcwd(base, sizeof base) == NULL)
                return 0;
        } else {
            snprintf(name, sizeof name, "/proc/self/fd/%d", at);
            ssize_t length = readlink(name, base, sizeof base - 1);
            if (length < 0)
                return 0;
            base[length] = 0;
        }
    }
    if (snprintf(full, PATH_MAX, "%s%s%s", base, base[0] ? "/" : "", path) >= PATH_MAX)
        return 0;
    return strncmp(full, root, root_length) == 0 && (full[root_length] == '/' || full[root_length] == 0);
}

/* Whether an open file lies below the folder, be it unlinked since. */
static int is_ours(int descriptor, struct stat *found, char *full)
{
    char name[64];
    if (out < 0 || descriptor < 0)
        return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(name, full, PATH_MAX - 1);
    if (length < 0)
        return 0;
    full[length] = 0;
    return strncmp(full, root, root_length) == 0 && (full[root_length] == '/' || full[root_length] == 0)
        && fstat(descriptor, found) == 0;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int opened(int at, const char *path, int flags, mode_t mode)
{
    char full[PATH_MAX];
    struct stat before, after;
    REAL(openat);
    if (!below(at, path, full))
        return real(at, path, flags, mode);
    pthread_mutex_lock(&turn);
    int was_there = lstat(full, &before) == 0;
    int descriptor = real(at, path, flags, mode);
    if (descriptor >= 0 && fstat(descriptor, &after) == 0) {
        if (!was_there)
            record_path('C', after.st_ino, full);
        else if ((flags & O_TRUNC) && S_ISREG(after.st_mode))
            record('T', after.st_ino, 0, full, strlen(full), "", 0);
    }
    pthread_mutex_unlock(&turn);
    return descriptor;
}

#define MODE(flags, last)                                                                                              \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                                           \
        va_list arguments;                                                                                             \
        va_start(arguments, last);                                                                                     \
        mode = va_arg(arguments, mode_t);                                                                              \
        va_end(arguments);                                                                                             \
    }

int open(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags, flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags, flags) return opened(at, path, flags | O_LARGEFILE, mode); }
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags | O_LARGEFILE, 0); }

static ssize_t written(int descriptor, const void *data, size_t size, off64_t at, int placed)
{
    char full[PATH_MAX];
    struct stat found;
    int ours = is_ours(descriptor, &found, full) && S_ISREG(found.st_mode);
    if (ours)
        pthread_mutex_lock(&turn);
    if (ours && !placed) {
        int appends = fcntl(descriptor, F_GETFL) & O_APPEND;
        at = appends ? (fstat(descriptor, &found), found.st_size) : lseek64(descriptor, 0, SEEK_CUR);
    }
    REAL(pwrite64);
    ssize_t done = placed ? real(descriptor, data, size, at) : syscall(SYS_write, descriptor, data, size);
    if (ours) {
        if (done > 0)
            record('W', found.st_ino, at, full, strlen(full), data, (size_t)done);
        pthread_mutex_unlock(&turn);
    }
    return done;
}

ssize_t write(int descriptor, const void *data, size_t size) { return written(descriptor, data, size, 0, 0); }
ssize_t pwrite(int descriptor, const void *data, size_t size, off_t at) { return written(descriptor, data, size, at, 1); }
ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t at) { return written(descriptor, data, size, at, 1); }

#define ON_OPEN_FILE(name, operation, number, parameters, call)                                                        \
    int name parameters                                                                                                \
    {                                                                                                                  \
        char full[PATH_MAX];                                                                                           \
        struct stat found;                                                                                             \
        int ours = is_ours(descriptor, &found, full);                                                                  \
        if (ours)                                                                                                      \
            pthread_mutex_lock(&turn);                                                                                 \
        REAL(name);                                                                                                    \
        int failed = real call;                                                                                        \
        if (ours) {                                                                                                    \
            if (!failed)                                                                                               \
                record(operation, found.st_ino, number, full, strlen(full), "", 0);                                    \
            pthread_mutex_unlock(&turn);                                                                               \
        }                                                                                                              \
        return failed;                                                                                                 \
    }

ON_OPEN_FILE(fsync, 'S', 0, (int descriptor), (descriptor))
ON_OPEN_FILE(fdatasync, 'S', 0, (int descriptor), (descriptor))
ON_OPEN_FILE(ftruncate, 'T', size, (int descriptor, off_t size), (descriptor, size))
ON_OPEN_FILE(ftruncate64, 'T', size, (int descriptor, off64_t size), (descriptor, size))

static int moved(int from_at, const char *from, int to_at, const char *to, int flags, char operation)
{
    char old[PATH_MAX], new[PATH_MAX];
    int old_below = below(from_at, from, old), new_below = below(to_at, to, new);
    if (old_below || new_below)
        pthread_mutex_lock(&turn);
    int failed = operation == 'R' ? syscall(SYS_renameat2, from_at, from, to_at, to, flags)
                                  : syscall(SYS_linkat, from_at, from, to_at, to, flags);
    if (old_below || new_below) {
        if (!failed && !(old_below && new_below))
            _exit(98); /* what comes from outside, or goes there, cannot be followed */
        if (!failed)
            record(operation, 0, 0, old, strlen(old), new, strlen(new));
        pthread_mutex_unlock(&turn);
    }
    return failed;
}

int rename(const char *from, const char *to) { return moved(AT_FDCWD, from, AT_FDCWD, to, 0, 'R'); }
int renameat(int from_at, const char *from, int to_at, const char *to) { return moved(from_at, from, to_at, to, 0, 'R'); }
int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) { return moved(from_at, from, to_at, to, (int)flags, 'R'); }
int link(const char *from, const char *to) { return moved(AT_FDCWD, from, AT_FDCWD, to, 0, 'L'); }
int linkat(int from_at, const char *from, int to_at, const char *to, int flags) { return moved(from_at, from, to_at, to, flags, 'L'); }

static int removed(int at, const char *path, int flags)
{
    char full[PATH_MAX];
    int ours = below(at, path, full);
    if (ours)
        pthread_mutex_lock(&turn);
    int failed = syscall(SYS_unlinkat, at, path, flags);
    if (ours) {
        if (!failed)
            record_path('U', 0, full);
        pthread_mutex_unlock(&turn);
    }
    return failed;
}

int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return removed(at, path, flags); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }

static int made(int at, const char *path, mode_t mode)
{
    char full[PATH_MAX];
    struct stat found;
    int ours = below(at, path, full);
    if (ours)
        pthread_mutex_lock(&turn);
    int failed = syscall(SYS_mkdirat, at, path, mode);
    if (ours) {
        if (!failed && lstat(full, &found) == 0)
            record_path('M', found.st_ino, full);
        pthread_mutex_unlock(&turn);
    }
    return failed;
}

int mkdir(const char *path, mode_t mode) { return made(AT_FDCWD, path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { return made(at, path, mode); }
