/* Requests of the responses dialect, and what of its answers tests/conformance cannot see: the
 * opaque fields, and that they come back in the next request. */
#include "providers/responses.h"

#include "tests/unit/providers/codec_test.h"

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"
#define HI_OUT                                                                                     \
    "{\"model\":\"m\",\"input\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"stream\":false"

static tr_err encode(const char *request) {
    return encode_as(&tr_dialect_responses, TR_OP_CHAT, "m", request, false);
}

static void writes(const char *fields, const char *expected) {
    char request[4096];
    char whole[8192];
    snprintf(request, sizeof(request), "{" HI "%s}", fields);
    snprintf(whole, sizeof(whole), HI_OUT "%s}", expected);
    CU_ASSERT_EQUAL(encode(request), TR_OK);
    if (strcmp(body, whole) != 0) {
        printf("\n%s\n%s\n%s\n", body, whole, why);
    }
    CU_ASSERT_STRING_EQUAL(body, whole);
}

static void refuses(const char *fields, const char *sentence) {
    char request[4096];
    snprintf(request, sizeof(request), "{" HI "%s}", fields);
    CU_ASSERT_EQUAL(encode(request), TR_ERR_UNSUPPORTED);
    CU_ASSERT_STRING_EQUAL(why, sentence);
}

static void a_plain_question_is_written_plainly(void) {
    writes("", "");
    CU_ASSERT_STRING_EQUAL(path, "/responses");
    CU_ASSERT_EQUAL(encode_as(&tr_dialect_responses, TR_OP_CHAT, "m", "{" HI "}", true), TR_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(body, "\"stream\":true"));
}

static void options_go_under_the_apis_names(void) {
    writes(",\"temperature\":0.5,\"top_p\":1,\"max_tokens\":9,\"reasoning_effort\":\"low\"",
           ",\"temperature\":0.5,\"top_p\":1,\"max_output_tokens\":9,"
           "\"reasoning\":{\"effort\":\"low\"}");
    writes(",\"reasoning_effort\":\"low\",\"reasoning\":{\"summary\":\"auto\"}",
           ",\"reasoning\":{\"effort\":\"low\",\"summary\":\"auto\"}");
    writes(",\"reasoning_effort\":\"low\",\"reasoning\":{\"effort\":\"high\"}",
           ",\"reasoning\":{\"effort\":\"high\"}");
    writes(",\"metadata\":{\"a\":\"b\"},\"max_tokens\":9,\"max_output_tokens\":8",
           ",\"metadata\":{\"a\":\"b\"},\"max_output_tokens\":8");
}

static void an_answer_that_is_not_stored_brings_its_reasoning(void) {
    writes(",\"store\":false,\"reasoning_effort\":\"low\"",
           ",\"include\":[\"reasoning.encrypted_content\"],\"reasoning\":{\"effort\":\"low\"},"
           "\"store\":false");
    writes(",\"store\":false", ",\"store\":false");
    writes(",\"store\":false,\"reasoning_effort\":\"low\",\"include\":[]",
           ",\"reasoning\":{\"effort\":\"low\"},\"store\":false,\"include\":[]");
}

static void what_the_api_cannot_do_is_refused_not_dropped(void) {
    refuses(",\"seed\":1", "provider acme does not take a seed");
    refuses(",\"stop\":\"x\"", "provider acme does not take stop strings");
    refuses(",\"top_k\":5", "provider acme does not take top_k");
    refuses(",\"min_p\":0.5", "provider acme does not take min_p");
    refuses(",\"repeat_penalty\":1.5", "provider acme does not take repeat_penalty");
    refuses(",\"repeat_last_n\":5", "provider acme does not take repeat_last_n");
    refuses(",\"frequency_penalty\":1", "provider acme does not take frequency_penalty");
    refuses(",\"presence_penalty\":1", "provider acme does not take presence_penalty");
    refuses(",\"grammar\":\"root ::= x\"", "provider acme does not take a grammar");
}

