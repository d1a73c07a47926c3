/* A limiter's rates, what it learns, and how it treats targets that do not answer. The clock is the
 * test's. */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <string.h>

#include "actors/limiter.h"
#include "tests/lib/stand_in.h"

#define MS 1000U

typedef struct rig {
    tr_node *node;
    tr_id limiter;
    stand_in call, other, provider;
    tr_limiter_args args;
    uint64_t began_us;
} rig;

static void spawn(tr_self *self, void *arg) {
    rig *r = arg;
    tr_spawn_spec spec = {.behaviour = &tr_limiter, .args = &r->args, .args_size = sizeof r->args};
    CU_ASSERT_EQUAL_FATAL(tr_spawn(self, &spec, &r->limiter), TR_OK);
}

static void up(rig *r, tr_limiter_args args) {
    *r = (rig){.node = puppet_node(1), .args = args};
    snprintf(r->args.provider, sizeof r->args.provider, "p");
    r->args.waiting_max = r->args.waiting_max > 0 ? r->args.waiting_max : 5000;
    r->args.at_once = r->args.at_once > 0 ? r->args.at_once : 5000;
    stand_in_start(&r->provider, r->node, 0, "provider:p:0");
    stand_in_start(&r->call, r->node, 0, NULL);
    stand_in_start(&r->other, r->node, 0, NULL);
    stand_in_do(&r->provider, spawn, r);
    r->began_us = puppet_clock_us;
}

static void down(rig *r) {
    stand_in_clear(&r->call);
    stand_in_clear(&r->other);
    stand_in_clear(&r->provider);
    tr_node_free(r->node);
}

typedef struct wish {
    uint64_t ref;
    const char *model;
    uint64_t client;
    uint32_t tokens, ms;
    uint8_t flags, mid_answer;
} wish;

