/* See probe.h. Orders travel as messages, so they run between the actor's other messages. */
#include "tests/lib/probe.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "protocol/assert.h"

#define LIMIT_MS 10000

enum { KIND_ORDER = 120, KIND_END };

struct tr_probe {
    pthread_mutex_t mtx;
    pthread_cond_t cond;
    tr_node *node;
    /* guarded by mtx */
    tr_probe_fn *fn;
    void *arg;
    tr_id id;
    bool started;
    bool ended;
    uint64_t done; /* orders */
    uint64_t asked;
};

typedef struct order {
    tr_probe_call *call;
    void *arg;
} order;

typedef struct probe_state {
    tr_probe *probe;
} probe_state;

static tr_err probe_init(tr_self *self, void *state, const void *args) {
    tr_probe *probe = *(tr_probe *const *)args;
    ((probe_state *)state)->probe = probe;
    pthread_mutex_lock(&probe->mtx);
    probe->id = tr_self_id(self);
    probe->started = true;
    pthread_cond_broadcast(&probe->cond);
    pthread_mutex_unlock(&probe->mtx);
    return TR_OK;
}

static tr_err probe_handle(tr_self *self, void *state, tr_msg **msg) {
    tr_probe *probe = ((probe_state *)state)->probe;
    if ((*msg)->kind == KIND_END) {
        return TR_DONE;
    }
    pthread_mutex_lock(&probe->mtx);
    if ((*msg)->kind == KIND_ORDER) {
        const order *told = (const order *)(const void *)(*msg)->data;
        told->call(self, told->arg);
        probe->done++;
    } else if (probe->fn != NULL) {
        probe->fn(self, probe->arg, msg);
    }
    pthread_cond_broadcast(&probe->cond);
    pthread_mutex_unlock(&probe->mtx);
    return TR_OK;
}

static void probe_stop(tr_self *self, void *state, tr_err reason) {
    (void)reason;
    tr_probe *probe = ((probe_state *)state)->probe;
    tr_msg *none = NULL;
    pthread_mutex_lock(&probe->mtx);
    if (probe->fn != NULL) {
        probe->fn(self, probe->arg, &none);
    }
    probe->ended = true;
    pthread_cond_broadcast(&probe->cond);
    pthread_mutex_unlock(&probe->mtx);
}

static const tr_behaviour probe_behaviour = {.name = "probe",
                                             .state_size = sizeof(probe_state),
                                             .init = probe_init,
                                             .handle = probe_handle,
                                             .stop = probe_stop};

static bool wait_locked(tr_probe *probe, uint32_t ms, bool (*met)(void *arg), void *arg) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    while (met == NULL || !met(arg)) {
        if (pthread_cond_timedwait(&probe->cond, &probe->mtx, &until) == ETIMEDOUT) {
            return met != NULL && met(arg);
        }
    }
    return true;
}

static bool has_started(void *arg) {
    return ((tr_probe *)arg)->started;
}

tr_probe *tr_probe_new(tr_node *node, uint32_t shard, tr_probe_fn *fn, void *arg) {
    tr_probe *probe = calloc(1, sizeof *probe);
    TR_ASSERT(probe != NULL);
    pthread_mutex_init(&probe->mtx, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&probe->cond, &attributes);
    pthread_condattr_destroy(&attributes);
    probe->node = node;
    probe->fn = fn;
    probe->arg = arg;
    tr_spawn_spec spec = {
        .behaviour = &probe_behaviour, .args = &probe, .args_size = sizeof(tr_probe *)};
    tr_err err = tr_node_spawn(node, shard, &spec);
    TR_ASSERT(err == TR_OK);
    pthread_mutex_lock(&probe->mtx);
    bool started = wait_locked(probe, LIMIT_MS, has_started, probe);
    pthread_mutex_unlock(&probe->mtx);
    TR_ASSERT(started);
    return probe;
}

void tr_probe_set(tr_probe *probe, tr_probe_fn *fn, void *arg) {
    pthread_mutex_lock(&probe->mtx);
    probe->fn = fn;
    probe->arg = arg;
    pthread_mutex_unlock(&probe->mtx);
}

static bool all_done(void *arg) {
    tr_probe *probe = arg;
    return probe->done == probe->asked || probe->ended;
}

void tr_probe_run(tr_probe *probe, tr_probe_call *call, void *arg) {
    tr_msg *msg = tr_msg_new(KIND_ORDER, sizeof(order));
    TR_ASSERT(msg != NULL);
    *(order *)(void *)msg->data = (order){.call = call, .arg = arg};
    pthread_mutex_lock(&probe->mtx);
    probe->asked++;
    tr_post(probe->node, probe->id, msg);
    bool done = wait_locked(probe, LIMIT_MS, all_done, probe);
    pthread_mutex_unlock(&probe->mtx);
    TR_ASSERT(done);
}

bool tr_probe_await(tr_probe *probe, bool (*met)(void *arg), void *arg) {
    pthread_mutex_lock(&probe->mtx);
    bool holds = wait_locked(probe, LIMIT_MS, met, arg);
    pthread_mutex_unlock(&probe->mtx);
    return holds;
}

bool tr_probe_stays(tr_probe *probe, uint32_t ms, bool (*met)(void *arg), void *arg) {
    pthread_mutex_lock(&probe->mtx);
    bool happened = wait_locked(probe, ms, met, arg);
    pthread_mutex_unlock(&probe->mtx);
    return !happened;
}

static bool has_ended(void *arg) {
    return ((tr_probe *)arg)->ended;
}

void tr_probe_end(tr_probe *probe) {
    tr_msg *msg = tr_msg_new(KIND_END, 0);
    TR_ASSERT(msg != NULL);
    tr_post(probe->node, probe->id, msg);
    bool ended = tr_probe_await(probe, has_ended, probe);
    TR_ASSERT(ended);
}

void tr_probe_free(tr_probe *probe) {
    pthread_cond_destroy(&probe->cond);
    pthread_mutex_destroy(&probe->mtx);
    free(probe);
}

tr_id tr_probe_id(const tr_probe *probe) {
    return probe->id;
}

uint64_t tr_cpu_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000U + (uint64_t)now.tv_nsec / 1000U;
}
