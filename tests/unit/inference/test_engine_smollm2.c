/*
 * The default model, where it is installed: a real tokeniser, real quantised weights, and whether
 * its answers at temperature 0 are the same bytes in every company and after every cut. Without the
 * model the test says that it was not run (CTest shows it as skipped).
 */
#include "protocol/schema.h"
#include "tests/lib/default_model.h"
#include "tests/unit/inference/engine_rig.h"

static char model_file[4096];

static void open_model(rig *r, uint32_t sequences) {
    char why[TR_ENGINE_WHY_size];
    *r = (rig){0};
    tr_engine_spec spec = {.model_file = model_file,
                           .model_name = "smollm2",
                           .sequences = sequences,
                           .context = 768,
                           .emit = rig_emit,
                           .arg = r};
    CU_ASSERT_EQUAL_FATAL(tr_engine_new(&spec, &r->engine, why), TR_OK);
}

static const char question[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"You are brief.\"},"
    "{\"role\":\"user\",\"content\":\"What is an actor?\"}],"
    "\"temperature\":0,\"max_tokens\":16}";
/* Long enough that its prompt goes in by several decodes and its cache passes a boundary of 256. */
static char long_question[2048];

static void run(rig *r) {
    while (tr_engine_step(r->engine)) {
    }
}

static void company_and_batches_change_no_byte(void) {
    rig alone, busy;
    open_model(&alone, 1);
    open_model(&busy, 4);
    rig_stream *plain = rig_ask(&alone, 0, question);
    rig_stream *lengthy = rig_ask(&alone, 1, long_question);
    CU_ASSERT_TRUE(plain->size > 20);
    CU_ASSERT_TRUE(lengthy->usage.in > 256);
    const char *texts[] = {question, long_question, question, long_question};
    for (uint64_t i = 0; i < 4; i++) {
        rig_submit(&busy, i, &rig_plenty, NULL, texts[i]);
        for (uint64_t steps = 0; steps < 1 + i; steps++) {
            CU_ASSERT_TRUE(tr_engine_step(busy.engine));
        }
    }
    run(&busy);
    for (uint64_t i = 0; i < 4; i++) {
        CU_ASSERT_STRING_EQUAL(rig_of(&busy, i)->text, i % 2 == 0 ? plain->text : lengthy->text);
    }
    rig_close(&alone);
    rig_close(&busy);
}

static void resumed_stream_is_byte_for_byte_the_same(void) {
    rig first, second;
    open_model(&first, 1);
    open_model(&second, 3);
    const char *texts[] = {question, long_question};
    for (uint64_t i = 0; i < 2; i++) {
        rig_stream *whole = rig_ask(&first, i, texts[i]);
        rig_submit(&second, 40, &rig_plenty, NULL, long_question); /* company */
        for (uint32_t cut = 0; cut < whole->deltas; cut += 5) {
            tr_submit head = rig_plenty;
            uint64_t ref = 1 + i * 10 + cut / 5;
            head.resume_count = whole->boundary[cut];
            rig_submit(&second, ref, &head, whole->tokens, texts[i]);
            run(&second);
            CU_ASSERT_STRING_EQUAL(rig_of(&second, ref)->text, whole->text + whole->text_at[cut]);
            CU_ASSERT_EQUAL(rig_of(&second, ref)->finish, whole->finish);
        }
        free(second.streams[40]);
        second.streams[40] = NULL;
    }
    rig_close(&first);
    rig_close(&second);
}

static void grammar_holds_on_a_real_vocabulary(void) {
    rig r;
    open_model(&r, 1);
    rig_stream *s =
        rig_ask(&r, 1,
                "{\"messages\":[{\"role\":\"user\",\"content\":\"Is water wet?\"}],"
                "\"temperature\":1,\"seed\":5,\"grammar\":\"root ::= \\\"yes\\\" | \\\"no\\\"\"}");
    CU_ASSERT_TRUE(strcmp(s->text, "yes") == 0 || strcmp(s->text, "no") == 0);
    CU_ASSERT_EQUAL(s->finish, TR_FINISH_STOP);
    rig_close(&r);
}

/* Nested objects, lists, enums and numbers, at temperatures at which it says all kinds of things.
 */
static void answers_follow_a_schema(void) {
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":20},"
        "\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":120},\"colour\":{\"enum\":["
        "\"red\",\"green\",\"blue\"]},\"home\":{\"type\":\"object\",\"properties\":{\"city\":{"
        "\"type\":\"string\",\"maxLength\":20},\"zip\":{\"type\":[\"integer\",\"null\"]}},"
        "\"required\":[\"city\",\"zip\"]},\"friends\":{\"type\":\"array\",\"items\":{\"type\":"
        "\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":12}},\"required\":["
        "\"name\"]},\"maxItems\":2}},\"required\":[\"name\",\"age\",\"colour\",\"home\","
        "\"friends\"]}";
    tr_schema *parsed = NULL;
    char why[TR_SCHEMA_WHY_size] = "";
    rig r;
    open_model(&r, 1);
    CU_ASSERT_EQUAL_FATAL(
        tr_schema_parse(schema, strlen(schema), TR_SCHEMA_STRICT, &parsed, why, sizeof why), TR_OK);
    static const char *const temperatures[] = {"0", "0.8", "1.5"};
    for (uint64_t i = 0; i < 3; i++) {
        char json[4096];
        snprintf(json, sizeof json,
                 "{\"messages\":[{\"role\":\"user\",\"content\":\"Describe a person as JSON.\"}],"
                 "\"temperature\":%s,\"seed\":5,\"max_tokens\":400,\"response_format\":{\"type\":"
                 "\"json_schema\",\"json_schema\":{\"schema\":%s}}}",
                 temperatures[i], schema);
        rig_stream *s = rig_ask(&r, i, json);
        CU_ASSERT_EQUAL(s->err, TR_OK);
        CU_ASSERT_EQUAL(s->finish, TR_FINISH_STOP);
        CU_ASSERT_EQUAL(tr_schema_validate(parsed, s->text, s->size, why, sizeof why), TR_OK);
    }
    tr_schema_free(parsed);
    rig_close(&r);
}

