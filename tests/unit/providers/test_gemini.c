/* Requests of the gemini dialect, and what of its answers tests/conformance cannot see: the opaque
 * fields that come back in the next request, ids, advice and counts. */
#include "providers/gemini.h"

#include "tests/unit/providers/codec_test.h"

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"
#define HI_OUT "\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"Hi\"}]}]"

static tr_err encode_for(const char *model, const char *request) {
    return encode_as(&tr_dialect_gemini, TR_OP_CHAT, model, request, false);
}

static tr_err encode(const char *request) {
    return encode_for("gemini-2.5-flash", request);
}

static void writes_for(const char *model, const char *fields, const char *expected) {
    char request[4096];
    char whole[8192];
    snprintf(request, sizeof(request), "{" HI "%s}", fields);
    snprintf(whole, sizeof(whole), "{" HI_OUT "%s}", expected);
    CU_ASSERT_EQUAL(encode_for(model, request), TR_OK);
    if (strcmp(body, whole) != 0) {
        printf("\n%s\n%s\n%s\n", body, whole, why);
    }
    CU_ASSERT_STRING_EQUAL(body, whole);
}

static void writes(const char *fields, const char *expected) {
    writes_for("gemini-2.5-flash", fields, expected);
}

static void refuses_for(const char *model, const char *fields, tr_err err, const char *sentence) {
    char request[4096];
    snprintf(request, sizeof(request), "{" HI "%s}", fields);
    CU_ASSERT_EQUAL(encode_for(model, request), err);
    CU_ASSERT_STRING_EQUAL(why, sentence);
}

static void refuses(const char *fields, const char *sentence) {
    refuses_for("gemini-2.5-flash", fields, TR_ERR_UNSUPPORTED, sentence);
}

/* Turns of the user's, without their brackets. */
static void refuses_turns(const char *turns, tr_err err, const char *sentence) {
    char request[4096];
    snprintf(request, sizeof(request), "{\"messages\":[%s]}", turns);
    CU_ASSERT_EQUAL(encode(request), err);
    CU_ASSERT_STRING_EQUAL(why, sentence);
}

static void the_model_stands_in_the_path(void) {
    writes("", "");
    CU_ASSERT_STRING_EQUAL(path, "/models/gemini-2.5-flash:generateContent");
    CU_ASSERT_EQUAL(encode_as(&tr_dialect_gemini, TR_OP_CHAT, "m", "{" HI "}", true), TR_OK);
    CU_ASSERT_STRING_EQUAL(path, "/models/m:streamGenerateContent?alt=sse");
    CU_ASSERT_EQUAL(encode_for("models/m", "{" HI "}"), TR_OK);
    CU_ASSERT_STRING_EQUAL(path, "/models/m:generateContent");
    CU_ASSERT_EQUAL(encode_for("tunedModels/m", "{" HI "}"), TR_OK);
    CU_ASSERT_STRING_EQUAL(path, "/tunedModels/m:generateContent");
    CU_ASSERT_EQUAL(encode_for("a/../b?c#d e:f%é", "{" HI "}"), TR_OK);
    CU_ASSERT_STRING_EQUAL(path, "/models/a%2F..%2Fb%3Fc%23d%20e%3Af%25%C3%A9:generateContent");
    char longest[TR_NAME_max + 1];
    memset(longest, ':', TR_NAME_max);
    longest[TR_NAME_max] = '\0';
    CU_ASSERT_EQUAL(encode_as(&tr_dialect_gemini, TR_OP_CHAT, longest, "{" HI "}", true), TR_OK);
    CU_ASSERT_EQUAL(strlen(path), 8 + 3 * TR_NAME_max + 30);
}

