/* OpenAI's Responses API and Gemini's through the whole path: client library, daemon, HTTP door,
 * and troupe-mock in the provider's place. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e/upstream.h"

#define KEY "sk-e2e-dialects-123456"

static const char *const providers[] = {"openai-responses", "gemini"};

/* The mock must be there before the daemon, which reads its variables when it starts. It takes one
 * key only: of Gemini's two variables the one that wins. */
static void open_stage(void) {
    char url[64];
    unsigned port = tr_upstream_open(KEY);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v1", port);
    setenv("OPENAI_BASE_URL", url, 1);
    setenv("OPENAI_API_KEY", KEY, 1);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v1beta", port);
    setenv("GEMINI_BASE_URL", url, 1);
    setenv("GEMINI_API_KEY", "sk-e2e-loses-123456", 1);
    setenv("GOOGLE_API_KEY", KEY, 1);
    tr_stage_open(1, NULL);
}

static void close_stage(void) {
    tr_stage_close();
    tr_upstream_close();
}

/* Asks the mock to do as `plan` says; the result is the caller's. */
static tr_result *ask(tr_client *client, const char *provider, const char *plan, bool whole) {
    char model[128];
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result = NULL;
    snprintf(model, sizeof model, "%s/mock:%s", provider, plan);
    options.model = model;
    options.whole = whole;
    options.retries = 0;
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "Hi you", &result), TR_OK);
    return result;
}

static void a_stream_and_a_whole_answer_say_the_same(void) {
    open_stage();
    tr_client *client = tr_stage_client();
    for (int i = 0; i < 4; i++) {
        const char *provider = providers[i / 2];
        tr_result *result = ask(client, provider, "tokens=5,reasoning=2", i % 2 == 1);
        char target[128];
        snprintf(target, sizeof target, "%s/mock:tokens=5,reasoning=2", provider);
        CU_ASSERT_STRING_EQUAL(tr_result_message(result), "");
        CU_ASSERT_STRING_EQUAL(tr_result_text(result), "t0 t1 t2 t3 t4 ");
        CU_ASSERT_STRING_EQUAL(tr_result_reasoning(result), "t0 t1 ");
        CU_ASSERT_STRING_EQUAL(tr_result_finish(result), "stop");
        CU_ASSERT_STRING_EQUAL(tr_result_target(result), target);
        CU_ASSERT_EQUAL(tr_result_usage(result).in, 6);
        CU_ASSERT_EQUAL(tr_result_usage(result).out, 7);
        CU_ASSERT_EQUAL(tr_result_usage(result).reasoning, 2);
        tr_result_free(result);
        result = ask(client, provider, "echo,split=3", i % 2 == 1);
        CU_ASSERT_STRING_EQUAL(tr_result_text(result), "Hi you");
        tr_result_free(result);
    }
    tr_client_close(client);
    close_stage();
}

/* The mock refuses a call that comes back without what led to it, as both vendors do. */
static void thoughts_survive_the_round_trip_of_a_tool(void) {
    open_stage();
    tr_client *client = tr_stage_client();
    for (int i = 0; i < 4; i++) {
        char model[128];
        tr_options options = TR_OPTIONS_INIT;
        snprintf(model, sizeof model, "%s/mock:tools,tokens=3", providers[i / 2]);
        options.model = model;
        options.whole = i % 2 == 1;
        tr_request *request;
        tr_result *first, *second;
        CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &request), TR_OK);
        CU_ASSERT_EQUAL(tr_request_tool(request, "mock", "a tool", NULL), TR_OK);
        CU_ASSERT_EQUAL(tr_request_text(request, "user", "Hi"), TR_OK);
        CU_ASSERT_EQUAL_FATAL(tr_send_request(client, request, &first), TR_OK);
        CU_ASSERT_STRING_EQUAL(tr_result_message(first), "");
        CU_ASSERT_STRING_EQUAL(tr_result_finish(first), "tool_calls");
        CU_ASSERT_EQUAL_FATAL(tr_result_tool_calls(first), 1);
        CU_ASSERT_STRING_EQUAL(tr_result_tool_call(first, 0).name, "mock");
        CU_ASSERT_STRING_EQUAL(tr_result_tool_call(first, 0).arguments_json, "{\"a\":1}");
        CU_ASSERT_EQUAL(tr_request_answer(request, first), TR_OK);
        CU_ASSERT_EQUAL(tr_request_tool_result(request, tr_result_tool_call(first, 0).id, "done"),
                        TR_OK);
        CU_ASSERT_EQUAL_FATAL(tr_send_request(client, request, &second), TR_OK);
        CU_ASSERT_STRING_EQUAL(tr_result_message(second), "");
        CU_ASSERT_STRING_EQUAL(tr_result_text(second), "t0 t1 t2 ");
        tr_result_free(first);
        tr_result_free(second);
        tr_request_free(request);
    }
    tr_client_close(client);
    close_stage();
}

