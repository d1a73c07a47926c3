/* Providers as a person reaches them: Azure by its deployments, a server that only the request
 * names, and connections that are kept for the next request until `troupe unload` closes them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e/upstream.h"

#define KEY "sk-e2e-reach-123456"

static char out[65536];
static uint16_t port;
static char base[64];

static void open_stage(void) {
    static char extra[256];
    port = tr_upstream_open(KEY);
    snprintf(base, sizeof base, "http://127.0.0.1:%u", (unsigned)port);
    setenv("AZURE_OPENAI_ENDPOINT", base, 1);
    setenv("AZURE_OPENAI_API_KEY", KEY, 1);
    setenv("OPENAI_COMPATIBLE_API_KEY", KEY, 1);
    unsetenv("OPENAI_COMPATIBLE_BASE_URL");
    snprintf(extra, sizeof extra,
             "shards: 2\nproviders:\n  mock: {kind: openai-compatible, base_url: '%s/v1', keys: "
             "'env:AZURE_OPENAI_API_KEY'}\naliases: {fast: mock/mock:echo}\n",
             base);
    tr_stage_open(1, extra);
}

static void close_stage(void) {
    tr_stage_close();
    tr_upstream_close();
}

static int run(const char *const *argv) {
    return tr_stage_run(argv, out, sizeof out);
}

static void azure_is_asked_for_a_deployment(void) {
    static const char *const ask[] = {"troupe", "ask",       "--provider",       "azure",
                                      "-m",     "mock:echo", "Hello deployment", NULL};
    static const char *const whole[] = {"troupe",      "ask", "-m", "azure/mock:tokens=3",
                                        "--no-stream", "Hi",  NULL};
    static const char *const embed[] = {"troupe", "embed", "-m", "azure/mock:dim=4", "a", NULL};
    static const char *const show[] = {"troupe",         "ask", "-m", "azure/my deployment",
                                       "--show-request", "Hi",  NULL};
    char url[256];
    CU_ASSERT_EQUAL(run(ask), 0);
    CU_ASSERT_STRING_EQUAL(out, "Hello deployment\n");
    CU_ASSERT_EQUAL(run(whole), 0);
    CU_ASSERT_STRING_EQUAL(out, "t0 t1 t2 \n");
    CU_ASSERT_EQUAL(run(embed), 0);
    CU_ASSERT_EQUAL(out[0], '[');
    CU_ASSERT_EQUAL(run(show), 0);
    snprintf(url, sizeof url,
             "%s/openai/deployments/my%%20deployment/chat/completions?api-version=2024-10-21",
             base);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, url));
    CU_ASSERT_PTR_NOT_NULL(strcasestr(out, "api-key"));
    CU_ASSERT_PTR_NULL(strstr(out, KEY));
}

static void a_server_needs_no_configuration(void) {
    char url[96];
    snprintf(url, sizeof url, "%s/v1", base);
    const char *ask[] = {"troupe", "ask", "--provider", "openai-compatible", "--base-url",
                         url,      "-m",  "mock:echo",  "Hi there",          NULL};
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result = NULL;
    tr_client *client = tr_stage_client();
    options.provider = "openai-compatible";
    options.base_url = url;
    options.model = "mock:echo";
    options.retries = 0;
    /* The mock wants its key; the provider's own goes to no server that it was not given for. */
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "Hi", &result), TR_OK);
    CU_ASSERT_EQUAL(tr_result_error(result), TR_ERR_AUTH);
    tr_result_free(result);
    tr_client_close(client);
    CU_ASSERT_NOT_EQUAL(run(ask), 0);
    CU_ASSERT(tr_stage_logged("answered 401") > 0);
    CU_ASSERT_EQUAL(tr_stage_logged(KEY), 0);
    tr_upstream_close();
    port = tr_upstream_open(NULL);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v1", (unsigned)port);
    CU_ASSERT_EQUAL(run(ask), 0);
    CU_ASSERT_STRING_EQUAL(out, "Hi there\n");
    client = tr_stage_client();
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "Hi you", &result), TR_OK);
    CU_ASSERT_STRING_EQUAL(tr_result_text(result), "Hi you");
    tr_result_free(result);
    tr_client_close(client);
}

static void unload_closes_idle_connections_and_no_others(void) {
    static const char *const unload[] = {"troupe", "unload", "mock/mock:echo", NULL};
    static const char *const json[] = {"troupe", "unload", "mock", "--json", NULL};
    static const char *const alias[] = {"troupe", "unload", "fast", NULL};
    static const char *const load[] = {"troupe", "load", "mock/mock:echo", NULL};
    static const char *const echo[] = {"troupe", "unload", "echo", NULL};
    static const char *const nobody[] = {"troupe", "unload", "mokc", NULL};
    CU_ASSERT_EQUAL(run(unload), 0); /* of other requests to the same server */
    CU_ASSERT_EQUAL(run(unload), 0);
    CU_ASSERT_STRING_EQUAL(out, "no idle connection was open\n");
    /* Two requests side by side and done leave connections; each client is on the next shard. */
    for (int i = 0; i < 4; i++) {
        tr_client *client = tr_stage_client();
        tr_options options = TR_OPTIONS_INIT;
        tr_result *result = NULL;
        options.model = "mock/mock:echo";
        CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "Hi", &result), TR_OK);
        tr_result_free(result);
        tr_client_close(client);
    }
    CU_ASSERT_EQUAL(tr_upstream_stat("connections"), 2);
    /* One of the two is taken by a stream that goes on. */
    tr_client *client = tr_stage_client();
    tr_options options = TR_OPTIONS_INIT;
    options.model = "mock/mock:tokens=40,interval=50ms";
    tr_request *request = NULL;
    tr_stream *stream = NULL;
    tr_chunk chunk;
    CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &request), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_request_text(request, "user", "go"), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_stream_open(client, request, &stream), TR_OK);
    CU_ASSERT_EQUAL(tr_stream_next(stream, 10000, &chunk), TR_OK);
    CU_ASSERT_EQUAL(run(alias), 0);
    CU_ASSERT_STRING_EQUAL(out, "1 idle connection closed\n");
    CU_ASSERT(tr_upstream_comes_to("connections", 1, 5000));
    size_t chunks = 1;
    tr_err err = TR_OK;
    while ((err = tr_stream_next(stream, 10000, &chunk)) == TR_OK) {
        chunks++;
    }
    CU_ASSERT_EQUAL(err, TR_DONE);
    CU_ASSERT(chunks >= 20);
    tr_stream_close(stream);
    tr_request_free(request);
    tr_client_close(client);
    CU_ASSERT_EQUAL(run(json), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "{\"done\":\"unload\",\"closed\":1}"));
    CU_ASSERT(tr_upstream_comes_to("connections", 0, 5000));
    CU_ASSERT_EQUAL(run(json), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"closed\":0}"));
    CU_ASSERT_EQUAL(tr_upstream_stat("aborted"), 0);
    CU_ASSERT_EQUAL(run(load), 2);
    CU_ASSERT(tr_stage_logged("it has its models ready, just ask") > 0);
    CU_ASSERT_EQUAL(run(echo), 0);
    CU_ASSERT_EQUAL(run(nobody), 2);
}

int main(void) {
    CU_TestInfo tests[] = {
        {"(the daemon starts)", open_stage},
        {"azure_is_asked_for_a_deployment", azure_is_asked_for_a_deployment},
        {"unload_closes_idle_connections_and_no_others",
         unload_closes_idle_connections_and_no_others},
        {"a_server_needs_no_configuration", a_server_needs_no_configuration},
        {"(the daemon stops)", close_stage},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("reach", tests);
}
