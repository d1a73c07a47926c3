/*
 * What the worker itself can do, without links and daemon: the same questions, so many at once, and
 * the clock. The prompts differ in their first characters, so that no round finds its prefix in the
 * cache. Called by the worker's main thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "inference/worker.h"
#include "runtime/memory.h"

typedef struct stream {
    double first_ms; /* 0 = nothing yet */
    bool ended;
    tr_usage_wire usage;
} stream;

typedef struct bench {
    stream *streams;
    uint32_t count;
    uint32_t open;
    double started_ms;
    char failure[256];
} bench;

static double clock_ms(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

static double now_ms(void) {
    return clock_ms(CLOCK_MONOTONIC);
}

static void on_emit(void *arg, tr_msg *msg) {
    bench *b = arg;
    stream *s = &b->streams[msg->ref];
    if (msg->kind == TR_KIND_DELTA && s->first_ms <= 0) {
        s->first_ms = now_ms() - b->started_ms;
    } else if (msg->kind == TR_KIND_DONE) {
        s->usage = ((const tr_done *)msg->data)->usage;
        b->open--;
    } else if (msg->kind == TR_KIND_FAIL) {
        tr_str why = tr_fail_read((const tr_fail *)msg->data).message;
        snprintf(b->failure, sizeof b->failure, "%.*s", (int)why.size, why.ptr);
        b->open--;
    }
    tr_msg_free(msg);
}

static tr_err submit(tr_engine *engine, const tr_worker_bench *spec, uint32_t round,
                     uint32_t number) {
    tr_jsonw w;
    char *text;
    size_t size;
    char numbered[4096];
    snprintf(numbered, sizeof numbered, "%u.%u: %s", round, number, spec->prompt);
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "messages");
    tr_jsonw_open(&w, '[');
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "role");
    tr_jsonw_text(&w, "user");
    tr_jsonw_name(&w, "content");
    tr_jsonw_text(&w, numbered);
    tr_jsonw_close(&w, '}');
    tr_jsonw_close(&w, ']');
    tr_jsonw_name(&w, "temperature");
    tr_jsonw_int(&w, 0);
    tr_jsonw_name(&w, "max_tokens");
    tr_jsonw_uint(&w, spec->tokens);
    tr_jsonw_close(&w, '}');
    tr_err err = tr_jsonw_take(&w, &text, &size);
    if (err != TR_OK) {
        return err;
    }
    tr_chat *chat = NULL;
    char why[160];
    err = tr_chat_parse(TR_OP_CHAT, text, size, &chat, why, sizeof why);
    free(text);
    if (err == TR_OK) {
        tr_submit head = {
            .op = TR_OP_CHAT, .credit_messages = UINT32_MAX, .credit_bytes = UINT32_MAX};
        tr_engine_add(engine, number, &head, NULL, chat);
    }
    return err;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, uint32_t count) {
    qsort(values, count, sizeof *values, by_value);
    return values[count / 2];
}

typedef struct outcome {
    double per_second, first_ms;
    double
        cpu_ms; /* of the processor, a token of an answer; says more than time on a busy machine */
} outcome;

static tr_err run_round(tr_engine *engine, bench *b, const tr_worker_bench *spec, uint32_t round,
                        outcome *ret) {
    double *firsts = tr_alloc(b->count * sizeof *firsts);
    tr_err err = firsts != NULL ? TR_OK : TR_ERR_NOMEM;
    memset(b->streams, 0, b->count * sizeof *b->streams);
    b->open = b->count;
    b->started_ms = now_ms();
    double cpu_ms = clock_ms(CLOCK_PROCESS_CPUTIME_ID);
    for (uint32_t i = 0; i < b->count && err == TR_OK; i++) {
        err = submit(engine, spec, round, i);
    }
    while (err == TR_OK && b->open > 0 && tr_engine_step(engine)) {
    }
    double spent_ms = now_ms() - b->started_ms;
    cpu_ms = clock_ms(CLOCK_PROCESS_CPUTIME_ID) - cpu_ms;
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < b->count && err == TR_OK; i++) {
        tokens += b->streams[i].usage.out;
        firsts[i] = b->streams[i].first_ms;
    }
    if (err == TR_OK) {
        *ret = (outcome){
            .per_second = (double)tokens * 1000 / spent_ms,
            .first_ms = median(firsts, b->count),
            .cpu_ms = cpu_ms / (double)(tokens > 0 ? tokens : 1),
        };
    }
    tr_free(firsts);
    return err == TR_OK && b->failure[0] != '\0' ? TR_ERR_SERVER : err;
}

static tr_err run_rounds(tr_engine *engine, bench *b, const tr_worker_spec *spec,
                         const tr_worker_bench *how) {
    double *columns[3] = {NULL, NULL, NULL};
    outcome one;
    tr_err err = TR_OK;
    for (int i = 0; i < 3; i++) {
        columns[i] = tr_zalloc(how->rounds * sizeof **columns);
        err = columns[i] != NULL ? err : TR_ERR_NOMEM;
    }
    if (err == TR_OK) {
        err = run_round(engine, b, how, 99, &one); /* warms up */
    }
    for (uint32_t i = 0; i < how->rounds && err == TR_OK; i++) {
        err = run_round(engine, b, how, i, &one);
        columns[0][i] = one.per_second;
        columns[1][i] = one.first_ms;
        columns[2][i] = one.cpu_ms;
    }
    if (err == TR_OK) {
        printf("{\"bench\":\"worker\",\"model\":\"%s\",\"streams\":%u,\"tokens\":%u,"
               "\"prompt_tokens\":%u,\"threads\":%u,\"rounds\":%u,\"per_second\":%.1f,"
               "\"first_token_ms\":%.1f,\"cpu_ms_per_token\":%.2f}\n",
               spec->model_name, how->streams, how->tokens, (unsigned)b->streams[0].usage.in,
               spec->threads, how->rounds, median(columns[0], how->rounds),
               median(columns[1], how->rounds), median(columns[2], how->rounds));
    }
    for (int i = 0; i < 3; i++) {
        tr_free(columns[i]);
    }
    return err;
}

int tr_worker_bench_run(const tr_worker_spec *spec, const tr_worker_bench *how) {
    bench b = {.count = how->streams};
    char why[TR_ENGINE_WHY_size] = "";
    tr_engine *engine = NULL;
    tr_engine_spec engine_spec = {
        .model_file = spec->model_file,
        .model_name = spec->model_name,
        .chat_template = spec->chat_template,
        .sequences = spec->sequences > 0 ? spec->sequences : how->streams,
        .context = spec->context,
        .threads = spec->threads,
        .gpu_layers = spec->gpu_layers,
        .emit = on_emit,
        .arg = &b,
    };
    b.streams = tr_zalloc(how->streams * sizeof *b.streams);
    tr_err err = b.streams != NULL ? tr_engine_new(&engine_spec, &engine, why) : TR_ERR_NOMEM;
    if (err == TR_OK) {
        err = run_rounds(engine, &b, spec, how);
    }
    if (err != TR_OK) {
        fprintf(stderr, "troupe-worker: %s\n",
                why[0] != '\0'         ? why
                : b.failure[0] != '\0' ? b.failure
                                       : tr_err_text(err));
    }
    tr_engine_free(engine);
    tr_free(b.streams);
    return err == TR_OK ? 0 : 1;
}