static void options_go_into_the_generation_config(void) {
    writes(",\"temperature\":0.5,\"top_p\":1,\"top_k\":3,\"max_tokens\":9,\"seed\":7,"
           "\"frequency_penalty\":1,\"presence_penalty\":2,\"stop\":[\"a\",\"b\"]",
           ",\"generationConfig\":{\"temperature\":0.5,\"topP\":1,\"topK\":3,"
           "\"maxOutputTokens\":9,\"seed\":7,\"frequencyPenalty\":1,\"presencePenalty\":2,"
           "\"stopSequences\":[\"a\",\"b\"]}");
    writes(",\"temperature\":0.5,\"seed\":1,\"generationConfig\":{\"temperature\":2,"
           "\"mediaResolution\":\"X\"},\"safetySettings\":[]",
           ",\"generationConfig\":{\"seed\":1,\"temperature\":2,\"mediaResolution\":\"X\"},"
           "\"safetySettings\":[]");
}

static void what_the_api_cannot_do_is_refused_not_dropped(void) {
    refuses(",\"min_p\":0.5", "provider acme does not take min_p");
    refuses(",\"repeat_penalty\":1.5", "provider acme does not take repeat_penalty");
    refuses(",\"repeat_last_n\":5", "provider acme does not take repeat_last_n");
    refuses(",\"grammar\":\"root ::= x\"", "provider acme does not take a grammar");
    refuses(",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\"]",
            "provider acme takes at most 5 stop strings");
    refuses(",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"strict\":true}}]",
            "provider acme cannot hold calls of tool f to its schema (strict)");
    refuses(",\"tool_choice\":{\"type\":\"allowed_tools\"}",
            "provider acme does not know this tool_choice: {\"type\":\"allowed_tools\"}");
    refuses_turns("{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"system\",\"content\":\"b\"}",
                  TR_ERR_UNSUPPORTED,
                  "messages[1]: provider acme takes system messages at the beginning only");
}

static void an_effort_is_a_budget_or_a_level(void) {
    writes(",\"reasoning_effort\":\"low\"",
           ",\"generationConfig\":{\"thinkingConfig\":{\"includeThoughts\":true,"
           "\"thinkingBudget\":1024}}");
    writes(",\"reasoning_effort\":\"none\"",
           ",\"generationConfig\":{\"thinkingConfig\":{\"thinkingBudget\":0}}");
    writes_for("gemini-3-pro", ",\"reasoning_effort\":\"high\"",
               ",\"generationConfig\":{\"thinkingConfig\":{\"includeThoughts\":true,"
               "\"thinkingLevel\":\"high\"}}");
    writes(",\"reasoning_effort\":\"high\",\"generationConfig\":{\"thinkingConfig\":{"
           "\"includeThoughts\":false}}",
           ",\"generationConfig\":{\"thinkingConfig\":{\"thinkingBudget\":24576,"
           "\"includeThoughts\":false}}");
    writes(",\"reasoning_effort\":\"high\",\"generationConfig\":{\"thinkingConfig\":{"
           "\"thinkingBudget\":5}}",
           ",\"generationConfig\":{\"thinkingConfig\":{\"thinkingBudget\":5}}");
    refuses_for("gemini-3-pro", ",\"reasoning_effort\":\"none\"", TR_ERR_UNSUPPORTED,
                "provider acme has no reasoning effort \"none\" for this model");
    refuses(",\"reasoning_effort\":\"huge\"",
            "provider acme has no reasoning effort \"huge\" for this model");
}

static void a_schema_goes_as_it_is(void) {
    writes(",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\","
           "\"schema\":{\"type\":\"object\",\"additionalProperties\":false}}}",
           ",\"generationConfig\":{\"responseMimeType\":\"application/json\","
           "\"responseJsonSchema\":{\"type\":\"object\",\"additionalProperties\":false}}");
    writes(",\"response_format\":{\"type\":\"json_object\"}",
           ",\"generationConfig\":{\"responseMimeType\":\"application/json\"}");
    writes(",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":"
           "{\"type\":\"array\"}}},\"generationConfig\":{\"responseSchema\":{\"type\":\"ARRAY\"}}",
           ",\"generationConfig\":{\"responseMimeType\":\"application/json\","
           "\"responseSchema\":{\"type\":\"ARRAY\"}}");
}

