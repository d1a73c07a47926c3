/*
 * The limiter on the real clock: a daemon, and when requests come to troupe-mock, which knows the
 * same clock as this test. The k-th request never comes sooner than its share of time after the
 * first could have been sent: that holds in every round, however busy the machine is. That it comes
 * no later than a tenth of a second after that can be spoilt by other work on the machine, so it
 * has to hold in one of three rounds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/e2e/upstream.h"

#define ROUNDS 3
#define MANY 1000
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LATE_US 1000000U /* a daemon that is several times slower says nothing about lateness */
#else
#define LATE_US 100000U
#endif
#define BATCH 20
#define SLOW_PERIOD_US 200000U /* 5/s */
#define FAST_PERIOD_US 20000U  /* 50/s */
#define FAST_FOR_US 2000000U

static uint16_t port;
static tr_client *client;
static tr_stream *streams[MANY];
static uint64_t arrivals[MANY];

static uint64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void open_streams(const char *model, int count) {
    tr_options options = TR_OPTIONS_INIT;
    tr_request *request = NULL;
    options.model = model;
    CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &request), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_request_text(request, "user", "go"), TR_OK);
    for (int i = 0; i < count; i++) {
        CU_ASSERT_EQUAL_FATAL(tr_stream_open(client, request, &streams[i]), TR_OK);
    }
    tr_request_free(request);
}

/* Never sooner than the rate allows; by how much the latest was later. */
static uint64_t lateness_us(uint64_t began_us, size_t count, uint64_t period_us) {
    uint64_t worst = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t share_us = began_us + i * period_us;
        CU_ASSERT_TRUE_FATAL(arrivals[i] >= share_us);
        worst = arrivals[i] - share_us > worst ? arrivals[i] - share_us : worst;
    }
    return worst;
}

/* Whatever was free before has been used up: the next round begins with one request. */
static bool is_quiet(void *arg) {
    const uint64_t *until_us = arg;
    return now_us() >= *until_us;
}

static void twentieth_of_five_a_second_comes_after_3800_ms(void) {
    uint64_t late_us = UINT64_MAX;
    for (int round = 0; round < ROUNDS && late_us > LATE_US; round++) {
        tr_upstream_reset();
        uint64_t began_us = now_us();
        open_streams("slow/mock", BATCH);
        for (int i = 0; i < BATCH; i++) {
            tr_chunk chunk;
            tr_err err;
            while ((err = tr_stream_next(streams[i], 30000, &chunk)) == TR_OK) {
            }
            CU_ASSERT_EQUAL_FATAL(err, TR_DONE);
            CU_ASSERT_EQUAL(tr_result_error(tr_stream_result(streams[i])), TR_OK);
            tr_stream_close(streams[i]);
        }
        CU_ASSERT_EQUAL_FATAL(tr_upstream_arrivals(arrivals, MANY), BATCH);
        late_us = lateness_us(began_us, BATCH, SLOW_PERIOD_US);
        printf("\n    the 20th came after %.3f s; at most %.1f ms late\n",
               (double)(arrivals[BATCH - 1] - began_us) / 1e6, (double)late_us / 1e3);
        CU_ASSERT_TRUE(arrivals[BATCH - 1] >= began_us + 3800000);
        uint64_t free_us = arrivals[BATCH - 1] + SLOW_PERIOD_US;
        CU_ASSERT_TRUE(tr_stage_until(is_quiet, &free_us, 5000));
    }
    CU_ASSERT_TRUE(late_us <= LATE_US);
}

static void thousand_callers_get_exactly_fifty_a_second(void) {
    uint64_t late_us = UINT64_MAX;
    for (int round = 0; round < ROUNDS && late_us > LATE_US; round++) {
        tr_upstream_reset();
        uint64_t began_us = now_us();
        open_streams("fast/mock:tokens=1", MANY);
        uint64_t until_us = began_us + FAST_FOR_US;
        tr_chunk chunk;
        while (now_us() < until_us) { /* moves bytes; the first has ended soon */
            (void)!tr_stream_next(streams[MANY - 1], 10, &chunk);
        }
        size_t count = tr_upstream_arrivals(arrivals, MANY);
        uint64_t asked_us = now_us();
        for (int i = 0; i < MANY; i++) {
            tr_stream_close(streams[i]);
        }
        late_us = lateness_us(began_us, count, FAST_PERIOD_US);
        printf("\n    %zu came in %.3f s; at most %.1f ms late\n", count,
               (double)(asked_us - began_us) / 1e6, (double)late_us / 1e3);
        CU_ASSERT_TRUE(count <= (asked_us - began_us) / FAST_PERIOD_US + 1);
        uint64_t due = (until_us - began_us) / FAST_PERIOD_US + 1;
        if (count < due && (due - count) * FAST_PERIOD_US > LATE_US) {
            late_us = UINT64_MAX; /* those that are missing were late as well */
        }
        CU_ASSERT_TRUE(tr_upstream_comes_to("active", 0, 5000));
        uint64_t free_us = now_us() + FAST_PERIOD_US;
        CU_ASSERT_TRUE(tr_stage_until(is_quiet, &free_us, 5000));
    }
    CU_ASSERT_TRUE(late_us <= LATE_US);
}

/* --- the stage --- */

static void open_stage(void) {
    static char extra[512];
    port = tr_upstream_open(NULL);
    snprintf(extra, sizeof extra,
             "providers:\n"
             "  slow: {kind: openai-compatible, base_url: 'http://127.0.0.1:%u/v1', rpm: 300, "
             "burst: 1}\n"
             "  fast: {kind: openai-compatible, base_url: 'http://127.0.0.1:%u/v1', rpm: 3000, "
             "burst: 1}\n",
             (unsigned)port, (unsigned)port);
    tr_stage_open(1, extra);
    client = tr_stage_client();
}

static void close_stage(void) {
    tr_client_close(client);
    tr_stage_close();
    tr_upstream_close();
}

int main(void) {
    CU_TestInfo tests[] = {
        {"(the mock and the daemon start)", open_stage},
        {"twentieth_of_five_a_second_comes_after_3800_ms",
         twentieth_of_five_a_second_comes_after_3800_ms},
        {"thousand_callers_get_exactly_fifty_a_second",
         thousand_callers_get_exactly_fifty_a_second},
        {"(they stop)", close_stage},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("rates", tests);
}
