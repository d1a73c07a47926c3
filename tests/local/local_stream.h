/* What the tests with real workers share: one daemon, its streams, and a way to kill their workers.
 */
#ifndef TR_TESTS_LOCAL_LOCAL_STREAM_H
#define TR_TESTS_LOCAL_LOCAL_STREAM_H

#include "tests/local/local_daemon.h"

#define TOKENS 200
#define PATIENCE_MS 30000

static local_daemon the;

static inline void set_up(tr_tiny_kind kind, uint32_t workers) {
    local_prepare(&the, kind);
    tr_pool_spec pool = local_pool(&the, "tiny", workers);
    local_start(&the, &pool, 1);
}

static inline tr_request *request_for(const char *prompt, double temperature, uint32_t window) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = "tiny";
    options.temperature = temperature;
    options.seed = 11;
    options.max_tokens = TOKENS;
    options.window_messages = window;
    tr_request *request = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &request), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_request_text(request, "user", prompt), TR_OK);
    return request;
}

typedef struct reading {
    tr_stream *stream;
    char text[16384];
    size_t size;
    size_t chunks;
    tr_err end; /* TR_OK while it runs */
} reading;

static inline void open_stream(reading *r, const tr_request *request) {
    *r = (reading){.stream = NULL};
    CU_ASSERT_EQUAL_FATAL(tr_stream_open(the.client, request, &r->stream), TR_OK);
}

/* Up to `chunks` chunks more. */
static inline void read_chunks(reading *r, size_t chunks) {
    for (size_t until = r->chunks + chunks; r->end == TR_OK && r->chunks < until;) {
        tr_chunk chunk;
        tr_err err = tr_stream_next(r->stream, PATIENCE_MS, &chunk);
        if (err != TR_OK) {
            r->end = err;
            if (err != TR_DONE) {
                fprintf(stderr, "stream: %s\n", tr_client_error());
            }
            return;
        }
        CU_ASSERT_FATAL(r->size + chunk.size < sizeof r->text);
        memcpy(r->text + r->size, chunk.text, chunk.size);
        r->size += chunk.size;
        r->chunks++;
    }
}

/* Of a stream that its small window holds back after what was read. */
static inline void kill_its_worker(void) {
    pid_t pid = local_worker(&the, true);
    CU_ASSERT_FATAL(pid > 0);
    CU_ASSERT_EQUAL(kill(pid, SIGKILL), 0);
}

static inline void read_undisturbed(reading *r, const tr_request *request) {
    open_stream(r, request);
    read_chunks(r, SIZE_MAX / 2);
    CU_ASSERT_EQUAL(r->end, TR_DONE);
    CU_ASSERT(r->size >= TOKENS / 2);
    tr_stream_close(r->stream);
}

static inline void check_same(const reading *a, const reading *b) {
    CU_ASSERT_EQUAL(a->end, TR_DONE);
    CU_ASSERT_EQUAL(a->size, b->size);
    CU_ASSERT_EQUAL(memcmp(a->text, b->text, b->size), 0);
}

#endif
