/* The common chat request: what is read, what is refused and by which name, what passes through. */
#include <CUnit/Basic.h>

#include <math.h>
#include <string.h>

#include "protocol/chat.h"
#include "protocol/limits.h"

static tr_chat *chat;
static char why[256];

static tr_err parse(const char *text) {
    return tr_chat_parse(TR_OP_CHAT, text, strlen(text), &chat, why, sizeof why);
}

static bool is(tr_str str, const char *text) {
    return str.ptr != NULL && str.size == strlen(text) && memcmp(str.ptr, text, str.size) == 0;
}

static void refused(const char *text, const char *sentence) {
    CU_ASSERT_EQUAL(parse(text), TR_ERR_INVALID);
    if (strstr(why, sentence) == NULL) {
        printf("\n    said \"%s\", not \"%s\"\n", why, sentence);
        CU_FAIL("another sentence");
    }
}

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static void absent_fields_are_absent(void) {
    CU_ASSERT_EQUAL_FATAL(parse("{" HI "}"), TR_OK);
    CU_ASSERT_EQUAL(chat->turn_count, 1);
    CU_ASSERT_EQUAL(chat->turns[0].role, TR_CHAT_USER);
    CU_ASSERT_TRUE(is(chat->turns[0].parts[0].text, "hi"));
    CU_ASSERT_TRUE(isnan(chat->temperature));
    CU_ASSERT_TRUE(isnan(chat->repeat_penalty));
    CU_ASSERT_EQUAL(chat->seed, -1);
    CU_ASSERT_EQUAL(chat->max_tokens, -1);
    CU_ASSERT_EQUAL(chat->top_k, -1);
    CU_ASSERT_PTR_NULL(chat->grammar.ptr);
    CU_ASSERT_PTR_NULL(chat->extra.ptr);
    CU_ASSERT_PTR_NULL(chat->tool_choice.ptr);
    CU_ASSERT_EQUAL(chat->stop_count, 0);
    tr_chat_free(chat);
}

static void sampling_is_read(void) {
    CU_ASSERT_EQUAL_FATAL(
        parse("{" HI ",\"temperature\":0.5,\"top_p\":1,\"min_p\":0,\"top_k\":40,\"seed\":7,"
              "\"max_completion_tokens\":9,\"stop\":\"x\",\"repeat_penalty\":1.1,\"grammar\":"
              "\"root\","
              "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"a\": "
              "1}}}}"),
        TR_OK);
    CU_ASSERT_DOUBLE_EQUAL(chat->temperature, 0.5, 0);
    CU_ASSERT_EQUAL(chat->top_k, 40);
    CU_ASSERT_EQUAL(chat->seed, 7);
    CU_ASSERT_EQUAL(chat->max_tokens, 9);
    CU_ASSERT_EQUAL(chat->stop_count, 1);
    CU_ASSERT_TRUE(is(chat->stops[0], "x"));
    CU_ASSERT_TRUE(is(chat->schema, "{\"a\": 1}"));
    CU_ASSERT_TRUE(is(chat->grammar, "root"));
    tr_chat_free(chat);
}

static void parts_tools_and_calls_are_read(void) {
    CU_ASSERT_EQUAL_FATAL(
        parse("{\"messages\":[{\"role\":\"developer\",\"content\":\"s\"},"
              "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":"
              "\"image_url\","
              "\"image_url\":{\"url\":\"data:x\"},\"cache_control\":{\"type\":\"ephemeral\"}}]},"
              "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c1\",\"type\":"
              "\"function\","
              "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1}\"},\"index\":0}]},"
              "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"42\"}],"
              "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{"
              "\"p\":1.0}},"
              "\"strict\":true}],\"tool_choice\":\"auto\"}"),
        TR_OK);
    CU_ASSERT_EQUAL(chat->turn_count, 4);
    CU_ASSERT_EQUAL(chat->turns[0].role, TR_CHAT_SYSTEM);
    static const char *const names[] = {"system", "user", "assistant", "tool"};
    for (size_t i = 0; i < 4; i++) {
        CU_ASSERT_STRING_EQUAL(tr_chat_role_name(chat->turns[i].role), names[i]);
    }
    CU_ASSERT_EQUAL(chat->turns[1].part_count, 2);
    CU_ASSERT_EQUAL(chat->turns[1].parts[1].kind, TR_PART_IMAGE);
    CU_ASSERT_TRUE(is(chat->turns[1].parts[1].url, "data:x"));
    CU_ASSERT_TRUE(
        is(chat->turns[1].parts[1].extra, "{\"cache_control\":{\"type\":\"ephemeral\"}}"));
    CU_ASSERT_EQUAL(chat->turns[2].call_count, 1);
    CU_ASSERT_TRUE(is(chat->turns[2].calls[0].arguments, "{\"x\":1}"));
    CU_ASSERT_TRUE(is(chat->turns[2].calls[0].extra, "{\"index\":0}"));
    CU_ASSERT_TRUE(is(chat->turns[3].tool_call_id, "c1"));
    CU_ASSERT_TRUE(is(chat->tools[0].parameters, "{\"p\":1.0}"));
    CU_ASSERT_TRUE(is(chat->tools[0].extra, "{\"strict\":true}"));
    CU_ASSERT_TRUE(is(chat->tool_choice, "\"auto\""));
    tr_chat_free(chat);
}

