/* See stand_in.h. CUnit's assertions are used, since everything runs on the test's thread. */
#include "tests/lib/stand_in.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>

#include "runtime/memory.h"

enum { KIND_ORDER = 110, KIND_CRASH };

typedef struct order {
    puppet_fn *fn;
    void *arg;
} order;

typedef struct stand_in_state {
    stand_in *me;
} stand_in_state;

size_t stand_in_fail_at;
bool stand_in_fail_on;

static void *test_resize(void *arg, void *ptr, size_t size) {
    (void)arg;
    if (stand_in_fail_at > 0 && --stand_in_fail_at == 0) {
        stand_in_fail_at = stand_in_fail_on ? 1 : 0;
        return NULL;
    }
    return realloc(ptr, size);
}

static void test_release(void *arg, void *ptr) {
    (void)arg;
    free(ptr);
}

void stand_in_memory(void) {
    tr_memory table = {.resize = test_resize, .release = test_release};
    tr_memory_set(&table);
}

static tr_err init(tr_self *self, void *state, const void *args) {
    stand_in_state *s = state;
    s->me = *(stand_in *const *)args;
    s->me->id = tr_self_id(self);
    return TR_OK;
}

static tr_err handle(tr_self *self, void *state, tr_msg **msg) {
    stand_in *me = ((stand_in_state *)state)->me;
    if ((*msg)->kind == KIND_ORDER) {
        const order *told = (const order *)(const void *)(*msg)->data;
        told->fn(self, told->arg);
        return TR_OK;
    }
    if ((*msg)->kind == KIND_CRASH) {
        return TR_ERR_BUG;
    }
    (*msg)->next = NULL;
    *me->tail = *msg;
    me->tail = &(*msg)->next;
    *msg = NULL;
    return TR_OK;
}

static void stop(tr_self *self, void *state, tr_err reason) {
    (void)self;
    (void)reason;
    stand_in *me = ((stand_in_state *)state)->me;
    me->id = TR_ID_NONE;
    stand_in_clear(me);
}

static const tr_behaviour behaviour = {.name = "stand-in",
                                       .state_size = sizeof(stand_in_state),
                                       .init = init,
                                       .handle = handle,
                                       .stop = stop};

void stand_in_start(stand_in *who, tr_node *node, uint32_t shard, const char *name) {
    *who = (stand_in){.node = node, .tail = &who->head};
    tr_spawn_spec spec = {.behaviour = &behaviour,
                          .args = &who,
                          .args_size = sizeof(stand_in *),
                          .name = name,
                          .registers = name != NULL};
    CU_ASSERT_EQUAL_FATAL(tr_node_spawn(node, shard, &spec), TR_OK);
    puppet_run(node);
    CU_ASSERT_NOT_EQUAL_FATAL(who->id, TR_ID_NONE);
}

void stand_in_do(stand_in *who, puppet_fn *fn, void *arg) {
    tr_msg *msg = tr_msg_new(KIND_ORDER, sizeof(order));
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    *(order *)(void *)msg->data = (order){fn, arg};
    msg->flags = TR_MSG_LOCAL;
    tr_post(who->node, who->id, msg);
    puppet_run(who->node);
}

typedef struct parcel {
    tr_id to;
    tr_msg *msg;
} parcel;

static void do_send(tr_self *self, void *arg) {
    parcel *p = arg;
    if (tr_send(self, p->to, &p->msg) != TR_OK) {
        CU_FAIL("a mailbox refused what a stand-in sent");
        tr_msg_free(p->msg);
    }
}

void stand_in_send(stand_in *who, tr_id to, tr_msg *msg, uint64_t ref) {
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    msg->ref = ref;
    parcel p = {to, msg};
    stand_in_do(who, do_send, &p);
}

static void do_monitor(tr_self *self, void *arg) {
    uint64_t ref;
    CU_ASSERT_EQUAL(tr_monitor(self, *(const tr_id *)arg, &ref), TR_OK);
}

void stand_in_monitor(stand_in *who, tr_id to) {
    stand_in_do(who, do_monitor, &to);
}

tr_msg *stand_in_take(stand_in *who) {
    tr_msg *msg = who->head;
    if (msg != NULL) {
        who->head = msg->next;
        if (who->head == NULL) {
            who->tail = &who->head;
        }
    }
    return msg;
}

tr_msg *stand_in_expect(stand_in *who, uint16_t kind) {
    tr_msg *msg = stand_in_take(who);
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    CU_ASSERT_EQUAL_FATAL(msg->kind, kind);
    return msg;
}

uint32_t stand_in_count(const stand_in *who) {
    uint32_t count = 0;
    for (const tr_msg *at = who->head; at != NULL; at = at->next) {
        count++;
    }
    return count;
}

void stand_in_clear(stand_in *who) {
    for (tr_msg *msg = stand_in_take(who); msg != NULL; msg = stand_in_take(who)) {
        tr_msg_free(msg);
    }
}

void stand_in_crash(stand_in *who) {
    tr_msg *msg = tr_msg_new(KIND_CRASH, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    tr_post(who->node, who->id, msg);
    puppet_run(who->node);
}
