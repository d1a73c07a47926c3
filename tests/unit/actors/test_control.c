/* Control requests over a connection, and the company's life: start, drain, stop, restarts. */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>

#include "protocol/json.h"
#include "runtime/log.h"
#include "tests/lib/stand_in.h"
#include "tests/unit/actors/company_rig.h"

#define ECHO(chunks)                                                                               \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"echo\":{\"chunks\":" chunks           \
    ",\"bytes\":8}}"

static char text[1 << 20];

static void control(peer *who, uint64_t ref, const char *body) {
    peer_send(who, peer_submit(TR_OP_CONTROL, "", body, 1000, 1000000), ref);
}

/* Asks, and parses the answer: to be freed by the test. */
static tr_json *ask(peer *who, const char *body) {
    control(who, 1, body);
    company_answer(who, 1, text, sizeof text);
    tr_json *json = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_json_parse(text, strlen(text), &json, NULL), TR_OK);
    return json;
}

static tr_json *ask_slowly(company_rig *r, peer *who, const char *body) {
    control(who, 1, body);
    peer_wait_us(r->node, 1100000); /* a pool that is not there does not answer */
    company_answer(who, 1, text, sizeof text);
    tr_json *json = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_json_parse(text, strlen(text), &json, NULL), TR_OK);
    return json;
}

static void stream(peer *who, uint64_t ref, uint32_t credit) {
    peer_send(who, peer_submit(TR_OP_CHAT, "echoes", ECHO("100"), credit, 900000), ref);
}

static const tr_json_value *row_named(const tr_json *json, const char *name) {
    const tr_json_value *at = tr_json_first(tr_json_get(tr_json_root(json), "actors"));
    while (at != NULL && strcmp(tr_json_string(tr_json_get(at, "name")).ptr, name) != 0) {
        at = tr_json_next(at);
    }
    return at;
}

static void tree_shows_every_actor_under_its_parent(void) {
    company_rig r;
    company_start(&r, 2);
    peer who = {0};
    company_greet(&r, &who);
    stream(&who, 2, 1);
    peer_drop(&who);
    tr_json *json = ask(&who, "{\"do\":\"tree\"}");
    const tr_json_value *root = row_named(json, "root");
    static const char *const groups[] = {"providers", "limiters", "pools", "calls", "gateway"};
    CU_ASSERT_PTR_NOT_NULL_FATAL(root);
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        const tr_json_value *group = row_named(json, groups[i]);
        CU_ASSERT_PTR_NOT_NULL_FATAL(group);
        CU_ASSERT_STRING_EQUAL(tr_json_string(tr_json_get(group, "parent")).ptr,
                               tr_json_string(tr_json_get(root, "id")).ptr);
        CU_ASSERT(tr_json_int(tr_json_get(group, "restarts"), -1) == 0);
        CU_ASSERT(tr_json_int(tr_json_get(group, "handled"), -1) >= 0);
        CU_ASSERT(tr_json_int(tr_json_get(group, "mailbox"), -1) >= 0);
    }
    CU_ASSERT_PTR_NOT_NULL(row_named(json, "limiter:echo"));
    CU_ASSERT_PTR_NOT_NULL(row_named(json, "provider:echo:1"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "streaming target=echo/words"));
    tr_json_free(json);
    peer_free(&who);
    company_end(&r);
}

