/* Preloaded into the program, makes calls on files of its data directory fail as on a broken or full disk.
 *
 * The file that FAULTS_CONTROL names says which: "KIND PART ERRNO PASS TIMES", where KIND is read, write, sync or merge, PART is a
 * part of the path, PASS is how many such calls are let through first, and TIMES how many fail then, after which the file is
 * removed; 0 is for ever. Without that file all calls pass. A merge is a write of a thread that has read a lot of a table.
 * With ERRNO 0 a call waits until the file says something else. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long seen;

static __thread int merges;

static int path_of(int fd, char *path, size_t size) {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, size - 1);
    path[length > 0 ? length : 0] = 0;
    return length > 0;
}

static int fails(const char *kind, int fd) {
    char text[512] = "", wanted[16], part[256], path[4096];
    long code, pass, times;
    int before = errno, failing = 0;
    const char *control = getenv("FAULTS_CONTROL");
again:
    pthread_mutex_lock(&lock);
    int file = control ? open(control, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) {
        seen = 0;
    } else {
        ssize_t length = pread(file, text, sizeof text - 1, 0);
        close(file);
        if (length > 0 && path_of(fd, path, sizeof path)
            && sscanf(text, "%15s %255s %ld %ld %ld", wanted, part, &code, &pass, &times) == 5 && !strcmp(kind, wanted)
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

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t read(int fd, void *bytes, size_t length) {
    char path[4096];
    if (length >= 8192 && path_of(fd, path, sizeof path) && strstr(path, "/tables/"))
        merges = 1;
    return fails("read", fd) ? -1 : NEXT(read)(fd, bytes, length);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    return fails("write", fd) || (merges && fails("merge", fd)) ? -1 : NEXT(write)(fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return fails("write", fd) ? -1 : NEXT(writev)(fd, parts, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return fails("write", fd) ? -1 : NEXT(pwrite)(fd, bytes, length, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    return fails("write", fd) ? -1 : NEXT(pwrite64)(fd, bytes, length, at);
}

int fsync(int fd) {
    return fails("sync", fd) ? -1 : NEXT(fsync)(fd);
}

int fdatasync(int fd) {
    return fails("sync", fd) ? -1 : NEXT(fdatasync)(fd);
}