static void tools_are_declared_and_chosen(void) {
    writes(",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","
           "\"parameters\":{\"type\":\"object\"},\"strict\":false}},{\"type\":\"function\","
           "\"function\":{\"name\":\"g\",\"behavior\":\"BLOCKING\"}}],\"tool_choice\":\"required\"",
           ",\"tools\":[{\"functionDeclarations\":[{\"name\":\"f\",\"description\":\"d\","
           "\"parametersJsonSchema\":{\"type\":\"object\"}},{\"name\":\"g\",\"description\":\"\","
           "\"behavior\":\"BLOCKING\"}]}],\"toolConfig\":{\"functionCallingConfig\":{"
           "\"mode\":\"ANY\"}}");
    writes(",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}",
           ",\"toolConfig\":{\"functionCallingConfig\":{\"mode\":\"ANY\","
           "\"allowedFunctionNames\":[\"f\"]}}");
    writes(",\"tool_choice\":\"none\"",
           ",\"toolConfig\":{\"functionCallingConfig\":{\"mode\":\"NONE\"}}");
    writes(",\"tool_choice\":\"auto\",\"toolConfig\":{\"x\":1}", ",\"toolConfig\":{\"x\":1}");
}

static void turns_become_contents(void) {
    CU_ASSERT_EQUAL(
        encode("{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"developer\","
               "\"content\":\"D\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
               "\"T\",\"mark\":1},{\"type\":\"image_url\",\"image_url\":{\"url\":"
               "\"data:image/png;base64,AAAA\",\"detail\":\"auto\"}},{\"type\":\"image_url\","
               "\"image_url\":{\"url\":\"https://generativelanguage.googleapis.com/v1beta/files/x\""
               ",\"mimeType\":\"image/png\"}}]},"
               "{\"role\":\"assistant\",\"content\":\"A\"}]}"),
        TR_OK);
    CU_ASSERT_STRING_EQUAL(
        body, "{\"systemInstruction\":{\"parts\":[{\"text\":\"S\"},{\"text\":\"D\"}]},"
              "\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"T\",\"mark\":1},"
              "{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"AAAA\"}},"
              "{\"fileData\":{\"fileUri\":\"https://generativelanguage.googleapis.com/v1beta/"
              "files/x\",\"mimeType\":\"image/png\"}}]},"
              "{\"role\":\"model\",\"parts\":[{\"text\":\"A\"}]}]}");
}

static void images_that_cannot_be_sent_are_refused(void) {
    static const struct {
        const char *image, *sentence;
    } table[] = {
        {"\"url\":\"https://x.org/a.png\"",
         "provider acme takes images as data: URLs, and fetches none"},
        {"\"url\":\"data:image/png,AAAA\"",
         "provider acme takes images as base64 with their type only"},
        {"\"url\":\"data:;base64,AAAA\"",
         "provider acme takes images as base64 with their type only"},
        {"\"url\":\"data:x\"", "provider acme takes images as base64 with their type only"},
        {"\"url\":\"data:image/png;base64,AAAA\",\"detail\":\"low\"",
         "provider acme has no field for an image's detail"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char turn[256];
        snprintf(turn, sizeof(turn),
                 "{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{%s}}]}",
                 table[i].image);
        refuses_turns(turn, TR_ERR_UNSUPPORTED, table[i].sentence);
    }
}

#define CALLS(id0, id1, more)                                                                      \
    "{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":\"\","             \
    "\"tool_calls\":[{\"id\":\"" id0 "\",\"type\":\"function\",\"function\":{\"name\":\"f\","      \
    "\"arguments\":\"{\\\"a\\\": 1.0}\"}" more "},{\"id\":\"" id1 "\",\"type\":\"function\","      \
    "\"function\":{\"name\":\"g\"}}]}"

static void results_of_one_round_stand_together_with_their_calls_names(void) {
    CU_ASSERT_EQUAL(
        encode("{\"messages\":[" CALLS(
            "1", "2", ",\"thoughtSignature\":\"QQ\"") ",{\"role\":\"tool\",\"tool_call_id\":\"2\","
                                                      "\"content\":\"{\\\"r\\\":1}\"},{\"role\":"
                                                      "\"tool\",\"tool_call_id\":\"1\",\"content\":"
                                                      "\"40 C\"}]}"),
        TR_OK);
    CU_ASSERT_STRING_EQUAL(
        body, "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"Hi\"}]},"
              "{\"role\":\"model\",\"parts\":[{\"functionCall\":{\"id\":\"1\",\"name\":\"f\","
              "\"args\":{\"a\": 1.0}},\"thoughtSignature\":\"QQ\"},"
              "{\"functionCall\":{\"id\":\"2\",\"name\":\"g\",\"args\":{}}}]},"
              "{\"role\":\"user\",\"parts\":[{\"functionResponse\":{\"id\":\"2\",\"name\":\"g\","
              "\"response\":{\"r\":1}}},{\"functionResponse\":{\"id\":\"1\",\"name\":\"f\","
              "\"response\":{\"result\":\"40 C\"}}}]}]}");
}

static void a_signature_of_the_compatible_endpoint_is_understood(void) {
    CU_ASSERT_EQUAL(
        encode("{\"messages\":[" CALLS(
            "1", "2", ",\"extra_content\":{\"google\":{\"thought_signature\":\"QQ\"}}") "]}"),
        TR_OK);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(body, "\"args\":{\"a\": 1.0}},\"thoughtSignature\":\"QQ\"},{\"functionCall\""));
}