static void every_fault_has_its_end(void) {
    static const struct {
        const char *plan;
        tr_err err;
    } table[] = {
        {"nodone", TR_OK},
        {"nousage", TR_OK},
        {"crlf,split=7", TR_OK},
        {"interval=2ms", TR_OK},
        {"slow_read=20,tokens=1", TR_OK},
        {"nofinish", TR_ERR_TRUNCATED},
        {"cut=0", TR_ERR_TRUNCATED},
        {"cut=300", TR_ERR_TRUNCATED},
        {"cut=300,reset", TR_ERR_TRUNCATED},
        {"error_mid=3", TR_ERR_SERVER},
        {"garbage=1", TR_ERR_PROTOCOL},
        {"html", TR_ERR_NOT_FOUND},
        {"json_error", TR_ERR_SERVER},
        {"status=400", TR_ERR_INVALID},
        {"status=401", TR_ERR_AUTH},
        {"status=402", TR_ERR_QUOTA},
        {"status=404", TR_ERR_NOT_FOUND},
        {"status=429", TR_ERR_RATE_LIMIT},
        {"status=500", TR_ERR_SERVER},
        {"status=503", TR_ERR_OVERLOADED},
        {"what", TR_ERR_INVALID},
    };
    open_stage();
    tr_client *client = tr_stage_client();
    for (size_t p = 0; p < 2; p++) {
        for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
            tr_result *result = ask(client, providers[p], table[i].plan, false);
            if (tr_result_error(result) != table[i].err) {
                printf("\n    %s, %s: %s (%s)\n", providers[p], table[i].plan,
                       tr_err_name(tr_result_error(result)), tr_result_message(result));
            }
            CU_ASSERT_EQUAL(tr_result_error(result), table[i].err);
            tr_result_free(result);
        }
    }
    CU_ASSERT_EQUAL(tr_stage_running(client), 0);
    tr_client_close(client);
    CU_ASSERT_EQUAL(tr_stage_logged("sk-e2e"), 0);
    close_stage();
}

static void geminis_advice_to_wait_arrives(void) {
    open_stage();
    tr_client *client = tr_stage_client();
    tr_result *result = ask(client, "gemini", "status=429", false);
    CU_ASSERT_EQUAL(tr_result_status(result), 429);
    CU_ASSERT_EQUAL(tr_result_retry_after_ms(result), 48000);
    tr_result_free(result);
    tr_client_close(client);
    close_stage();
}

static void embeddings_and_counts_are_the_providers(void) {
    static const char *const texts[] = {"a", "b", "a"};
    open_stage();
    tr_client *client = tr_stage_client();
    for (size_t p = 0; p < 2; p++) {
        char model[128];
        tr_options options = TR_OPTIONS_INIT;
        tr_request *request;
        float *rows = NULL;
        size_t dim = 0;
        uint64_t tokens = 0;
        bool exact = false;
        snprintf(model, sizeof model, "%s/mock:dim=6", providers[p]);
        options.model = model;
        CU_ASSERT_EQUAL_FATAL(tr_embed(client, &options, texts, 3, &rows, &dim), TR_OK);
        CU_ASSERT_EQUAL(dim, 6);
        for (size_t i = 0; i < 6; i++) {
            CU_ASSERT_TRUE(rows[i] == rows[12 + i]);
            CU_ASSERT_TRUE(rows[i] != rows[6 + i]);
        }
        tr_memory_free(rows);
        CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &request), TR_OK);
        CU_ASSERT_EQUAL(tr_request_text(request, "user", "Hi you"), TR_OK);
        CU_ASSERT_EQUAL(tr_count_tokens(client, request, &tokens, &exact), TR_OK);
        CU_ASSERT_EQUAL(tokens, 6);
        CU_ASSERT_TRUE(exact);
        tr_request_free(request);
    }
    tr_client_close(client);
    close_stage();
}

/* Gemini takes 100 texts at once. */
static void embeddings_are_split_to_what_a_provider_takes(void) {
    enum { COUNT = 2500, DIM = 6 };
    static char words[COUNT][16];
    static const char *texts[COUNT];
    open_stage();
    tr_client *client = tr_stage_client();
    for (int i = 0; i < COUNT; i++) {
        snprintf(words[i], sizeof words[i], "text %d", i);
        texts[i] = words[i];
    }
    for (size_t p = 0; p < 2; p++) {
        char model[128];
        tr_options options = TR_OPTIONS_INIT;
        float *rows = NULL, *one = NULL;
        size_t dim = 0;
        snprintf(model, sizeof model, "%s/mock:dim=%d", providers[p], DIM);
        options.model = model;
        CU_ASSERT_EQUAL_FATAL(tr_embed(client, &options, texts, COUNT, &rows, &dim), TR_OK);
        CU_ASSERT_EQUAL(dim, DIM);
        for (int i = 0; i < COUNT; i += 499) {
            CU_ASSERT_EQUAL_FATAL(tr_embed(client, &options, texts + i, 1, &one, &dim), TR_OK);
            CU_ASSERT_EQUAL(memcmp(one, rows + (size_t)i * DIM, DIM * sizeof *one), 0);
            tr_memory_free(one);
        }
        tr_memory_free(rows);
        snprintf(model, sizeof model, "%s/mock:status=401", providers[p]);
        CU_ASSERT_EQUAL(tr_embed(client, &options, texts, COUNT, &rows, &dim), TR_ERR_AUTH);
        CU_ASSERT_PTR_NOT_NULL(
            strstr(tr_client_error(), p == 0 ? "texts 0 to 2047: " : "texts 0 to 63: "));
    }
    tr_client_close(client);
    close_stage();
}

int main(void) {
    CU_TestInfo tests[] = {
        {"a_stream_and_a_whole_answer_say_the_same", a_stream_and_a_whole_answer_say_the_same},
        {"thoughts_survive_the_round_trip_of_a_tool", thoughts_survive_the_round_trip_of_a_tool},
        {"every_fault_has_its_end", every_fault_has_its_end},
        {"geminis_advice_to_wait_arrives", geminis_advice_to_wait_arrives},
        {"embeddings_and_counts_are_the_providers", embeddings_and_counts_are_the_providers},
        {"embeddings_are_split_to_what_a_provider_takes",
         embeddings_are_split_to_what_a_provider_takes},
        CU_TEST_INFO_NULL};
    return tr_stage_main("dialects", tests);
}