static void requests_are_listed_and_cancelled_by_their_id(void) {
    company_rig r;
    company_start(&r, 2);
    peer who = {0}, admin = {0};
    company_greet(&r, &who);
    company_greet(&r, &admin);
    stream(&who, 7, 1);
    stream(&who, 8, 1);
    peer_drop(&who);
    tr_json *json = ask(&admin, "{\"do\":\"requests\"}");
    CU_ASSERT_EQUAL(tr_json_int(tr_json_get(tr_json_root(json), "running"), 0), 2);
    const tr_json_value *rows = tr_json_get(tr_json_root(json), "requests");
    CU_ASSERT_EQUAL_FATAL(tr_json_count(rows), 2);
    tr_str id = tr_json_string(tr_json_get(tr_json_first(rows), "id"));
    CU_ASSERT_FATAL(id.size > 2 && id.ptr[0] == '<');
    char body[128];
    snprintf(body, sizeof body, "{\"do\":\"cancel\",\"id\":\"%.*s\"}", (int)id.size - 2,
             id.ptr + 1); /* without its brackets, as shells like it */
    tr_json_free(json);
    tr_json_free(ask(&admin, body));
    tr_msg *fail = peer_take(&who);
    CU_ASSERT_PTR_NOT_NULL_FATAL(fail);
    CU_ASSERT_EQUAL(fail->kind, TR_KIND_FAIL);
    CU_ASSERT_EQUAL(((const tr_fail *)(const void *)fail->data)->err, TR_ERR_CANCELLED);
    tr_msg_free(fail);
    CU_ASSERT_EQUAL(tr_services_running(r.services), 1);
    control(&admin, 1, body);
    company_expect_fail(&admin, 1, TR_ERR_NOT_FOUND, "no request");
    peer_free(&who);
    peer_free(&admin);
    company_end(&r);
}

static void models_and_status_say_what_is_configured(void) {
    company_rig r;
    company_start(&r, 2);
    peer who = {0};
    company_greet(&r, &who);
    tr_json *json = ask_slowly(&r, &who, "{\"do\":\"models\"}");
    const tr_json_value *root = tr_json_root(json);
    CU_ASSERT_STRING_EQUAL(tr_json_string(tr_json_get(root, "default")).ptr, "echo/words");
    CU_ASSERT_STRING_EQUAL(tr_json_string(tr_json_get(tr_json_get(root, "aliases"), "echoes")).ptr,
                           "echo/words");
    CU_ASSERT_EQUAL(tr_json_count(tr_json_get(root, "providers")), 1);
    tr_json_free(json);
    json = ask_slowly(&r, &who, "{\"do\":\"status\"}");
    root = tr_json_root(json);
    CU_ASSERT_STRING_EQUAL(tr_json_string(tr_json_get(root, "version")).ptr, "9.9");
    CU_ASSERT_EQUAL(tr_json_int(tr_json_get(root, "shards"), 0), 2);
    CU_ASSERT_EQUAL(tr_json_int(tr_json_get(root, "running"), -1), 0);
    const tr_json_value *part = tr_json_first(tr_json_get(root, "parts"));
    CU_ASSERT_STRING_EQUAL(tr_json_string(tr_json_get(part, "gate")).ptr, "limiter");
    tr_json_free(json);
    peer_free(&who);
    company_end(&r);
}

static void bad_control_requests_say_what_can_be_done(void) {
    static const char *const bad[] = {"", "{", "[]", "{\"do\":\"dance\"}", "{\"do\":7}", "null"};
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    company_greet(&r, &who);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        control(&who, i + 1, bad[i]);
        company_expect_fail(&who, i + 1, TR_ERR_INVALID, "tree, requests, cancel");
    }
    control(&who, 1, "{\"do\":\"cancel\"}");
    company_expect_fail(&who, 1, TR_ERR_INVALID, "needs \"id\"");
    control(&who, 1, "{\"do\":\"log_level\",\"level\":\"loud\"}");
    company_expect_fail(&who, 1, TR_ERR_INVALID, "debug");
    control(&who, 1, "{\"do\":\"load\",\"model\":\"absnt\"}");
    company_expect_fail(&who, 1, TR_ERR_NOT_FOUND, "did you mean absent");
    control(&who, 1, "{\"do\":\"load\",\"model\":\"echoes\"}");
    company_expect_fail(&who, 1, TR_ERR_UNSUPPORTED, "only chats");
    control(&who, 1, "{\"do\":\"unload\",\"model\":\"absent\"}");
    company_expect_fail(&who, 1, TR_ERR_SERVER, "restarted");
    peer_free(&who);
    company_end(&r);
}