static void what_is_unknown_passes_through_as_written(void) {
    CU_ASSERT_EQUAL_FATAL(
        parse("{" HI ",\"user\":\"u\",\"big\":12345678901234567890.10,\"model\":\"m\"}"), TR_OK);
    CU_ASSERT_TRUE(is(chat->extra, "{\"user\":\"u\",\"big\":12345678901234567890.10}"));
    tr_chat_free(chat);
}

static void embeddings_take_one_or_many_texts(void) {
    const char *one = "{\"input\":\"a\"}";
    const char *many = "{\"input\":[\"a\",\"b\"]}";
    CU_ASSERT_EQUAL_FATAL(tr_chat_parse(TR_OP_EMBED, one, strlen(one), &chat, why, sizeof why),
                          TR_OK);
    CU_ASSERT_EQUAL(chat->input_count, 1);
    tr_chat_free(chat);
    CU_ASSERT_EQUAL_FATAL(tr_chat_parse(TR_OP_EMBED, many, strlen(many), &chat, why, sizeof why),
                          TR_OK);
    CU_ASSERT_TRUE(is(chat->inputs[1], "b"));
    tr_chat_free(chat);
    CU_ASSERT_EQUAL(tr_chat_parse(TR_OP_EMBED, "{}", 2, &chat, why, sizeof why), TR_ERR_INVALID);
}

static void refusals_name_the_field(void) {
    refused("[]", "expected a JSON object");
    refused("{", "not JSON");
    refused("{}", "messages");
    refused("{\"messages\":[]}", "at least one");
    refused("{\"messages\":[{\"role\":\"user\",\"content\":\"\"}]}", "the prompt is empty");
    refused("{\"messages\":[{\"role\":\"system\",\"content\":\"s\"}]}", "the prompt is empty");
    refused("{\"messages\":[{\"role\":\"king\",\"content\":\"x\"}]}", "messages[0].role");
    refused("{\"messages\":[{\"role\":\"user\",\"content\":5}]}", "messages[0].content");
    refused("{\"messages\":[{\"role\":\"user\"}]}", "messages[0].content: is missing");
    refused("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"video\"}]}]}",
            "\"image_url\"");
    refused("{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", "tool_call_id");
    refused("{\"messages\":[5]}", "messages[0]: expected an object");
    refused("{" HI ",\"temperature\":\"hot\"}", "temperature: expected a number");
    refused("{" HI ",\"temperature\":-1}", "temperature");
    refused("{" HI ",\"top_p\":1.5}", "top_p: expected a number from 0 to 1");
    refused("{" HI ",\"max_tokens\":0}", "max_tokens");
    refused("{" HI ",\"max_tokens\":1.5}", "max_tokens: expected a whole number");
    refused("{" HI ",\"max_tokens\":1,\"max_completion_tokens\":2}", "contradict");
    refused("{" HI ",\"seed\":99999999999999999999}", "seed");
    refused("{" HI ",\"stop\":[1]}", "stop");
    refused("{" HI ",\"stop\":[\"\"]}", "stop");
    refused(
        "{" HI
        ",\"stop\":[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\","
        "\"a\",\"a\",\"a\",\"a\"]}",
        "at most 16");
    refused("{" HI ",\"tools\":[{\"type\":\"x\"}]}", "tools[0].type");
    refused("{" HI ",\"tools\":[{\"type\":\"function\",\"function\":{}}]}",
            "tools[0].function.name");
    refused("{" HI ",\"grammar\":5}", "grammar");
    refused("{" HI ",\"tools\":\"f\"}", "tools: expected an array");
    refused("{" HI ",\"tools\":{\"type\":\"function\"}}", "tools: expected an array");
    refused("{" HI ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":"
            "[]}}]}",
            "tools[0].function.parameters");
    refused("{" HI ",\"tool_choice\":1}", "tool_choice: expected a string or an object");
    refused("{" HI ",\"reasoning_effort\":1}", "reasoning_effort");
    refused("{" HI ",\"response_format\":\"json\"}", "response_format.type");
    refused("{\"messages\":\"hi\"}", "messages: expected an array");
    refused("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},5]}]"
            "}",
            "messages[0].content[1].type");
    refused("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":"
            "{}}]}]}",
            "messages[0].content[0].image_url.url");
    refused("{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\","
            "\"tool_calls\":{}}]}",
            "messages[1].tool_calls: expected an array");
    refused("{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c\",\"function\":{"
            "\"name\":\"f\",\"arguments\":5}}]}]}",
            "messages[0].tool_calls[0].function.arguments");
    refused("{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c\"}]}]}",
            "messages[0].tool_calls[0].function: expected an object");
    refused("{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":5}]}]}",
            "messages[0].tool_calls[0].id");
    refused("{" HI ",\"response_format\":{\"type\":\"xml\"}}", "response_format.type");
    refused("{" HI ",\"response_format\":{\"type\":\"json_schema\"}}",
            "schema: expected an object");
}