static void a_result_without_a_call_is_refused(void) {
    refuses_turns(
        CALLS("1", "2", "") ",{\"role\":\"tool\",\"tool_call_id\":\"3\",\"content\":\"\"}",
        TR_ERR_INVALID, "messages[2].tool_call_id: no call of that id stands before it");
    refuses_turns("{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\",\"type\":"
                  "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"[1]\"}}]}",
                  TR_ERR_INVALID, "the arguments of a call of f are not a JSON object");
}

#define SIGNED                                                                                     \
    "{\"functionCall\":{\"name\":\"f\",\"args\":{\"a\": 1}},\"thoughtSignature\":\"QUJD\"}"
#define UNSIGNED "{\"functionCall\":{\"name\":\"g\",\"args\":{}}}"

static void thought_signatures_come_back_on_their_parts(void) {
    static const char *const answers[] = {
        "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hm\",\"thought\":true}," SIGNED
        "," UNSIGNED "]},\"finishReason\":\"STOP\"}],\"responseId\":\"R\"}",
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hm\",\"thought\":true}]}}],"
        "\"responseId\":\"R\"}\r\n\r\n"
        "data: {\"candidates\":[{\"content\":{\"parts\":[" SIGNED "]}}]}\r\n\r\n"
        "data: {\"candidates\":[{\"content\":{\"parts\":[" UNSIGNED
        "]},\"finishReason\":\"STOP\"}]}\r\n\r\n"};
    for (size_t i = 0; i < 2; i++) {
        heard heard = decode_as(&tr_dialect_gemini, TR_OP_CHAT, 200, answers[i], TR_GEMINI_PARTS);
        CU_ASSERT_EQUAL(heard.err, TR_DONE);
        CU_ASSERT_EQUAL(heard.opaques, 1);
        CU_ASSERT_STRING_EQUAL(heard.opaque, "[" SIGNED "," UNSIGNED "]");
        CU_ASSERT_STRING_EQUAL(heard.ids, "troupe-R-0 troupe-R-1 ");
        char request[20000];
        snprintf(request, sizeof(request),
                 "{\"messages\":[" CALLS(
                     "troupe-R-0", "troupe-R-1",
                     "") ",{\"role\":\"tool\","
                         "\"tool_call_id\":\"troupe-R-1\",\"content\":\"R\"}],\"x\":1}");
        char *calls = strstr(request, "]},{\"role\":\"tool\"");
        CU_ASSERT_PTR_NOT_NULL_FATAL(calls);
        char whole[40000];
        snprintf(whole, sizeof(whole), "%.*s],\"%s\":%s%s", (int)(calls - request), request,
                 TR_GEMINI_PARTS, heard.opaque, calls + 1);
        CU_ASSERT_EQUAL(encode(whole), TR_OK);
        CU_ASSERT_STRING_EQUAL(
            body, "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"Hi\"}]},"
                  "{\"role\":\"model\",\"parts\":[" SIGNED "," UNSIGNED "]},"
                  "{\"role\":\"user\",\"parts\":[{\"functionResponse\":{\"name\":\"g\","
                  "\"response\":{\"result\":\"R\"}}}]}],\"x\":1}");
    }
}