static void a_schema_stands_flat_in_text_format(void) {
    writes(",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"mine\","
           "\"strict\":false,\"description\":\"d\",\"schema\":{\"type\":\"array\"}}}",
           ",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"mine\","
           "\"schema\":{\"type\":\"array\"},\"strict\":false,\"description\":\"d\"}}");
    writes(
        ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":"
        "{\"type\":\"object\",\"additionalProperties\":false}}},\"text\":{\"verbosity\":\"low\"}",
        ",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"answer\",\"strict\":true,"
        "\"schema\":{\"type\":\"object\",\"additionalProperties\":false}},"
        "\"verbosity\":\"low\"}");
    writes(",\"response_format\":{\"type\":\"json_object\"}",
           ",\"text\":{\"format\":{\"type\":\"json_object\"}}");
}

static void tools_and_choice_stand_flat(void) {
    writes(",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","
           "\"parameters\":{\"type\":\"object\"},\"strict\":true}},"
           "{\"type\":\"function\",\"function\":{\"name\":\"g\"}}],"
           "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}",
           ",\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"description\":\"d\","
           "\"parameters\":{\"type\":\"object\"},\"strict\":true},"
           "{\"type\":\"function\",\"name\":\"g\",\"parameters\":{\"type\":\"object\","
           "\"properties\":{}},\"strict\":false}],"
           "\"tool_choice\":{\"type\":\"function\",\"name\":\"f\"}");
    writes(",\"tool_choice\":\"required\"", ",\"tool_choice\":\"required\"");
}

static void turns_become_items(void) {
    CU_ASSERT_EQUAL(
        encode("{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},"
               "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"T\"},"
               "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:x\",\"detail\":\"low\"}}]},"
               "{\"role\":\"assistant\",\"content\":\"A\",\"tool_calls\":[{\"id\":\"c1\","
               "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
               "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"R\"},"
               "{\"role\":\"system\",\"content\":\"S2\"}]}"),
        TR_OK);
    CU_ASSERT_STRING_EQUAL(
        body, "{\"model\":\"m\",\"instructions\":\"S\",\"input\":["
              "{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"T\"},"
              "{\"type\":\"input_image\",\"image_url\":\"data:x\",\"detail\":\"low\"}]},"
              "{\"role\":\"assistant\",\"content\":\"A\"},"
              "{\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":\"f\",\"arguments\":\"{}\"},"
              "{\"type\":\"function_call_output\",\"call_id\":\"c1\",\"output\":\"R\"},"
              "{\"role\":\"system\",\"content\":\"S2\"}],\"stream\":false}");
}

static void instructions_of_the_users_own_leave_the_system_turn_in_its_place(void) {
    CU_ASSERT_EQUAL(encode("{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":"
                           "\"user\",\"content\":\"Hi\"}],\"instructions\":\"I\"}"),
                    TR_OK);
    CU_ASSERT_STRING_EQUAL(body, "{\"model\":\"m\",\"input\":[{\"role\":\"system\",\"content\":"
                                 "\"S\"},{\"role\":\"user\",\"content\":\"Hi\"}],\"stream\":false,"
                                 "\"instructions\":\"I\"}");
}

#define REASONING                                                                                  \
    "{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[],\"encrypted_content\":\"QUJD\"}"
#define CALL                                                                                       \
    "{\"id\":\"fc_1\",\"type\":\"function_call\",\"status\":\"completed\",\"call_id\":\"c1\","     \
    "\"name\":\"f\",\"arguments\":\"{}\"}"
#define RESPONSE "{\"status\":\"completed\",\"output\":[" REASONING "," CALL "]}"

