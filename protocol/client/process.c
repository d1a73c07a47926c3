/*
 * Whether a fork happened is asked at each entry of the library, also a million times a second in
 * tr_stream_next, so getpid (a system call) would be the largest cost there. A page that the kernel
 * empties in a child (MADV_WIPEONFORK, Linux 4.14) answers with one read, and also for children
 * made by clone, which pthread_atfork handlers miss. Where the page cannot be had, getpid answers.
 */
#include "protocol/client/process.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "protocol/client/troupe.h"

static _Thread_local char sentence[1024];

static _Atomic uint64_t *mark; /* written once, under `once` */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_mark(void) {
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return;
    }
    if (madvise(page, size, MADV_WIPEONFORK) != 0) {
        munmap(page, size);
        return;
    }
    mark = page;
}

uint64_t tri_process(void) {
    pthread_once(&once, make_mark);
    if (mark == NULL) {
        return (uint64_t)getpid();
    }
    /* Relaxed: the value says which process this is and publishes nothing else. */
    uint64_t seen = atomic_load_explicit(mark, memory_order_relaxed);
    if (seen == 0) {
        seen = (uint64_t)getpid();
        atomic_store_explicit(mark, seen, memory_order_relaxed);
    }
    return seen;
}

void tri_say_text(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
}

tr_err tri_say_forked(void) {
    return tri_say(TR_ERR_FORKED,
                   "This client was opened by the parent process and cannot be used "
                   "after fork: open a client of its own in each child, after fork.");
}

const char *tr_client_error(void) {
    return sentence;
}

int64_t tri_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 * TRI_MS + now.tv_nsec;
}
