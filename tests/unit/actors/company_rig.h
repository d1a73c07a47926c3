/* A whole company on a stepped node with peers at its doors; for tests of doors and controls. */
#ifndef TESTS_UNIT_ACTORS_COMPANY_RIG_H
#define TESTS_UNIT_ACTORS_COMPANY_RIG_H

#include <CUnit/CUnit.h>
#include <string.h>

#include "actors/company.h"
#include "tests/lib/peer.h"

#define OPEN_URL "ipc:///open"
#define TOKEN_URL "tcp://token"
#define WORKER_URL "ipc:///workers"

typedef struct company_rig {
    tr_node *node;
    tr_services *services;
    tr_company *company;
    bool up, down;
    tr_err up_err, down_reason;
    char why[256];
    uint32_t stops; /* asked for by a request */
} company_rig;

static inline void company_up(void *arg, tr_err err, const char *why) {
    company_rig *r = arg;
    r->up = true;
    r->up_err = err;
    snprintf(r->why, sizeof r->why, "%s", why);
}

static inline void company_down(void *arg, tr_err reason) {
    company_rig *r = arg;
    r->down = true;
    r->down_reason = reason;
}

static inline void company_stop_requested(void *arg) {
    ((company_rig *)arg)->stops++;
}

static inline void company_set_routes(company_rig *r, const char *alias) {
    static const char *const providers[] = {"echo"}, *const words[] = {"echo/words"};
    static const char *const locals[] = {"absent"};
    tr_alias one = {.name = alias, .targets = words, .target_count = 1};
    tr_routes_spec spec = {
        .locals = locals,
        .local_count = 1,
        .providers = providers,
        .provider_count = 1,
        .aliases = &one,
        .alias_count = 1,
        .default_model = "echo/words",
        .limits = {
            .first_token_ms = 60000, .idle_ms = 60000, .total_ms = 600000, .stalled_ms = 300000}};
    tr_routes *routes = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_routes_new(&spec, &routes), TR_OK);
    tr_services_set_routes(r->services, routes);
}

/* Started but not run yet. */
static inline void company_make(company_rig *r, uint32_t shards) {
    memset(r, 0, sizeof *r);
    r->node = peer_node(shards);
    tr_services_spec spec = {.version = "9.9", .stop_requested = company_stop_requested, .arg = r};
    CU_ASSERT_EQUAL_FATAL(tr_services_new(&spec, &r->services), TR_OK);
    company_set_routes(r, "echoes");
    static const tr_door_spec doors[] = {
        {.url = OPEN_URL, .same_user = true, .takes_clients = true},
        {.url = TOKEN_URL, .token = "secret", .token_size = 6, .takes_clients = true},
        {.url = WORKER_URL, .same_user = true, .takes_clients = false},
    };
    tr_company_spec company = {.services = r->services,
                               .doors = doors,
                               .door_count = 3,
                               .drain_ms = 2000,
                               .up = company_up,
                               .down = company_down,
                               .arg = r};
    CU_ASSERT_EQUAL_FATAL(tr_company_start(r->node, &company, &r->company), TR_OK);
}

static inline void company_start(company_rig *r, uint32_t shards) {
    company_make(r, shards);
    peer_run(r->node);
    CU_ASSERT_FATAL(r->up && r->up_err == TR_OK);
}

static inline void company_free(company_rig *r) {
    peer_node_free(r->node);
    tr_company_free(r->company);
    CU_ASSERT(tr_services_running(r->services) == 0 && tr_services_bodies(r->services) == 0);
    tr_services_free(r->services);
}

/* Stops it, which nothing that runs may hinder. */
static inline void company_end(company_rig *r) {
    tr_company_stop(r->company);
    peer_wait_us(r->node, 20000000);
    CU_ASSERT(r->down);
    CU_ASSERT_EQUAL(r->down_reason, TR_OK);
    company_free(r);
}

static inline void company_greet(company_rig *r, peer *who) {
    peer_dial(who, r->node, OPEN_URL);
    peer_send(who, peer_hello(""), 0);
    tr_msg_free(peer_expect(who, TR_KIND_WELCOME, 0));
}

/* FAIL with `ref` and `err`, whose sentence says `words`. */
static inline void company_expect_fail(peer *who, uint64_t ref, tr_err err, const char *words) {
    tr_msg *msg = peer_expect(who, TR_KIND_FAIL, ref);
    const tr_fail *fail = (const tr_fail *)(const void *)msg->data;
    CU_ASSERT_EQUAL(fail->err, err);
    tr_str text = tr_fail_read(fail).message;
    char sentence[512];
    snprintf(sentence, sizeof sentence, "%.*s", (int)text.size, text.ptr);
    CU_ASSERT_PTR_NOT_NULL(strstr(sentence, words));
    tr_msg_free(msg);
}

/* The same with ref 0, and then the connection was closed. */
static inline void company_expect_closed(peer *who, tr_err err, const char *words) {
    company_expect_fail(who, 0, err, words);
    CU_ASSERT(who->closed);
    CU_ASSERT_PTR_NULL(peer_take(who));
}

/* The text of an answer, which ends with DONE; the frames are taken. */
static inline const char *company_answer(peer *who, uint64_t ref, char *text, size_t size) {
    size_t used = 0;
    text[0] = '\0';
    for (tr_msg *msg = peer_take(who); msg != NULL; msg = peer_take(who)) {
        CU_ASSERT_EQUAL(msg->ref, ref);
        bool done = msg->kind == TR_KIND_DONE;
        if (msg->kind == TR_KIND_DELTA) {
            tr_str piece = tr_delta_read((const tr_delta *)(const void *)msg->data).text;
            used += (size_t)snprintf(text + used, size - used, "%.*s", (int)piece.size, piece.ptr);
        }
        tr_msg_free(msg);
        if (done) {
            return text;
        }
    }
    CU_FAIL("the answer has no end");
    return text;
}

#endif
