/* What a control actor asks of a provider about its models; the test plays the provider. */
#include "actors/inquiry.h"

#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>

#include "protocol/json.h"
#include "runtime/log.h"
#include "tests/lib/stand_in.h"
#include "tests/unit/actors/company_rig.h"

static char text[1 << 16];
static company_rig r;
static peer who;
static stand_in box;

static void open_stage(void) {
    static const char *const providers[] = {"echo", "box", "away"};
    tr_routes_spec spec = {.providers = providers,
                           .provider_count = 3,
                           .default_model = "echo/words",
                           .limits = {.total_ms = 600000, .stalled_ms = 300000}};
    tr_routes *routes = NULL;
    company_start(&r, 1);
    CU_ASSERT_EQUAL_FATAL(tr_routes_new(&spec, &routes), TR_OK);
    tr_services_set_routes(r.services, routes);
    stand_in_start(&box, r.node, 0, "provider:box:0");
    who = (peer){0};
    company_greet(&r, &who);
}

static void close_stage(void) {
    stand_in_clear(&box);
    if (box.id != TR_ID_NONE) {
        stand_in_crash(&box);
    }
    peer_free(&who);
    company_end(&r);
}

static void control(const char *body) {
    tr_msg *msg = peer_submit(TR_OP_CONTROL, "", body, 1000, 1000000);
    ((tr_submit *)(void *)msg->data)->total_ms = 5000;
    peer_send(&who, msg, 1);
    peer_run(r.node);
}

/* The provider is asked for `op` on `model` by message `ref`: who asks. */
static tr_id expect_asked(tr_op op, const char *model, uint64_t ref) {
    tr_msg *msg = stand_in_expect(&box, TR_KIND_SUBMIT);
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    const tr_submit *head = (const tr_submit *)(const void *)msg->data;
    tr_str target = tr_submit_read(head).target;
    CU_ASSERT_EQUAL(head->op, op);
    CU_ASSERT_EQUAL(head->total_ms, 5000);
    CU_ASSERT_EQUAL(msg->ref, ref);
    CU_ASSERT_PTR_NULL(msg->body);
    CU_ASSERT(target.size == strlen(model) && memcmp(target.ptr, model, target.size) == 0);
    tr_id from = msg->from;
    tr_msg_free(msg);
    return from;
}

static tr_id expect_asked_for_lists(void) {
    tr_id asker = expect_asked(TR_OP_MODELS, "", 1);
    CU_ASSERT_EQUAL(expect_asked(TR_OP_LOADED, "", 2), asker);
    return asker;
}

static void say(tr_id to, uint64_t ref, const char *words) {
    tr_delta head = {.kind = TR_DELTA_TEXT};
    tr_delta_view view = {.text = {words, strlen(words)}};
    stand_in_send(&box, to, tr_msg_delta(&head, &view), ref);
}

static void say_done(tr_id to, uint64_t ref) {
    tr_done head = {.finish = TR_FINISH_STOP};
    tr_end_view view = {0};
    stand_in_send(&box, to, tr_msg_done(&head, &view), ref);
}

static void expect_answer(const char *words) {
    peer_run(r.node);
    CU_ASSERT_STRING_EQUAL(company_answer(&who, 1, text, sizeof text), words);
}

static void a_providers_list_comes_with_what_is_loaded(void) {
    open_stage();
    control("{\"do\":\"models\",\"provider\":\"box\"}");
    tr_id asker = expect_asked_for_lists();
    say(asker, 2, "[{\"name\":\"b\"}");
    say(asker, 1, "[{\"name\":\"a\"},");
    say(asker, 2, "]");
    say_done(asker, 2);
    say(asker, 1, "{\"name\":\"b\"}]");
    CU_ASSERT_PTR_NULL(peer_take(&who));
    say_done(asker, 1);
    expect_answer("{\"provider\":\"box\",\"models\":[{\"name\":\"a\"},{\"name\":\"b\"}],"
                  "\"loaded\":[{\"name\":\"b\"}],\"facts\":{}}");
    close_stage();
}

static void a_provider_need_not_know_what_is_loaded(void) {
    open_stage();
    control("{\"do\":\"models\",\"provider\":\"box\"}");
    tr_id asker = expect_asked_for_lists();
    stand_in_send(&box, asker, tr_msg_failf(TR_ERR_UNSUPPORTED, "no"), 2);
    say(asker, 1, "[]");
    say_done(asker, 1);
    expect_answer("{\"provider\":\"box\",\"models\":[],\"facts\":{}}");
    close_stage();
}

