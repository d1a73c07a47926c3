/*
 * Retry and fallback as a client sees them, against troupe-mock with its fault plan: what the mock
 * counted says how many requests went upstream. Pauses are short, since the mock gives a hint of a
 * millisecond.
 */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e/upstream.h"

static uint16_t port;
static tr_client *client;

/* Requests since the last time. */
static long upstream(void) {
    long count = (long)tr_upstream_stat("requests");
    tr_upstream_reset();
    return count;
}

static tr_result *ask(const char *model, uint32_t retries) {
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result = NULL;
    options.model = model;
    options.retries = retries;
    options.temperature = strchr(model, '/') == NULL ? 0 : NAN;
    tr_err err = tr_ask(client, &options, "hi", &result);
    if (err != TR_OK) {
        printf("\n    %s\n", tr_client_error());
    }
    CU_ASSERT_EQUAL_FATAL(err, TR_OK);
    return result;
}

static void expect(const char *model, uint32_t retries, tr_err err, uint32_t attempts) {
    tr_result *result = ask(model, retries);
    if (tr_result_error(result) != err || tr_result_attempts(result) != attempts) {
        printf("\n    %s: %s after %u: %s\n", model, tr_err_name(tr_result_error(result)),
               tr_result_attempts(result), tr_result_message(result));
    }
    CU_ASSERT_EQUAL(tr_result_error(result), err);
    CU_ASSERT_EQUAL(tr_result_attempts(result), attempts);
    CU_ASSERT_EQUAL(upstream(), attempts);
    tr_result_free(result);
}

/* ---- claims ---- */

static void failures_that_pass_are_tried_again(void) {
    expect("mock/mock:tokens=3", TR_RETRIES_DEFAULT, TR_OK, 1);
    expect("mock/mock:status=503,retry_after_ms=1,times=2", TR_RETRIES_DEFAULT, TR_OK, 3);
    expect("mock/mock:status=500,retry_after_ms=1,times=1", TR_RETRIES_DEFAULT, TR_OK, 2);
    expect("mock/mock:status=429,retry_after_ms=1,times=1", 1, TR_OK, 2);
    expect("mock/mock:cut=0,times=1", TR_RETRIES_DEFAULT, TR_OK, 2); /* before the first token */
}

static void attempts_are_exactly_as_many_as_asked(void) {
    expect("mock/mock:status=503,retry_after_ms=1,first=1ms", TR_RETRIES_DEFAULT, TR_ERR_OVERLOADED,
           3);
    expect("mock/mock:status=503,retry_after_ms=1,first=2ms", 0, TR_ERR_OVERLOADED, 1);
    expect("mock/mock:status=500,retry_after_ms=1,first=3ms", 3, TR_ERR_SERVER, 4);
}