static void reserve(rig *r, wish w) {
    size_t size = w.model != NULL ? strlen(w.model) : 0;
    tr_msg *msg = tr_msg_new(TR_KIND_RESERVE, sizeof(tr_reserve) + size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    *(tr_reserve *)(void *)msg->data = (tr_reserve){.remaining_ms = w.ms > 0 ? w.ms : 600000,
                                                    .tokens = w.tokens,
                                                    .flags = w.flags,
                                                    .mid_answer = w.mid_answer,
                                                    .model_size = (uint16_t)size,
                                                    .client = w.client};
    if (size > 0) {
        memcpy(msg->data + sizeof(tr_reserve), w.model, size);
    }
    stand_in_send(&r->call, r->limiter, msg, w.ref);
}

static void settle(rig *r, uint64_t ref, tr_settle s, const char *why) {
    s.why_size = (uint16_t)strlen(why);
    tr_msg *msg = tr_msg_new(TR_KIND_SETTLE, sizeof s + s.why_size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    memcpy(msg->data, &s, sizeof s);
    memcpy(msg->data + sizeof s, why, s.why_size);
    stand_in_send(&r->call, r->limiter, msg, ref);
}

static void say_rates_of(rig *r, const char *model, tr_rates rates) {
    tr_msg *msg = tr_msg_new(TR_KIND_RATES, sizeof rates + strlen(model));
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    memcpy(msg->data, &rates, sizeof rates);
    memcpy(msg->data + sizeof rates, model, strlen(model));
    stand_in_send(&r->provider, r->limiter, msg, 0);
}

static void say_rates(rig *r, tr_rates rates) {
    say_rates_of(r, "", rates);
}

static void expect_granted(rig *r, uint64_t ref) {
    tr_msg *msg = stand_in_expect(&r->call, TR_KIND_GRANTED);
    CU_ASSERT_EQUAL(msg->ref, ref);
    tr_msg_free(msg);
}

static void expect_nothing(const rig *r) {
    CU_ASSERT_EQUAL(stand_in_count(&r->call), 0);
}

/* A refusal with a sentence that holds `text`; its advice in milliseconds. */
static uint32_t expect_refused(rig *r, uint64_t ref, tr_err err, const char *text) {
    tr_msg *msg = stand_in_expect(&r->call, TR_KIND_FAIL);
    const tr_fail *fail = (const tr_fail *)(const void *)msg->data;
    tr_str why = tr_fail_read(fail).message;
    CU_ASSERT_EQUAL(msg->ref, ref);
    CU_ASSERT_EQUAL(fail->err, err);
    CU_ASSERT_EQUAL(fail->flags, TR_FAIL_RETRY_AFTER);
    CU_ASSERT_PTR_NOT_NULL(memmem(why.ptr, why.size, text, strlen(text)));
    uint32_t after_ms = fail->retry_after_ms;
    tr_msg_free(msg);
    return after_ms;
}

static void expect_status(rig *r, const char *text) {
    stand_in_send(&r->other, r->limiter, tr_msg_new(TR_KIND_STATUS, 0), 9);
    tr_msg *msg = stand_in_expect(&r->other, TR_KIND_STATUSED);
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg->body);
    CU_ASSERT_PTR_NOT_NULL(strstr(msg->body->bytes, text));
    if (strstr(msg->body->bytes, text) == NULL) {
        printf("\nno %s in %s\n", text, msg->body->bytes);
    }
    tr_msg_free(msg);
}

/* Steps until `count` more are granted; times from the beginning. */
static void record_grants(rig *r, uint32_t count, uint32_t step_us, uint64_t *times_us) {
    for (uint32_t got = 0; got < count;) {
        for (tr_msg *msg = stand_in_take(&r->call); msg != NULL; msg = stand_in_take(&r->call)) {
            CU_ASSERT_EQUAL_FATAL(msg->kind, TR_KIND_GRANTED);
            CU_ASSERT_FATAL(got < count);
            times_us[got++] = puppet_clock_us - r->began_us;
            tr_msg_free(msg);
        }
        CU_ASSERT_FATAL(puppet_clock_us - r->began_us < 3600ULL * 1000 * MS);
        if (got < count) {
            puppet_wait_us(r->node, step_us);
        }
    }
}

static void twentieth_of_five_a_second_starts_at_3800_ms(void) {
    rig r;
    uint64_t times[20];
    up(&r, (tr_limiter_args){.rpm = 300, .burst = 1});
    for (uint64_t i = 1; i <= 20; i++) {
        reserve(&r, (wish){.ref = i});
    }
    record_grants(&r, 20, MS, times);
    CU_ASSERT_EQUAL(times[0], 0);
    CU_ASSERT(times[19] >= 3700 * MS && times[19] <= 3900 * MS);
    down(&r);
}

static void thousand_callers_get_exactly_five_a_second(void) {
    enum { N = 1000 };
    static uint64_t times[N];
    rig r;
    up(&r, (tr_limiter_args){.rpm = 300, .burst = 1});
    for (uint64_t i = 1; i <= N; i++) {
        reserve(&r, (wish){.ref = i, .client = i % 7});
    }
    record_grants(&r, N, 10 * MS, times);
    for (uint32_t i = 0; i + 5 < N; i++) {
        CU_ASSERT_FATAL(times[i + 5] - times[i] == 1000 * MS); /* never six in a second */
    }
    CU_ASSERT_EQUAL(times[N - 1], 199800 * MS);
    expect_status(&r, "\"used\":1000");
    down(&r);
}

static void thousand_waiting_of_one_client_do_not_delay_another(void) {
    rig r;
    up(&r, (tr_limiter_args){.at_once = 1});
    for (uint64_t i = 1; i <= 1000; i++) {
        reserve(&r, (wish){.ref = i, .client = 1});
    }
    expect_granted(&r, 1);
    reserve(&r, (wish){.ref = 5000, .client = 2});
    settle(&r, 1, (tr_settle){0}, "");
    expect_granted(&r, 2);
    settle(&r, 2, (tr_settle){0}, "");
    expect_granted(&r, 5000);
    settle(&r, 5000, (tr_settle){0}, "");
    expect_granted(&r, 3);
    down(&r);
}

static void tokens_are_reserved_and_settled_at_what_was_used(void) {
    rig r;
    up(&r, (tr_limiter_args){.tpm = 60000}); /* a thousand a second, as many at once */
    reserve(&r, (wish){.ref = 1, .tokens = 1000});
    expect_granted(&r, 1);
    expect_status(&r, "\"tokens_reserved\":1000,\"tokens_free\":0");
    reserve(&r, (wish){.ref = 2, .tokens = 1000});
    expect_nothing(&r);
    settle(&r, 1, (tr_settle){.tokens_in = 80, .tokens_out = 20}, "");
    expect_nothing(&r);
    puppet_wait_us(r.node, 100 * MS); /* 900 were left, and 100 more came */
    expect_granted(&r, 2);
    settle(&r, 2, (tr_settle){.tokens_in = 1500, .tokens_out = 1500}, "");
    reserve(&r, (wish){.ref = 3, .tokens = 1});
    puppet_wait_us(r.node, 1999 * MS);
    expect_nothing(&r);
    puppet_wait_us(r.node, 3 * MS);
    expect_granted(&r, 3);
    down(&r);
}

static void cancelled_before_it_was_sent_gives_all_back(void) {
    rig r;
    up(&r, (tr_limiter_args){.rpm = 60, .burst = 1, .tpm = 60000});
    reserve(&r, (wish){.ref = 1, .tokens = 1000});
    expect_granted(&r, 1);
    reserve(&r, (wish){.ref = 2, .tokens = 1000});
    expect_nothing(&r);
    settle(&r, 1, (tr_settle){.err = TR_ERR_CANCELLED, .flags = TR_SETTLE_UNUSED}, "");
    expect_granted(&r, 2);
    reserve(&r, (wish){.ref = 3, .tokens = 1000});
    settle(&r, 3, (tr_settle){.err = TR_ERR_CANCELLED}, ""); /* it waited: it held nothing */
    settle(&r, 2, (tr_settle){.err = TR_ERR_CANCELLED}, ""); /* it was sent: its estimate stays */
    expect_status(&r, "\"used\":0,\"at_once\":5000,\"waiting\":0,\"rpm\":60,\"tpm\":60000,"
                      "\"burst\":1,\"tokens_reserved\":0,\"requests_free\":0,\"tokens_free\":0");
    down(&r);
}

static void death_of_a_call_leaves_no_reservation(void) {
    rig r;
    up(&r, (tr_limiter_args){.tpm = 60000});
    reserve(&r, (wish){.ref = 1, .tokens = 500, .model = "m"});
    reserve(&r, (wish){.ref = 2, .tokens = 900, .model = "m"});
    expect_granted(&r, 1);
    stand_in_crash(&r.call);
    expect_status(&r, "\"used\":0,\"at_once\":5000,\"waiting\":0");
    expect_status(&r, "\"tokens_reserved\":0");
    expect_status(&r, "\"model\":\"m\",\"breaker\":\"closed\",\"running\":0");
    down(&r);
}

static void headers_hold_grants_until_the_reset(void) {
    rig r;
    up(&r, (tr_limiter_args){0});
    say_rates(&r, (tr_rates){2, 500, -1, -1});
    for (uint64_t i = 1; i <= 3; i++) {
        reserve(&r, (wish){.ref = i});
    }
    expect_granted(&r, 1);
    expect_granted(&r, 2);
    expect_nothing(&r);
    expect_status(&r, "\"learned\":{\"requests\":{\"left\":0,\"reset_ms\":500}}");
    puppet_wait_us(r.node, 499 * MS);
    expect_nothing(&r);
    puppet_wait_us(r.node, MS);
    expect_granted(&r, 3);
    say_rates(&r, (tr_rates){-1, -1, 100, 1000});
    reserve(&r, (wish){.ref = 4, .tokens = 101});
    expect_nothing(&r);
    say_rates(&r, (tr_rates){-1, -1, 5000, 1000}); /* newer word counts */
    expect_granted(&r, 4);
    say_rates(&r, (tr_rates){0, -1, 0, 0}); /* no time, or none left: nothing to wait for */
    reserve(&r, (wish){.ref = 5, .tokens = 10});
    expect_granted(&r, 5);
    down(&r);
}

static void held_model_holds_no_other(void) {
    rig r;
    up(&r, (tr_limiter_args){.at_once = 3});
    say_rates_of(&r, "full", (tr_rates){0, 1000, -1, -1});
    say_rates_of(&r, "short", (tr_rates){-1, -1, 100, 700});
    for (uint64_t i = 1; i <= 2; i++) {
        reserve(&r, (wish){.ref = i, .model = "full", .client = 1});
    }
    reserve(&r, (wish){.ref = 3, .model = "short", .tokens = 101, .client = 2});
    reserve(&r, (wish){.ref = 4, .model = "short", .tokens = 1, .client = 2});
    expect_nothing(&r); /* behind a larger one of its own model */
    reserve(&r, (wish){.ref = 5, .model = "free", .client = 1});
    expect_granted(&r, 5);
    reserve(&r, (wish){.ref = 6, .client = 1});
    expect_granted(&r, 6);
    puppet_wait_us(r.node, 699 * MS);
    expect_nothing(&r);
    puppet_wait_us(r.node, MS);
    expect_granted(&r, 3); /* the last slot: what is held takes none */
    puppet_wait_us(r.node, 300 * MS);
    expect_nothing(&r);
    settle(&r, 5, (tr_settle){0}, "");
    expect_granted(&r, 1);
    settle(&r, 6, (tr_settle){0}, "");
    expect_granted(&r, 4); /* clients take turns, whatever the model */
    settle(&r, 4, (tr_settle){0}, "");
    expect_granted(&r, 2);
    down(&r);
}

static void rates_of_all_are_overtaken_by_no_model(void) {
    rig r;
    up(&r, (tr_limiter_args){.tpm = 60000}); /* a thousand a second */
    reserve(&r, (wish){.ref = 1, .model = "a", .tokens = 1000});
    expect_granted(&r, 1);
    reserve(&r, (wish){.ref = 2, .model = "a", .tokens = 1000});
    reserve(&r, (wish){.ref = 3, .model = "b", .tokens = 1});
    puppet_wait_us(r.node, 999 * MS);
    expect_nothing(&r);
    puppet_wait_us(r.node, MS);
    expect_granted(&r, 2);
    puppet_wait_us(r.node, MS);
    expect_granted(&r, 3);
    down(&r);
}

static void headers_never_make_it_faster_than_configured(void) {
    rig r;
    uint64_t times[3];
    up(&r, (tr_limiter_args){.rpm = 60, .burst = 1});
    say_rates(&r, (tr_rates){100000, 10, 1000000, 10});
    for (uint64_t i = 1; i <= 3; i++) {
        reserve(&r, (wish){.ref = i, .tokens = 1});
    }
    record_grants(&r, 3, MS, times);
    CU_ASSERT(times[1] >= 1000 * MS && times[2] >= 2000 * MS);
    down(&r);
}

static void reset_that_comes_too_late_refuses_at_once(void) {
    rig r;
    up(&r, (tr_limiter_args){.at_once = 1});
    reserve(&r, (wish){.ref = 1});
    expect_granted(&r, 1);
    reserve(&r, (wish){.ref = 2, .ms = 5000});
    reserve(&r, (wish){.ref = 3, .ms = 20000});
    say_rates(&r, (tr_rates){0, 10000, -1, -1}); /* who waits hears of it too */
    CU_ASSERT_EQUAL(expect_refused(&r, 2, TR_ERR_RATE_LIMIT, "reset in 10.0 s"), 10001);
    reserve(&r, (wish){.ref = 4, .ms = 9000});
    (void)expect_refused(&r, 4, TR_ERR_RATE_LIMIT, "p says that its rate limit is used up");
    reserve(&r, (wish){.ref = 5, .ms = 9000, .mid_answer = 1});
    expect_nothing(&r);
    say_rates(&r, (tr_rates){0, 121000, -1, -1});
    (void)expect_refused(&r, 3, TR_ERR_RATE_LIMIT, "reset in 121.0 s");
    expect_status(&r, "\"waiting\":1");
    down(&r);
}

/* Grants and fails; the limiter then knows of it. */
static void fail_once(rig *r, uint64_t ref, const char *model) {
    reserve(r, (wish){.ref = ref, .model = model});
    expect_granted(r, ref);
    settle(r, ref, (tr_settle){.err = TR_ERR_CONNECT}, "nobody listens at 127.0.0.1:9");
}

static void dead_target_costs_its_callers_nothing_after_the_first_few(void) {
    rig r;
    up(&r, (tr_limiter_args){0});
    for (uint64_t i = 1; i <= 5; i++) {
        fail_once(&r, i, "dead");
    }
    uint32_t after_ms = 0;
    for (uint64_t i = 6; i <= 1000; i++) {
        reserve(&r, (wish){.ref = i, .model = "dead"});
        after_ms = expect_refused(&r, i, TR_ERR_OVERLOADED, "nobody listens at 127.0.0.1:9");
    }
    CU_ASSERT(after_ms >= 750 && after_ms <= 1000);
    reserve(&r, (wish){.ref = 2000, .model = "dead"});
    (void)expect_refused(&r, 2000, TR_ERR_OVERLOADED, "p/dead is not asked");
    reserve(&r, (wish){.ref = 2001, .model = "alive"});
    expect_granted(&r, 2001);
    reserve(&r, (wish){.ref = 2002, .model = "dead", .mid_answer = 1});
    expect_granted(&r, 2002);
    expect_status(&r, "\"model\":\"dead\",\"breaker\":\"open\"");
    down(&r);
}

static void half_open_target_gets_one_probe_at_a_time(void) {
    rig r;
    up(&r, (tr_limiter_args){0});
    for (uint64_t i = 1; i <= 5; i++) {
        fail_once(&r, i, "m");
    }
    puppet_wait_us(r.node, 1000 * MS);
    reserve(&r, (wish){.ref = 10, .model = "m"});
    expect_granted(&r, 10);
    reserve(&r, (wish){.ref = 11, .model = "m"});
    (void)expect_refused(&r, 11, TR_ERR_OVERLOADED, "p/m");
    settle(&r, 10, (tr_settle){.err = TR_ERR_CANCELLED}, ""); /* says nothing: another probes */
    reserve(&r, (wish){.ref = 12, .model = "m"});
    expect_granted(&r, 12);
    settle(&r, 12, (tr_settle){.err = TR_OK, .progressed = 1, .first_token_ms = 30}, "");
    reserve(&r, (wish){.ref = 13, .model = "m"});
    expect_granted(&r, 13);
    /* It answered, and whoever asked had seen enough. */
    settle(&r, 13, (tr_settle){.err = TR_ERR_CANCELLED, .progressed = 1, .first_token_ms = 80}, "");
    reserve(&r, (wish){.ref = 14, .model = "m"});
    reserve(&r, (wish){.ref = 15, .model = "m"});
    expect_granted(&r, 14);
    expect_granted(&r, 15);
    expect_status(&r, "\"breaker\":\"closed\",\"running\":2,\"first_token_ms\":40");
    down(&r);
}

static void flows(rig *r, uint64_t ref) {
    stand_in_send(&r->call, r->limiter, tr_msg_new(TR_KIND_FLOWS, 0), ref);
}

/* Answers may last for minutes: the first delta of two probes in turn is proof enough. */
static void probe_counts_when_its_answer_begins(void) {
    rig r;
    up(&r, (tr_limiter_args){0});
    for (uint64_t i = 1; i <= 5; i++) {
        fail_once(&r, i, "m");
    }
    puppet_wait_us(r.node, 1000 * MS);
    for (uint64_t ref = 10; ref <= 11; ref++) {
        reserve(&r, (wish){.ref = ref, .model = "m"});
        tr_msg *msg = stand_in_expect(&r.call, TR_KIND_GRANTED);
        CU_ASSERT_EQUAL(((const tr_granted *)(const void *)msg->data)->wants_flows, 1);
        tr_msg_free(msg);
        flows(&r, ref);
        flows(&r, ref); /* counts once */
    }
    expect_status(&r, "\"breaker\":\"closed\",\"running\":2");
    settle(&r, 10, (tr_settle){.err = TR_ERR_TRUNCATED, .progressed = 1, .first_token_ms = 3}, "");
    reserve(&r, (wish){.ref = 12, .model = "m"});
    tr_msg *msg = stand_in_expect(&r.call, TR_KIND_GRANTED);
    CU_ASSERT_EQUAL(((const tr_granted *)(const void *)msg->data)->wants_flows, 0);
    tr_msg_free(msg);
    down(&r);
}

static void probe_that_dies_lets_another_probe(void) {
    rig r;
    up(&r, (tr_limiter_args){.at_once = 1});
    for (uint64_t i = 1; i <= 5; i++) {
        fail_once(&r, i, "m");
    }
    puppet_wait_us(r.node, 1000 * MS);
    reserve(&r, (wish){.ref = 10, .model = "other"});
    expect_granted(&r, 10);
    reserve(&r, (wish){.ref = 11, .model = "m", .ms = 100}); /* a probe that waits */
    puppet_wait_us(r.node, 200 * MS);
    settle(&r, 10, (tr_settle){0}, ""); /* and is too late */
    tr_msg_free(stand_in_expect(&r.call, TR_KIND_FAIL));
    reserve(&r, (wish){.ref = 12, .model = "m"});
    expect_granted(&r, 12);
    stand_in_crash(&r.call);
    stand_in_start(&r.call, r.node, 0, NULL);
    reserve(&r, (wish){.ref = 13, .model = "m"});
    expect_granted(&r, 13);
    down(&r);
}

static void who_waits_for_a_target_that_is_given_up_is_told(void) {
    rig r;
    up(&r, (tr_limiter_args){.at_once = 1});
    reserve(&r, (wish){.ref = 1, .model = "m"});
    for (uint64_t i = 2; i <= 5; i++) {
        reserve(&r, (wish){.ref = i, .model = "m", .client = 1});
    }
    for (uint64_t i = 6; i <= 9; i++) {
        reserve(&r, (wish){.ref = i, .model = i == 9 ? "other" : "m", .client = 1});
    }
    for (uint64_t i = 1; i <= 5; i++) {
        expect_granted(&r, i);
        settle(&r, i, (tr_settle){.err = TR_ERR_SERVER}, "");
    }
    uint32_t refused = 0;
    for (tr_msg *msg = stand_in_take(&r.call); msg != NULL; msg = stand_in_take(&r.call)) {
        refused += msg->kind == TR_KIND_FAIL;
        CU_ASSERT(msg->kind == TR_KIND_FAIL || msg->ref == 9);
        tr_msg_free(msg);
    }
    CU_ASSERT_EQUAL(refused, 3);
    expect_status(&r, "\"used\":1,\"at_once\":1,\"waiting\":0");
    down(&r);
}

static void hasty_time_out_and_rate_limit_do_not_count_against_a_target(void) {
    rig r;
    up(&r, (tr_limiter_args){0});
    static const tr_err errs[] = {TR_ERR_TIMEOUT, TR_ERR_RATE_LIMIT, TR_ERR_INVALID};
    for (uint64_t i = 1; i <= 30; i++) {
        reserve(&r, (wish){.ref = i, .model = "m"});
        expect_granted(&r, i);
        puppet_wait_us(r.node, 10 * MS);
        settle(&r, i, (tr_settle){.err = errs[i % 3]}, "");
    }
    puppet_wait_us(r.node, 60000 * MS); /* answers to wrong requests count as good ones so long */
    for (uint64_t i = 31; i <= 35; i++) {
        reserve(&r, (wish){.ref = i, .model = "m"});
        expect_granted(&r, i);
        puppet_wait_us(r.node, 1000 * MS);
        settle(&r, i, (tr_settle){.err = TR_ERR_TIMEOUT}, "");
    }
    reserve(&r, (wish){.ref = 36, .model = "m"});
    (void)expect_refused(&r, 36, TR_ERR_OVERLOADED, "failed 5 times in a row");
    down(&r);
}

static void retries_are_refused_when_their_budget_is_used_up(void) {
    rig r;
    up(&r, (tr_limiter_args){0});
    for (uint64_t i = 1; i <= 10; i++) {
        reserve(&r, (wish){.ref = i, .model = "m", .flags = TR_RESERVE_RETRY});
        expect_granted(&r, i);
    }
    reserve(&r, (wish){.ref = 11, .model = "m", .flags = TR_RESERVE_RETRY});
    (void)expect_refused(&r, 11, TR_ERR_OVERLOADED, "the retry budget of p/m is used up");
    reserve(&r, (wish){.ref = 12, .model = "m2", .flags = TR_RESERVE_RETRY});
    expect_granted(&r, 12);
    for (uint64_t i = 20; i < 25; i++) { /* five first attempts pay for a retry */
        reserve(&r, (wish){.ref = i, .model = "m"});
        expect_granted(&r, i);
    }
    reserve(&r, (wish){.ref = 30, .model = "m", .flags = TR_RESERVE_RETRY});
    expect_granted(&r, 30);
    down(&r);
}

static void limit_of_one_model_holds_no_other(void) {
    rig r;
    up(&r, (tr_limiter_args){0});
    reserve(&r, (wish){.ref = 1, .model = "m", .tokens = 10});
    expect_granted(&r, 1);
    say_rates_of(&r, "m", (tr_rates){0, 121000, 40, 121000});
    reserve(&r, (wish){.ref = 2, .model = "m", .tokens = 10});
    (void)expect_refused(&r, 2, TR_ERR_RATE_LIMIT, "rate limit is used up");
    reserve(&r, (wish){.ref = 3, .model = "m2", .tokens = 50});
    expect_granted(&r, 3);
    expect_status(&r, "\"learned\":{},\"targets\"");
    expect_status(
        &r, "\"learned\":{\"requests\":{\"left\":0,\"reset_ms\":121000},\"tokens\":{\"left\":40,");
    puppet_wait_us(r.node, 121000 * MS);
    reserve(&r, (wish){.ref = 4, .model = "m", .tokens = 50}); /* all of it is there again */
    expect_granted(&r, 4);
    say_rates_of(&r, "m", (tr_rates){1, 500, -1, -1});
    reserve(&r, (wish){.ref = 5, .model = "m"});
    expect_granted(&r, 5);
    reserve(&r, (wish){.ref = 6, .model = "m"});
    expect_nothing(&r);
    puppet_wait_us(r.node, 500 * MS);
    expect_granted(&r, 6);
    down(&r);
}

static void retry_that_the_line_refuses_costs_none(void) {
    rig r;
    up(&r, (tr_limiter_args){.at_once = 1, .waiting_max = 1});
    reserve(&r, (wish){.ref = 1, .model = "m"});
    expect_granted(&r, 1);
    expect_status(&r, "\"retries_left\":10");
    reserve(&r, (wish){.ref = 2, .model = "m", .flags = TR_RESERVE_RETRY, .ms = 50});
    expect_status(&r, "\"retries_left\":9");
    reserve(&r, (wish){.ref = 3, .model = "m", .flags = TR_RESERVE_RETRY}); /* the line is full */
    tr_msg_free(stand_in_expect(&r.call, TR_KIND_FAIL));
    expect_status(&r, "\"retries_left\":9");
    settle(&r, 2, (tr_settle){.err = TR_ERR_CANCELLED, .flags = TR_SETTLE_UNUSED}, "");
    expect_status(&r, "\"retries_left\":10"); /* whoever gave up waiting has sent nothing */
    down(&r);
}

static void limits_change_while_it_runs(void) {
    rig r;
    up(&r, (tr_limiter_args){.rpm = 60, .burst = 1, .at_once = 2});
    for (uint64_t i = 1; i <= 4; i++) {
        reserve(&r, (wish){.ref = i});
    }
    expect_granted(&r, 1);
    expect_nothing(&r);
    tr_msg *msg = tr_msg_new(TR_KIND_LIMIT, sizeof(tr_limit));
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    *(tr_limit *)(void *)msg->data = (tr_limit){.flags = TR_LIMIT_RPM};
    stand_in_send(&r.other, r.limiter, msg, 4);
    msg = stand_in_expect(&r.other, TR_KIND_STATUSED);
    CU_ASSERT_EQUAL(msg->ref, 4);
    CU_ASSERT_PTR_NOT_NULL(strstr(msg->body->bytes, "\"rpm\":0,"));
    tr_msg_free(msg);
    expect_granted(&r, 2);
    expect_nothing(&r);
    msg = tr_msg_new(TR_KIND_LIMIT, sizeof(tr_limit));
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    *(tr_limit *)(void *)msg->data =
        (tr_limit){.flags = TR_LIMIT_AT_ONCE | TR_LIMIT_TPM | TR_LIMIT_BURST,
                   .at_once = 3,
                   .tpm = 5,
                   .burst = 7};
    stand_in_send(&r.other, r.limiter, msg, 5);
    tr_msg_free(stand_in_expect(&r.other, TR_KIND_STATUSED));
    expect_granted(&r, 3);
    expect_nothing(&r);
    expect_status(&r, "\"at_once\":3,\"waiting\":1,\"rpm\":0,\"tpm\":5,\"burst\":7");
    down(&r);
}

static void more_models_than_it_can_watch_are_served_all_the_same(void) {
    rig r;
    up(&r, (tr_limiter_args){0});
    for (uint64_t i = 1; i <= 5; i++) {
        fail_once(&r, i, "dead");
    }
    for (uint64_t i = 100; i < 400; i++) {
        char model[16];
        snprintf(model, sizeof model, "m%llu", (unsigned long long)i);
        reserve(&r, (wish){.ref = i, .model = model});
        expect_granted(&r, i);
        if (i >= 200) {
            settle(&r, i - 100, (tr_settle){0}, "");
        }
    }
    expect_status(&r, "\"used\":100,"); /* more than there is room for: those go unwatched */
    for (uint64_t i = 300; i < 400; i++) {
        settle(&r, i, (tr_settle){0}, "");
    }
    expect_status(&r, "\"used\":0,");
    reserve(&r, (wish){.ref = 1000, .model = "m399"});
    expect_granted(&r, 1000);
    expect_status(&r, "\"model\":\"m399\",\"breaker\":\"closed\",\"running\":1");
    down(&r);
}

static void post(rig *r, tr_msg *msg, uint64_t ref) {
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    msg->from = r->call.id;
    msg->ref = ref;
    tr_post(r->node, r->limiter, msg);
}

static tr_msg *wanted(void) {
    tr_msg *msg = tr_msg_new(TR_KIND_RESERVE, sizeof(tr_reserve) + 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    *(tr_reserve *)(void *)msg->data =
        (tr_reserve){.remaining_ms = 60000, .tokens = 10, .model_size = 1};
    msg->data[sizeof(tr_reserve)] = 'm';
    return msg;
}

/* Whichever fails, and whether those after it do too. */
static void any_failed_allocation_leaves_no_reservation(void) {
    uint32_t granted = 0, refused = 0, lived = 0;
    for (size_t n = 1; n < 60; n++) {
        rig r;
        up(&r, (tr_limiter_args){.rpm = 600, .burst = 2, .tpm = 60000});
        for (uint64_t i = 1; i <= 4; i++) {
            post(&r, wanted(), i);
        }
        post(&r, tr_msg_new(TR_KIND_SETTLE, sizeof(tr_settle)), 1);
        stand_in_monitor(&r.other, r.limiter);
        CU_ASSERT_EQUAL(stand_in_count(&r.other), 0);
        stand_in_fail_at = n / 2 + 1;
        stand_in_fail_on = n % 2 == 0;
        puppet_run(r.node);
        puppet_wait_us(r.node, 1000 * MS);
        stand_in_fail_at = 0;
        puppet_wait_us(r.node, 1000 * MS);
        for (tr_msg *msg = stand_in_take(&r.call); msg != NULL; msg = stand_in_take(&r.call)) {
            granted += msg->kind == TR_KIND_GRANTED;
            refused += msg->kind == TR_KIND_FAIL;
            tr_msg_free(msg);
        }
        stand_in_crash(&r.call);
        tr_msg *died = stand_in_take(&r.other); /* a timer that cannot fire ends its actor */
        if (died == NULL) {
            lived++;
            expect_status(&r, "\"used\":0,\"at_once\":5000,\"waiting\":0");
            expect_status(&r, "\"tokens_reserved\":0");
        }
        tr_msg_free(died);
        down(&r);
    }
    CU_ASSERT(granted > 60 && refused > 0 && lived > 40);
}

static void adaptive_limiter_halves_its_slots_when_the_provider_has_too_much_to_do(void) {
    rig r;
    up(&r, (tr_limiter_args){.at_once = 8, .adaptive = 1});
    for (uint64_t i = 1; i <= 8; i++) {
        reserve(&r, (wish){.ref = i, .model = "m"});
        expect_granted(&r, i);
    }
    expect_status(&r, "\"adaptive\":8,");
    settle(&r, 1, (tr_settle){.err = TR_ERR_OVERLOADED}, "");
    settle(&r, 2, (tr_settle){.err = TR_ERR_OVERLOADED}, ""); /* of the same round */
    expect_status(&r, "\"adaptive\":4,");
    reserve(&r, (wish){.ref = 9, .model = "m"});
    expect_nothing(&r); /* six run */
    for (uint64_t i = 3; i <= 5; i++) {
        settle(&r, i, (tr_settle){.err = TR_OK, .progressed = 1}, "");
    }
    expect_granted(&r, 9);
    reserve(&r, (wish){.ref = 10, .model = "m"});
    expect_nothing(&r);
    down(&r);
}

int main(void) {
    stand_in_memory();
    static const puppet_test tests[] = {
        PUPPET_TEST(twentieth_of_five_a_second_starts_at_3800_ms),
        PUPPET_TEST(thousand_callers_get_exactly_five_a_second),
        PUPPET_TEST(thousand_waiting_of_one_client_do_not_delay_another),
        PUPPET_TEST(tokens_are_reserved_and_settled_at_what_was_used),
        PUPPET_TEST(cancelled_before_it_was_sent_gives_all_back),
        PUPPET_TEST(death_of_a_call_leaves_no_reservation),
        PUPPET_TEST(headers_hold_grants_until_the_reset),
        PUPPET_TEST(held_model_holds_no_other),
        PUPPET_TEST(rates_of_all_are_overtaken_by_no_model),
        PUPPET_TEST(headers_never_make_it_faster_than_configured),
        PUPPET_TEST(reset_that_comes_too_late_refuses_at_once),
        PUPPET_TEST(dead_target_costs_its_callers_nothing_after_the_first_few),
        PUPPET_TEST(half_open_target_gets_one_probe_at_a_time),
        PUPPET_TEST(probe_counts_when_its_answer_begins),
        PUPPET_TEST(probe_that_dies_lets_another_probe),
        PUPPET_TEST(who_waits_for_a_target_that_is_given_up_is_told),
        PUPPET_TEST(hasty_time_out_and_rate_limit_do_not_count_against_a_target),
        PUPPET_TEST(retries_are_refused_when_their_budget_is_used_up),
        PUPPET_TEST(limit_of_one_model_holds_no_other),
        PUPPET_TEST(retry_that_the_line_refuses_costs_none),
        PUPPET_TEST(limits_change_while_it_runs),
        PUPPET_TEST(more_models_than_it_can_watch_are_served_all_the_same),
        PUPPET_TEST(any_failed_allocation_leaves_no_reservation),
        PUPPET_TEST(adaptive_limiter_halves_its_slots_when_the_provider_has_too_much_to_do),
    };
    return puppet_main("limiter rates", tests, sizeof tests / sizeof *tests);
}