static void an_answer_that_says_no_more_is_not_repeated(void) {
    heard heard = decode_as(&tr_dialect_gemini, TR_OP_CHAT, 200,
                            "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"A\"}," UNSIGNED
                            "]},\"finishReason\":\"STOP\"}]}",
                            TR_GEMINI_PARTS);
    CU_ASSERT_EQUAL(heard.err, TR_DONE);
    CU_ASSERT_STRING_EQUAL(heard.text, "A");
    CU_ASSERT_EQUAL(heard.opaques, 0);
}

static void other_dialects_fields_stay_behind(void) {
    CU_ASSERT_EQUAL(encode("{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":"
                           "\"assistant\",\"content\":\"A\",\"responses_output\":[],"
                           "\"groundingMetadata\":{}},{\"role\":\"user\",\"content\":\"B\"}]}"),
                    TR_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(body, "{\"role\":\"model\",\"parts\":[{\"text\":\"A\"}]}"));
    CU_ASSERT_EQUAL(encode("{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":"
                           "\"assistant\",\"content\":\"\",\"refusal\":\"No\"}]}"),
                    TR_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(body, "{\"role\":\"model\",\"parts\":[{\"text\":\"No\"}]}"));
    refuses_turns("{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":"
                  "\"A\",\"gemini_parts\":5}",
                  TR_ERR_INVALID,
                  "an assistant's message brings back gemini_parts, but not as the array that it "
                  "was");
}

static void grounding_is_handed_out(void) {
    heard heard = decode_as(&tr_dialect_gemini, TR_OP_CHAT, 200,
                            "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"A\"}]},"
                            "\"finishReason\":\"STOP\",\"groundingMetadata\":{\"q\": [1]}}]}",
                            "groundingMetadata");
    CU_ASSERT_STRING_EQUAL(heard.opaque, "{\"q\": [1]}");
}

static void advice_stands_in_the_errors_details(void) {
    static const struct {
        const char *delay;
        uint32_t ms;
    } table[] = {{"48s", 48000},   {"1.5s", 1500},           {"0.002s", 2}, {"48", 0}, {"-1s", 0},
                 {"99999999s", 0}, {"48.939935699s", 48939}, {"s", 0}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char answer[512];
        snprintf(answer, sizeof(answer),
                 "{\"error\":{\"code\":429,\"message\":\"Slowly.\",\"status\":"
                 "\"RESOURCE_EXHAUSTED\",\"details\":[{\"@type\":\"x\"},{\"retryDelay\":\"%s\"}]}}",
                 table[i].delay);
        heard heard = decode_as(&tr_dialect_gemini, TR_OP_CHAT, 429, answer, "");
        CU_ASSERT_EQUAL(heard.err, TR_ERR_RATE_LIMIT);
        CU_ASSERT_EQUAL(heard.outcome.retry_after_ms, table[i].ms);
    }
}

static void usage_tells_cached_and_reasoning_tokens(void) {
    heard heard = decode_as(&tr_dialect_gemini, TR_OP_CHAT, 200,
                            "{\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{"
                            "\"promptTokenCount\":5,\"cachedContentTokenCount\":4,"
                            "\"candidatesTokenCount\":1,\"thoughtsTokenCount\":6},"
                            "\"modelVersion\":\"mm\",\"responseId\":\"r1\"}",
                            "");
    CU_ASSERT_EQUAL(heard.outcome.usage.in, 5);
    CU_ASSERT_EQUAL(heard.outcome.usage.cached, 4);
    CU_ASSERT_EQUAL(heard.outcome.usage.out, 7);
    CU_ASSERT_EQUAL(heard.outcome.usage.reasoning, 6);
    CU_ASSERT_STRING_EQUAL(heard.outcome.model, "mm");
    CU_ASSERT_STRING_EQUAL(heard.outcome.id, "r1");
}

