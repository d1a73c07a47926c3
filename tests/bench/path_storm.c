/*
 * The fault storm: requests to one model, 30 of 100 of which the mock is told to spoil, each in its
 * own way (the question's text is the plan). What a fault must come to is known beforehand, so each
 * end is held to it; what may pass when tried again may also end well. A breaker that the storm
 * opens refuses for a while without asking: told apart and counted. Called by path.c.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/bench/path.h"

#define FAULTY_percent 30U
#define HANG_ms 1000U /* what says nothing for so long has failed; others are busy, too */

typedef struct fault {
    const char *plan;
    tr_err err;       /* TR_OK: it is no failure at all */
    bool may_pass;    /* when it is tried again */
    uint32_t at_most; /* attempts */
} fault;

static const fault faults[] = {
    {"status=500,times=1,retry_after_ms=1", TR_ERR_SERVER, true, 3},
    {"status=502,times=1", TR_ERR_SERVER, true, 3},
    {"status=503", TR_ERR_OVERLOADED, false, 3},
    {"status=529,times=1", TR_ERR_OVERLOADED, true, 3},
    {"status=429,retry_after_ms=20,times=1", TR_ERR_RATE_LIMIT, true, 3},
    {"status=429,retry_after_ms=5", TR_ERR_RATE_LIMIT, false, 3},
    {"status=429,retry_after=130", TR_ERR_RATE_LIMIT, false, 1},
    {"status=500,should_retry=0", TR_ERR_SERVER, false, 1},
    {"status=400", TR_ERR_INVALID, false, 1},
    {"status=402", TR_ERR_QUOTA, false, 1},
    {"status=404", TR_ERR_NOT_FOUND, false, 1},
    {"html", TR_ERR_NOT_FOUND, false, 1},
    {"json_error,times=1", TR_ERR_SERVER, true, 3},
    {"cut=0,times=1", TR_ERR_TRUNCATED, true, 3},
    {"cut=600", TR_ERR_TRUNCATED, false, 1},
    {"cut=600,reset", TR_ERR_TRUNCATED, false, 1},
    {"cut=0,reset,times=1", TR_ERR_TRUNCATED, true, 3},
    {"garbage=2", TR_ERR_PROTOCOL, false, 1},
    {"error_mid=2", TR_ERR_SERVER, false, 1},
    {"nofinish", TR_ERR_TRUNCATED, false, 1},
    {"stall=600", TR_ERR_TIMEOUT, false, 1},
    {"first=20s", TR_ERR_TIMEOUT, false, 3},
    {"stall=0,times=1", TR_ERR_TIMEOUT, true, 3},
    {"interval=10ms", TR_OK, false, 1},
    {"nodone", TR_OK, false, 1},
    {"nousage,crlf", TR_OK, false, 1},
    {"split=7", TR_OK, false, 1},
};
#define FAULTS (sizeof faults / sizeof faults[0])

typedef struct storm {
    bench_clients clients;
    const char *model;
    uint8_t *ends; /* of each request: how often it ended */
    size_t count, next, done;
    size_t twice, wrong, refused, passed, attempts;
    size_t by_class[TR_CLASS_N];
} storm;

typedef struct one {
    storm *storm;
    size_t number;
    const fault *fault; /* NULL = none */
} one;

static void submit(storm *s);

static uint64_t mixed(uint64_t i) {
    i = (i ^ (i >> 31)) * 0x9E3779B97F4A7C15U;
    i = (i ^ (i >> 27)) * 0x94D049BB133111EBU;
    return i ^ (i >> 32);
}

/* Whether the end is the fault's; a breaker's refusal has its own words. */
static void judge(storm *s, const one *o, const tr_result *result) {
    const fault *f = o->fault;
    tr_err err = tr_result_error(result);
    uint32_t attempts = tr_result_attempts(result);
    bool refused = err == TR_ERR_OVERLOADED && strstr(tr_result_message(result), " is not asked ");
    bool fine = err == TR_OK ? f == NULL || f->err == TR_OK || f->may_pass
                             : f != NULL && tr_err_class_of(f->err) == tr_err_class_of(err);
    s->by_class[tr_err_class_of(err)]++;
    s->attempts += attempts;
    s->passed += f != NULL && f->err != TR_OK && err == TR_OK;
    s->refused += refused;
    if (!refused && (!fine || attempts > (f == NULL ? 1 : f->at_most))) {
        if (s->wrong++ < 10) {
            fprintf(stderr, "bench_path: %s: %s after %u attempts: %s\n",
                    f == NULL ? "no fault" : f->plan, tr_err_name(err), attempts,
                    tr_result_message(result));
        }
    }
}

static void on_done(const tr_result *result, void *arg) {
    one *o = arg;
    storm *s = o->storm;
    s->done++;
    if (++s->ends[o->number] > 1) {
        s->twice++;
        return;
    }
    judge(s, o, result);
    if (s->next < s->count) {
        submit(s);
    }
}

static void submit(storm *s) {
    one *o = malloc(sizeof *o); /* lives on: an end that comes twice shall be seen */
    if (o == NULL) {
        abort();
    }
    uint64_t dice = mixed(s->next + 1);
    bool faulty = dice % 100 < FAULTY_percent;
    *o = (one){s, s->next++, faulty ? &faults[dice / 100 % FAULTS] : NULL};
    char text[160];
    snprintf(text, sizeof text, "bytes=%zu,%s", o->number % 30 + 1,
             o->fault != NULL ? o->fault->plan : "tokens=5");
    tr_options options = TR_OPTIONS_INIT;
    tr_request *request;
    options.model = s->model;
    options.first_token_ms = HANG_ms;
    options.idle_ms = HANG_ms;
    options.total_ms = 20000;
    bench_must(tr_request_new(&options, &request));
    bench_must(tr_request_text(request, "user", text));
    bench_must(tr_client_submit(s->clients.items[o->number % s->clients.count], request, NULL,
                                on_done, o, NULL));
    tr_request_free(request);
}

int bench_storm(const char *socket, const char *model, size_t at_once, size_t count) {
    storm s = {.model = model, .count = count, .ends = calloc(count, 1)};
    if (s.ends == NULL) {
        abort();
    }
    bench_open_clients(&s.clients, socket, 4);
    double begun = bench_now_us();
    for (size_t i = 0; i < at_once && s.next < count; i++) {
        submit(&s);
    }
    while (s.done < count) {
        bench_turn(&s.clients, -1);
    }
    double seconds = (bench_now_us() - begun) / 1e6;
    bench_turn(&s.clients, 300); /* whether something follows an end */
    size_t never = 0;
    for (size_t i = 0; i < count; i++) {
        never += s.ends[i] == 0;
    }
    bool bad = s.twice > 0 || never > 0 || s.wrong > 0;
    printf(
        "{\"bench\":\"path storm\",\"count\":%zu,\"at_once\":%zu,\"seconds\":%.2f,"
        "\"per_second\":%.0f,\"never\":%zu,\"twice\":%zu,\"wrong_class\":%zu,\"passed_by_retry\":"
        "%zu,\"refused_by_breaker\":%zu,\"attempts\":%zu,\"ok\":%zu}\n",
        count, at_once, seconds, (double)count / seconds, never, s.twice, s.wrong, s.passed,
        s.refused, s.attempts, s.by_class[TR_CLASS_OK]);
    bench_close_clients(&s.clients);
    free(s.ends);
    return bad;
}
