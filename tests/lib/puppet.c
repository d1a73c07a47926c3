/*
 * The stepped node and the puppets of puppet.h. CUnit's assertions are used here because everything
 * runs on the test's thread.
 */
#include "tests/lib/puppet.h"

#include <CUnit/Basic.h>
#include <string.h>

typedef struct order {
    puppet_fn *fn;
    void *arg;
} order;

uint64_t puppet_clock_us;
static uint64_t moment;

static uint64_t test_now(void *arg) {
    (void)arg;
    return puppet_clock_us;
}

static uint64_t test_random(void *arg) {
    (void)arg;
    return 4;
}

static void test_wake(void *arg, uint32_t shard) {
    (void)arg;
    (void)shard;
}

tr_node *puppet_node(uint32_t shards) {
    return puppet_node_with(shards, NULL);
}

tr_node *puppet_node_with(uint32_t shards, struct tr_process_table *processes) {
    puppet_clock_us = 1000;
    tr_node_spec spec = {
        .shards = shards,
        .platform = {
            .now_us = test_now, .random = test_random, .wake = test_wake, .processes = processes}};
    tr_node *node = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_node_new(&spec, &node), TR_OK);
    return node;
}

void puppet_run(tr_node *node) {
    bool more = true;
    while (more) {
        more = false;
        for (uint32_t i = 0; i < tr_node_shards(node); i++) {
            more = tr_shard_step(tr_node_shard(node, i), 1000) || more;
        }
        for (uint32_t i = 0; i < tr_node_shards(node); i++) {
            more = tr_shard_has_work(tr_node_shard(node, i)) || more;
        }
    }
}

void puppet_wait_us(tr_node *node, uint64_t us) {
    puppet_clock_us += us;
    puppet_run(node);
}

static tr_err init(tr_self *self, void *state, const void *args) {
    puppet_args *me = state;
    *me = *(const puppet_args *)args;
    puppet_record *record = me->record;
    if (record->init_fails != TR_OK && record->starts >= record->init_fails_after) {
        record->starts++;
        return record->init_fails;
    }
    record->starts++;
    record->started_at = ++moment;
    record->id = tr_self_id(self);
    return TR_OK;
}

static tr_err handle(tr_self *self, void *state, tr_msg **taken) {
    const tr_msg *msg = *taken;
    const order *told = (const order *)(const void *)msg->data;
    puppet_record *record = puppet_of(state);
    switch (msg->kind) {
    case PUPPET_DO:
        told->fn(self, told->arg);
        return TR_OK;
    case PUPPET_CRASH:
        return TR_ERR_BUG;
    case PUPPET_END:
        return TR_DONE;
    default:
        break;
    }
    CU_ASSERT_FATAL(record->count < PUPPET_RECORD_max);
    puppet_got *got = &record->got[record->count++];
    *got = (puppet_got){.kind = msg->kind, .flags = msg->flags, .ref = msg->ref, .from = msg->from};
    if (msg->kind == TR_KIND_DOWN || msg->kind == TR_KIND_EXIT) {
        got->reason = ((const tr_ended *)(const void *)msg->data)->reason;
    } else if (msg->kind == TR_KIND_STARTED) {
        got->reason = ((const tr_started_note *)(const void *)msg->data)->err;
        got->id = ((const tr_started_note *)(const void *)msg->data)->id;
    }
    return TR_OK;
}

static void stop(tr_self *self, void *state, tr_err reason) {
    (void)self;
    puppet_record *record = puppet_of(state);
    record->stops++;
    record->reason = reason;
    record->stopped_at = ++moment;
}

const tr_behaviour puppet_behaviour = {.name = "puppet",
                                       .state_size = sizeof(puppet_args),
                                       .init = init,
                                       .handle = handle,
                                       .stop = stop};
const tr_behaviour puppet_trapper = {.name = "trapper",
                                     .state_size = sizeof(puppet_args),
                                     .traps_exit = true,
                                     .init = init,
                                     .handle = handle,
                                     .stop = stop};

const tr_behaviour puppet_silent = {.name = "silent",
                                    .state_size = sizeof(puppet_args),
                                    .acks_itself = true,
                                    .init = init,
                                    .handle = handle,
                                    .stop = stop};

puppet_record *puppet_of(void *state) {
    return ((puppet_args *)state)->record;
}

void puppet_start_as(tr_node *node, uint32_t shard, const tr_behaviour *behaviour,
                     puppet_record *record, const char *name, uint32_t mailbox_max) {
    memset(record, 0, sizeof *record);
    puppet_args args = {record};
    tr_spawn_spec spec = {.behaviour = behaviour,
                          .args = &args,
                          .args_size = sizeof args,
                          .name = name,
                          .registers = name != NULL,
                          .mailbox_max = mailbox_max};
    CU_ASSERT_EQUAL_FATAL(tr_node_spawn(node, shard, &spec), TR_OK);
    puppet_run(node);
    CU_ASSERT_NOT_EQUAL_FATAL(record->id, TR_ID_NONE);
}

void puppet_start(tr_node *node, uint32_t shard, puppet_record *record) {
    puppet_start_as(node, shard, &puppet_behaviour, record, NULL, 0);
}

tr_msg *puppet_msg(uint16_t kind, uint64_t ref) {
    tr_msg *msg = tr_msg_new(kind, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    msg->ref = ref;
    return msg;
}

void puppet_tell(tr_node *node, const puppet_record *record, puppet_fn *fn, void *arg) {
    tr_msg *msg = tr_msg_new(PUPPET_DO, sizeof(order));
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    *(order *)(void *)msg->data = (order){fn, arg};
    msg->flags = TR_MSG_LOCAL;
    tr_post(node, record->id, msg);
    puppet_run(node);
}

void puppet_post(tr_node *node, const puppet_record *record, uint16_t kind) {
    tr_post(node, record->id, puppet_msg(kind, 0));
    puppet_run(node);
}

int puppet_main(const char *suite_name, const puppet_test *tests, size_t count) {
    CU_initialize_registry();
    CU_pSuite suite = CU_add_suite(suite_name, NULL, NULL);
    for (size_t i = 0; i < count; i++) {
        CU_add_test(suite, tests[i].name, tests[i].fn);
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed == 0 ? 0 : 1;
}