static void what_does_not_pass_is_told_at_once(void) {
    static const struct {
        const char *model;
        tr_err err;
    } cases[] = {
        {"mock/mock:status=400", TR_ERR_INVALID},
        {"mock/mock:status=401", TR_ERR_AUTH},
        {"mock/mock:status=402", TR_ERR_QUOTA},
        {"mock/mock:status=404", TR_ERR_NOT_FOUND},
        {"mock/mock:status=500,should_retry=0", TR_ERR_SERVER},
        {"mock/mock:status=429,retry_after=121", TR_ERR_RATE_LIMIT},
        {"mock/mock:status=429,retry_after=999999999", TR_ERR_RATE_LIMIT},
        {"mock/mock:error_mid=2", TR_ERR_SERVER}, /* after the first token */
        {"mock/mock:cut=600", TR_ERR_TRUNCATED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        long began = tr_stage_now_ms();
        expect(cases[i].model, 5, cases[i].err, 1);
        CU_ASSERT(tr_stage_now_ms() - began < 2000);
    }
}

static void hint_is_waited_for_and_told_when_it_is_too_long(void) {
    long began = tr_stage_now_ms();
    expect("mock/mock:status=429,retry_after_ms=700,times=1", TR_RETRIES_DEFAULT, TR_OK, 2);
    CU_ASSERT(tr_stage_now_ms() - began >= 700);
    tr_result *result = ask("mock/mock:status=429,retry_after=130", TR_RETRIES_DEFAULT);
    CU_ASSERT_EQUAL(tr_result_retry_after_ms(result), 130000);
    CU_ASSERT_EQUAL(upstream(), 1);
    tr_result_free(result);
}

static void alias_falls_back_and_names_who_served(void) {
    tr_result *result = ask("guarded", TR_RETRIES_DEFAULT);
    CU_ASSERT_EQUAL(tr_result_error(result), TR_OK);
    CU_ASSERT_STRING_EQUAL(tr_result_text(result), "abcdefghijklmnopqrstuvwxyz");
    CU_ASSERT_STRING_EQUAL(tr_result_target(result), "local/chain");
    CU_ASSERT_EQUAL(tr_result_attempts(result), 2);
    CU_ASSERT_TRUE(tr_result_fallback(result));
    CU_ASSERT_EQUAL(upstream(), 1);
    tr_result_free(result);
    result = ask("guarded", 0); /* one attempt is one attempt */
    CU_ASSERT_EQUAL(tr_result_error(result), TR_ERR_AUTH);
    CU_ASSERT_FALSE(tr_result_fallback(result));
    CU_ASSERT_EQUAL(upstream(), 1);
    tr_result_free(result);
    result = ask("dead", TR_RETRIES_DEFAULT); /* nobody listens there */
    CU_ASSERT_EQUAL(tr_result_error(result), TR_OK);
    CU_ASSERT_STRING_EQUAL(tr_result_target(result), "local/chain");
    CU_ASSERT_EQUAL(upstream(), 0);
    tr_result_free(result);
    CU_ASSERT(tr_stage_logged("an attempt failed; the next target is asked") >= 2);
}

static void command_line_takes_retries_and_shows_them(void) {
    char out[32768];
    const char *ok[] = {
        "troupe", "ask", "-m", "mock/mock:status=503,retry_after_ms=1,times=4", "--retries", "4",
        "--json", "hi",  NULL};
    CU_ASSERT_EQUAL(tr_stage_run(ok, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"attempts\":5"));
    CU_ASSERT_PTR_NULL(strstr(out, "\"fallback\""));
    CU_ASSERT_EQUAL(upstream(), 5);
    const char *other[] = {"troupe", "ask",    "-m", "guarded", "--temperature",
                           "0",      "--json", "hi", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(other, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"target\":\"local/chain\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"attempts\":2,\"fallback\":true"));
    const char *once[] = {"troupe", "ask", "-m", "guarded", "--retries", "0", "hi", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(once, out, sizeof out), 4);
    const char *wrong[] = {"troupe", "ask", "-m", "guarded", "--retries", "20", "hi", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(wrong, out, sizeof out), 2);
    const char *models[] = {"troupe", "models", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(models, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "alias of mock/mock:status=401, chain (order)"));
    const char *limited[] = {"troupe", "ask", "-m", "mock/mock:status=429,retry_after=300",
                             "hi",     NULL};
    CU_ASSERT_EQUAL(tr_stage_run(limited, out, sizeof out), 5);
    CU_ASSERT_TRUE(tr_stage_logged("told to fail; it may be asked again in 300 s") > 0);
    (void)upstream();
}

/* The mock's provider and `more`, from now on. */
static void configure(const char *more) {
    char extra[1024];
    snprintf(extra, sizeof extra,
             "%s\nproviders:\n  mock: {kind: openai-compatible, base_url: "
             "'http://127.0.0.1:%u/v1'}\n",
             more, (unsigned)port);
    tr_stage_configure(1, extra);
    unsigned before = tr_stage_logged("the configuration was read again");
    kill(tr_stage_now.daemon, SIGHUP);
    long until = tr_stage_now_ms() + 10000;
    while (tr_stage_logged("the configuration was read again") == before &&
           tr_stage_now_ms() < until) {
    }
}

static void attempts_can_be_configured_while_it_runs(void) {
    configure("attempts: 1");
    expect("mock/mock:status=503,retry_after_ms=1,first=5ms", TR_RETRIES_DEFAULT, TR_ERR_OVERLOADED,
           1);
    expect("mock/mock:status=503,retry_after_ms=1,first=6ms", 1, TR_ERR_OVERLOADED, 2);
}

/* Once it is known how soon the alias's first tokens come, its first target becomes slow. */
static void hedged_request_is_served_by_the_next_target_when_the_first_is_late(void) {
    char out[4096];
    const char *argv[] = {"troupe", "ask", "-m", "pair", "--hedge", "--json", "hi", NULL};
    tr_options options = TR_OPTIONS_INIT;
    options.model = "pair";
    options.hedge = true;
    configure("aliases: {pair: ['mock/mock:tokens=1', 'mock/mock:tokens=2']}");
    (void)upstream();
    for (int i = 0; i < 30; i++) {
        tr_result *result = NULL;
        CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "hi", &result), TR_OK);
        CU_ASSERT_EQUAL(tr_result_error(result), TR_OK);
        tr_result_free(result);
    }
    (void)upstream();
    configure("aliases: {pair: ['mock/mock:tokens=1,first=30s', 'mock/mock:tokens=2']}");
    long began = tr_stage_now_ms();
    CU_ASSERT_EQUAL(tr_stage_run(argv, out, sizeof out), 0);
    CU_ASSERT(tr_stage_now_ms() - began < 10000);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"target\":\"mock/mock:tokens=2\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"attempts\":2,\"hedged\":true,\"fallback\":true"));
    CU_ASSERT_EQUAL(upstream(), 2);
}

/* ---- the stage ---- */

static void open_stage(void) {
    char extra[1024];
    port = tr_upstream_open(NULL);
    snprintf(extra, sizeof extra,
             "providers:\n"
             "  mock: {kind: openai-compatible, base_url: 'http://127.0.0.1:%u/v1'}\n"
             "  nobody: {kind: openai-compatible, base_url: 'http://127.0.0.1:1/v1'}\n"
             "aliases:\n"
             "  guarded: ['mock/mock:status=401', chain]\n"
             "  dead: [nobody/m, chain]\n",
             (unsigned)port);
    tr_stage_open(1, extra);
    client = tr_stage_client();
    (void)upstream();
}

static void close_stage(void) {
    tr_client_close(client);
    tr_stage_close();
    tr_upstream_close();
}

int main(void) {
    CU_TestInfo tests[] = {
        {"(the daemon and the mock start)", open_stage},
        {"failures_that_pass_are_tried_again", failures_that_pass_are_tried_again},
        {"attempts_are_exactly_as_many_as_asked", attempts_are_exactly_as_many_as_asked},
        {"what_does_not_pass_is_told_at_once", what_does_not_pass_is_told_at_once},
        {"hint_is_waited_for_and_told_when_it_is_too_long",
         hint_is_waited_for_and_told_when_it_is_too_long},
        {"alias_falls_back_and_names_who_served", alias_falls_back_and_names_who_served},
        {"command_line_takes_retries_and_shows_them", command_line_takes_retries_and_shows_them},
        {"attempts_can_be_configured_while_it_runs", attempts_can_be_configured_while_it_runs},
        {"hedged_request_is_served_by_the_next_target_when_the_first_is_late",
         hedged_request_is_served_by_the_next_target_when_the_first_is_late},
        {"(they stop)", close_stage},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("retry", tests);
}
