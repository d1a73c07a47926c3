/* Answers of tiny models through the whole path: client library, socket, call, pool, worker. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e/stage.h"

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz";

static void one_answer_is_exact(void) {
    tr_client *client = tr_stage_client();
    tr_options options = TR_OPTIONS_INIT;
    options.model = "chain";
    options.temperature = 0;
    tr_result *result;
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "say it", &result), TR_OK);
    CU_ASSERT_EQUAL(tr_result_error(result), TR_OK);
    CU_ASSERT_STRING_EQUAL(tr_result_text(result), alphabet);
    CU_ASSERT_STRING_EQUAL(tr_result_finish(result), "stop");
    CU_ASSERT_STRING_EQUAL(tr_result_target(result), "local/chain");
    CU_ASSERT_TRUE(tr_result_usage(result).in > 0);
    CU_ASSERT_TRUE(tr_result_usage(result).out >= 26);
    CU_ASSERT_TRUE(tr_result_usage(result).first_token_ms > 0);
    tr_result_free(result);
    tr_client_close(client);
}

static void a_stream_comes_in_pieces(void) {
    tr_client *client = tr_stage_client();
    tr_options options = TR_OPTIONS_INIT;
    options.model = "local/chain";
    options.temperature = 0;
    options.max_tokens = 10;
    tr_request *request;
    tr_stream *stream;
    CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &request), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_request_text(request, "user", "x"), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_stream_open(client, request, &stream), TR_OK);
    char text[64] = "";
    int pieces = 0;
    tr_chunk chunk;
    tr_err err;
    while ((err = tr_stream_next(stream, 20000, &chunk)) == TR_OK) {
        strncat(text, chunk.text, chunk.size);
        pieces++;
    }
    CU_ASSERT_EQUAL(err, TR_DONE);
    CU_ASSERT_STRING_EQUAL(text, "abcdefghij");
    CU_ASSERT_TRUE(pieces > 1);
    CU_ASSERT_STRING_EQUAL(tr_result_finish(tr_stream_result(stream)), "length");
    tr_stream_close(stream);
    tr_request_free(request);
    tr_client_close(client);
}

static void many_at_once_do_not_mix(void) {
    enum { N = 40 };
    tr_client *client = tr_stage_client();
    tr_request *requests[N];
    tr_result *results[N];
    for (int i = 0; i < N; i++) {
        tr_options options = TR_OPTIONS_INIT;
        options.model = i % 8 == 7 ? "no-such-model" : "chain";
        options.temperature = 0;
        options.max_tokens = (uint32_t)(1 + i % 26);
        CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &requests[i]), TR_OK);
        CU_ASSERT_EQUAL_FATAL(tr_request_text(requests[i], "user", "go"), TR_OK);
    }
    CU_ASSERT_EQUAL_FATAL(
        tr_gather(client, (const tr_request *const *)requests, N, 0, results, NULL, NULL), TR_OK);
    for (int i = 0; i < N; i++) {
        if (i % 8 == 7) {
            CU_ASSERT_EQUAL(tr_result_error(results[i]), TR_ERR_NOT_FOUND);
        } else {
            CU_ASSERT_EQUAL(tr_result_error(results[i]), TR_OK);
            CU_ASSERT_EQUAL(strlen(tr_result_text(results[i])), (size_t)(1 + i % 26));
            CU_ASSERT_EQUAL(strncmp(tr_result_text(results[i]), alphabet, (size_t)(1 + i % 26)), 0);
        }
        tr_result_free(results[i]);
        tr_request_free(requests[i]);
    }
    tr_client_close(client);
}

/* The sentence of a request that must fail. */
static void fails(tr_client *client, const tr_options *options, const char *prompt, tr_err err,
                  const char *sentence) {
    tr_result *result;
    tr_err sent = tr_ask(client, options, prompt, &result);
    if (sent != TR_OK) {
        CU_ASSERT_EQUAL(sent, err);
        CU_ASSERT_PTR_NOT_NULL(strstr(tr_client_error(), sentence));
        return;
    }
    if (tr_result_error(result) != err || strstr(tr_result_message(result), sentence) == NULL) {
        printf("\n    %s: \"%s\", not \"%s\"\n", tr_err_name(tr_result_error(result)),
               tr_result_message(result), sentence);
        CU_FAIL("another failure");
    }
    tr_result_free(result);
}