static void a_list_that_fails_is_the_answer(void) {
    open_stage();
    control("{\"do\":\"models\",\"provider\":\"box\"}");
    tr_id asker = expect_asked_for_lists();
    say(asker, 2, "[]");
    stand_in_send(&box, asker, tr_msg_failf(TR_ERR_AUTH, "no key"), 1);
    peer_run(r.node);
    company_expect_fail(&who, 1, TR_ERR_AUTH, "no key");
    close_stage();
}

static void a_providers_model_is_loaded_and_let_go_by_it(void) {
    open_stage();
    control("{\"do\":\"load\",\"model\":\"box/m:1b\"}");
    say_done(expect_asked(TR_OP_LOAD, "m:1b", 1), 1);
    expect_answer("{\"done\":\"load\"}");
    control("{\"do\":\"unload\",\"model\":\"box/m:1b\"}");
    say_done(expect_asked(TR_OP_UNLOAD, "m:1b", 1), 1);
    expect_answer("{\"done\":\"unload\"}");
    control("{\"do\":\"unload\",\"model\":\"box/other\"}");
    stand_in_send(&box, expect_asked(TR_OP_UNLOAD, "other", 1),
                  tr_msg_failf(TR_ERR_NOT_FOUND, "model 'other' not found"), 1);
    peer_run(r.node);
    company_expect_fail(&who, 1, TR_ERR_NOT_FOUND, "'other'");
    close_stage();
}

static void who_is_not_there_cannot_be_asked(void) {
    open_stage();
    control("{\"do\":\"models\",\"provider\":\"bax\"}");
    company_expect_fail(&who, 1, TR_ERR_NOT_FOUND, "did you mean box");
    control("{\"do\":\"models\",\"provider\":\"away\"}");
    company_expect_fail(&who, 1, TR_ERR_SERVER, "away is being restarted");
    control("{\"do\":\"unload\",\"model\":\"away/m\"}");
    company_expect_fail(&who, 1, TR_ERR_SERVER, "away is being restarted");
    control("{\"do\":\"models\",\"provider\":7}");
    company_expect_fail(&who, 1, TR_ERR_INVALID, "\"provider\"");
    control("{\"do\":\"models\",\"provider\":\"echo\"}");
    company_expect_fail(&who, 1, TR_ERR_UNSUPPORTED, "only chats");
    close_stage();
}

static void an_inquiry_ends_with_its_provider_or_its_time(void) {
    open_stage();
    control("{\"do\":\"models\",\"provider\":\"box\"}");
    stand_in_clear(&box);
    peer_wait_us(r.node, 4999000);
    CU_ASSERT_PTR_NULL(peer_take(&who));
    peer_wait_us(r.node, 2000);
    company_expect_fail(&who, 1, TR_ERR_TIMEOUT, "the provider has not answered");
    control("{\"do\":\"unload\",\"model\":\"box/m\"}");
    stand_in_crash(&box);
    peer_run(r.node);
    company_expect_fail(&who, 1, TR_ERR_SERVER, "box/m crashed");
    close_stage();
}

static void a_list_has_a_limit(void) {
    static char words[TR_DELTA_TEXT_max];
    open_stage();
    control("{\"do\":\"models\",\"provider\":\"box\"}");
    tr_id asker = expect_asked_for_lists();
    memset(words, ' ', sizeof words - 1);
    for (size_t size = 0; size <= TR_INQUIRY_TEXT_max; size += sizeof words - 1) {
        CU_ASSERT_PTR_NULL(peer_take(&who));
        say(asker, 1, words);
    }
    peer_run(r.node);
    company_expect_fail(&who, 1, TR_ERR_TOO_LARGE, "list");
    close_stage();
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(a_providers_list_comes_with_what_is_loaded),
        PUPPET_TEST(a_provider_need_not_know_what_is_loaded),
        PUPPET_TEST(a_list_that_fails_is_the_answer),
        PUPPET_TEST(a_providers_model_is_loaded_and_let_go_by_it),
        PUPPET_TEST(who_is_not_there_cannot_be_asked),
        PUPPET_TEST(an_inquiry_ends_with_its_provider_or_its_time),
        PUPPET_TEST(a_list_has_a_limit),
    };
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_ERROR, 2);
    return puppet_main("inquiry", tests, sizeof tests / sizeof *tests);
}