static void control_requests_are_small_and_few(void) {
    static char text[TR_CONTROL_BODY_max + 2];
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    company_greet(&r, &who);
    memset(text, ' ', sizeof text - 1);
    memcpy(text, "{\"do\":\"ping\"}", 13);
    control(&who, 1, text);
    company_expect_fail(&who, 1, TR_ERR_TOO_LARGE, "16384 bytes");
    /* The 40th byte lies within a character. */
    control(&who, 1,
            "{\"do\":\"a\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
            "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3"
            "\xa9\"}");
    company_expect_fail(&who, 1, TR_ERR_INVALID, "\xc3\xa9\" is unknown");
    for (uint64_t i = 1; i <= TR_CONTROLS_PER_CLIENT_max; i++) {
        peer_send(&who, peer_submit(TR_OP_CONTROL, "", "{\"do\":\"ping\"}", 0, 0), i);
    }
    control(&who, 1000, "{\"do\":\"ping\"}");
    company_expect_fail(&who, 1000, TR_ERR_OVERLOADED, "64 of control");
    peer_send(&who, tr_msg_credit(1, 50000), 1);
    tr_msg_free(peer_expect(&who, TR_KIND_DELTA, 1));
    tr_msg_free(peer_expect(&who, TR_KIND_DONE, 1));
    control(&who, 1000, "{\"do\":\"ping\"}");
    tr_msg_free(peer_expect(&who, TR_KIND_DELTA, 1000));
    tr_msg_free(peer_expect(&who, TR_KIND_DONE, 1000));
    peer_free(&who);
    company_end(&r);
}

static void long_answer_keeps_to_its_credit(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0}, crowd = {0};
    company_greet(&r, &crowd);
    for (uint64_t i = 1; i <= 400; i++) {
        stream(&crowd, i, 1);
    }
    company_greet(&r, &who);
    peer_send(&who, peer_submit(TR_OP_CONTROL, "", "{\"do\":\"tree\"}", 1, TR_CREDIT_BYTES_min), 1);
    uint32_t deltas = 0;
    for (;;) {
        tr_msg *msg = peer_take(&who);
        CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
        bool done = msg->kind == TR_KIND_DONE;
        CU_ASSERT(done || msg->size <= TR_CREDIT_BYTES_min);
        tr_msg_free(msg);
        if (done) {
            break;
        }
        deltas++;
        tr_msg *early = peer_take(&who); /* at most DONE, which needs no credit */
        if (early != NULL) {
            CU_ASSERT_EQUAL(early->kind, TR_KIND_DONE);
            tr_msg_free(early);
            break;
        }
        peer_send(&who, tr_msg_credit(1, TR_CREDIT_BYTES_min), 1);
    }
    CU_ASSERT(deltas >= 2);
    peer_free(&who);
    peer_free(&crowd);
    company_end(&r);
}

static void ping_level_and_stop_are_done(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    company_greet(&r, &who);
    tr_json_free(ask(&who, "{\"do\":\"ping\"}"));
    tr_json_free(ask(&who, "{\"do\":\"log_level\",\"level\":\"error\"}"));
    CU_ASSERT_EQUAL(r.stops, 0);
    tr_json_free(ask(&who, "{\"do\":\"stop\"}"));
    CU_ASSERT_EQUAL(r.stops, 1);
    peer_free(&who);
    company_end(&r);
}

static void kill_limiter(tr_self *self, void *arg) {
    tr_exit(self, tr_whereis(((company_rig *)arg)->node, "limiter:echo"), TR_ERR_CANCELLED);
}

