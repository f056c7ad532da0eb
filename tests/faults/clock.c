/* Loaded before the system's library: the wall clock is off by as many seconds as the file CLOCK_CONTROL says, if it is there.
   No other clock is. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result || clock != CLOCK_REALTIME)
        return result;
    const char *control = getenv("CLOCK_CONTROL");
    int file = control ? open(control, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return result;
    char text[32] = {0};
    if (read(file, text, sizeof text - 1) > 0)
        now->tv_sec += atoll(text);
    close(file);
    return result;
}
