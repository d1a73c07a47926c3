/* Nodes with real threads: delivery across shards, timers by epoll, watched descriptors, idleness,
 * introspection, stop and free. What actors see is handed to the test's thread through atomics; the
 * test waits on a condition, never on time. Each test runs direct and through NNG inproc. */
#include <CUnit/Basic.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "runtime/log.h"
#include "runtime/node.h"
#include "runtime/supervisor.h"
#include "tests/lib/puppet.h"

enum { KIND_HOP = 100, KIND_LOCAL, KIND_GO, KIND_BODY };

/* ---- a bell that actors ring and the test waits for ---- */

static pthread_mutex_t bell_mtx = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t bell_cond = PTHREAD_COND_INITIALIZER;
static uint64_t rung; /* guarded by bell_mtx */

static void ring(void) {
    pthread_mutex_lock(&bell_mtx);
    rung++;
    pthread_cond_broadcast(&bell_cond);
    pthread_mutex_unlock(&bell_mtx);
}

/* False after 20 s: then something was lost. */
static bool wait_for_rings(uint64_t count) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    int err = 0;
    pthread_mutex_lock(&bell_mtx);
    while (rung < count && err == 0) {
        err = pthread_cond_timedwait(&bell_cond, &bell_mtx, &until);
    }
    bool enough = rung >= count;
    pthread_mutex_unlock(&bell_mtx);
    return enough;
}

static tr_mailbox_mode mode;

static tr_node *open_node(uint32_t shards) {
    rung = 0;
    tr_node_spec spec = {.shards = shards, .mailbox = mode};
    tr_node *node = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_node_new(&spec, &node), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_node_start(node), TR_OK);
    return node;
}

static void close_node(tr_node *node) {
    CU_ASSERT_EQUAL(tr_node_inproc_messages(node) > 0, mode == TR_MAILBOX_INPROC);
    tr_node_stop(node);
    tr_node_free(node);
}

static void spawn(tr_node *node, uint32_t shard, const tr_behaviour *behaviour, const void *args,
                  size_t size, const char *name) {
    tr_spawn_spec spec = {.behaviour = behaviour,
                          .args = args,
                          .args_size = size,
                          .name = name,
                          .registers = name != NULL};
    CU_ASSERT_EQUAL_FATAL(tr_node_spawn(node, shard, &spec), TR_OK);
}

/* ---- senders and a sink that checks the order of each sender ---- */

#define SENDERS 4
#define MESSAGES 3000

static _Atomic uint32_t out_of_order;
static _Atomic uint32_t wrong_bodies;
static _Atomic uint32_t finished_bodies;

typedef struct sink {
    uint64_t next[SENDERS];
    uint32_t done;
} sink;

static tr_err sink_handle(tr_self *self, void *state, tr_msg **taken) {
    (void)self;
    sink *me = state;
    const tr_msg *msg = *taken;
    uint32_t sender = *(const uint32_t *)(const void *)msg->data;
    if (msg->ref != me->next[sender]++) {
        out_of_order++;
    }
    if (msg->kind == KIND_BODY &&
        (msg->body == NULL || msg->body->size != msg->ref % 100 ||
         (msg->body->size > 0 && msg->body->bytes[msg->body->size - 1] != 'b'))) {
        wrong_bodies++;
    }
    if (me->next[sender] == MESSAGES && ++me->done == SENDERS) {
        ring();
        return TR_DONE;
    }
    return TR_OK;
}

static const tr_behaviour sink_behaviour = {
    .name = "sink", .state_size = sizeof(sink), .handle = sink_handle};

typedef struct sender {
    uint32_t number;
    uint64_t sent;
    tr_id to;
} sender;

static void body_fini(tr_body *body) {
    (void)body;
    finished_bodies++;
}

static tr_err sender_init(tr_self *self, void *state, const void *args) {
    sender *me = state;
    me->number = *(const uint32_t *)args;
    tr_msg *msg = tr_msg_new(KIND_GO, 0);
    return msg != NULL ? tr_send(self, tr_self_id(self), &msg) : TR_ERR_NOMEM;
}