static void reasoning_items_survive_the_tool_round_trip(void) {
    static const char *const answers[] = {
        RESPONSE, /* whole, as a terminal event, and in events whose terminal one is bare */
        "data: {\"type\":\"response.completed\",\"response\":" RESPONSE "}\n\n",
        "data: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":" REASONING
        "}\n\ndata: {\"type\":\"response.output_item.done\",\"output_index\":1,\"item\":" CALL
        "}\n\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}\n\n"};
    for (size_t i = 0; i < 3; i++) {
        heard heard =
            decode_as(&tr_dialect_responses, TR_OP_CHAT, 200, answers[i], TR_RESPONSES_OUTPUT);
        CU_ASSERT_EQUAL(heard.err, TR_DONE);
        CU_ASSERT_EQUAL(heard.opaques, 1);
        CU_ASSERT_STRING_EQUAL(heard.opaque, "[" REASONING "," CALL "]");
        CU_ASSERT_STRING_EQUAL(heard.ids, "c1 ");
        CU_ASSERT_EQUAL(heard.outcome.finish, TR_FINISH_TOOL_CALLS);
        char request[20000];
        snprintf(request, sizeof(request),
                 "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\","
                 "\"content\":null,\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\","
                 "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}],\"%s\":%s},"
                 "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"R\"}]}",
                 TR_RESPONSES_OUTPUT, heard.opaque);
        CU_ASSERT_EQUAL(encode(request), TR_OK);
        CU_ASSERT_STRING_EQUAL(
            body, "{\"model\":\"m\",\"input\":[{\"role\":\"user\",\"content\":\"Hi\"}," REASONING
                  "," CALL ",{\"type\":\"function_call_output\",\"call_id\":\"c1\",\"output\":"
                  "\"R\"}],\"stream\":false}");
    }
}

static void an_answer_that_says_no_more_is_not_repeated(void) {
    heard heard = decode_as(
        &tr_dialect_responses, TR_OP_CHAT, 200,
        "{\"status\":\"completed\",\"output\":[{\"type\":\"message\",\"content\":[{\"type\":"
        "\"output_text\",\"text\":\"A\",\"annotations\":[]}]}," CALL "]}",
        TR_RESPONSES_OUTPUT);
    CU_ASSERT_EQUAL(heard.err, TR_DONE);
    CU_ASSERT_STRING_EQUAL(heard.text, "A");
    CU_ASSERT_EQUAL(heard.opaques, 0);
}

static void other_dialects_fields_stay_behind(void) {
    CU_ASSERT_EQUAL(encode("{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":"
                           "\"assistant\",\"content\":\"A\",\"gemini_parts\":[{\"text\":\"A\"}],"
                           "\"phase\":\"commentary\"},{\"role\":\"user\",\"content\":\"B\"}]}"),
                    TR_OK);
    CU_ASSERT_PTR_NULL(strstr(body, "gemini_parts"));
    CU_ASSERT_PTR_NOT_NULL(strstr(body, "\"content\":\"A\",\"phase\":\"commentary\"}"));
}

static void an_output_that_is_no_array_is_refused(void) {
    CU_ASSERT_EQUAL(encode("{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":"
                           "\"assistant\",\"content\":\"A\",\"responses_output\":\"x\"}]}"),
                    TR_ERR_INVALID);
}

static void a_refusal_comes_whole_and_goes_back_as_one(void) {
    heard heard = decode_as(
        &tr_dialect_responses, TR_OP_CHAT, 200,
        "data: {\"type\":\"response.refusal.delta\",\"output_index\":0,\"delta\":\"I \\\"\"}\n\n"
        "data: {\"type\":\"response.refusal.delta\",\"output_index\":0,\"delta\":\"do not\"}\n\n"
        "data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}\n\n",
        "refusal");
    CU_ASSERT_EQUAL(heard.outcome.finish, TR_FINISH_FILTERED);
    CU_ASSERT_STRING_EQUAL(heard.opaque, "\"I \\\"do not\"");
    CU_ASSERT_EQUAL(encode("{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":"
                           "\"assistant\",\"content\":\"\",\"refusal\":\"No\"},{\"role\":\"user\","
                           "\"content\":\"B\"}]}"),
                    TR_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(body, "{\"type\":\"refusal\",\"refusal\":\"No\"}]"));
}