static void control_within(peer *who, uint64_t ref, const char *body, uint32_t credit,
                           uint32_t ms) {
    tr_msg *msg = peer_submit(TR_OP_CONTROL, "", body, credit, credit * 1000);
    ((tr_submit *)(void *)msg->data)->total_ms = ms;
    peer_send(who, msg, ref);
}

static void load_and_unload_end_by_their_total_limit(void) {
    static const char *const bodies[] = {"{\"do\":\"load\",\"model\":\"absent\"}",
                                         "{\"do\":\"unload\",\"model\":\"absent\"}"};
    static const char *const words[] = {"absent is not loaded yet", "absent has answers to finish"};
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    company_greet(&r, &who);
    stand_in pool; /* that never answers */
    stand_in_start(&pool, r.node, 0, "pool:absent");
    for (uint64_t i = 0; i < 2; i++) {
        control_within(&who, i + 1, bodies[i], 1000, 5000);
        peer_wait_us(r.node, 4999000);
        CU_ASSERT_PTR_NULL(peer_take(&who));
        peer_wait_us(r.node, 2000);
        company_expect_fail(&who, i + 1, TR_ERR_TIMEOUT, words[i]);
        control_within(&who, i + 1, bodies[i], 1000, 0); /* the configuration's limit */
        peer_wait_us(r.node, 599999000);
        CU_ASSERT_PTR_NULL(peer_take(&who));
        peer_wait_us(r.node, 2000);
        company_expect_fail(&who, i + 1, TR_ERR_TIMEOUT, "within the total limit of 600000 ms");
    }
    stand_in_clear(&pool);
    tr_json *json = ask_slowly(&r, &who, "{\"do\":\"tree\"}");
    CU_ASSERT_EQUAL(strstr(text, "control"), strstr(text, "\"kind\":\"control\"") + 8);
    tr_json_free(json); /* only the one that asks now is there */
    stand_in_clear(&pool);
    stand_in_crash(&pool);
    peer_free(&who);
    company_end(&r);
}

static void every_control_request_ends_also_without_credit(void) {
    static const char *const bodies[] = {
        "{\"do\":\"tree\"}",
        "{\"do\":\"requests\"}",
        "{\"do\":\"models\"}",
        "{\"do\":\"status\"}",
        "{\"do\":\"cancel\",\"id\":\"0.0.1.1\"}",
        "{\"do\":\"load\",\"model\":\"absent\"}",
        "{\"do\":\"unload\",\"model\":\"absent\"}",
        "{\"do\":\"limit\",\"provider\":\"echo\"}",
        "{\"do\":\"log_level\",\"level\":\"error\"}",
        "{\"do\":\"stop\"}",
        "{\"do\":\"ping\"}",
    };
    enum { N = sizeof bodies / sizeof *bodies };
    company_rig r;
    company_start(&r, 2);
    peer who = {0};
    company_greet(&r, &who);
    stand_in pool;
    stand_in_start(&pool, r.node, 0, "pool:absent");
    for (uint64_t i = 0; i < N; i++) {
        control_within(&who, i + 1, bodies[i], 0, 3000);
    }
    peer_wait_us(r.node, 3001000);
    uint32_t fails = 0, late = 0;
    for (tr_msg *msg = peer_take(&who); msg != NULL; msg = peer_take(&who)) {
        CU_ASSERT_EQUAL(msg->kind, TR_KIND_FAIL);
        fails++;
        late += ((const tr_fail *)(const void *)msg->data)->err == TR_ERR_TIMEOUT;
        tr_msg_free(msg);
    }
    CU_ASSERT_EQUAL(fails, N);
    CU_ASSERT_EQUAL(late, N - 1); /* all but cancel: there is no such request */
    stand_in_clear(&pool);
    stand_in_crash(&pool);
    peer_free(&who);
    company_end(&r);
}

/* ---- the company ---- */

