/*
 * What a connected client sees: the same question, so many at once, and the clock; beside
 * `troupe-worker --bench`, which asks its engine the same without daemon and links. Prints one JSON
 * line, and what the process itself used of the processor. The prompts differ in their first
 * characters, so that no round finds its prefix in the worker's cache.
 * usage: bench_ask URL MODEL PROMPT STREAMS TOKENS ROUNDS
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <troupe.h>

#define STREAMS_max 256
#define ROUNDS_max 1000

typedef struct stream {
    double first_ms; /* 0 = nothing yet */
    unsigned long long tokens;
} stream;

static stream streams[STREAMS_max];
static double started_ms;
static unsigned open_streams;
static unsigned long long all_tokens;

static double clock_ms(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

static void on_chunk(const tr_chunk *chunk, void *arg) {
    stream *s = arg;
    (void)chunk;
    if (s->first_ms <= 0) {
        s->first_ms = clock_ms(CLOCK_MONOTONIC) - started_ms;
    }
}

static void on_done(const tr_result *result, void *arg) {
    stream *s = arg;
    open_streams--;
    s->tokens = tr_result_usage(result).out;
    if (tr_result_error(result) != TR_OK) {
        fprintf(stderr, "bench_ask: %s\n", tr_result_message(result));
        exit(1);
    }
}

static void must(tr_err err) {
    if (err != TR_OK) {
        fprintf(stderr, "bench_ask: %s\n", tr_client_error());
        exit(1);
    }
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, unsigned count) {
    qsort(values, count, sizeof *values, by_value);
    return values[count / 2];
}

static void submit(tr_client *client, const tr_options *options, const char *prompt, unsigned round,
                   unsigned i) {
    char numbered[4096];
    tr_request *request;
    snprintf(numbered, sizeof numbered, "%u.%u: %s", round, i, prompt);
    must(tr_request_new(options, &request));
    must(tr_request_text(request, "user", numbered));
    streams[i] = (stream){0};
    must(tr_client_submit(client, request, on_chunk, on_done, &streams[i], NULL));
    tr_request_free(request);
}

/* Median of the first tokens in ms, and tokens a second. */
static void run_round(tr_client *client, const tr_options *options, const char *prompt,
                      unsigned count, unsigned round, double *ret_first_ms, double *ret_rate) {
    double firsts[STREAMS_max] = {0};
    unsigned long long tokens = 0;
    struct pollfd polled = {.fd = tr_client_fd(client), .events = POLLIN};
    open_streams = count;
    started_ms = clock_ms(CLOCK_MONOTONIC);
    for (unsigned i = 0; i < count; i++) {
        submit(client, options, prompt, round, i);
    }
    while (open_streams > 0 && poll(&polled, 1, -1) > 0) {
        must(tr_client_dispatch(client));
    }
    double spent_ms = clock_ms(CLOCK_MONOTONIC) - started_ms;
    for (unsigned i = 0; i < count; i++) {
        firsts[i] = streams[i].first_ms;
        tokens += streams[i].tokens;
    }
    all_tokens += tokens;
    *ret_first_ms = median(firsts, count);
    *ret_rate = (double)tokens * 1000 / spent_ms;
}

int main(int argc, char **argv) {
    static double firsts[ROUNDS_max], rates[ROUNDS_max];
    unsigned count = argc == 7 ? (unsigned)atoi(argv[4]) : 0;
    unsigned rounds = argc == 7 ? (unsigned)atoi(argv[6]) : 0;
    if (count < 1 || count > STREAMS_max || rounds < 1 || rounds > ROUNDS_max) {
        fputs("usage: bench_ask URL MODEL PROMPT STREAMS TOKENS ROUNDS\n", stderr);
        return 2;
    }
    tr_options options = TR_OPTIONS_INIT;
    options.model = argv[2];
    options.temperature = 0;
    options.max_tokens = (uint32_t)atoi(argv[5]);
    tr_client *client;
    must(tr_client_open(argv[1], &client));
    run_round(client, &options, argv[3], count, 99, &firsts[0], &rates[0]); /* warms up */
    double cpu_ms = clock_ms(CLOCK_PROCESS_CPUTIME_ID);
    for (unsigned i = 0; i < rounds; i++) {
        run_round(client, &options, argv[3], count, i, &firsts[i], &rates[i]);
    }
    cpu_ms = (clock_ms(CLOCK_PROCESS_CPUTIME_ID) - cpu_ms) / rounds;
    tr_client_close(client);
    printf("{\"bench\":\"client\",\"model\":\"%s\",\"streams\":%u,\"rounds\":%u,"
           "\"tokens\":%llu,\"per_second\":%.1f,\"first_token_ms\":%.3f,\"client_cpu_ms_per_"
           "round\":%.3f}\n",
           argv[2], count, rounds, all_tokens, median(rates, rounds), median(firsts, rounds),
           cpu_ms);
    return 0;
}
