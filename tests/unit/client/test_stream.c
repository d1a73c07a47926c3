/* Answers of one connection: asked, pulled, cancelled, limited, broken off. The fake daemon counts
 * what it got, so that credit and cancellation are judged from the other end. */
#include "tests/unit/client/client_test.h"

#include <math.h>
#include <time.h>

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static tr_stream *open_stream(const char *target) {
    tr_request *request = request_for(target);
    tr_stream *stream = NULL;
    MUST(tr_stream_open(client, request, &stream));
    tr_request_free(request);
    return stream;
}

/* Reads to the end; counts bytes and chunks. */
static tr_err read_all(tr_stream *stream, size_t *ret_bytes, size_t *ret_chunks) {
    tr_chunk chunk;
    tr_err err;
    *ret_bytes = *ret_chunks = 0;
    while ((err = tr_stream_next(stream, 5000, &chunk)) == TR_OK) {
        *ret_bytes += chunk.size;
        (*ret_chunks)++;
    }
    return err;
}

static void an_answer_has_text_usage_and_target(void) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = "count:10:3";
    tr_result *result = NULL;
    MUST(tr_ask(client, &options, "hi", &result));
    CU_ASSERT_EQUAL(tr_result_error(result), TR_OK);
    CU_ASSERT_EQUAL(strlen(tr_result_text(result)), 30);
    CU_ASSERT_STRING_EQUAL(tr_result_finish(result), "stop");
    CU_ASSERT_STRING_EQUAL(tr_result_target(result), "fake/model");
    CU_ASSERT_STRING_EQUAL(tr_result_request_id(result), "req-1");
    CU_ASSERT_STRING_EQUAL(tr_result_message(result), "");
    CU_ASSERT_EQUAL(tr_result_attempts(result), 1);
    CU_ASSERT_EQUAL(tr_result_usage(result).in, 3);
    CU_ASSERT_EQUAL(tr_result_usage(result).out, 10);
    CU_ASSERT_DOUBLE_EQUAL(tr_result_usage(result).cost, 0.25, 0);
    tr_result_free(result);
}

static void a_failure_is_in_the_result(void) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = "fail:10:1500"; /* TR_ERR_RATE_LIMIT */
    tr_result *result = NULL;
    MUST(tr_ask(client, &options, "hi", &result));
    CU_ASSERT_EQUAL(tr_result_error(result), TR_ERR_RATE_LIMIT);
    CU_ASSERT_STRING_EQUAL(tr_result_message(result), "the fake said no");
    CU_ASSERT_EQUAL(tr_result_retry_after_ms(result), 1500);
    CU_ASSERT_EQUAL(tr_result_status(result), 429);
    CU_ASSERT_EQUAL(tr_result_attempts(result), 2);
    CU_ASSERT_DOUBLE_EQUAL(tr_result_usage(result).cost, 0.5, 0);
    tr_result_free(result);
    options.model = "fail:999:0";
    MUST(tr_ask(client, &options, "hi", &result));
    CU_ASSERT_EQUAL(tr_result_error(result), TR_ERR_BUG);
    tr_result_free(result);
}

static void a_stream_is_pulled_to_its_end(void) {
    tr_stream *stream = open_stream("count:1000:64");
    CU_ASSERT_PTR_NULL(tr_stream_result(stream));
    size_t bytes, chunks;
    CU_ASSERT_EQUAL(read_all(stream, &bytes, &chunks), TR_DONE);
    CU_ASSERT_EQUAL(bytes, 64000);
    CU_ASSERT_EQUAL(chunks, 1000);
    tr_chunk chunk;
    CU_ASSERT_EQUAL(tr_stream_next(stream, 0, &chunk), TR_DONE);
    CU_ASSERT_EQUAL(strlen(tr_result_text(tr_stream_result(stream))), 64000);
    tr_stream_close(stream);
}

static void forgotten_text_is_not_kept(void) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = "count:100:64";
    options.forget = true;
    tr_request *request = NULL;
    MUST(tr_request_new(&options, &request));
    MUST(tr_request_text(request, "user", "hi"));
    tr_stream *stream = NULL;
    MUST(tr_stream_open(client, request, &stream));
    size_t bytes, chunks;
    CU_ASSERT_EQUAL(read_all(stream, &bytes, &chunks), TR_DONE);
    CU_ASSERT_EQUAL(bytes, 6400);
    CU_ASSERT_STRING_EQUAL(tr_result_text(tr_stream_result(stream)), "");
    CU_ASSERT_EQUAL(tr_result_usage(tr_stream_result(stream)).out, 100);
    tr_stream_close(stream);
    tr_request_free(request);
}