static void bad_requests_get_sentences(void) {
    tr_client *client = tr_stage_client();
    tr_options options = TR_OPTIONS_INIT;
    options.model = "chian";
    fails(client, &options, "x", TR_ERR_NOT_FOUND, "did you mean chain");
    options.model = "chain";
    fails(client, &options, "", TR_ERR_INVALID, "empty");
    options.grammar = "root ::= (";
    fails(client, &options, "x", TR_ERR_INVALID, "grammar");
    options.grammar = NULL;
    char *longer = malloc(20001);
    memset(longer, 'a', 20000);
    longer[20000] = '\0';
    fails(client, &options, longer, TR_ERR_CONTEXT_LENGTH, "1024");
    free(longer);
    options.model = "missing";
    fails(client, &options, "x", TR_ERR_NOT_FOUND, "/nonexistent/m.gguf");
    options.model = "corrupt";
    fails(client, &options, "x", TR_ERR_INVALID, "corrupt.bin");
    options.model = "chain"; /* and the others were not disturbed */
    options.temperature = 0;
    options.max_tokens = 3;
    tr_result *result;
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "x", &result), TR_OK);
    CU_ASSERT_STRING_EQUAL(tr_result_text(result), "abc");
    tr_result_free(result);
    tr_client_close(client);
}

static void embeddings_and_counts_come(void) {
    tr_client *client = tr_stage_client();
    tr_options options = TR_OPTIONS_INIT;
    options.model = "chain";
    const char *texts[] = {"one", "two", "one"};
    float *rows;
    size_t dim;
    CU_ASSERT_EQUAL_FATAL(tr_embed(client, &options, texts, 3, &rows, &dim), TR_OK);
    CU_ASSERT_TRUE(dim > 8);
    CU_ASSERT_EQUAL(memcmp(rows, rows + 2 * dim, dim * sizeof *rows), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(rows, rows + dim, dim * sizeof *rows), 0);
    tr_memory_free(rows);
    tr_request *request;
    uint64_t count;
    bool exact;
    CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &request), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_request_text(request, "user", "hello"), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_count_tokens(client, request, &count, &exact), TR_OK);
    CU_ASSERT_TRUE(exact && count > 5);
    tr_request_free(request);
    tr_client_close(client);
}

static void models_load_and_unload(void) {
    tr_client *client = tr_stage_client();
    CU_ASSERT_EQUAL(tr_load(client, "random"), TR_OK);
    CU_ASSERT_NOT_EQUAL(tr_stage_worker(client, "random", 0), 0);
    CU_ASSERT_EQUAL(tr_unload(client, "random"), TR_OK);
    CU_ASSERT_EQUAL(tr_stage_worker(client, "random", 0), 0);
    CU_ASSERT_EQUAL(tr_unload(client, "random"), TR_OK); /* idempotent */
    CU_ASSERT_EQUAL(tr_load(client, "missing"), TR_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(tr_client_error(), "/nonexistent/m.gguf"));
    tr_client_close(client);
}

static void the_command_line_prints_the_answer_alone(void) {
    char out[32768];
    const char *ask[] = {"troupe", "ask", "-m", "chain", "--temperature", "0", "hi", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(ask, out, sizeof out), 0);
    CU_ASSERT_STRING_EQUAL(out, "abcdefghijklmnopqrstuvwxyz\n");
    const char *json[] = {"troupe", "ask",    "-m", "chain", "--temperature",
                          "0",      "--json", "hi", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(json, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"text\":\"abcdefghijklmnopqrstuvwxyz\""));
    const char *wrong[] = {"troupe", "ask", "-m", "nope", "hi", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(wrong, out, sizeof out), 2);
    CU_ASSERT_STRING_EQUAL(out, "");
    const char *usage[] = {"troupe", "ask", "--no-such-option", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(usage, out, sizeof out), 2);
    const char *late[] = {"troupe", "ask", "-m", "random", "--timeout", "300ms", "-q", "hi", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(late, out, sizeof out), 6);
    const char *tree[] = {"troupe", "tree", "--once", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(tree, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "pool:chain"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "worker"));
    const char *mailbox = getenv("TROUPE_E2E_MAILBOX");
    if (mailbox != NULL && strcmp(mailbox, "inproc") == 0) {
        CU_ASSERT_PTR_NOT_NULL(strstr(out, "messages through NNG"));
    }
    const char *status[] = {"troupe", "status", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(status, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "OPENAI_API_KEY"));
}

static void open_stage(void) {
    tr_stage_open(
        1, "  missing: {file: /nonexistent/m.gguf}\n  corrupt: {file: tests/e2e/corrupt.bin}\n");
}

int main(void) {
    CU_TestInfo tests[] = {
        {"(the daemon starts)", open_stage},
        {"one_answer_is_exact", one_answer_is_exact},
        {"a_stream_comes_in_pieces", a_stream_comes_in_pieces},
        {"many_at_once_do_not_mix", many_at_once_do_not_mix},
        {"bad_requests_get_sentences", bad_requests_get_sentences},
        {"embeddings_and_counts_come", embeddings_and_counts_come},
        {"models_load_and_unload", models_load_and_unload},
        {"the_command_line_prints_the_answer_alone", the_command_line_prints_the_answer_alone},
        {"(the daemon stops)", tr_stage_close},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("answers", tests);
}