static void usage_tells_cached_and_reasoning_tokens(void) {
    heard heard = decode_as(
        &tr_dialect_responses, TR_OP_CHAT, 200,
        "{\"status\":\"completed\",\"output\":[],\"usage\":{\"input_tokens\":5,"
        "\"input_tokens_details\":{\"cached_tokens\":4},\"output_tokens\":7,"
        "\"output_tokens_details\":{\"reasoning_tokens\":6}},\"model\":\"mm\",\"id\":\"r1\"}",
        "");
    CU_ASSERT_EQUAL(heard.outcome.usage.in, 5);
    CU_ASSERT_EQUAL(heard.outcome.usage.cached, 4);
    CU_ASSERT_EQUAL(heard.outcome.usage.out, 7);
    CU_ASSERT_EQUAL(heard.outcome.usage.reasoning, 6);
    CU_ASSERT_STRING_EQUAL(heard.outcome.model, "mm");
    CU_ASSERT_STRING_EQUAL(heard.outcome.id, "r1");
}

static void tokens_are_counted_by_the_provider(void) {
    CU_ASSERT_EQUAL(encode_as(&tr_dialect_responses, TR_OP_COUNT, "m",
                              "{" HI ",\"temperature\":1,\"store\":false}", false),
                    TR_OK);
    CU_ASSERT_STRING_EQUAL(path, "/responses/input_tokens");
    CU_ASSERT_STRING_EQUAL(body,
                           "{\"model\":\"m\",\"input\":[{\"role\":\"user\",\"content\":\"Hi\"}]}");
    heard heard = decode_as(&tr_dialect_responses, TR_OP_COUNT, 200,
                            "{\"object\":\"response.input_tokens\",\"input_tokens\":11}", "");
    CU_ASSERT_EQUAL(heard.err, TR_DONE);
    CU_ASSERT_STRING_EQUAL(heard.text, "{\"tokens\":11,\"exact\":true}");
}

static void embeddings_are_the_openai_dialects(void) {
    CU_ASSERT_EQUAL(encode_as(&tr_dialect_responses, TR_OP_EMBED, "m", "{\"input\":\"a\"}", false),
                    TR_OK);
    CU_ASSERT_STRING_EQUAL(path, "/embeddings");
}

int main(void) {
    if (CU_initialize_registry() != CUE_SUCCESS) {
        return 1;
    }
    CU_pSuite suite = CU_add_suite("responses", NULL, NULL);
    CU_ADD_TEST(suite, a_plain_question_is_written_plainly);
    CU_ADD_TEST(suite, options_go_under_the_apis_names);
    CU_ADD_TEST(suite, an_answer_that_is_not_stored_brings_its_reasoning);
    CU_ADD_TEST(suite, what_the_api_cannot_do_is_refused_not_dropped);
    CU_ADD_TEST(suite, a_schema_stands_flat_in_text_format);
    CU_ADD_TEST(suite, tools_and_choice_stand_flat);
    CU_ADD_TEST(suite, turns_become_items);
    CU_ADD_TEST(suite, instructions_of_the_users_own_leave_the_system_turn_in_its_place);
    CU_ADD_TEST(suite, reasoning_items_survive_the_tool_round_trip);
    CU_ADD_TEST(suite, an_answer_that_says_no_more_is_not_repeated);
    CU_ADD_TEST(suite, other_dialects_fields_stay_behind);
    CU_ADD_TEST(suite, an_output_that_is_no_array_is_refused);
    CU_ADD_TEST(suite, a_refusal_comes_whole_and_goes_back_as_one);
    CU_ADD_TEST(suite, usage_tells_cached_and_reasoning_tokens);
    CU_ADD_TEST(suite, tokens_are_counted_by_the_provider);
    CU_ADD_TEST(suite, embeddings_are_the_openai_dialects);
    CU_basic_set_mode(CU_BRM_NORMAL);
    CU_basic_run_tests();
    int failed = (int)CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed == 0 ? 0 : 1;
}