/* 5000 chunks of 20000 bytes cannot fit the window: the fake holds the rest back. */
static void an_unread_stream_stops_at_its_window(void) {
    tr_stream *unread = open_stream("count:5000:20000");
    tr_chunk chunk;
    MUST(tr_stream_next(unread, 5000, &chunk));
    unsigned credits = fake_server_counts(fake).credits;
    for (int i = 0; i < 20; i++) { /* others are not slowed */
        tr_stream *other = open_stream("count:100:64");
        size_t bytes, chunks;
        CU_ASSERT_EQUAL(read_all(other, &bytes, &chunks), TR_DONE);
        tr_stream_close(other);
    }
    fake_counts counts = fake_server_counts(fake);
    CU_ASSERT_EQUAL(counts.open, 1);
    CU_ASSERT_EQUAL(counts.credits, credits); /* none of them needed one, the unread got none */
    tr_stream_close(unread);
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, 0));
}

static void the_smallest_window_carries_the_largest_chunks(void) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = "count:50:32000";
    options.window_messages = 1;
    options.window_bytes = 40 * 1024;
    tr_result *result = NULL;
    MUST(tr_ask(client, &options, "hi", &result));
    CU_ASSERT_EQUAL(tr_result_error(result), TR_OK);
    CU_ASSERT_EQUAL(strlen(tr_result_text(result)), 50 * 32000);
    CU_ASSERT_EQUAL(fake_server_counts(fake).credit_messages, 1);
    tr_result_free(result);
    tr_request *request = NULL;
    MUST(tr_request_new(&options, &request));
    MUST(tr_request_text(request, "user", "hi"));
    tr_stream *stream = NULL;
    MUST(tr_stream_open(client, request, &stream));
    size_t bytes, chunks;
    CU_ASSERT_EQUAL(read_all(stream, &bytes, &chunks), TR_DONE);
    CU_ASSERT_EQUAL(chunks, 50);
    tr_stream_close(stream);
    tr_request_free(request);
}

static void frames_in_pieces_are_put_together(void) {
    fake_server_dribble(fake, 7);
    tr_stream *stream = open_stream("count:40:100");
    size_t bytes, chunks;
    CU_ASSERT_EQUAL(read_all(stream, &bytes, &chunks), TR_DONE);
    CU_ASSERT_EQUAL(bytes, 4000);
    tr_stream_close(stream);
    fake_server_dribble(fake, 0);
}

static void tool_calls_arrive_whole(void) {
    tr_stream *stream = open_stream("tools");
    tr_chunk chunk;
    MUST(tr_stream_next(stream, 5000, &chunk));
    CU_ASSERT_EQUAL(chunk.kind, TR_CHUNK_REASONING);
    MUST(tr_stream_next(stream, 5000, &chunk));
    CU_ASSERT_EQUAL(chunk.kind, TR_CHUNK_TOOL_START);
    CU_ASSERT_STRING_EQUAL(chunk.id, "id-0");
    CU_ASSERT_STRING_EQUAL(chunk.name, "look_up");
    CU_ASSERT_EQUAL(chunk.size, 0);
    size_t bytes, chunks;
    CU_ASSERT_EQUAL(read_all(stream, &bytes, &chunks), TR_DONE);
    const tr_result *result = tr_stream_result(stream);
    CU_ASSERT_EQUAL(tr_result_tool_calls(result), 2);
    tr_tool_call call = tr_result_tool_call(result, 1);
    CU_ASSERT_STRING_EQUAL(call.id, "id-1");
    CU_ASSERT_STRING_EQUAL(call.name, "look_up");
    CU_ASSERT_STRING_EQUAL(call.arguments_json, "{\"q\":1}");
    CU_ASSERT_PTR_NULL(tr_result_tool_call(result, 2).id);
    CU_ASSERT_STRING_EQUAL(tr_result_text(result), "text");
    CU_ASSERT_STRING_EQUAL(tr_result_reasoning(result), "hmm");
    CU_ASSERT_STRING_EQUAL(tr_result_finish(result), "tool_calls");
    CU_ASSERT_STRING_EQUAL(tr_result_opaque(result, "signature"), "\"s1g\"");
    CU_ASSERT_PTR_NULL(tr_result_opaque(result, "other"));
    tr_request *request = request_for("echo");
    MUST(tr_request_answer(request, result));
    char *json = NULL;
    MUST(tr_request_json(request, &json));
    CU_ASSERT_STRING_EQUAL(
        json, "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"},{\"role\":\"assistant\","
              "\"content\":\"text\",\"tool_calls\":[{\"id\":\"id-0\",\"type\":\"function\","
              "\"function\":{\"name\":\"look_up\",\"arguments\":\"{\\\"q\\\":0}\"}},{\"id\":"
              "\"id-1\",\"type\":\"function\",\"function\":{\"name\":\"look_up\",\"arguments\":"
              "\"{\\\"q\\\":1}\"}}],\"signature\":\"s1g\"}]}");
    tr_memory_free(json);
    tr_request_free(request);
    tr_stream_close(stream);
}