/* Sends a few messages of three sorts, then asks itself to go on. */
static tr_err sender_handle(tr_self *self, void *state, tr_msg **taken) {
    sender *me = state;
    if (me->to == TR_ID_NONE) {
        me->to = tr_whereis(tr_self_node(self), "sink");
    }
    for (uint32_t i = 0; me->to != TR_ID_NONE && i < 7 && me->sent < MESSAGES; i++) {
        uint16_t kind = (uint16_t)(me->sent % 3 == 0   ? KIND_HOP
                                   : me->sent % 3 == 1 ? KIND_LOCAL
                                                       : KIND_BODY);
        tr_msg *msg = tr_msg_new(kind, sizeof(uint32_t));
        if (msg == NULL) {
            return TR_ERR_NOMEM;
        }
        *(uint32_t *)(void *)msg->data = me->number;
        msg->ref = me->sent++;
        if (kind == KIND_LOCAL) {
            msg->flags = TR_MSG_LOCAL;
        } else if (kind == KIND_BODY) {
            msg->body = tr_body_new(msg->ref % 100);
            if (msg->body == NULL) {
                tr_msg_free(msg);
                return TR_ERR_NOMEM;
            }
            memset(msg->body->bytes, 'b', msg->body->size);
            msg->body->fini = me->sent % 2 == 0 ? body_fini : NULL;
        }
        tr_err err = tr_send(self, me->to, &msg);
        if (err != TR_OK) {
            tr_msg_free(msg);
            return err;
        }
    }
    if (me->sent == MESSAGES) {
        return TR_DONE;
    }
    tr_err err = tr_send(self, tr_self_id(self), taken);
    return err;
}

static const tr_behaviour sender_behaviour = {
    .name = "sender", .state_size = sizeof(sender), .init = sender_init, .handle = sender_handle};

static void order_of_each_pair_is_kept_for_all_sorts_of_messages(void) {
    tr_node *node = open_node(3);
    out_of_order = 0;
    wrong_bodies = 0;
    finished_bodies = 0;
    spawn(node, 0, &sink_behaviour, NULL, 0, "sink");
    for (uint32_t i = 0; i < SENDERS; i++) {
        spawn(node, i % 3, &sender_behaviour, &i, sizeof i, NULL);
    }
    CU_ASSERT(wait_for_rings(1));
    CU_ASSERT_EQUAL(out_of_order, 0);
    CU_ASSERT_EQUAL(wrong_bodies, 0);
    close_node(node);
    CU_ASSERT_EQUAL(finished_bodies, SENDERS * MESSAGES / 6);
}

/* ---- monitors across threads ---- */

typedef struct watcher {
    uint32_t left;
} watcher;

#define CHILDREN 200

static tr_err child_handle(tr_self *self, void *state, tr_msg **msg) {
    (void)self;
    (void)state;
    return (*msg)->kind == KIND_GO ? TR_ERR_BUG : TR_OK;
}

static const tr_behaviour child_behaviour = {
    .name = "child", .state_size = 8, .handle = child_handle};

static tr_err watcher_init(tr_self *self, void *state, const void *args) {
    (void)args;
    watcher *me = state;
    me->left = CHILDREN;
    tr_err err = TR_OK;
    for (uint32_t i = 0; i < CHILDREN && err == TR_OK; i++) {
        tr_spawn_spec spec = {.behaviour = &child_behaviour};
        err = tr_spawn_on(self, i % 2, &spec, i);
    }
    return err;
}

static tr_err watcher_handle(tr_self *self, void *state, tr_msg **taken) {
    watcher *me = state;
    const tr_msg *msg = *taken;
    if (msg->kind == TR_KIND_STARTED) {
        tr_id child = ((const tr_started_note *)(const void *)msg->data)->id;
        uint64_t ref;
        tr_err err = tr_monitor(self, child, &ref);
        return err == TR_OK ? tr_send_control(self, child, tr_msg_new(KIND_GO, 0)) : err;
    }
    if (msg->kind == TR_KIND_DOWN &&
        ((const tr_ended *)(const void *)msg->data)->reason == TR_ERR_BUG && --me->left == 0) {
        ring();
    }
    return TR_OK;
}