static void new_routes_are_for_new_requests(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    company_greet(&r, &who);
    stream(&who, 1, 1);
    tr_msg_free(peer_expect(&who, TR_KIND_DELTA, 1));
    company_set_routes(&r, "renamed");
    peer_send(&who, tr_msg_credit(200, 100000), 1);
    CU_ASSERT_EQUAL(peer_drop(&who), 100); /* it runs to its end */
    stream(&who, 2, 1);
    company_expect_fail(&who, 2, TR_ERR_NOT_FOUND, "echoes");
    peer_free(&who);
    company_end(&r);
}

static void limit_request_shows_and_changes_a_limiter(void) {
    company_rig r;
    company_start(&r, 2);
    peer who = {0};
    company_greet(&r, &who);
    tr_json *json = ask(&who, "{\"do\":\"limit\",\"provider\":\"echo\",\"rpm\":60,\"burst\":1}");
    const tr_json_value *root = tr_json_root(json);
    CU_ASSERT_EQUAL(tr_json_int(tr_json_get(root, "rpm"), 0), 60);
    CU_ASSERT_EQUAL(tr_json_int(tr_json_get(root, "at_once"), 0), TR_REQUESTS_max);
    tr_json_free(json);
    for (uint64_t i = 2; i <= 3; i++) {
        stream(&who, i, 1);
    }
    CU_ASSERT_EQUAL(peer_drop(&who), 1); /* the other waits for its second */
    json = ask(&who, "{\"do\":\"limit\",\"provider\":\"echo\"}");
    root = tr_json_root(json);
    CU_ASSERT_EQUAL(tr_json_int(tr_json_get(root, "used"), 0), 1);
    CU_ASSERT_EQUAL(tr_json_int(tr_json_get(root, "waiting"), 0), 1);
    CU_ASSERT_EQUAL(tr_json_int(tr_json_get(root, "rpm"), 0), 60);
    const tr_json_value *target = tr_json_first(tr_json_get(root, "targets"));
    CU_ASSERT_EQUAL(tr_json_int(tr_json_get(target, "running"), 0), 1);
    tr_json_free(json);
    static const char *const bad[] = {"-1", "1.5", "\"5\"", "1000000001", "null"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char body[128];
        snprintf(body, sizeof body, "{\"do\":\"limit\",\"provider\":\"echo\",\"tpm\":%s}", bad[i]);
        control(&who, 1, body);
        company_expect_fail(&who, 1, TR_ERR_INVALID, "tpm: a whole number from 0");
    }
    control(&who, 1, "{\"do\":\"limit\",\"provider\":\"echo\",\"at_once\":0}");
    company_expect_fail(&who, 1, TR_ERR_INVALID, "at_once: a whole number from 1");
    control(&who, 1, "{\"do\":\"limit\",\"provider\":\"nobody\"}");
    company_expect_fail(&who, 1, TR_ERR_NOT_FOUND, "no provider \"nobody\"");
    control(&who, 1, "{\"do\":\"limit\"}");
    company_expect_fail(&who, 1, TR_ERR_INVALID, "needs \"provider\"");
    peer_free(&who);
    company_end(&r);
}

static bool set_at_once(company_rig *r, const char *provider, uint32_t at_once) {
    tr_provider_limit limit = {.at_once = at_once};
    snprintf(limit.name, sizeof limit.name, "%s", provider);
    return tr_company_set_limit(r->company, &limit);
}

