/* Anthropic's API through the whole path: the troupe program and the client library, the daemon,
 * its HTTP door, and troupe-mock in the provider's place, found by the variables that a user sets.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/e2e/upstream.h"

#define KEY "sk-ant-e2e-123456"

/* The mock must be there before the daemon, which reads its variables when it starts. */
static void open_stage(void) {
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u", (unsigned)tr_upstream_open(KEY));
    setenv("ANTHROPIC_BASE_URL", url, 1);
    setenv("ANTHROPIC_API_KEY", KEY, 1);
    tr_stage_open(1, NULL);
}

static void close_stage(void) {
    tr_stage_close();
    tr_upstream_close();
}

static void asks(const char *model, const char *expected) {
    char out[4096];
    const char *argv[] = {"troupe", "ask", "--provider", "anthropic", "-m", model, "Hi you", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(argv, out, sizeof out), 0);
    CU_ASSERT_STRING_EQUAL(out, expected);
}

static void the_program_asks_and_counts(void) {
    char out[256];
    open_stage();
    asks("mock:tokens=3", "t0 t1 t2 \n");
    asks("mock:echo", "Hi you\n");
    asks("mock:echo,reasoning=2,crlf,split=3", "Hi you\n");
    const char *count[] = {"troupe", "tokens", "--provider", "anthropic",
                           "-m",     "mock:",  "Hi you",     NULL};
    CU_ASSERT_EQUAL(tr_stage_run(count, out, sizeof out), 0);
    CU_ASSERT_STRING_EQUAL(out, "6 exact\n");
    close_stage();
}

/* The mock refuses a tool call that comes back without the thoughts before it, as Anthropic does.
 */
static void thoughts_survive_the_round_trip_of_a_tool(void) {
    open_stage();
    tr_client *client = tr_stage_client();
    for (int whole = 0; whole < 2; whole++) {
        tr_options options = TR_OPTIONS_INIT;
        options.model = "anthropic/mock:tools,reasoning=3";
        options.extra_json = "{\"thinking\":{\"type\":\"adaptive\"}}";
        options.whole = whole == 1;
        tr_request *request;
        tr_result *first, *second;
        CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &request), TR_OK);
        CU_ASSERT_EQUAL(tr_request_tool(request, "mock", "a tool", NULL), TR_OK);
        CU_ASSERT_EQUAL(tr_request_text(request, "user", "Hi"), TR_OK);
        CU_ASSERT_EQUAL_FATAL(tr_send_request(client, request, &first), TR_OK);
        CU_ASSERT_STRING_EQUAL(tr_result_message(first), "");
        CU_ASSERT_STRING_EQUAL(tr_result_finish(first), "tool_calls");
        CU_ASSERT_STRING_EQUAL(tr_result_reasoning(first), "t0 t1 t2 ");
        CU_ASSERT_EQUAL(strncmp(tr_result_request_id(first), "mock-", 5), 0);
        CU_ASSERT_EQUAL_FATAL(tr_result_tool_calls(first), 1);
        CU_ASSERT_STRING_EQUAL(tr_result_tool_call(first, 0).arguments_json, "{\"a\":1}");
        CU_ASSERT_EQUAL(tr_request_answer(request, first), TR_OK);
        CU_ASSERT_EQUAL(tr_request_tool_result(request, tr_result_tool_call(first, 0).id, "done"),
                        TR_OK);
        CU_ASSERT_EQUAL_FATAL(tr_send_request(client, request, &second), TR_OK);
        CU_ASSERT_STRING_EQUAL(tr_result_message(second), "");
        CU_ASSERT_EQUAL(tr_result_error(second), TR_OK);
        tr_result_free(first);
        tr_result_free(second);
        tr_request_free(request);
    }
    tr_client_close(client);
    close_stage();
}

static void a_failure_keeps_the_providers_words_and_tells_no_key(void) {
    open_stage();
    tr_client *client = tr_stage_client();
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result;
    options.model = "anthropic/mock:status=401";
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "Hi", &result), TR_OK);
    CU_ASSERT_EQUAL(tr_result_error(result), TR_ERR_AUTH);
    CU_ASSERT_EQUAL(tr_result_status(result), 401);
    CU_ASSERT_STRING_EQUAL(tr_result_message(result),
                           "anthropic answered 401: the mock was told to fail "
                           "(asked with the key of env:ANTHROPIC_API_KEY)");
    tr_result_free(result);
    options.model = "anthropic/mock:nofinish";
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "Hi", &result), TR_OK);
    CU_ASSERT_EQUAL(tr_result_error(result), TR_ERR_TRUNCATED);
    tr_result_free(result);
    options.model = "anthropic/mock:";
    options.seed = 1;
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "Hi", &result), TR_OK);
    CU_ASSERT_EQUAL(tr_result_error(result), TR_ERR_UNSUPPORTED);
    CU_ASSERT_STRING_EQUAL(tr_result_message(result), "provider anthropic does not take a seed");
    tr_result_free(result);
    tr_client_close(client);
    CU_ASSERT_EQUAL(tr_stage_logged("sk-ant-e2e"), 0);
    close_stage();
}

int main(void) {
    CU_TestInfo tests[] = {
        {"the_program_asks_and_counts", the_program_asks_and_counts},
        {"thoughts_survive_the_round_trip_of_a_tool", thoughts_survive_the_round_trip_of_a_tool},
        {"a_failure_keeps_the_providers_words_and_tells_no_key",
         a_failure_keeps_the_providers_words_and_tells_no_key},
        CU_TEST_INFO_NULL};
    return tr_stage_main("anthropic", tests);
}