static void nothing_in_time_leaves_the_stream_open(void) {
    tr_stream *stream = open_stream("never");
    tr_chunk chunk;
    double before = seconds();
    CU_ASSERT_EQUAL(tr_stream_next(stream, 0, &chunk), TR_ERR_TIMEOUT);
    CU_ASSERT_EQUAL(tr_stream_next(stream, 30, &chunk), TR_ERR_TIMEOUT);
    CU_ASSERT_TRUE(seconds() - before >= 0.03);
    CU_ASSERT_PTR_NULL(tr_stream_result(stream));
    tr_stream_cancel(stream);
    CU_ASSERT_EQUAL(tr_stream_next(stream, 5000, &chunk), TR_ERR_CANCELLED);
    CU_ASSERT_EQUAL(tr_result_usage(tr_stream_result(stream)).in, 3); /* the daemon's own end */
    tr_stream_close(stream);
}

static void cancel_reaches_the_daemon_and_drops_the_rest(void) {
    unsigned cancels = fake_server_counts(fake).cancels;
    tr_stream *stream = open_stream("count:100000:64");
    tr_chunk chunk;
    MUST(tr_stream_next(stream, 5000, &chunk));
    tr_stream_cancel(stream);
    tr_stream_cancel(stream);
    CU_ASSERT_EQUAL(tr_stream_next(stream, 5000, &chunk), TR_ERR_CANCELLED);
    CU_ASSERT_EQUAL(tr_stream_next(stream, 5000, &chunk), TR_ERR_CANCELLED);
    CU_ASSERT_EQUAL(strlen(tr_result_text(tr_stream_result(stream))), 64);
    tr_stream_close(stream);
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, 0));
    CU_ASSERT_EQUAL(fake_server_counts(fake).cancels, cancels + 1);
}

static void closing_an_open_stream_cancels_it(void) {
    unsigned cancels = fake_server_counts(fake).cancels;
    tr_stream_close(open_stream("never"));
    CU_ASSERT_TRUE(fake_server_until(fake, cancels_are, cancels + 1));
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, 0));
}

static void a_daemon_that_ignores_cancel_is_not_waited_for(void) {
    tr_stream *stream = open_stream("deaf");
    tr_stream_cancel(stream);
    tr_chunk chunk;
    double before = seconds();
    CU_ASSERT_EQUAL(tr_stream_next(stream, -1, &chunk), TR_ERR_CANCELLED);
    CU_ASSERT_TRUE(seconds() - before < 4);
    tr_stream_close(stream);
}

static void total_ms_holds_when_the_daemon_forgets_it(void) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = "deaf";
    options.total_ms = 20;
    tr_result *result = NULL;
    double before = seconds();
    MUST(tr_ask(client, &options, "hi", &result));
    CU_ASSERT_TRUE(seconds() - before < 4);
    CU_ASSERT_EQUAL(tr_result_error(result), TR_ERR_TIMEOUT);
    SAYS(tr_result_message(result), "total_ms");
    CU_ASSERT_EQUAL(fake_server_counts(fake).total_ms, 20);
    tr_result_free(result);
}

static void nothing_follows_the_end(void) {
    for (int i = 0; i < 3; i++) {
        tr_options options = TR_OPTIONS_INIT;
        options.model = "late";
        tr_result *result = NULL;
        MUST(tr_ask(client, &options, "hi", &result));
        CU_ASSERT_EQUAL(tr_result_error(result), TR_OK);
        CU_ASSERT_STRING_EQUAL(tr_result_text(result), "on time");
        tr_result_free(result);
    }
}

static void an_answer_beyond_its_limit_fails(void) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = "count:2100:32000"; /* 67 MB */
    options.window_bytes = 16 * 1024 * 1024;
    tr_result *result = NULL;
    MUST(tr_ask(client, &options, "hi", &result));
    CU_ASSERT_EQUAL(tr_result_error(result), TR_ERR_TOO_LARGE);
    tr_result_free(result);
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, 0));
}

