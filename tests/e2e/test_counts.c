/*
 * What a request would be, how long it is and what it cost, through the whole path, with
 * troupe-mock in the providers' places: `--show-request`, `troupe tokens`, prices.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e/upstream.h"

#define KEY "sk-counts-e2e-123456"

static void open_stage(const char *extra) {
    static const char *const variables[] = {"OPENAI_BASE_URL", "ANTHROPIC_BASE_URL",
                                            "GROQ_BASE_URL", "OPENROUTER_BASE_URL",
                                            "VLLM_BASE_URL"};
    static const char *const keys[] = {"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY",
                                       "OPENROUTER_API_KEY", "VLLM_API_KEY"};
    char url[64];
    unsigned port = tr_upstream_open(KEY);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        bool root = strcmp(variables[i], "ANTHROPIC_BASE_URL") == 0;
        snprintf(url, sizeof url, "http://127.0.0.1:%u%s", port, root ? "" : "/v1");
        setenv(variables[i], url, 1);
        setenv(keys[i], KEY, 1);
    }
    tr_stage_open(1, extra);
}

static void close_stage(void) {
    tr_stage_close();
    tr_upstream_close();
}

/* Runs `troupe ask --show-request` with a model and one more option; the exit status. */
static int show(const char *model, const char *option, const char *value, char *out, size_t size) {
    const char *argv[] = {"troupe", "ask", "--show-request", "-m", model, "Hi you", option,
                          value,    NULL};
    return tr_stage_run(argv, out, size);
}

static void a_request_is_shown_as_it_would_go_and_goes_nowhere(void) {
    char out[8192];
    open_stage("aliases: {both: [openai/mock:x, anthropic/mock:y]}\n");
    CU_ASSERT_EQUAL(show("openai/mock:status=500", NULL, NULL, out, sizeof out), 0);
    CU_ASSERT_PTR_EQUAL(strstr(out, "POST http://127.0.0.1:"), out);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "/v1/chat/completions\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\nAuthorization: Bearer ***\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\n\n{\"model\":\"mock:status=500\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"content\":\"Hi you\""));
    CU_ASSERT_PTR_NULL(strstr(out, KEY));
    CU_ASSERT_EQUAL(show("anthropic/mock:status=500", "--extra", "{\"top_k\":3}", out, sizeof out),
                    0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "/v1/messages\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\nx-api-key: ***\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\nanthropic-version: "));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"top_k\":3"));
    CU_ASSERT_PTR_NULL(strstr(out, KEY));
    CU_ASSERT_EQUAL(show("openai/mock:x", "--effort", "low", out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"reasoning_effort\":\"low\""));
    CU_ASSERT_EQUAL(show("anthropic/mock:x", "--effort", "some", out, sizeof out), 2);
    CU_ASSERT_TRUE(tr_stage_logged("--effort: expected none, minimal, low") > 0);
    static const char object[] = "{\"response_format\":{\"type\":\"json_object\"}}";
    CU_ASSERT_EQUAL(show("anthropic/mock:x", "--extra", object, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"system\":"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "Answer with one JSON object and nothing else"));
    CU_ASSERT_PTR_NULL(strstr(out, "response_format"));
    CU_ASSERT_EQUAL(show("both", NULL, NULL, out, sizeof out), 0); /* the first target */
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "{\"model\":\"mock:x\""));
    close_stage();
}

static void a_request_for_json_is_shown_and_its_text_is_not_taken_for_the_answer(void) {
    char out[8192], path[256];
    open_stage("providers: {openai: {structured: instruct}}\n");
    snprintf(path, sizeof path, "%s/show.json", tr_stage_now.folder);
    FILE *file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs("{\"type\":\"object\",\"properties\":{\"town\":{\"type\":\"string\"}}}", file);
    fclose(file);
    CU_ASSERT_EQUAL(show("openai/mock:x", "--schema", path, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "town"));
    CU_ASSERT_PTR_NULL(strstr(out, "response_format"));
    CU_ASSERT_EQUAL(show("groq/mock:x", "--schema", path, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"response_format\""));
    close_stage();
}