static const tr_behaviour watcher_behaviour = {.name = "watcher",
                                               .state_size = sizeof(watcher),
                                               .init = watcher_init,
                                               .handle = watcher_handle};

static void every_monitored_end_is_told_across_threads(void) {
    tr_node *node = open_node(2);
    spawn(node, 0, &watcher_behaviour, NULL, 0, NULL);
    CU_ASSERT(wait_for_rings(1));
    close_node(node);
}

/* ---- timers and descriptors ---- */

static tr_err timed_init(tr_self *self, void *state, const void *args) {
    (void)args;
    *(uint64_t *)state = tr_now_us(self);
    uint64_t id;
    return tr_timer_start(self, 20000, 1, &id);
}

static _Atomic uint64_t waited_us;

static tr_err timed_handle(tr_self *self, void *state, tr_msg **msg) {
    if ((*msg)->kind == TR_KIND_TIMER) {
        waited_us = tr_now_us(self) - *(uint64_t *)state;
        ring();
    } else {
        ring();
    }
    return TR_OK;
}

static const tr_behaviour timed_behaviour = {
    .name = "timed", .state_size = 8, .init = timed_init, .handle = timed_handle};

static void timer_fires_on_an_idle_shard_and_not_too_early(void) {
    tr_node *node = open_node(1);
    spawn(node, 0, &timed_behaviour, NULL, 0, "timed");
    CU_ASSERT(wait_for_rings(1));
    CU_ASSERT(waited_us >= 20000);
    tr_post(node, tr_whereis(node, "timed"), tr_msg_new(KIND_GO, 0));
    CU_ASSERT(wait_for_rings(2));
    tr_node_stop(node);
    tr_node_free(node);
}

typedef struct reader {
    int fd;
} reader;

static _Atomic uint32_t bytes_read;

static void on_readable(tr_self *self, void *state, int fd, uint32_t events) {
    reader *me = state;
    char byte;
    if (fd == me->fd && (events & EPOLLIN) != 0 && read(fd, &byte, 1) == 1) {
        bytes_read++;
        ring();
        if (byte == 'x') {
            tr_exit(self, tr_self_id(self), TR_ERR_CANCELLED); /* its watch ends with it */
        }
    }
}

static tr_err reader_init(tr_self *self, void *state, const void *args) {
    reader *me = state;
    me->fd = *(const int *)args;
    tr_err err = tr_watch(self, me->fd, EPOLLIN, on_readable);
    if (err == TR_OK && tr_watch(self, me->fd, EPOLLIN, on_readable) != TR_ERR_EXISTS) {
        err = TR_ERR_BUG;
    }
    return err;
}

static tr_err reader_handle(tr_self *self, void *state, tr_msg **msg) {
    (void)self;
    (void)state;
    (void)msg;
    return TR_OK;
}

static void reader_stop(tr_self *self, void *state, tr_err reason) {
    (void)self;
    (void)state;
    (void)reason;
    ring();
}

static const tr_behaviour reader_behaviour = {.name = "reader",
                                              .state_size = sizeof(reader),
                                              .init = reader_init,
                                              .handle = reader_handle,
                                              .stop = reader_stop};

