/* `mailbox: inproc` on a stepped node: what goes through NNG comes out the same, also when memory
 * is short at the receiving side, and a node that is freed early keeps nothing. The shards' wake is
 * the test's bell, since NNG's threads deliver. */
#include <CUnit/Basic.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/memory.h"
#include "tests/lib/puppet.h"

enum { KIND_FIRST = 100, KIND_LAST = 101 };

static pthread_mutex_t wake_mtx = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake_cond = PTHREAD_COND_INITIALIZER;
static uint64_t wakes; /* guarded by wake_mtx */

static void on_wake(void *arg, uint32_t shard) {
    (void)arg;
    (void)shard;
    pthread_mutex_lock(&wake_mtx);
    wakes++;
    pthread_cond_broadcast(&wake_cond);
    pthread_mutex_unlock(&wake_mtx);
}

/* Memory that fails for every call of one other thread's: NNG's, never the test's. */
static pthread_t test_thread;
static _Atomic int32_t failures_left;
static _Atomic int64_t memory_alive;

static void *short_resize(void *arg, void *ptr, size_t size) {
    (void)arg;
    if (!pthread_equal(pthread_self(), test_thread) && failures_left > 0 && failures_left-- > 0) {
        return NULL;
    }
    void *now = realloc(ptr, size);
    memory_alive += ptr == NULL && now != NULL ? 1 : 0;
    return now;
}

static void counting_release(void *arg, void *ptr) {
    (void)arg;
    memory_alive--;
    free(ptr);
}

static tr_node *open_node(uint32_t shards) {
    static const tr_memory table = {.resize = short_resize, .release = counting_release};
    test_thread = pthread_self();
    failures_left = 0;
    memory_alive = 0;
    wakes = 0;
    tr_memory_set(&table);
    tr_node_spec spec = {
        .shards = shards, .mailbox = TR_MAILBOX_INPROC, .platform = {.wake = on_wake}};
    tr_node *node = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_node_new(&spec, &node), TR_OK);
    return node;
}

static void close_node(tr_node *node) {
    tr_node_free(node);
    CU_ASSERT_EQUAL(memory_alive, 0);
    tr_memory_set(NULL);
}

typedef struct reading {
    uint32_t count;
    uint32_t wrong;
    bool last_came;
} reading;

#define MESSAGES 500

static tr_err reader_handle(tr_self *self, void *state, tr_msg **taken) {
    (void)self;
    reading *to = *(reading **)state;
    const tr_msg *msg = *taken;
    size_t size = msg->ref % 7 == 0 ? 100000 : msg->ref % 7;
    bool right = msg->ref == to->count && msg->size == msg->ref % 50;
    for (uint32_t i = 0; i < msg->size; i++) {
        right = right && msg->data[i] == (uint8_t)(msg->ref + i);
    }
    if (msg->ref % 3 == 0) {
        right = right && msg->body != NULL && msg->body->size == size &&
                (size == 0 || (msg->body->bytes[0] == 'x' && msg->body->bytes[size - 1] == 'x')) &&
                msg->body->bytes[size] == '\0';
    } else {
        right = right && msg->body == NULL;
    }
    to->count++;
    to->wrong += right ? 0 : 1;
    to->last_came = msg->kind == KIND_LAST;
    return TR_OK;
}

static tr_err reader_init(tr_self *self, void *state, const void *args) {
    (void)self;
    memcpy(state, args, sizeof(reading *));
    return TR_OK;
}

static const tr_behaviour reader_behaviour = {.name = "reader",
                                              .state_size = sizeof(reading *),
                                              .init = reader_init,
                                              .handle = reader_handle};

