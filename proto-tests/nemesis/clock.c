/* Preloaded into a process, moves its wall clock by the nanoseconds that stand in the file $CLOCK_SHIFT (eight bytes,
   read anew at every look at the clock). Monotonic time stays as it is, as it does when an administrator sets a clock. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static volatile const int64_t *shift_ns(void) {
    static volatile const int64_t *mapped;
    if (!mapped) {
        const char *path = getenv("CLOCK_SHIFT");
        int file = path ? open(path, O_RDONLY) : -1;
        void *at = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
        if (at != MAP_FAILED) {
            mapped = at;
        }
    }
    return mapped;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) {
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    }
    int outcome = real(clock, at);
    volatile const int64_t *shift = clock == CLOCK_REALTIME ? shift_ns() : NULL;
    if (outcome == 0 && shift) {
        int64_t ns = (int64_t)at->tv_sec * 1000000000 + at->tv_nsec + *shift;
        at->tv_sec = ns / 1000000000;
        at->tv_nsec = ns % 1000000000;
    }
    return outcome;
}