static void watched_descriptor_runs_its_function_until_its_actor_ends(void) {
    tr_node *node = open_node(1);
    int ends[2];
    CU_ASSERT_EQUAL_FATAL(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    bytes_read = 0;
    spawn(node, 0, &reader_behaviour, &ends[0], sizeof ends[0], "reader");
    for (uint64_t i = 1; i <= 3; i++) {
        CU_ASSERT_EQUAL(write(ends[1], i < 3 ? "a" : "x", 1), 1);
        CU_ASSERT(wait_for_rings(i));
    }
    CU_ASSERT(wait_for_rings(4));
    CU_ASSERT_EQUAL(write(ends[1], "b", 1), 1); /* nobody reads it */
    spawn(node, 0, &timed_behaviour, NULL, 0, NULL);
    CU_ASSERT(wait_for_rings(5));
    CU_ASSERT_EQUAL(bytes_read, 3);
    CU_ASSERT_EQUAL(tr_whereis(node, "reader"), TR_ID_NONE);
    close(ends[0]);
    close(ends[1]);
    tr_node_stop(node);
    tr_node_free(node);
}

/* ---- idleness ---- */

/* How often the shards' threads have waited so far: one wait is one wake-up. */
static long shard_waits(uint32_t *ret_threads) {
    long sum = 0;
    *ret_threads = 0;
    DIR *tasks = opendir("/proc/self/task");
    CU_ASSERT_PTR_NOT_NULL_FATAL(tasks);
    for (struct dirent *task = readdir(tasks); task != NULL; task = readdir(tasks)) {
        char path[300];
        char line[128];
        bool ours = false;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *status = fopen(path, "re");
        while (status != NULL && fgets(line, sizeof line, status) != NULL) {
            ours = ours || strncmp(line, "Name:\ttr-shard-", 15) == 0;
            if (ours && strncmp(line, "voluntary_ctxt_switches:", 24) == 0) {
                sum += strtol(line + 24, NULL, 10);
                ++*ret_threads;
            }
        }
        if (status != NULL) {
            fclose(status);
        }
    }
    closedir(tasks);
    return sum;
}

static void idle_node_does_not_wake(void) {
    tr_node *node = open_node(2);
    spawn(node, 0, &timed_behaviour, NULL, 0, NULL);
    spawn(node, 1, &timed_behaviour, NULL, 0, NULL);
    CU_ASSERT(wait_for_rings(2));
    struct timespec until;
    uint32_t threads;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1;
    long before = shard_waits(&threads);
    CU_ASSERT_EQUAL(threads, 2);
    pthread_mutex_lock(&bell_mtx); /* a second in which nothing happens */
    while (pthread_cond_timedwait(&bell_cond, &bell_mtx, &until) == 0) {
    }
    pthread_mutex_unlock(&bell_mtx);
    CU_ASSERT(shard_waits(&threads) - before <= 3);
    tr_node_stop(node);
    tr_node_free(node);
}

/* ---- introspection ---- */

typedef struct asker {
    uint32_t answers;
} asker;

static _Atomic uint32_t rows_seen;
static _Atomic bool row_is_right;

static tr_err asker_init(tr_self *self, void *state, const void *args) {
    (void)state;
    (void)args;
    tr_node *node = tr_self_node(self);
    for (uint32_t i = 0; i < tr_node_shards(node); i++) {
        tr_msg *msg = tr_msg_new(TR_KIND_INSPECT, 0);
        if (msg == NULL) {
            return TR_ERR_NOMEM;
        }
        msg->ref = i;
        tr_err err = tr_send(self, tr_shard_id(node, i), &msg);
        if (err != TR_OK) {
            return err;
        }
    }
    return TR_OK;
}

static tr_err asker_handle(tr_self *self, void *state, tr_msg **taken) {
    asker *me = state;
    const tr_msg *msg = *taken;
    const tr_body *body = msg->body;
    for (size_t at = 0; body != NULL && at < body->size; at += sizeof(tr_actor_row)) {
        tr_actor_row row;
        memcpy(&row, body->bytes + at, sizeof row);
        rows_seen++;
        if (row.id == tr_self_id(self) && strcmp(row.kind, "asker") == 0 &&
            strcmp(row.name, "who") == 0 && strcmp(row.info, "asking") == 0) {
            row_is_right = true;
        }
    }
    if (++me->answers == tr_node_shards(tr_self_node(self))) {
        ring();
    }
    return TR_OK;
}

static void asker_describe(const void *state, char *buf, size_t size) {
    (void)state;
    snprintf(buf, size, "asking");
}

static const tr_behaviour asker_behaviour = {.name = "asker",
                                             .state_size = sizeof(asker),
                                             .init = asker_init,
                                             .handle = asker_handle,
                                             .describe = asker_describe};

static void inspection_shows_every_actor(void) {
    tr_node *node = open_node(2);
    rows_seen = 0;
    row_is_right = false;
    spawn(node, 1, &child_behaviour, NULL, 0, NULL);
    spawn(node, 1, &asker_behaviour, NULL, 0, "who");
    CU_ASSERT(wait_for_rings(1));
    CU_ASSERT_EQUAL(rows_seen, 2);
    CU_ASSERT(row_is_right);
    close_node(node);
}

/* ---- a supervised tree over threads ---- */

static tr_err worker_init(tr_self *self, void *state, const void *args) {
    (void)self;
    (void)state;
    (void)args;
    ring();
    return TR_OK;
}

static const tr_behaviour worker_behaviour = {
    .name = "worker", .state_size = 8, .init = worker_init, .handle = child_handle};

static void crashed_child_on_another_thread_is_restarted(void) {
    static const tr_child_spec children[] = {{.name = "one",
                                              .behaviour = &worker_behaviour,
                                              .shutdown_ms = 1000,
                                              .shard = 1,
                                              .registers = true},
                                             {.name = "two",
                                              .behaviour = &worker_behaviour,
                                              .shutdown_ms = 1000,
                                              .shard = 0,
                                              .registers = true}};
    tr_supervisor_args args = {.strategy = TR_ONE_FOR_ALL,
                               .intensity = 100,
                               .period_ms = 60000,
                               .children = children,
                               .child_count = 2};
    tr_node *node = open_node(2);
    spawn(node, 0, &tr_supervisor, &args, sizeof args, "top");
    CU_ASSERT(wait_for_rings(2));
    for (uint64_t i = 0; i < 3; i++) {
        tr_id one = tr_whereis(node, "one");
        CU_ASSERT_NOT_EQUAL(one, TR_ID_NONE);
        tr_post(node, one, tr_msg_new(KIND_GO, 0));
        CU_ASSERT(wait_for_rings(4 + 2 * i));
    }
    tr_msg *end = tr_msg_new(TR_KIND_EXIT, sizeof(tr_ended));
    CU_ASSERT_PTR_NOT_NULL_FATAL(end);
    ((tr_ended *)(void *)end->data)->reason = TR_ERR_SHUTDOWN;
    tr_post(node, tr_whereis(node, "top"), end);
    close_node(node);
}

static void bad_node_specs_are_refused(void) {
    tr_node *node = NULL;
    tr_node_spec none = {.shards = 0};
    tr_node_spec many = {.shards = 65};
    tr_node_spec far = {.shards = 1, .node = 256};
    CU_ASSERT_EQUAL(tr_node_new(&none, &node), TR_ERR_INVALID);
    CU_ASSERT_EQUAL(tr_node_new(&many, &node), TR_ERR_INVALID);
    CU_ASSERT_EQUAL(tr_node_new(&far, &node), TR_ERR_INVALID);
    CU_ASSERT_PTR_NULL(node);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(order_of_each_pair_is_kept_for_all_sorts_of_messages),
        PUPPET_TEST(every_monitored_end_is_told_across_threads),
        PUPPET_TEST(timer_fires_on_an_idle_shard_and_not_too_early),
        PUPPET_TEST(watched_descriptor_runs_its_function_until_its_actor_ends),
        PUPPET_TEST(idle_node_does_not_wake),
        PUPPET_TEST(inspection_shows_every_actor),
        PUPPET_TEST(crashed_child_on_another_thread_is_restarted),
        PUPPET_TEST(bad_node_specs_are_refused),
    };
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_ERROR, -1);
    mode = TR_MAILBOX_DIRECT;
    int direct = puppet_main("node", tests, sizeof tests / sizeof tests[0]);
    mode = TR_MAILBOX_INPROC;
    int inproc = puppet_main("node, mailbox: inproc", tests, sizeof tests / sizeof tests[0]);
    return direct != 0 || inproc != 0 ? 1 : 0;
}
