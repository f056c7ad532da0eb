/* Preloaded into the program, makes calls on files of its data directory fail as on a broken or full disk.
 *
 * The file that FAULTS_CONTROL names says which: "KIND PART ERRNO PASS TIMES", where KIND is read, write, short, cut, rename or sync,
 * PART is a part of the path, PASS is how many such calls are let through first, and TIMES how many fail then, after which the file
 * is removed; 0 is for ever. Without that file all calls pass. A short write fails after half of the bytes; a cut
 * sets a length; both are both.
 * With ERRNO 0 a call waits until the file says something else. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long seen;

static int path_of(int fd, char *path, size_t size) {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, size - 1);
    path[length > 0 ? length : 0] = 0;
    return length > 0;
}

static int fails_at(const char *kind, const char *path) {
    char text[512] = "", wanted[16], part[256];
    long code, pass, times;
    int before = errno, failing = 0;
    const char *control = getenv("FAULTS_CONTROL");
again:
    pthread_mutex_lock(&lock);
    int file = control ? open(control, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) {
        seen = 0;
    } else {
        ssize_t length = NEXT(pread)(file, text, sizeof text - 1, 0);
        close(file);
        if (length > 0
            && sscanf(text, "%15s %255s %ld %ld %ld", wanted, part, &code, &pass, &times) == 5 && (!strcmp(kind, wanted) || (!strcmp(wanted, "both") && (!strcmp(kind, "short") || !strcmp(kind, "cut"))))
            && strstr(path, part) && ++seen > pass) {
            if (!code) {
                pthread_mutex_unlock(&lock);
                usleep(10000);
                goto again;
            }
            failing = 1;
            if (times && seen >= pass + times)
                unlink(control);
        }
    }
    pthread_mutex_unlock(&lock);
    errno = failing ? (int)code : before;
    return failing;
}

static int fails(const char *kind, int fd) {
    char path[4096];
    return path_of(fd, path, sizeof path) && fails_at(kind, path);
}

ssize_t read(int fd, void *bytes, size_t length) {
    return fails("read", fd) ? -1 : NEXT(read)(fd, bytes, length);
}

ssize_t pread(int fd, void *bytes, size_t length, off_t at) {
    return fails("read", fd) ? -1 : NEXT(pread)(fd, bytes, length, at);
}

ssize_t pread64(int fd, void *bytes, size_t length, off64_t at) {
    return fails("read", fd) ? -1 : NEXT(pread64)(fd, bytes, length, at);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    return fails("write", fd) ? -1 : NEXT(write)(fd, bytes, length);
}

static ssize_t write_at(int fd, const void *bytes, size_t length, off64_t at) {
    if (fails("write", fd))
        return -1;
    if (fails("short", fd)) {
        int code = errno;
        NEXT(pwrite64)(fd, bytes, length / 2, at);
        errno = code;
        return -1;
    }
    return NEXT(pwrite64)(fd, bytes, length, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return write_at(fd, bytes, length, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    return write_at(fd, bytes, length, at);
}

int ftruncate(int fd, off_t length) {
    return fails("cut", fd) ? -1 : NEXT(ftruncate)(fd, length);
}

int ftruncate64(int fd, off64_t length) {
    return fails("cut", fd) ? -1 : NEXT(ftruncate64)(fd, length);
}

int rename(const char *from, const char *to) {
    return fails_at("rename", to) ? -1 : NEXT(rename)(from, to);
}

int fsync(int fd) {
    return fails("sync", fd) ? -1 : NEXT(fsync)(fd);
}

int fdatasync(int fd) {
    return fails("sync", fd) ? -1 : NEXT(fdatasync)(fd);
}