static void limit_and_drain_change_while_it_runs(void) {
    company_rig r;
    company_start(&r, 2);
    peer who = {0};
    company_greet(&r, &who);
    CU_ASSERT_FALSE(set_at_once(&r, "nobody", 1));
    CU_ASSERT_TRUE(set_at_once(&r, "echo", 1));
    for (uint64_t i = 1; i <= 3; i++) {
        stream(&who, i, 1);
    }
    CU_ASSERT_EQUAL(peer_drop(&who), 1); /* two wait */
    CU_ASSERT_TRUE(set_at_once(&r, "echo", 2));
    peer_run(r.node);
    CU_ASSERT_EQUAL(peer_drop(&who), 1);
    CU_ASSERT_TRUE(set_at_once(&r, "echo", 1));
    peer_send(&who, tr_msg_credit(200, 100000), 1); /* to its end: one is enough now */
    CU_ASSERT_EQUAL(peer_drop(&who), 100);
    peer_send(&who, tr_msg_credit(200, 100000), 2);
    CU_ASSERT_EQUAL(peer_drop(&who), 101); /* with the first of the third */
    stand_in killer;                       /* the limiter's successor keeps the new number */
    stand_in_start(&killer, r.node, 0, NULL);
    stand_in_do(&killer, kill_limiter, &r);
    peer_run(r.node);
    stream(&who, 4, 1);
    stream(&who, 5, 1);
    CU_ASSERT_EQUAL(peer_drop(&who), 1);
    stand_in_crash(&killer);
    tr_company_set_drain(r.company, 500);
    tr_company_stop(r.company);
    peer_wait_us(r.node, 499000);
    CU_ASSERT_FALSE(r.down);
    peer_wait_us(r.node, 2000);
    CU_ASSERT(r.down);
    peer_free(&who);
    company_free(&r);
}

static void draining_refuses_what_is_new_and_finishes_what_runs(void) {
    company_rig r;
    company_start(&r, 2);
    peer who = {0};
    company_greet(&r, &who);
    stream(&who, 1, 1);
    tr_msg_free(peer_expect(&who, TR_KIND_DELTA, 1));
    tr_company_stop(r.company);
    peer_run(r.node);
    stream(&who, 2, 1);
    company_expect_fail(&who, 2, TR_ERR_SHUTDOWN, "send the request again");
    CU_ASSERT_FALSE(r.down);
    peer_send(&who, tr_msg_credit(200, 100000), 1);
    uint32_t deltas = 0;
    for (tr_msg *msg = peer_take(&who); msg != NULL; msg = peer_take(&who)) {
        deltas += msg->kind == TR_KIND_DELTA;
        CU_ASSERT(msg->ref == 1 || msg->kind == TR_KIND_FAIL);
        tr_msg_free(msg);
    }
    CU_ASSERT_EQUAL(deltas, 99);
    peer_run(r.node); /* no time passes: it ends with its last request */
    CU_ASSERT(r.down);
    CU_ASSERT_EQUAL(r.down_reason, TR_OK);
    CU_ASSERT(who.closed);
    peer_free(&who);
    company_free(&r);
}

static void drain_has_a_limit_after_which_streams_get_their_fail(void) {
    company_rig r;
    company_start(&r, 2);
    peer who = {0};
    company_greet(&r, &who);
    stream(&who, 1, 1);
    tr_msg_free(peer_expect(&who, TR_KIND_DELTA, 1));
    tr_company_stop(r.company);
    peer_wait_us(r.node, 1999000);
    CU_ASSERT_PTR_NULL(peer_take(&who));
    peer_wait_us(r.node, 2000);
    company_expect_fail(&who, 1, TR_ERR_SHUTDOWN, "stopped before the answer was complete");
    company_expect_closed(&who, TR_ERR_SHUTDOWN, "stopped");
    CU_ASSERT(r.down);
    peer_free(&who);
    company_free(&r);
}

static void stop_before_it_is_up_is_not_forgotten(void) {
    for (int stepped = 0; stepped < 2; stepped++) {
        company_rig r;
        company_make(&r, 2);
        for (int i = 0; i < stepped; i++) {
            (void)tr_shard_step(tr_node_shard(r.node, 0), 1);
        }
        tr_company_stop(r.company);
        peer_wait_us(r.node, 10000000);
        CU_ASSERT(r.up);
        CU_ASSERT(r.down);
        company_free(&r);
    }
}