/* An actor whose init sends all the messages. */
static tr_err writer_init(tr_self *self, void *state, const void *args) {
    (void)state;
    (void)args;
    tr_id reader = tr_whereis(tr_self_node(self), "reader");
    for (uint64_t ref = 0; ref < MESSAGES; ref++) {
        size_t size = ref % 7 == 0 ? 100000 : ref % 7;
        tr_msg *msg = tr_msg_new(ref == MESSAGES - 1 ? KIND_LAST : KIND_FIRST, ref % 50);
        if (msg == NULL) {
            return TR_ERR_NOMEM;
        }
        msg->ref = ref;
        msg->flags = ref % 5 == 0 ? TR_MSG_LOCAL : 0;
        for (uint32_t i = 0; i < msg->size; i++) {
            msg->data[i] = (uint8_t)(ref + i);
        }
        if (ref % 3 == 0) {
            msg->body = tr_body_new(size);
            if (msg->body == NULL) {
                tr_msg_free(msg);
                return TR_ERR_NOMEM;
            }
            memset(msg->body->bytes, 'x', size);
        }
        tr_err err = tr_send(self, reader, &msg);
        if (err != TR_OK) {
            tr_msg_free(msg);
            return err;
        }
    }
    return TR_OK;
}

static const tr_behaviour writer_behaviour = {
    .name = "writer", .state_size = 1, .init = writer_init, .handle = reader_handle};

static void spawn(tr_node *node, uint32_t shard, const tr_behaviour *behaviour, const void *args,
                  size_t size, const char *name) {
    tr_spawn_spec spec = {
        .behaviour = behaviour, .args = args, .args_size = size, .name = name, .registers = true};
    CU_ASSERT_EQUAL_FATAL(tr_node_spawn(node, shard, &spec), TR_OK);
}

/* Steps; when nothing is left to do waits for NNG's threads to wake a shard. */
static void run_until_last(tr_node *node, const reading *to) {
    bool in_time = true;
    while (!to->last_came && in_time) {
        bool more = false;
        for (uint32_t i = 0; i < tr_node_shards(node); i++) {
            more = tr_shard_step(tr_node_shard(node, i), 100) || more;
        }
        for (uint32_t i = 0; !more && i < tr_node_shards(node); i++) {
            more = !tr_shard_sleeps(tr_node_shard(node, i));
        }
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 20;
        pthread_mutex_lock(&wake_mtx);
        while (!more && !to->last_came && wakes == 0 && in_time) {
            in_time = pthread_cond_timedwait(&wake_cond, &wake_mtx, &until) == 0;
        }
        wakes = 0;
        pthread_mutex_unlock(&wake_mtx);
    }
    CU_ASSERT(in_time);
}

static void converse(uint32_t shards, int32_t failures) {
    tr_node *node = open_node(shards);
    reading got = {0};
    reading *to = &got;
    spawn(node, 0, &reader_behaviour, &to, sizeof to, "reader");
    (void)tr_shard_step(tr_node_shard(node, 0), 10);
    failures_left = failures;
    spawn(node, shards - 1, &writer_behaviour, NULL, 0, "writer");
    run_until_last(node, &got);
    CU_ASSERT_EQUAL(got.count, MESSAGES);
    CU_ASSERT_EQUAL(got.wrong, 0);
    CU_ASSERT_EQUAL(tr_node_inproc_messages(node), MESSAGES);
    CU_ASSERT_EQUAL(failures_left, 0);
    close_node(node);
}

static void messages_come_out_as_they_went_in(void) {
    converse(1, 0);
    converse(3, 0);
}

static void receive_that_lacks_memory_tries_again_and_loses_nothing(void) {
    converse(1, 5);
    converse(2, 5);
}

static void node_freed_with_messages_under_way_keeps_nothing(void) {
    for (uint32_t i = 0; i < 20; i++) {
        tr_node *node = open_node(2);
        reading got = {0};
        reading *to = &got;
        spawn(node, 0, &reader_behaviour, &to, sizeof to, "reader");
        (void)tr_shard_step(tr_node_shard(node, 0), 10);
        spawn(node, 1, &writer_behaviour, NULL, 0, "writer");
        if (i % 2 == 0) {
            (void)tr_shard_step(tr_node_shard(node, 1), 10);
        }
        close_node(node);
    }
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(messages_come_out_as_they_went_in),
        PUPPET_TEST(receive_that_lacks_memory_tries_again_and_loses_nothing),
        PUPPET_TEST(node_freed_with_messages_under_way_keeps_nothing),
    };
    return puppet_main("mailbox", tests, sizeof tests / sizeof tests[0]);
}
