/* A call between a door, a gate and backends that are stand-ins; for its tests. */
#ifndef TESTS_UNIT_ACTORS_CALL_RIG_H
#define TESTS_UNIT_ACTORS_CALL_RIG_H

#include <CUnit/CUnit.h>
#include <string.h>

#include "actors/call.h"
#include "protocol/gate.h"
#include "tests/lib/stand_in.h"

#define DOOR_REF 77U

typedef struct call_rig {
    tr_node *node;
    tr_services *services;
    stand_in door, gate, backend, other;
    tr_id call;
} call_rig;

static inline tr_services *rig_services(tr_time_limits limits) {
    const char *locals[] = {"tiny", "big"};
    const char *providers[] = {"echo", "openai"};
#define RIG_ALIAS(alias, how, ...)                                                                 \
    {.name = alias,                                                                                \
     .targets = (const char *const[]){__VA_ARGS__},                                                \
     .target_count = sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *),                  \
     .policy = TR_POLICY_##how}
    tr_alias aliases[] = {
        RIG_ALIAS("fast", ORDER, "openai/a", "tiny"),
        RIG_ALIAS("local", ORDER, "tiny", "openai/a"),
        RIG_ALIAS("longer", ORDER, "tiny", "openai/a", "big"),
        RIG_ALIAS("shorter", ORDER, "big", "openai/a", "tiny"),
        RIG_ALIAS("spread", LEAST_BUSY, "openai/a", "openai/b"),
    };
    tr_routes_spec spec = {.locals = locals,
                           .local_count = 2,
                           .contexts = (uint32_t[]){1000, 8000},
                           .providers = providers,
                           .provider_count = 2,
                           .aliases = aliases,
                           .alias_count = sizeof aliases / sizeof *aliases,
                           .limits = limits};
    tr_routes *routes = NULL;
    tr_services *services = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_services_new(&(tr_services_spec){.version = "0"}, &services), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_routes_new(&spec, &routes), TR_OK);
    tr_services_set_routes(services, routes);
    return services;
}

static inline void rig_up(call_rig *r, uint32_t shards) {
    r->node = puppet_node(shards);
    r->services = rig_services((tr_time_limits){
        .first_token_ms = 1000, .idle_ms = 2000, .total_ms = 60000, .stalled_ms = 10000});
    stand_in_start(&r->door, r->node, 0, NULL);
    stand_in_start(&r->gate, r->node, shards - 1, "pool:tiny");
    stand_in_start(&r->backend, r->node, 0, NULL);
    stand_in_start(&r->other, r->node, shards - 1, NULL);
    r->call = TR_ID_NONE;
}

static inline void rig_down(call_rig *r) {
    tr_node_free(r->node);
    CU_ASSERT_EQUAL(tr_services_running(r->services), 0);
    tr_services_free(r->services);
}

static inline void rig_spawn(tr_self *self, void *arg) {
    call_rig *r = arg;
    tr_call_args args = {.services = r->services};
    tr_spawn_spec spec = {.behaviour = &tr_call, .args = &args, .args_size = sizeof args};
    CU_ASSERT_EQUAL_FATAL(tr_services_enter(r->services), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_spawn(self, &spec, &r->call), TR_OK);
}

/* One attempt. */
static inline tr_msg *rig_submit(const char *target, uint32_t messages, uint32_t bytes) {
    tr_body *body = tr_body_new(2);
    CU_ASSERT_PTR_NOT_NULL_FATAL(body);
    memcpy(body->bytes, "{}", 2);
    tr_submit head = {
        .op = TR_OP_CHAT, .credit_messages = messages, .credit_bytes = bytes, .attempts = 1};
    return tr_msg_submit(&head, &(tr_submit_view){.target = {target, strlen(target)}}, body);
}

/* Spawns the call and has the door submit. */
static inline void rig_begin(call_rig *r, const char *target, uint32_t messages, uint32_t bytes) {
    stand_in_do(&r->door, rig_spawn, r);
    stand_in_monitor(&r->door, r->call);
    stand_in_send(&r->door, r->call, rig_submit(target, messages, bytes), DOOR_REF);
}

/* A gate's word that `backend` has room. */
static inline tr_msg *rig_granted(const stand_in *backend) {
    tr_msg *granted = tr_msg_new(TR_KIND_GRANTED, sizeof(tr_granted));
    CU_ASSERT_PTR_NOT_NULL_FATAL(granted);
    *(tr_granted *)(void *)granted->data = (tr_granted){.backend = backend->id, .queue_ms = 3};
    return granted;
}

/* The gate grants `backend`; returns the SUBMIT that the backend gets. */
static inline tr_msg *rig_grant(call_rig *r, stand_in *backend) {
    tr_msg *reserve = stand_in_expect(&r->gate, TR_KIND_RESERVE);
    stand_in_send(&r->gate, r->call, rig_granted(backend), reserve->ref);
    tr_msg *submit = stand_in_expect(backend, TR_KIND_SUBMIT);
    CU_ASSERT_EQUAL(submit->ref, reserve->ref);
    tr_msg_free(reserve);
    return submit;
}

static inline tr_msg *rig_delta(uint32_t seq, const char *text, const int32_t *ids,
                                uint32_t count) {
    tr_delta head = {.seq = seq, .kind = TR_DELTA_TEXT, .token_count = count};
    return tr_msg_delta(&head, &(tr_delta_view){.tokens = ids, .text = {text, strlen(text)}});
}

static inline tr_msg *rig_done(void) {
    return tr_msg_done(&(tr_done){.finish = TR_FINISH_STOP, .usage = {.in = 5, .out = 2}},
                       &(tr_end_view){0});
}

/* Begins, is granted and streams: the backend's ref is 1. */
static inline void rig_stream(call_rig *r) {
    rig_begin(r, "tiny", 100, 200000);
    tr_msg_free(rig_grant(r, &r->backend));
}

/* The door got one terminal of `kind` (and `err`), then DOWN, and nothing else. */
static inline void rig_expect_end(call_rig *r, uint16_t kind, tr_err err) {
    tr_msg *end = stand_in_expect(&r->door, kind);
    CU_ASSERT_EQUAL(end->ref, DOOR_REF);
    if (kind == TR_KIND_FAIL) {
        CU_ASSERT_EQUAL(((const tr_fail *)(const void *)end->data)->err, err);
    }
    tr_msg_free(end);
    tr_msg *down = stand_in_expect(&r->door, TR_KIND_DOWN);
    CU_ASSERT_EQUAL(((const tr_ended *)(const void *)down->data)->reason, TR_OK);
    tr_msg_free(down);
    CU_ASSERT_EQUAL(stand_in_count(&r->door), 0);
    CU_ASSERT_EQUAL(tr_services_running(r->services), 0);
}

static inline void rig_expect_settled(call_rig *r, uint64_t ref) {
    tr_msg *settle = stand_in_expect(&r->gate, TR_KIND_SETTLE);
    CU_ASSERT_EQUAL(settle->ref, ref);
    tr_msg_free(settle);
}

#endif