static void what_stands_deeper_passes_through_as_well(void) {
    CU_ASSERT_EQUAL_FATAL(
        parse("{\"messages\":[{\"role\":\"user\",\"name\":\"n\",\"content\":[{\"type\":"
              "\"image_url\",\"image_url\":{\"url\":\"data:x\",\"detail\":\"high\"}}]},"
              "{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c\",\"function\":{\"name\":\"f\","
              "\"arguments\":{\"a\": 1.0},\"x\":2}}]}],\"tools\":[{\"type\":\"function\","
              "\"function\":{\"name\":\"f\",\"strict\":true}}],\"response_format\":{\"type\":"
              "\"json_schema\",\"json_schema\":{\"name\":\"n\",\"schema\":{}}}}"),
        TR_OK);
    CU_ASSERT_TRUE(is(chat->turns[0].extra, "{\"name\":\"n\"}"));
    CU_ASSERT_TRUE(is(chat->turns[0].parts[0].image_extra, "{\"detail\":\"high\"}"));
    CU_ASSERT_PTR_NULL(chat->turns[0].parts[0].extra.ptr);
    CU_ASSERT_TRUE(is(chat->turns[1].calls[0].arguments, "{\"a\": 1.0}"));
    CU_ASSERT_TRUE(is(chat->turns[1].calls[0].function_extra, "{\"x\":2}"));
    CU_ASSERT_TRUE(is(chat->tools[0].function_extra, "{\"strict\":true}"));
    CU_ASSERT_PTR_NULL(chat->tools[0].extra.ptr);
    CU_ASSERT_TRUE(is(chat->schema, "{}"));
    CU_ASSERT_TRUE(is(chat->format, "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\","
                                    "\"schema\":{}}}"));
    tr_chat_free(chat);
}

static void any_character_may_stand_in_a_text(void) {
    CU_ASSERT_EQUAL_FATAL(
        parse(
            "{\"messages\":[{\"role\":\"user\",\"content\":\"\\u0001\\t\\u007f\\ud83d\\ude00\"}]}"),
        TR_OK);
    CU_ASSERT_TRUE(is(chat->turns[0].parts[0].text, "\x01\t\x7f\xf0\x9f\x98\x80"));
    tr_chat_free(chat);
}

static void null_is_as_good_as_absent(void) {
    CU_ASSERT_EQUAL_FATAL(parse("{" HI ",\"temperature\":null,\"seed\":null,\"stop\":null,"
                                "\"tools\":null,\"tool_choice\":null,\"grammar\":null,"
                                "\"response_format\":null,\"max_tokens\":null}"),
                          TR_OK);
    CU_ASSERT_TRUE(isnan(chat->temperature));
    CU_ASSERT_EQUAL(chat->seed, -1);
    CU_ASSERT_EQUAL(chat->stop_count + chat->tool_count, 0);
    CU_ASSERT_PTR_NULL(chat->tool_choice.ptr);
    CU_ASSERT_PTR_NULL(chat->format.ptr);
    tr_chat_free(chat);
}

