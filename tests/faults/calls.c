/* Preloaded into the program, makes calls on files of its data directory fail as on a broken or full disk.
 *
 * The file that FAULTS_CONTROL names says which: "KIND PART ERRNO PASS TIMES", where KIND is write or sync, PART is a part of
 * the path, PASS is how many such calls are let through first, and TIMES how many fail then, after which the file is
 * removed; 0 is for ever. Without that file all calls pass. */
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

static int fails(const char *kind, int fd) {
    char text[512] = "", wanted[16], part[256], name[64], path[4096] = "";
    long code, pass, times;
    int before = errno, failing = 0;
    const char *control = getenv("FAULTS_CONTROL");
    pthread_mutex_lock(&lock);
    int file = control ? open(control, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) {
        seen = 0;
    } else {
        ssize_t length = read(file, text, sizeof text - 1);
        close(file);
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        ssize_t found = readlink(name, path, sizeof path - 1);
        if (length > 0 && found > 0 && sscanf(text, "%15s %255s %ld %ld %ld", wanted, part, &code, &pass, &times) == 5
            && !strcmp(kind, wanted) && strstr(path, part) && ++seen > pass) {
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

ssize_t write(int fd, const void *bytes, size_t length) {
    return fails("write", fd) ? -1 : NEXT(write)(fd, bytes, length);
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