static void embeddings_counts_and_control_have_their_own_answers(void) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = "embed:3:8";
    const char *texts[] = {"a", "b", "\"c\""};
    float *vectors = NULL;
    size_t dimension = 0;
    MUST(tr_embed(client, &options, texts, 3, &vectors, &dimension));
    CU_ASSERT_EQUAL(dimension, 8);
    CU_ASSERT_DOUBLE_EQUAL(vectors[0], 0, 0);
    CU_ASSERT_DOUBLE_EQUAL(vectors[2 * 8 + 7], 2 + 7 / 16.0, 1e-6);
    CU_ASSERT_STRING_EQUAL(fake_server_counts(fake).body,
                           "{\"input\":[\"a\",\"b\",\"\\\"c\\\"\"]}");
    tr_memory_free(vectors);
    options.model = "embed:2:8"; /* a vector is missing */
    CU_ASSERT_EQUAL(tr_embed(client, &options, texts, 3, &vectors, &dimension), TR_ERR_PROTOCOL);
    CU_ASSERT_EQUAL(tr_embed(client, &options, texts, 0, &vectors, &dimension), TR_ERR_INVALID);
    options.model = "fail:7:0";
    CU_ASSERT_EQUAL(tr_embed(client, &options, texts, 3, &vectors, &dimension), TR_ERR_NOT_FOUND);
    CU_ASSERT_STRING_EQUAL(tr_client_error(), "the fake said no");

    tr_request *request = request_for("x");
    uint64_t tokens = 0;
    bool exact = false;
    MUST(tr_count_tokens(client, request, &tokens, &exact));
    CU_ASSERT_EQUAL(tokens, 7);
    CU_ASSERT_TRUE(exact);
    tr_request_free(request);

    char *json = NULL;
    MUST(tr_control_json(client, "{\"do\":\"tree\"}", &json));
    CU_ASSERT_STRING_EQUAL(json, "{\"do\":\"tree\"}");
    tr_memory_free(json);
    MUST(tr_models_json(client, &json));
    CU_ASSERT_STRING_EQUAL(json, "{\"do\":\"models\"}");
    tr_memory_free(json);
    MUST(tr_load(client, "a\"b"));
    CU_ASSERT_STRING_EQUAL(fake_server_counts(fake).body, "{\"do\":\"load\",\"model\":\"a\\\"b\"}");
    MUST(tr_unload(client, "m"));
    CU_ASSERT_STRING_EQUAL(fake_server_counts(fake).body, "{\"do\":\"unload\",\"model\":\"m\"}");
    CU_ASSERT_EQUAL(tr_unload(client, ""), TR_ERR_INVALID);
}

static void a_large_body_goes_through(void) {
    size_t size = 3 * 1024 * 1024;
    char *text = malloc(size + 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    memset(text, 'x', size);
    text[size] = '\0';
    tr_options options = TR_OPTIONS_INIT;
    options.model = "count:1:5";
    tr_result *result = NULL;
    MUST(tr_ask(client, &options, text, &result));
    CU_ASSERT_EQUAL(tr_result_error(result), TR_OK);
    tr_result_free(result);
    free(text);
}

static void too_large_a_body_is_refused_here(void) {
    size_t size = 33 * 1024 * 1024;
    char *text = malloc(size + 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    memset(text, 'x', size);
    text[size] = '\0';
    tr_result *result = NULL;
    CU_ASSERT_EQUAL(tr_ask(client, NULL, text, &result), TR_ERR_TOO_LARGE);
    SAYS(tr_client_error(), "33554432");
    CU_ASSERT_PTR_NULL(result);
    free(text);
}

int main(void) {
    CU_initialize_registry();
    CU_pSuite suite = CU_add_suite("stream", pair_open, pair_close);
    CU_ADD_TEST(suite, an_answer_has_text_usage_and_target);
    CU_ADD_TEST(suite, a_failure_is_in_the_result);
    CU_ADD_TEST(suite, a_stream_is_pulled_to_its_end);
    CU_ADD_TEST(suite, forgotten_text_is_not_kept);
    CU_ADD_TEST(suite, an_unread_stream_stops_at_its_window);
    CU_ADD_TEST(suite, the_smallest_window_carries_the_largest_chunks);
    CU_ADD_TEST(suite, frames_in_pieces_are_put_together);
    CU_ADD_TEST(suite, tool_calls_arrive_whole);
    CU_ADD_TEST(suite, nothing_in_time_leaves_the_stream_open);
    CU_ADD_TEST(suite, cancel_reaches_the_daemon_and_drops_the_rest);
    CU_ADD_TEST(suite, closing_an_open_stream_cancels_it);
    CU_ADD_TEST(suite, a_daemon_that_ignores_cancel_is_not_waited_for);
    CU_ADD_TEST(suite, total_ms_holds_when_the_daemon_forgets_it);
    CU_ADD_TEST(suite, nothing_follows_the_end);
    CU_ADD_TEST(suite, an_answer_beyond_its_limit_fails);
    CU_ADD_TEST(suite, embeddings_counts_and_control_have_their_own_answers);
    CU_ADD_TEST(suite, a_large_body_goes_through);
    CU_ADD_TEST(suite, too_large_a_body_is_refused_here);
    return finish_tests();
}