static void a_request_is_shown_without_a_key_as_well(void) {
    char out[8192];
    unsetenv("MISTRAL_API_KEY");
    open_stage("providers: {mute: {kind: openai, keys: ['command:exit 1']}}\n");
    CU_ASSERT_EQUAL(show("mistral/m", NULL, NULL, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\nAuthorization: Bearer ***\n"));
    CU_ASSERT_EQUAL(show("mute/m", NULL, NULL, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\nAuthorization: Bearer ***\n"));
    CU_ASSERT_EQUAL(show("ollama/m", NULL, NULL, out, sizeof out), 0);
    CU_ASSERT_PTR_NULL(strstr(out, "***"));
    close_stage();
}

static void what_cannot_be_said_is_refused_as_if_it_were_sent(void) {
    char out[8192];
    open_stage(NULL);
    CU_ASSERT_NOT_EQUAL(show("anthropic/mock:", "--seed", "7", out, sizeof out), 0);
    CU_ASSERT_TRUE(tr_stage_logged("seed") > 0);
    close_stage();
}

static void a_local_models_prompt_is_shown_rendered(void) {
    char out[8192];
    static char prompt[70000];
    open_stage(NULL);
    CU_ASSERT_EQUAL(show("chain", "--system", "Be brief", out, sizeof out), 0);
    const char *system = strstr(out, "<|im_start|>system\nBe brief<|im_end|>");
    const char *user = strstr(out, "<|im_start|>user\nHi you<|im_end|>");
    CU_ASSERT_TRUE(system != NULL && user > system);
    /* A prompt that takes several DELTAs. */
    memset(prompt, 'a', sizeof prompt - 1);
    tr_client *client = tr_stage_client();
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result;
    options.model = "chain";
    options.show = true;
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, prompt, &result), TR_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(tr_result_text(result), prompt));
    CU_ASSERT_EQUAL(tr_result_error(result), TR_OK);
    tr_result_free(result);
    tr_client_close(client);
    close_stage();
}

static void count(const char *model, const char *expected) {
    char out[256];
    const char *argv[] = {"troupe", "tokens", "-m", model, "one two three four", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(argv, out, sizeof out), 0);
    CU_ASSERT_STRING_EQUAL(out, expected);
}

static void a_count_says_whether_it_is_exact(void) {
    char out[256];
    open_stage(NULL);
    count("openai/mock:", "11 estimated\n");
    count("groq/mock:", "11 estimated\n");
    count("vllm/mock:", "18 exact\n"); /* the mock counts characters */
    const char *argv[] = {"troupe", "tokens", "--json", "-m", "anthropic/mock:", "Hi you", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(argv, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"exact\":true"));
    const char *local[] = {"troupe", "tokens", "-m", "chain", "one", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(local, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, " exact\n"));
    close_stage();
}

/* What the server lists, with what the configuration knows of it beside; else nothing is said. */
static void models_are_listed_with_context_and_prices(void) {
    static const char own[] =
        "models: {openai/mock:echo: {context: 128000, output: 4096, in: 2.5, out: 10, cached: "
        "1.25}, anthropic/mock:echo: {in: 3}}\n";
    static const char *const lists[][5] = {{"troupe", "models", "openai", NULL},
                                           {"troupe", "models", "anthropic", NULL},
                                           {"troupe", "models", "openai", "--json", NULL}};
    char out[8192];
    open_stage(own);
    CU_ASSERT_EQUAL(tr_stage_run(lists[0], out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(out, "openai/mock:echo context=128000 output=4096 $in=2.5 $out=10 $cached=1.25\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "openai/mock:\n")); /* nobody knows */
    CU_ASSERT_EQUAL(tr_stage_run(lists[1], out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "anthropic/mock:echo $in=3\n"));
    CU_ASSERT_EQUAL(tr_stage_run(lists[2], out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"facts\":{\"mock:echo\":{\"context\":128000,"));
    close_stage();
}

/* The answer's cost is that of the configured price, and a reload changes it. */
static void a_cost_is_reckoned_with_the_prices_in_force(void) {
    static const char dear[] = "models: {openai/mock:tokens=2: {in: 500000, out: 1000000}}\n";
    static const char dearer[] = "models: {openai/mock:tokens=2: {in: 1000000, out: 999999.5}}\n";
    char out[4096];
    open_stage(dear);
    tr_client *client = tr_stage_client();
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result;
    double before = 0;
    for (int round = 0; round < 2; round++) {
        options.model = "openai/mock:tokens=2";
        CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "Hi you", &result), TR_OK);
        tr_usage usage = tr_result_usage(result);
        CU_ASSERT_TRUE(usage.in > 0 && usage.out > 0);
        double expected = round == 0 ? (double)usage.in * 0.5 + (double)usage.out
                                     : (double)usage.in + (double)usage.out * 0.9999995;
        CU_ASSERT_DOUBLE_EQUAL(usage.cost, expected, 1e-9);
        CU_ASSERT_TRUE(usage.cost > before);
        before = usage.cost;
        tr_result_free(result);
        if (round == 0) {
            tr_stage_configure(1, dearer);
            kill(tr_stage_now.daemon, SIGHUP);
            while (tr_stage_logged("was read again") == 0) {
                CU_ASSERT_TRUE_FATAL(tr_stage_running(client) >= 0); /* a turn of the daemon */
            }
        }
    }
    options.model = "openai/mock:tokens=3"; /* nobody knows its price */
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "Hi you", &result), TR_OK);
    CU_ASSERT_TRUE(tr_result_usage(result).cost != tr_result_usage(result).cost);
    tr_result_free(result);
    options.model = "chain"; /* runs here */
    options.max_tokens = 2;
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "ab", &result), TR_OK);
    CU_ASSERT_TRUE(tr_result_usage(result).cost == 0);
    tr_result_free(result);
    tr_client_close(client);
    const char *argv[] = {"troupe", "ask", "-v", "-m", "openai/mock:tokens=3", "Hi", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(argv, out, sizeof out), 0);
    CU_ASSERT_TRUE(tr_stage_logged("cost unknown") == 1);
    close_stage();
}

int main(void) {
    CU_TestInfo tests[] = {
        {"a_request_is_shown_as_it_would_go_and_goes_nowhere",
         a_request_is_shown_as_it_would_go_and_goes_nowhere},
        {"a_request_for_json_is_shown_and_its_text_is_not_taken_for_the_answer",
         a_request_for_json_is_shown_and_its_text_is_not_taken_for_the_answer},
        {"what_cannot_be_said_is_refused_as_if_it_were_sent",
         what_cannot_be_said_is_refused_as_if_it_were_sent},
        {"a_request_is_shown_without_a_key_as_well", a_request_is_shown_without_a_key_as_well},
        {"a_local_models_prompt_is_shown_rendered", a_local_models_prompt_is_shown_rendered},
        {"a_count_says_whether_it_is_exact", a_count_says_whether_it_is_exact},
        {"models_are_listed_with_context_and_prices", models_are_listed_with_context_and_prices},
        {"a_cost_is_reckoned_with_the_prices_in_force",
         a_cost_is_reckoned_with_the_prices_in_force},
        CU_TEST_INFO_NULL};
    return tr_stage_main("counts", tests);
}