static void tokens_are_counted_by_the_provider(void) {
    CU_ASSERT_EQUAL(encode_as(&tr_dialect_gemini, TR_OP_COUNT, "m", "{" HI ",\"seed\":1}", false),
                    TR_OK);
    CU_ASSERT_STRING_EQUAL(path, "/models/m:countTokens");
    CU_ASSERT_STRING_EQUAL(body, "{\"generateContentRequest\":{\"model\":\"models/m\"," HI_OUT
                                 ",\"generationConfig\":{\"seed\":1}}}");
    heard heard = decode_as(&tr_dialect_gemini, TR_OP_COUNT, 200, "{\"totalTokens\": 11}", "");
    CU_ASSERT_EQUAL(heard.err, TR_DONE);
    CU_ASSERT_STRING_EQUAL(heard.text, "{\"tokens\":11,\"exact\":true}");
    heard = decode_as(&tr_dialect_gemini, TR_OP_COUNT, 200, "{}", "");
    CU_ASSERT_EQUAL(heard.err, TR_ERR_SERVER);
}

static void embeddings_are_asked_for_as_a_batch(void) {
    CU_ASSERT_EQUAL(encode_as(&tr_dialect_gemini, TR_OP_EMBED, "e",
                              "{\"input\":[\"a\",\"b\"],\"dimensions\":3,\"taskType\":\"X\"}",
                              false),
                    TR_OK);
    CU_ASSERT_STRING_EQUAL(path, "/models/e:batchEmbedContents");
    CU_ASSERT_STRING_EQUAL(
        body, "{\"requests\":[{\"model\":\"models/e\",\"content\":{\"parts\":[{\"text\":\"a\"}]},"
              "\"outputDimensionality\":3,\"taskType\":\"X\"},{\"model\":\"models/e\",\"content\":"
              "{\"parts\":[{\"text\":\"b\"}]},\"outputDimensionality\":3,\"taskType\":\"X\"}]}");
    CU_ASSERT_EQUAL(encode_as(&tr_dialect_gemini, TR_OP_EMBED, "e",
                              "{\"input\":\"a\",\"encoding_format\":\"base64\"}", false),
                    TR_ERR_UNSUPPORTED);
    CU_ASSERT_STRING_EQUAL(why, "provider acme sends embeddings as numbers only (encoding_format)");
}

int main(void) {
    if (CU_initialize_registry() != CUE_SUCCESS) {
        return 1;
    }
    CU_pSuite suite = CU_add_suite("gemini", NULL, NULL);
    CU_ADD_TEST(suite, the_model_stands_in_the_path);
    CU_ADD_TEST(suite, options_go_into_the_generation_config);
    CU_ADD_TEST(suite, what_the_api_cannot_do_is_refused_not_dropped);
    CU_ADD_TEST(suite, an_effort_is_a_budget_or_a_level);
    CU_ADD_TEST(suite, a_schema_goes_as_it_is);
    CU_ADD_TEST(suite, tools_are_declared_and_chosen);
    CU_ADD_TEST(suite, turns_become_contents);
    CU_ADD_TEST(suite, images_that_cannot_be_sent_are_refused);
    CU_ADD_TEST(suite, results_of_one_round_stand_together_with_their_calls_names);
    CU_ADD_TEST(suite, a_signature_of_the_compatible_endpoint_is_understood);
    CU_ADD_TEST(suite, a_result_without_a_call_is_refused);
    CU_ADD_TEST(suite, thought_signatures_come_back_on_their_parts);
    CU_ADD_TEST(suite, an_answer_that_says_no_more_is_not_repeated);
    CU_ADD_TEST(suite, other_dialects_fields_stay_behind);
    CU_ADD_TEST(suite, grounding_is_handed_out);
    CU_ADD_TEST(suite, advice_stands_in_the_errors_details);
    CU_ADD_TEST(suite, usage_tells_cached_and_reasoning_tokens);
    CU_ADD_TEST(suite, tokens_are_counted_by_the_provider);
    CU_ADD_TEST(suite, embeddings_are_asked_for_as_a_batch);
    CU_basic_set_mode(CU_BRM_NORMAL);
    CU_basic_run_tests();
    int failed = (int)CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed == 0 ? 0 : 1;
}