#define WEATHER                                                                                    \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\","                    \
    "\"description\":\"The weather in a city\",\"parameters\":{\"type\":\"object\","               \
    "\"properties\":{\"city\":{\"type\":\"string\"}},\"required\":[\"city\"]}}}],"                 \
    "\"messages\":[{\"role\":\"user\",\"content\":\"What is the weather in Oslo?\"}],"

/* Here tokens have many letters, so that calls begin and end inside them. */
static void required_call_is_valid_and_resumes_inside_tokens(void) {
    static const char ask[] =
        "{" WEATHER "\"tool_choice\":\"required\",\"temperature\":1,\"seed\":8,"
        "\"parallel_tool_calls\":false,\"max_tokens\":40}";
    rig first, second;
    open_model(&first, 1);
    open_model(&second, 1);
    rig_stream *whole = rig_ask(&first, 0, ask);
    CU_ASSERT_EQUAL(strncmp(whole->text, "[call_0 get_weather]{", 21), 0);
    CU_ASSERT_EQUAL(whole->plain, 0);
    CU_ASSERT_TRUE(whole->finish == TR_FINISH_TOOL_CALLS || whole->finish == TR_FINISH_LENGTH);
    for (uint32_t cut = 0; cut < whole->deltas; cut += 3) {
        tr_submit head = rig_plenty;
        head.resume_count = whole->boundary[cut];
        rig_submit(&second, cut + 1, &head, whole->tokens, ask);
        run(&second);
        CU_ASSERT_STRING_EQUAL(rig_of(&second, cut + 1)->text, whole->text + whole->text_at[cut]);
        CU_ASSERT_EQUAL(rig_of(&second, cut + 1)->finish, whole->finish);
    }
    rig_close(&first);
    rig_close(&second);
}

int main(void) {
    enum { skipped = 77 };
    if (!tr_default_model(model_file, sizeof model_file)) {
        printf("not run: %s is not there (tools/setup brings it)\n", model_file);
        return skipped;
    }
    int size = snprintf(long_question, sizeof long_question,
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"Numbers:");
    for (int i = 0; i < 110; i++) {
        size += snprintf(long_question + size, sizeof long_question - (size_t)size, " %d", i * 7);
    }
    snprintf(long_question + size, sizeof long_question - (size_t)size,
             ". What comes next?\"}],\"temperature\":0,\"max_tokens\":14}");
    CU_TestInfo tests[] = {
#define T(name) {#name, name}
        T(company_and_batches_change_no_byte),
        T(resumed_stream_is_byte_for_byte_the_same),
        T(grammar_holds_on_a_real_vocabulary),
        T(answers_follow_a_schema),
        T(required_call_is_valid_and_resumes_inside_tokens),
        CU_TEST_INFO_NULL,
    };
    return rig_main("engine_smollm2", tests);
}
