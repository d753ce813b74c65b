/* Stands between a process and libc, for tests: fails calls on purpose, and writes down what reaches the disk.
 *
 * Loaded with LD_PRELOAD, and told what to do through shim_arm and shim_record. Unarmed it passes everything on.
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
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WRITE = 1, FSYNC = 2, OPEN = 4, RENAME = 8, UNLINK = 16, TRUNCATE = 32, READ = 64, LINK = 128, CREATE = 256, MARK = 512 };
enum { NOTHING = 0, REFUSE = 1, SHORTEN = 2, LIE = 3 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int armed_calls, armed_nth, armed_count, armed_action, armed_errno, armed_hits;
static char armed_part[PATH_MAX];
static int record_fd = -1;
static char record_part[PATH_MAX];

#define REAL(result, name, ...)                                        \
    static result (*real)(__VA_ARGS__);                                \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static void path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

/* What is to become of a call: NOTHING, or what was asked for. */
static int struck(int call, const char *path) {
    if (!(armed_calls & call) || !strstr(path, armed_part)) return NOTHING;
    pthread_mutex_lock(&mutex);
    int hit = ++armed_hits;
    pthread_mutex_unlock(&mutex);
    if (hit < armed_nth || hit - armed_nth >= armed_count) return NOTHING;
    if (armed_action == REFUSE) errno = armed_errno;
    return armed_action;
}

static int struck_fd(int call, int fd) {
    if (!(armed_calls & call)) return NOTHING;
    char path[PATH_MAX];
    path_of(fd, path);
    return struck(call, path);
}

struct entry {
    uint32_t call, length, other_length, pad;
    uint64_t inode, offset, size;
};

static void put(const struct entry *entry, const char *path, const char *other, const void *data) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    pthread_mutex_lock(&mutex);
    real(record_fd, entry, sizeof *entry);
    real(record_fd, path, entry->length);
    real(record_fd, other, entry->other_length);
    if (data) real(record_fd, data, entry->size);
    pthread_mutex_unlock(&mutex);
}

static void record_names(int call, const char *path, const char *other) {
    if (record_fd < 0 || !strstr(path, record_part)) return;
    struct stat status;
    struct entry entry = {.call = call, .length = strlen(path), .other_length = strlen(other)};
    if (call == CREATE && stat(path, &status) == 0) entry.inode = status.st_ino;
    int error = errno;
    put(&entry, path, other, NULL);
    errno = error;
}

static void record_fd_call(int call, int fd, uint64_t offset, uint64_t size, const void *data) {
    if (record_fd < 0 || fd == record_fd) return;
    int error = errno;
    char path[PATH_MAX];
    struct stat status;
    path_of(fd, path);
    if (strstr(path, record_part) && fstat(fd, &status) == 0) {
        struct entry entry = {.call = call, .length = strlen(path), .inode = status.st_ino, .offset = offset, .size = size};
        put(&entry, path, "", data);
    }
    errno = error;
}

/* -- what tests call ------------------------------------------------------------------------------------------- */

void shim_arm(int calls, const char *part, int nth, int count, int action, int number) {
    snprintf(armed_part, sizeof armed_part, "%s", part);
    armed_nth = nth, armed_count = count, armed_action = action, armed_errno = number, armed_hits = 0;
    armed_calls = calls;
}

int shim_disarm(void) {
    armed_calls = 0;
    return armed_hits;
}

void shim_record(int fd, const char *part) {
    snprintf(record_part, sizeof record_part, "%s", part);
    record_fd = fd;
}

void shim_mark(uint64_t number) {
    struct entry entry = {.call = MARK, .offset = number};
    if (record_fd >= 0) put(&entry, "", "", NULL);
}

/* -- what libc has --------------------------------------------------------------------------------------------- */

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    int action = struck_fd(WRITE, fd);
    if (action == REFUSE) return -1;
    ssize_t written = real(fd, data, action == SHORTEN ? size / 2 : size);
    if (written > 0 && record_fd >= 0) record_fd_call(WRITE, fd, lseek(fd, 0, SEEK_CUR) - written, written, data);
    return written;
}

static ssize_t at(ssize_t (*real)(int, const void *, size_t, off64_t), int fd, const void *data, size_t size, off64_t where) {
    int action = struck_fd(WRITE, fd);
    if (action == REFUSE) return -1;
    ssize_t written = real(fd, data, action == SHORTEN ? size / 2 : size, where);
    if (written > 0) record_fd_call(WRITE, fd, where, written, data);
    return written;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t where) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    return at(real, fd, data, size, where);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t where) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    return at(real, fd, data, size, where);
}

ssize_t read(int fd, void *data, size_t size) {
    REAL(ssize_t, read, int, void *, size_t);
    return struck_fd(READ, fd) == REFUSE ? -1 : real(fd, data, size);
}

ssize_t pread64(int fd, void *data, size_t size, off64_t where) {
    REAL(ssize_t, pread64, int, void *, size_t, off64_t);
    return struck_fd(READ, fd) == REFUSE ? -1 : real(fd, data, size, where);
}

static int synced(int (*real)(int), int fd) {
    int action = struck_fd(FSYNC, fd);
    if (action == REFUSE) return -1;
    if (action == LIE) return 0;
    int result = real(fd);
    if (result == 0) record_fd_call(FSYNC, fd, 0, 0, NULL);
    return result;
}

int fsync(int fd) {
    REAL(int, fsync, int);
    return synced(real, fd);
}

int fdatasync(int fd) {
    REAL(int, fdatasync, int);
    return synced(real, fd);
}

int ftruncate64(int fd, off64_t size) {
    REAL(int, ftruncate64, int, off64_t);
    if (struck_fd(TRUNCATE, fd) == REFUSE) return -1;
    int result = real(fd, size);
    if (result == 0) record_fd_call(TRUNCATE, fd, size, 0, NULL);
    return result;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    if (struck(RENAME, to) == REFUSE) return -1;
    int result = real(from, to);
    if (result == 0) record_names(RENAME, from, to);
    return result;
}

int link(const char *from, const char *to) {
    REAL(int, link, const char *, const char *);
    if (struck(LINK, to) == REFUSE) return -1;
    int result = real(from, to);
    if (result == 0) record_names(LINK, from, to);
    return result;
}

int unlink(const char *path) {
    REAL(int, unlink, const char *);
    if (struck(UNLINK, path) == REFUSE) return -1;
    int result = real(path);
    if (result == 0) record_names(UNLINK, path, "");
    return result;
}

int open64(const char *path, int flags, ...) {
    REAL(int, open64, const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (struck(OPEN, path) == REFUSE) return -1;
    struct stat status;
    int made = record_fd >= 0 && (flags & O_CREAT) && lstat(path, &status) != 0;
    int fd = real(path, flags, mode);
    if (fd >= 0 && made) record_names(CREATE, path, "");
    if (fd >= 0 && !made && (flags & O_TRUNC)) record_fd_call(TRUNCATE, fd, 0, 0, NULL);
    return fd;
}
