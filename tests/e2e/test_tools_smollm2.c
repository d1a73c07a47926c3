/*
 * A conversation with tools and the default model, SmolLM2-135M-Instruct: it is made to call for
 * two cities, gets the results and answers. Which words it takes is the model's business; that the
 * calls are whole and several, and that an answer ends the conversation, is ours. Without the model
 * the test says that it was not run (CTest shows it as skipped).
 */
#include <stdio.h>
#include <string.h>

#include "protocol/json.h"
#include "tests/e2e/stage.h"
#include "tests/lib/default_model.h"

enum { seeds_max = 5 };

static char model_file[512];

static void open_stage(void) {
    char more[1024]; /* one more entry of the configuration's `local` */
    snprintf(more, sizeof more, "  smol: {file: \"%s\", context: 2048, sequences: 2, threads: 2}\n",
             model_file);
    tr_stage_open(1, more);
}

static tr_request *question(int64_t seed) {
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\",\"maxLength\":40}},"
        "\"required\":[\"city\"],\"additionalProperties\":false}";
    tr_options options = TR_OPTIONS_INIT;
    tr_request *request = NULL;
    options.model = "smol";
    options.system = "Answer in one short sentence, with what the tools say.";
    options.tool_choice = "required";
    options.temperature = seed == 0 ? 0 : 0.5;
    options.seed = seed;
    options.max_tokens = 100;
    CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &request), TR_OK);
    CU_ASSERT_EQUAL(tr_request_text(request, "user", "How is the weather in Oslo and in Rome?"),
                    TR_OK);
    CU_ASSERT_EQUAL(tr_request_tool(request, "get_weather", "The weather in a city now", schema),
                    TR_OK);
    return request;
}

/* Reads to the end: how many bytes of text and how many calls came as chunks. */
static void read_stream(tr_stream *stream, size_t *ret_text, size_t *ret_calls) {
    tr_chunk chunk;
    tr_err err;
    *ret_text = *ret_calls = 0;
    while ((err = tr_stream_next(stream, 60000, &chunk)) == TR_OK) {
        *ret_text += chunk.kind == TR_CHUNK_TEXT ? chunk.size : 0;
        *ret_calls += chunk.kind == TR_CHUNK_TOOL_START;
    }
    CU_ASSERT_EQUAL(err, TR_DONE);
}

/* The grammar's promise: a call's arguments follow the schema. */
static void check_call(tr_tool_call call) {
    tr_json *json = NULL;
    CU_ASSERT_STRING_EQUAL(call.name, "get_weather");
    CU_ASSERT_EQUAL_FATAL(
        tr_json_parse(call.arguments_json, strlen(call.arguments_json), &json, NULL), TR_OK);
    const tr_json_value *root = tr_json_root(json);
    CU_ASSERT_EQUAL(tr_json_count(root), 1);
    CU_ASSERT_EQUAL(tr_json_type_of(tr_json_get(root, "city")), TR_JSON_STRING);
    tr_json_free(json);
}

static void give_results(tr_request *request, const tr_result *answer) {
    CU_ASSERT_EQUAL(tr_request_answer(request, answer), TR_OK);
    for (size_t i = 0; i < tr_result_tool_calls(answer); i++) {
        tr_tool_call call = tr_result_tool_call(answer, i);
        bool oslo = strstr(call.arguments_json, "Oslo") != NULL;
        check_call(call);
        CU_ASSERT_TRUE(i == 0 || strcmp(call.id, tr_result_tool_call(answer, i - 1).id) != 0);
        CU_ASSERT_EQUAL(tr_request_tool_result(request, call.id,
                                               oslo ? "Oslo: 4 degrees, snow" : "21 degrees, sun"),
                        TR_OK);
    }
}

/* The first turn with two calls or more of a few seeds; their results are in *ret_request. */
static size_t call_in_parallel(tr_client *client, tr_request **ret_request) {
    size_t text, calls = 0;
    for (int64_t seed = 0; seed < seeds_max && calls < 2; seed++) {
        tr_request *request = question(seed);
        tr_stream *stream = NULL;
        CU_ASSERT_EQUAL_FATAL(tr_stream_open(client, request, &stream), TR_OK);
        read_stream(stream, &text, &calls);
        CU_ASSERT_TRUE(calls > 0);
        CU_ASSERT_EQUAL(text, 0); /* not a word outside the calls */
        const tr_result *result = tr_stream_result(stream);
        CU_ASSERT_EQUAL(tr_result_tool_calls(result), calls);
        if (strcmp(tr_result_finish(result), "tool_calls") != 0) {
            calls = 0; /* cut off by its length */
        } else if (calls >= 2) {
            give_results(request, result);
            *ret_request = request;
        }
        tr_stream_close(stream);
        if (calls < 2) {
            tr_request_free(request);
        }
    }
    return calls;
}

/* A small model would rather repeat what it has seen, which was calls and results. */
static void default_model_calls_in_parallel_and_answers(void) {
    tr_client *client = tr_stage_client();
    tr_request *request = NULL;
    tr_stream *stream = NULL;
    size_t text = 0, calls = call_in_parallel(client, &request);
    CU_ASSERT_TRUE_FATAL(calls >= 2 && request != NULL);
    CU_ASSERT_EQUAL(tr_request_tool_choice(request, "none"), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_stream_open(client, request, &stream), TR_OK);
    read_stream(stream, &text, &calls);
    const char *answer = tr_result_text(tr_stream_result(stream));
    printf("\n    %s", answer);
    CU_ASSERT_EQUAL(calls, 0);
    CU_ASSERT_TRUE(text > 0);
    CU_ASSERT_PTR_NULL(strstr(answer, "<tool_call"));
    CU_ASSERT_PTR_NULL(strstr(answer, "<tool_response"));
    tr_stream_close(stream);
    tr_request_free(request);
    tr_client_close(client);
}

/* The model has the choice behind the first turn, and may go on calling, which takes its time: once
 * is enough, whatever carries the messages between actors. */
static void example_talks_to_the_default_model(void) {
    char out[8192];
    const char *mailbox = getenv("TROUPE_E2E_MAILBOX");
    if (mailbox != NULL && strcmp(mailbox, "inproc") == 0) {
        return;
    }
    const char *argv[] = {"../examples/example_weather", "smol", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(argv, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "[get_weather] {"));
}

int main(void) {
    enum { skipped = 77 };
    if (!tr_default_model(model_file, sizeof model_file)) {
        printf("not run: there is no %s (tools/setup puts it there)\n", model_file);
        return skipped;
    }
    CU_TestInfo tests[] = {
        {"(the daemon starts)", open_stage},
        {"default_model_calls_in_parallel_and_answers",
         default_model_calls_in_parallel_and_answers},
        {"example_talks_to_the_default_model", example_talks_to_the_default_model},
        {"(the daemon stops)", tr_stage_close},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("tools, default model", tests);
}
