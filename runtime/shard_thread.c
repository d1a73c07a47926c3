/*
 * A shard's thread: step, then wait in epoll for its eventfd, its watched descriptors or its next
 * timer. Nothing ticks: an idle shard sleeps until something happens. While there is work the
 * descriptors are looked at once a step, and not at all when none is watched. Signals are left to
 * the program's main thread.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "protocol/assert.h"
#include "runtime/msg_cache.h"
#include "runtime/shard_internal.h"

#define EVENTS 64
#define STEP_MESSAGES 512U /* between two looks at the descriptors and the clock */
#define WAIT_MAX_MS 3600000U
#define WAKE_KEY 0U /* generation 0: never a watch */

void tri_wake(tr_shard *shard) {
    const tr_platform *platform = &shard->node->spec.platform;
    if (platform->wake != NULL) {
        platform->wake(platform->arg, shard->number);
    } else if (shard->wake_fd >= 0) {
        uint64_t one = 1;
        ssize_t written = write(shard->wake_fd, &one, sizeof one);
        (void)written; /* only a full counter can refuse, and that wakes as well */
    }
}

/* Milliseconds to wait, rounded up so that no timer is found not yet due. */
static int wait_ms(const tr_shard *shard) {
    uint64_t due = tr_shard_deadline_us(shard);
    if (due == UINT64_MAX) {
        return -1;
    }
    const tr_platform *platform = &shard->node->spec.platform;
    uint64_t now = platform->now_us(platform->arg);
    if (due <= now) {
        return 0;
    }
    uint64_t ms = (due - now + 999) / 1000;
    return ms > WAIT_MAX_MS ? (int)WAIT_MAX_MS : (int)ms;
}

static void wait_for_events(tr_shard *shard, int timeout_ms) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(shard->epoll_fd, events, EVENTS, timeout_ms);
    TR_ASSERT(count >= 0 || errno == EINTR);
    const tr_platform *platform = &shard->node->spec.platform;
    shard->now_us = platform->now_us(platform->arg);
    for (int i = 0; i < count; i++) {
        if (events[i].data.u64 == WAKE_KEY) {
            uint64_t sum;
            ssize_t got = read(shard->wake_fd, &sum, sizeof sum);
            (void)got; /* empties the counter; there is nothing to do when it was empty */
        } else {
            tri_watch_event(shard, events[i].data.u64, events[i].events);
        }
    }
}

static void *run(void *arg) {
    tr_shard *shard = arg;
    tri_msg_cache_open();
    /* Relaxed: tr_node_stop wakes the shard after setting it, and joins. */
    while (!atomic_load_explicit(&shard->stopping, memory_order_relaxed)) {
        if (tr_shard_step(shard, STEP_MESSAGES)) {
            if (shard->fd_count > 0) {
                wait_for_events(shard, 0);
            }
        } else if (tr_shard_sleeps(shard)) {
            if (atomic_load(&shard->stopping)) {
                break;
            }
            wait_for_events(shard, wait_ms(shard));
        }
    }
    tri_msg_cache_close();
    return NULL;
}

tr_err tri_thread_start(tr_shard *shard) {
    shard->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    shard->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE_KEY};
    if (shard->epoll_fd < 0 || shard->wake_fd < 0 ||
        epoll_ctl(shard->epoll_fd, EPOLL_CTL_ADD, shard->wake_fd, &event) != 0) {
        return TR_ERR_IO; /* closed by tri_shard_fini */
    }
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&shard->thread, NULL, run, shard);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed == 0) {
        char name[16];
        snprintf(name, sizeof name, "tr-shard-%u", shard->number & 0xffU);
        pthread_setname_np(shard->thread, name);
    }
    return failed == 0 ? TR_OK : TR_ERR_IO;
}

void tri_thread_stop(tr_shard *shard) {
    atomic_store(&shard->stopping, true);
    uint64_t one = 1;
    ssize_t written = write(shard->wake_fd, &one, sizeof one);
    (void)written;
    pthread_join(shard->thread, NULL);
}
