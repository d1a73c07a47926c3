/*
 * Answers that follow a JSON schema, through the whole path: by the provider, by instruction with a
 * correction (troupe-mock answers wrong at first, or always), and by grammar from local models;
 * from C and from the command line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/schema.h"
#include "tests/e2e/upstream.h"

static tr_client *client;

static const char schema[] =
    "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"],"
    "\"additionalProperties\":false}";
static const char nested[] =
    "{\"type\":\"object\",\"properties\":{\"kind\":{\"enum\":[\"a\",\"b\"]},\"list\":{\"type\":"
    "\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"integer\","
    "\"minimum\":0,\"maximum\":9}},\"required\":[\"x\"]},\"minItems\":1,\"maxItems\":2},\"ok\":"
    "{\"type\":[\"boolean\",\"null\"]}},\"required\":[\"kind\",\"list\",\"ok\"]}";

static tr_result *ask(const char *model, const char *of) {
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result = NULL;
    options.model = model;
    options.json_schema = of;
    options.max_tokens = 1500;
    options.temperature = 1;
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "hi", &result), TR_OK);
    return result;
}

static void expect(const char *model, tr_err err, uint32_t attempts, const char *text) {
    tr_result *result = ask(model, schema);
    const char *got = err == TR_OK ? tr_result_text(result) : tr_result_message(result);
    if (tr_result_error(result) != err || tr_result_attempts(result) != attempts ||
        strstr(got, text) == NULL) {
        printf("\n    %s: %s after %u: %s\n", model, tr_err_name(tr_result_error(result)),
               tr_result_attempts(result), got);
        CU_FAIL("another result");
    }
    tr_result_free(result);
}

static void a_provider_that_knows_schemas_is_checked(void) {
    expect("mock/mock:json=1", TR_OK, 1, "{\"n\": 1}");
    expect("mock/mock:json=3", TR_ERR_SCHEMA, 1, "at /n: expected integer, got string");
    expect("mock/mock:tokens=3", TR_ERR_SCHEMA, 1, "it is no JSON");
}

static void one_that_does_not_is_instructed_and_corrected_once(void) {
    static const char *const providers[] = {"plain", "object", "seek", "claude", "google", "llama"};
    for (size_t i = 0; i < sizeof providers / sizeof *providers; i++) {
        char model[64];
        snprintf(model, sizeof model, "%s/mock:json=1", providers[i]);
        expect(model, TR_OK, 1, "{\"n\": 1}");
        snprintf(model, sizeof model, "%s/mock:json=2", providers[i]);
        expect(model, TR_OK, 2, "{\"n\": 1}");
        snprintf(model, sizeof model, "%s/mock:json=3", providers[i]);
        expect(model, TR_ERR_SCHEMA, 2, "also after a correction: at /n: expected integer");
    }
}

static void both_attempts_are_counted(void) {
    tr_result *once = ask("plain/mock:json=1", schema), *twice = ask("plain/mock:json=2", schema);
    uint64_t one = tr_result_usage(once).out, two = tr_result_usage(twice).out;
    CU_ASSERT_TRUE(one > 0 && two == 2 * one);
    tr_result_free(once);
    tr_result_free(twice);
}

static void a_failed_attempt_before_the_answer_is_tried_again_as_ever(void) {
    expect("plain/mock:json=1,cut=250,times=1", TR_OK, 2, "{\"n\": 1}");
}

static void local_models_follow_a_schema_by_grammar(void) {
    char why[TR_SCHEMA_WHY_size] = "";
    tr_schema *parsed = NULL;
    CU_ASSERT_EQUAL_FATAL(
        tr_schema_parse(nested, strlen(nested), TR_SCHEMA_STRICT, &parsed, why, sizeof why), TR_OK);
    static const char *const models[] = {"chain", "random"};
    for (size_t i = 0; i < 2; i++) {
        tr_result *result = ask(models[i], nested);
        const char *text = tr_result_text(result);
        CU_ASSERT_EQUAL(tr_result_error(result), TR_OK);
        tr_err err = tr_schema_validate(parsed, text, strlen(text), why, sizeof why);
        if (err != TR_OK) {
            printf("\n    %s: %s\n", text, why);
        }
        CU_ASSERT_EQUAL(err, TR_OK);
        tr_result_free(result);
    }
    tr_schema_free(parsed);
    tr_result *refused = ask("chain", "{\"properties\":{\"a\":{\"not\":{}}}}");
    CU_ASSERT_EQUAL(tr_result_error(refused), TR_ERR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(tr_result_message(refused), "/properties/a/not"));
    tr_result_free(refused);
}

static void the_command_line_takes_a_file(void) {
    char file[128], out[4096];
    snprintf(file, sizeof file, "%s/schema.json", tr_stage_now.folder);
    FILE *f = fopen(file, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs(schema, f);
    fclose(f);
    const char *good[] = {"troupe", "ask", "--schema", file, "-m", "plain/mock:json=2", "hi", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(good, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "{\"n\": 1}"));
    const char *bad[] = {"troupe", "ask", "--schema", file, "-m", "plain/mock:json=3", "hi", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(bad, out, sizeof out), 1);
    CU_ASSERT_TRUE(tr_stage_logged("the answer does not follow the schema, also after") > 0);
    CU_ASSERT_PTR_NULL(strstr(out, "\"one\"}"));
}

static void open_stage(void) {
    char extra[2048];
    unsigned port = tr_upstream_open(NULL);
    setenv("TROUPE_TEST_KEY", "sk-e2e-schema-123456", 1);
    snprintf(extra, sizeof extra,
             "providers:\n"
             "  mock: {kind: openai-compatible, base_url: 'http://127.0.0.1:%u/v1'}\n"
             "  plain: {kind: openai-compatible, base_url: 'http://127.0.0.1:%u/v1', structured: "
             "instruct}\n"
             "  object: {kind: openai-compatible, base_url: 'http://127.0.0.1:%u/v1', structured: "
             "object}\n"
             "  seek: {kind: deepseek, base_url: 'http://127.0.0.1:%u/v1', keys: "
             "[env:TROUPE_TEST_KEY]}\n"
             "  claude: {kind: anthropic, base_url: 'http://127.0.0.1:%u', keys: "
             "[env:TROUPE_TEST_KEY], structured: instruct}\n"
             "  google: {kind: gemini, base_url: 'http://127.0.0.1:%u/v1beta', keys: "
             "[env:TROUPE_TEST_KEY], structured: object}\n"
             "  llama: {kind: ollama, base_url: 'http://127.0.0.1:%u', structured: object}\n",
             port, port, port, port, port, port, port);
    tr_stage_open(1, extra);
    client = tr_stage_client();
}

static void close_stage(void) {
    tr_client_close(client);
    tr_stage_close();
    tr_upstream_close();
}

int main(void) {
    CU_TestInfo tests[] = {
#define T(name) {#name, name}
        {"(the daemon and the mock start)", open_stage},
        T(a_provider_that_knows_schemas_is_checked),
        T(one_that_does_not_is_instructed_and_corrected_once),
        T(both_attempts_are_counted),
        T(a_failed_attempt_before_the_answer_is_tried_again_as_ever),
        T(local_models_follow_a_schema_by_grammar),
        T(the_command_line_takes_a_file),
        {"(they stop)", close_stage},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("schema", tests);
}