static void embeddings_are_limited_in_number(void) {
    static char text[8 * TR_INPUTS_max];
    for (size_t count = TR_INPUTS_max; count <= TR_INPUTS_max + 1; count++) {
        size_t size = (size_t)snprintf(text, sizeof text, "{\"input\":[\"a\"");
        for (size_t i = 1; i < count; i++) {
            memcpy(text + size, ",\"a\"", 4);
            size += 4;
        }
        memcpy(text + size, "]}", 2);
        tr_err err = tr_chat_parse(TR_OP_EMBED, text, size + 2, &chat, why, sizeof why);
        CU_ASSERT_EQUAL(err, count == TR_INPUTS_max ? TR_OK : TR_ERR_INVALID);
        if (err == TR_OK) {
            CU_ASSERT_EQUAL(chat->input_count, TR_INPUTS_max);
            tr_chat_free(chat);
        }
    }
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "input: at most 2048"));
}

/* Little text that would become much memory. */
static void requests_are_limited_in_values(void) {
    static char text[2 * TR_CHAT_VALUES_max + 200];
    size_t size = (size_t)snprintf(text, sizeof text, "{" HI ",\"x\":[1");
    for (size_t i = 0; i < TR_CHAT_VALUES_max; i++) {
        memcpy(text + size, ",1", 2);
        size += 2;
    }
    memcpy(text + size, "]}", 2);
    CU_ASSERT_EQUAL(tr_chat_parse(TR_OP_CHAT, text, size + 2, &chat, why, sizeof why),
                    TR_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "too many values"));
}

static void a_sentence_is_cut_to_its_room(void) {
    char small[16];
    memset(small, 'x', sizeof small);
    CU_ASSERT_EQUAL(tr_chat_parse(TR_OP_CHAT, "{}", 2, &chat, small, sizeof small), TR_ERR_INVALID);
    CU_ASSERT_EQUAL(strlen(small), sizeof small - 1);
    CU_ASSERT_EQUAL(tr_chat_parse(TR_OP_CHAT, NULL, 0, &chat, why, sizeof why), TR_ERR_INVALID);
}

static void every_truncation_is_refused(void) {
    const char *good = "{" HI ",\"stop\":[\"x\"],\"temperature\":1.5}";
    for (size_t size = 0; size < strlen(good); size++) {
        CU_ASSERT_EQUAL(tr_chat_parse(TR_OP_CHAT, good, size, &chat, why, sizeof why),
                        TR_ERR_INVALID);
    }
}

static void mutations_never_crash(void) {
    const char *good =
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}],"
        "\"stop\":[\"x\"],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"n\":"
        "1}";
    char text[256];
    uint32_t state = 3;
    for (int i = 0; i < 100000; i++) {
        size_t size = strlen(good);
        memcpy(text, good, size);
        for (int k = 0; k < 2; k++) {
            state = state * 1664525U + 1013904223U;
            text[(state >> 8) % size] = "{}[]:,\"\\0aneuts1 "[(state >> 20) % 17];
        }
        if (tr_chat_parse(TR_OP_CHAT, text, size, &chat, why, sizeof why) == TR_OK) {
            tr_chat_free(chat);
        }
    }
}

int main(void) {
    CU_TestInfo tests[] = {
        {"absent_fields_are_absent", absent_fields_are_absent},
        {"sampling_is_read", sampling_is_read},
        {"parts_tools_and_calls_are_read", parts_tools_and_calls_are_read},
        {"what_is_unknown_passes_through_as_written", what_is_unknown_passes_through_as_written},
        {"embeddings_take_one_or_many_texts", embeddings_take_one_or_many_texts},
        {"refusals_name_the_field", refusals_name_the_field},
        {"what_stands_deeper_passes_through_as_well", what_stands_deeper_passes_through_as_well},
        {"any_character_may_stand_in_a_text", any_character_may_stand_in_a_text},
        {"null_is_as_good_as_absent", null_is_as_good_as_absent},
        {"embeddings_are_limited_in_number", embeddings_are_limited_in_number},
        {"requests_are_limited_in_values", requests_are_limited_in_values},
        {"a_sentence_is_cut_to_its_room", a_sentence_is_cut_to_its_room},
        {"every_truncation_is_refused", every_truncation_is_refused},
        {"mutations_never_crash", mutations_never_crash},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"chat", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