static void kill_gateway(tr_self *self, void *arg) {
    tr_exit(self, tr_whereis(((company_rig *)arg)->node, "gateway"), TR_ERR_CANCELLED);
}

static void gateway_may_crash_three_times_in_a_minute(void) {
    company_rig r;
    company_start(&r, 1);
    stand_in killer;
    stand_in_start(&killer, r.node, 0, NULL);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3; i++) {
            stand_in_do(&killer, kill_gateway, &r);
            peer_wait_us(r.node, 1000000);
            CU_ASSERT_FALSE(r.down);
            peer who = {0};
            company_greet(&r, &who);
            peer_free(&who);
        }
        peer_wait_us(r.node, 60000000);
    }
    for (int i = 0; i < 4; i++) {
        CU_ASSERT_FALSE(r.down);
        stand_in_do(&killer, kill_gateway, &r);
        peer_wait_us(r.node, 1000000);
    }
    CU_ASSERT(r.down);
    CU_ASSERT_EQUAL(r.down_reason, TR_ERR_CANCELLED);
    stand_in_clear(&killer);
    company_free(&r);
}

static void second_company_on_one_node_says_why_it_cannot_start(void) {
    company_rig r, second;
    company_start(&r, 1);
    memset(&second, 0, sizeof second);
    tr_services_spec spec = {.version = "2"};
    CU_ASSERT_EQUAL_FATAL(tr_services_new(&spec, &second.services), TR_OK);
    tr_door_spec door = {.url = OPEN_URL, .takes_clients = true};
    tr_company_spec company = {.services = second.services,
                               .doors = &door,
                               .door_count = 1,
                               .up = company_up,
                               .down = company_down,
                               .arg = &second};
    peer_wait_us(r.node, 1); /* names of the first are taken: its root cannot start */
    CU_ASSERT_EQUAL_FATAL(tr_company_start(r.node, &company, &second.company), TR_OK);
    peer_wait_us(r.node, 10000000);
    CU_ASSERT(second.up);
    CU_ASSERT_NOT_EQUAL(second.up_err, TR_OK);
    CU_ASSERT(strlen(second.why) > 0);
    CU_ASSERT_FALSE(second.down);
    peer who = {0};
    company_greet(&r, &who); /* the first one is well */
    peer_free(&who);
    tr_company_stop(r.company);
    peer_wait_us(r.node, 10000000);
    CU_ASSERT(r.down);
    tr_company *company_memory = second.company;
    company_free(&r);
    tr_company_free(company_memory);
    tr_services_free(second.services);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(tree_shows_every_actor_under_its_parent),
        PUPPET_TEST(requests_are_listed_and_cancelled_by_their_id),
        PUPPET_TEST(models_and_status_say_what_is_configured),
        PUPPET_TEST(bad_control_requests_say_what_can_be_done),
        PUPPET_TEST(control_requests_are_small_and_few),
        PUPPET_TEST(long_answer_keeps_to_its_credit),
        PUPPET_TEST(ping_level_and_stop_are_done),
        PUPPET_TEST(load_and_unload_end_by_their_total_limit),
        PUPPET_TEST(every_control_request_ends_also_without_credit),
        PUPPET_TEST(new_routes_are_for_new_requests),
        PUPPET_TEST(limit_request_shows_and_changes_a_limiter),
        PUPPET_TEST(limit_and_drain_change_while_it_runs),
        PUPPET_TEST(draining_refuses_what_is_new_and_finishes_what_runs),
        PUPPET_TEST(drain_has_a_limit_after_which_streams_get_their_fail),
        PUPPET_TEST(stop_before_it_is_up_is_not_forgotten),
        PUPPET_TEST(gateway_may_crash_three_times_in_a_minute),
        PUPPET_TEST(second_company_on_one_node_says_why_it_cannot_start),
    };
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_ERROR, 2);
    return puppet_main("control", tests, sizeof tests / sizeof *tests);
}
