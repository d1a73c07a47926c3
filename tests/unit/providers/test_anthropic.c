/* Requests of the anthropic dialect, and the way of its own blocks out and back in; its answers are
 * held to tests/conformance. */
#include "providers/anthropic.h"

#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "providers/decoder.h"

static char why[200];
static char body[16384];
static char path[sizeof(((tr_encoded *)NULL)->path)];

static tr_err encode_at(tr_op op, const char *model, const char *request, bool stream) {
    tr_chat *chat = NULL;
    tr_encoded encoded;
    body[0] = why[0] = path[0] = '\0';
    tr_err err = tr_chat_parse(op, request, strlen(request), &chat, why, sizeof(why));
    CU_ASSERT_EQUAL_FATAL(err, TR_OK);
    tr_encode in = {.op = op,
                    .chat = chat,
                    .model = {model, strlen(model)},
                    .stream = stream,
                    .provider = "acme"};
    err = tr_dialect_anthropic.encode(&in, &encoded, why, sizeof(why));
    tr_chat_free(chat);
    if (err == TR_OK) {
        tr_json *json = NULL;
        CU_ASSERT_EQUAL(tr_json_parse(encoded.body, encoded.body_size, &json, NULL), TR_OK);
        tr_json_free(json);
        snprintf(body, sizeof(body), "%s", encoded.body);
        snprintf(path, sizeof(path), "%s", encoded.path);
        free(encoded.body);
    }
    return err;
}

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"
#define HEAD "{\"model\":\"m\",\"max_tokens\":4096,"
#define TAIL ",\"stream\":false}"

/* `fields` beside a plain question; `expected` is what stands between question and "stream". */
static void says(const char *fields, const char *expected) {
    char request[4096], want[4096];
    snprintf(request, sizeof(request), "{" HI "%s}", fields);
    snprintf(want, sizeof(want), HEAD HI "%s" TAIL, expected);
    CU_ASSERT_EQUAL(encode_at(TR_OP_CHAT, "m", request, false), TR_OK);
    CU_ASSERT_STRING_EQUAL(body, want);
}

static void refuses(const char *fields, tr_err err, const char *sentence) {
    char request[4096];
    snprintf(request, sizeof(request), "{" HI "%s}", fields);
    CU_ASSERT_EQUAL(encode_at(TR_OP_CHAT, "m", request, false), err);
    CU_ASSERT_STRING_EQUAL(why, sentence);
}

/* The same where the provider's own fields come at the end, as they are. */
static void ends_with(const char *fields, const char *expected) {
    char request[4096], want[4096];
    snprintf(request, sizeof(request), "{" HI "%s}", fields);
    snprintf(want, sizeof(want), HEAD HI ",\"stream\":false%s}", expected);
    CU_ASSERT_EQUAL(encode_at(TR_OP_CHAT, "m", request, false), TR_OK);
    CU_ASSERT_STRING_EQUAL(body, want);
}

/* Messages in, the members "system" and "messages" out. */
static void become(const char *messages, const char *expected) {
    char request[4096], want[4096];
    snprintf(request, sizeof(request), "{\"messages\":[%s]}", messages);
    snprintf(want, sizeof(want), HEAD "%s" TAIL, expected);
    CU_ASSERT_EQUAL(encode_at(TR_OP_CHAT, "m", request, false), TR_OK);
    CU_ASSERT_STRING_EQUAL(body, want);
}

static void a_plain_question_has_max_tokens_all_the_same(void) {
    says("", "");
    CU_ASSERT_STRING_EQUAL(path, "/v1/messages");
    CU_ASSERT_EQUAL(encode_at(TR_OP_CHAT, "m", "{" HI ",\"max_tokens\":9}", true), TR_OK);
    CU_ASSERT_STRING_EQUAL(body, "{\"model\":\"m\",\"max_tokens\":9," HI ",\"stream\":true}");
}

static void sampling_options_go_under_the_servers_names(void) {
    says(",\"temperature\":0.5,\"top_p\":0.25,\"top_k\":7,\"stop\":[\"a\",\"b\"],\"user\":\"u\"",
         ",\"temperature\":0.5,\"top_p\":0.25,\"top_k\":7,\"stop_sequences\":[\"a\",\"b\"],"
         "\"metadata\":{\"user_id\":\"u\"}");
    says(",\"frequency_penalty\":0,\"presence_penalty\":0,\"n\":1,\"logprobs\":false", "");
}

static void what_the_server_cannot_do_is_refused_not_dropped(void) {
    refuses(",\"seed\":1", TR_ERR_UNSUPPORTED, "provider acme does not take a seed");
    refuses(",\"temperature\":1.5", TR_ERR_UNSUPPORTED,
            "provider acme does not take a temperature above 1");
    refuses(",\"presence_penalty\":0.5", TR_ERR_UNSUPPORTED,
            "provider acme does not take presence_penalty");
    refuses(",\"frequency_penalty\":-1", TR_ERR_UNSUPPORTED,
            "provider acme does not take frequency_penalty");
    refuses(",\"repeat_penalty\":1.5", TR_ERR_UNSUPPORTED,
            "provider acme does not take repeat_penalty");
    refuses(",\"repeat_last_n\":5", TR_ERR_UNSUPPORTED,
            "provider acme does not take repeat_last_n");
    refuses(",\"min_p\":0.5", TR_ERR_UNSUPPORTED, "provider acme does not take min_p");
    refuses(",\"grammar\":\"x\"", TR_ERR_UNSUPPORTED, "provider acme does not take a grammar");
    refuses(",\"logprobs\":true", TR_ERR_UNSUPPORTED, "provider acme does not take logprobs");
    refuses(",\"logit_bias\":{\"5\":1}", TR_ERR_UNSUPPORTED,
            "provider acme does not take logit_bias");
    refuses(",\"n\":2", TR_ERR_UNSUPPORTED, "provider acme does not take n: it gives one answer");
    refuses(",\"response_format\":{\"type\":\"json_object\"}", TR_ERR_UNSUPPORTED,
            "provider acme does not take response_format json_object: give it a json_schema");
    CU_ASSERT_EQUAL(encode_at(TR_OP_EMBED, "m", "{\"input\":\"a\"}", false), TR_ERR_UNSUPPORTED);
    CU_ASSERT_STRING_EQUAL(why, "provider acme makes no embeddings");
}

static void system_messages_stand_at_the_top(void) {
    become("{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"Hi\"}",
           "\"system\":\"S\"," HI);
    become(
        "{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"Hi\"},"
        "{\"role\":\"developer\",\"content\":\"D\"}",
        "\"system\":[{\"type\":\"text\",\"text\":\"S\"},{\"type\":\"text\",\"text\":\"D\"}]," HI);
    become("{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"S\",\"cache_control\":"
           "{\"type\":\"ephemeral\"}}]},{\"role\":\"user\",\"content\":\"Hi\"}",
           "\"system\":[{\"type\":\"text\",\"text\":\"S\",\"cache_control\":{\"type\":"
           "\"ephemeral\"}}]," HI);
    become("{\"role\":\"system\",\"content\":\"S\",\"cache_control\":{\"type\":\"ephemeral\"}},"
           "{\"role\":\"user\",\"content\":\"Hi\"}",
           "\"system\":[{\"type\":\"text\",\"text\":\"S\",\"cache_control\":{\"type\":"
           "\"ephemeral\"}}]," HI);
    CU_ASSERT_EQUAL(encode_at(TR_OP_CHAT, "m",
                              "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":"
                              "\"user\",\"content\":\"Hi\"}],\"system\":\"T\"}",
                              false),
                    TR_ERR_INVALID);
    ends_with(",\"system\":[{\"type\":\"text\",\"text\":\"T\"}]",
              ",\"system\":[{\"type\":\"text\",\"text\":\"T\"}]");
}

static void images_are_sources(void) {
    become("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"T\"},"
           "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,AAAA\","
           "\"detail\":\"auto\"}},{\"type\":\"image_url\",\"image_url\":\"https://x/y.jpg\"},"
           "{\"type\":\"image_url\",\"image_url\":\"data:application/pdf;base64,BBBB\"}]}",
           "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"T\"},"
           "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"image/png\","
           "\"data\":\"AAAA\"}},{\"type\":\"image\",\"source\":{\"type\":\"url\",\"url\":"
           "\"https://x/y.jpg\"}},{\"type\":\"document\",\"source\":{\"type\":\"base64\","
           "\"media_type\":\"application/pdf\",\"data\":\"BBBB\"}}]}]");
    static const char *const bad[] = {"data:image/png,AAAA",
                                      "data:text/plain;base64,AAAA",
                                      "data:",
                                      "data:;base64",
                                      "file:///x",
                                      "image.png"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char request[512];
        snprintf(request, sizeof(request),
                 "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
                 "\"image_url\":\"%s\"}]}]}",
                 bad[i]);
        CU_ASSERT_EQUAL(encode_at(TR_OP_CHAT, "m", request, false), TR_ERR_INVALID);
        CU_ASSERT(why[0] != '\0');
    }
    CU_ASSERT_EQUAL(encode_at(TR_OP_CHAT, "m",
                              "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
                              "\"image_url\",\"image_url\":{\"url\":\"http://x\",\"detail\":"
                              "\"high\"}}]}]}",
                              false),
                    TR_ERR_UNSUPPORTED);
}

static void results_of_tools_are_one_user_message(void) {
    become("{\"role\":\"user\",\"content\":\"Q\"},"
           "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":["
           "{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
           "\"{\\\"a\\\": 1.0}\"}},{\"id\":\"c2\",\"type\":\"function\",\"function\":"
           "{\"name\":\"g\",\"arguments\":\"\"}}]},"
           "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"R1\"},"
           "{\"role\":\"tool\",\"tool_call_id\":\"c2\",\"content\":\"R2\",\"is_error\":true},"
           "{\"role\":\"user\",\"content\":\"and?\"}",
           "\"messages\":[{\"role\":\"user\",\"content\":\"Q\"},"
           "{\"role\":\"assistant\",\"content\":["
           "{\"type\":\"tool_use\",\"id\":\"c1\",\"name\":\"f\",\"input\":{\"a\": 1.0}},"
           "{\"type\":\"tool_use\",\"id\":\"c2\",\"name\":\"g\",\"input\":{}}]},"
           "{\"role\":\"user\",\"content\":["
           "{\"type\":\"tool_result\",\"tool_use_id\":\"c1\",\"content\":\"R1\"},"
           "{\"type\":\"tool_result\",\"tool_use_id\":\"c2\",\"content\":\"R2\",\"is_error\":true},"
           "{\"type\":\"text\",\"text\":\"and?\"}]}]");
    CU_ASSERT_EQUAL(
        encode_at(TR_OP_CHAT, "m",
                  "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c\","
                  "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
                  "\"[1]\"}}]}]}",
                  false),
        TR_ERR_INVALID);
    CU_ASSERT_STRING_EQUAL(why, "the arguments of the call of tool f are not a JSON object");
}

static void tools_and_their_choice_are_said_the_servers_way(void) {
    static const char tools[] =
        ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","
        "\"parameters\":{\"type\":\"object\",\"properties\":{}},\"strict\":true},"
        "\"cache_control\":{\"type\":\"ephemeral\"}},"
        "{\"type\":\"function\",\"function\":{\"name\":\"g\"}}]";
    static const char tools_out[] =
        ",\"tools\":[{\"name\":\"f\",\"description\":\"d\",\"input_schema\":{\"type\":\"object\","
        "\"properties\":{}},\"strict\":true,\"cache_control\":{\"type\":\"ephemeral\"}},"
        "{\"name\":\"g\",\"input_schema\":{\"type\":\"object\"}}]";
    static const struct {
        const char *in, *out;
    } choices[] = {
        {"", ""},
        {",\"tool_choice\":\"auto\"", ",\"tool_choice\":{\"type\":\"auto\"}"},
        {",\"tool_choice\":\"required\"", ",\"tool_choice\":{\"type\":\"any\"}"},
        {",\"tool_choice\":\"none\"", ",\"tool_choice\":{\"type\":\"none\"}"},
        {",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"g\"}}",
         ",\"tool_choice\":{\"type\":\"tool\",\"name\":\"g\"}"},
        {",\"tool_choice\":{\"type\":\"any\", \"disable_parallel_tool_use\":false}",
         ",\"tool_choice\":{\"type\":\"any\", \"disable_parallel_tool_use\":false}"},
        {",\"parallel_tool_calls\":false",
         ",\"tool_choice\":{\"type\":\"auto\",\"disable_parallel_tool_use\":true}"},
        {",\"parallel_tool_calls\":true", ""},
        {",\"tool_choice\":\"none\",\"parallel_tool_calls\":false",
         ",\"tool_choice\":{\"type\":\"none\"}"},
    };
    for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
        char in[1024], out[1024];
        snprintf(in, sizeof(in), "%s%s", tools, choices[i].in);
        snprintf(out, sizeof(out), "%s%s", tools_out, choices[i].out);
        says(in, out);
    }
    refuses(",\"tool_choice\":\"sometimes\"", TR_ERR_INVALID,
            "tool_choice: expected auto, required, none or a function's name");
}

static void effort_is_a_budget_or_an_adaptation(void) {
    static const struct {
        const char *model;
        bool adapts;
    } models[] = {{"claude-3-7-sonnet-20250219", false},
                  {"claude-sonnet-4-20250514", false},
                  {"claude-opus-4-1-20250805", false},
                  {"claude-haiku-4-5-20251001", false},
                  {"us.anthropic.claude-sonnet-4-5-20250929-v1:0", false},
                  {"claude-opus-4-6", true},
                  {"claude-opus-4-10", true},
                  {"claude-sonnet-5", true},
                  {"claude-next", true},
                  {"some-model-3", true}};
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        CU_ASSERT_EQUAL(encode_at(TR_OP_CHAT, models[i].model,
                                  "{" HI ",\"reasoning_effort\":\"medium\"}", false),
                        TR_OK);
        CU_ASSERT_PTR_NOT_NULL(
            strstr(body, models[i].adapts
                             ? "\"thinking\":{\"type\":\"adaptive\"},\"output_config\":{\"effort\":"
                               "\"medium\"}"
                             : "\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":4096}"));
        CU_ASSERT_PTR_NOT_NULL(
            strstr(body, models[i].adapts ? "\"max_tokens\":4096," : "\"max_tokens\":8192,"));
    }
    says(",\"reasoning_effort\":\"none\"", ",\"thinking\":{\"type\":\"disabled\"}");
    says(",\"reasoning_effort\":\"minimal\"",
         ",\"thinking\":{\"type\":\"adaptive\"},\"output_config\":{\"effort\":\"low\"}");
    refuses(",\"reasoning_effort\":\"much\"", TR_ERR_INVALID,
            "reasoning_effort: expected none, minimal, low, medium, high, xhigh or max");
}

static void a_budget_stays_below_max_tokens(void) {
    static const char old[] = "claude-sonnet-4-5";
    CU_ASSERT_EQUAL(encode_at(TR_OP_CHAT, old,
                              "{" HI ",\"reasoning_effort\":\"high\",\"max_tokens\":8000}", false),
                    TR_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(body, "\"max_tokens\":8000,"));
    CU_ASSERT_PTR_NOT_NULL(strstr(body, "\"budget_tokens\":4000}"));
    CU_ASSERT_EQUAL(encode_at(TR_OP_CHAT, old,
                              "{" HI ",\"reasoning_effort\":\"low\",\"max_tokens\":1024}", false),
                    TR_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(encode_at(TR_OP_CHAT, old,
                              "{" HI ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":5000}}",
                              false),
                    TR_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(body, "\"max_tokens\":9096,"));
}

static void a_schema_stands_in_output_config(void) {
    static const char schema[] = ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":"
                                 "{\"name\":\"n\",\"schema\":{\"type\":\"object\", \"x\":1}}}";
    char fields[1024];
    says(schema, ",\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":"
                 "{\"type\":\"object\", \"x\":1}}}");
    snprintf(fields, sizeof(fields), "%s,\"output_config\":{\"effort\":\"max\"}", schema);
    says(fields, ",\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":"
                 "{\"type\":\"object\", \"x\":1}},\"effort\":\"max\"}");
    says(",\"output_config\":{ \"effort\":\"low\"}", ",\"output_config\":{ \"effort\":\"low\"}");
}

static void own_fields_pass_byte_for_byte_at_every_level(void) {
    static const char mark[] = "\"cache_control\":{ \"type\" : \"ephemeral\", \"n\":1.0e2 }";
    char request[2048];
    snprintf(request, sizeof(request),
             "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"T\",%s},"
             "{\"type\":\"image_url\",\"image_url\":{\"url\":\"http://x\"},%s}],\"m1\":{%s}},"
             "{\"role\":\"assistant\",\"content\":\"A\",\"tool_calls\":[{\"id\":\"c\",\"type\":"
             "\"function\",\"function\":{\"name\":\"f\"},%s}],\"m2\":{%s}},"
             "{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":[{\"type\":\"text\",\"text\":"
             "\"R\",%s}],%s}],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"},%s}],"
             "%s,\"inference_geo\":\"us\"}",
             mark, mark, mark, mark, mark, mark, mark, mark, mark);
    CU_ASSERT_EQUAL(encode_at(TR_OP_CHAT, "m", request, false), TR_OK);
    size_t count = 0;
    for (const char *at = body; (at = strstr(at, mark)) != NULL; at++) {
        count++;
    }
    CU_ASSERT_EQUAL(count, 9);
    CU_ASSERT_PTR_NOT_NULL(strstr(body, ",\"inference_geo\":\"us\"}"));
    become("{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"S\",\"a\":1}],\"a\":2,"
           "\"b\":3},{\"role\":\"user\",\"content\":\"Hi\"}",
           "\"system\":[{\"type\":\"text\",\"text\":\"S\",\"a\":1,\"b\":3}]," HI);
    ends_with(",\"stop\":\"a\",\"stop_sequences\":[\"b\"],\"metadata\":{\"user_id\":1.0},"
              "\"user\":\"v\"",
              ",\"stop_sequences\":[\"b\"],\"metadata\":{\"user_id\":1.0}");
}

static void a_count_is_asked_with_what_changes_it(void) {
    CU_ASSERT_EQUAL(encode_at(TR_OP_COUNT, "m",
                              "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":"
                              "\"user\",\"content\":\"Hi\"}],\"temperature\":2,\"seed\":1,"
                              "\"metadata\":{},\"thinking\":{\"type\":\"disabled\"}}",
                              false),
                    TR_OK);
    CU_ASSERT_STRING_EQUAL(path, "/v1/messages/count_tokens");
    CU_ASSERT_STRING_EQUAL(body, "{\"model\":\"m\",\"system\":\"S\"," HI
                                 ",\"thinking\":{\"type\":\"disabled\"}}");
}

/* ---- answers ---- */

static char heard[8192]; /* each opaque field as "name=value;", texts as they are */

static tr_err hear(void *arg, const tr_piece *piece) {
    (void)arg;
    size_t used = strlen(heard);
    if (piece->kind == TR_DELTA_OPAQUE) {
        snprintf(heard + used, sizeof(heard) - used, "%.*s=%.*s;", (int)piece->name.size,
                 piece->name.ptr, (int)piece->text.size, piece->text.ptr);
    } else if (piece->kind == TR_DELTA_TEXT) {
        snprintf(heard + used, sizeof(heard) - used, "%.*s", (int)piece->text.size,
                 piece->text.ptr);
    }
    return TR_OK;
}

static tr_err decode(tr_op op, const char *answer, tr_outcome *outcome) {
    tr_decoder *decoder = NULL;
    heard[0] = '\0';
    CU_ASSERT_EQUAL_FATAL(tr_decoder_new(&tr_dialect_anthropic, op, hear, NULL, &decoder), TR_OK);
    tr_decoder_head(decoder, 200);
    tr_err err = tr_decoder_feed(decoder, answer, strlen(answer));
    err = err == TR_OK ? tr_decoder_end(decoder, false) : err;
    *outcome = *tr_decoder_outcome(decoder);
    tr_decoder_free(decoder);
    return err;
}

#define START                                                                                      \
    "data: "                                                                                       \
    "{\"type\":\"message_start\",\"message\":{\"id\":\"i\",\"usage\":{\"input_tokens\":3}}}\n\n"
#define BLOCK(i, json)                                                                             \
    "data: {\"type\":\"content_block_start\",\"index\":" #i ",\"content_block\":" json "}\n\n"
#define DELTA(i, json)                                                                             \
    "data: {\"type\":\"content_block_delta\",\"index\":" #i ",\"delta\":" json "}\n\n"
#define TEXT(text) "{\"type\":\"text_delta\",\"text\":\"" text "\"}"
#define STOP(reason)                                                                               \
    "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"" reason                       \
    "\"},\"usage\":{\"output_tokens\":4}}\n\ndata: {\"type\":\"message_stop\"}\n\n"
#define THOUGHT(i, text, sig)                                                                      \
    BLOCK(i, "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}")                       \
    DELTA(i, "{\"type\":\"thinking_delta\",\"thinking\":\"" text "\"}")                            \
    DELTA(i, "{\"type\":\"signature_delta\",\"signature\":\"" sig "\"}")
#define THOUGHT_OUT(text, sig)                                                                     \
    "{\"type\":\"thinking\",\"thinking\":\"" text "\",\"signature\":\"" sig "\"}"
#define REDACTED "{\"type\":\"redacted_thinking\",\"data\":\"ZZ\"}"

static void thoughts_come_back_before_text_and_calls(void) {
    tr_outcome outcome;
    CU_ASSERT_EQUAL(decode(TR_OP_CHAT,
                           START THOUGHT(0, "a\\n", "s1") BLOCK(1, REDACTED)
                               BLOCK(2, "{\"type\":\"text\",\"text\":\"\"}") DELTA(2, TEXT("Hi"))
                                   BLOCK(3, "{\"type\":\"tool_use\",\"id\":\"c\",\"name\":\"f\","
                                            "\"input\":{}}") STOP("tool_use"),
                           &outcome),
                    TR_DONE);
    CU_ASSERT_EQUAL(outcome.finish, TR_FINISH_TOOL_CALLS);
    CU_ASSERT_STRING_EQUAL(heard, "Hicontent_blocks=[" THOUGHT_OUT("a\\n", "s1") "," REDACTED "];");
    become("{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":\"Hi\","
           "\"tool_calls\":[{\"id\":\"c\",\"type\":\"function\",\"function\":{\"name\":\"f\","
           "\"arguments\":\"{}\"}}],\"content_blocks\":[" THOUGHT_OUT(
               "a\\n", "s1") "," REDACTED
                             "],\"stop_reason\":\"x\",\"stop_sequence\":\"y\",\"citations\":[1]}",
           "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\","
           "\"content\":[" THOUGHT_OUT(
               "a\\n", "s1") "," REDACTED ",{\"type\":\"text\",\"text\":\"Hi\"},"
                             "{\"type\":\"tool_use\",\"id\":\"c\",\"name\":\"f\",\"input\":{}}]}]");
}

#define PLACES                                                                                     \
    "[{\"type\":\"text\",\"bytes\":2}," THOUGHT_OUT(                                               \
        "a", "s1") ",{\"type\":\"tool_use\",\"id\":"                                               \
                   "\"c\"}," THOUGHT_OUT(                                                          \
                       "b", "s2") ",{\"type\":\"text\",\"bytes\":3,\"citations\":[{\"u\":1},"      \
                                  "{\"u\":2}]}]"

static void an_unusual_order_is_kept(void) {
    tr_outcome outcome;
    CU_ASSERT_EQUAL(
        decode(TR_OP_CHAT,
               START DELTA(0, TEXT("Hi")) THOUGHT(1, "a", "s1")
                   BLOCK(2, "{\"type\":\"tool_use\",\"id\":\"c\",\"name\":\"f\",\"input\":{}}")
                       THOUGHT(3, "b", "s2") BLOCK(4, "{\"type\":\"text\",\"text\":\"\"}")
                           DELTA(4, "{\"type\":\"citations_delta\",\"citation\":{\"u\":1}}")
                               DELTA(4, TEXT("you"))
                                   DELTA(4, "{\"type\":\"citations_delta\",\"citation\":{\"u\":2}}")
                                       STOP("end_turn"),
               &outcome),
        TR_DONE);
    CU_ASSERT_STRING_EQUAL(heard,
                           "Hiyoucontent_blocks=" PLACES ";citations=[{\"u\":1},{\"u\":2}];");
    become(
        "{\"role\":\"assistant\",\"content\":\"Hiyou\",\"tool_calls\":[{\"id\":\"c\",\"type\":"
        "\"function\",\"function\":{\"name\":\"f\"}}],\"content_blocks\":" PLACES "}",
        "\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}"
        "," THOUGHT_OUT("a", "s1") ",{\"type\":\"tool_use\",\"id\":\"c\",\"name\":\"f\",\"input\":{"
                                   "}}," THOUGHT_OUT("b", "s2") ",{\"type\":\"text\",\"text\":"
                                                                "\"you\",\"citations\":[{\"u\":1},"
                                                                "{\"u\":2}]}]}]");
}

static void places_that_do_not_fit_any_more_are_forgotten(void) {
    static const char *const texts[] = {"Hi", "Hiyou!", "Hi you all", "Höyo"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char in[2048], out[2048];
        snprintf(
            in, sizeof(in),
            "{\"role\":\"assistant\",\"content\":\"%s\",\"tool_calls\":[{\"id\":\"c\",\"type\":"
            "\"function\",\"function\":{\"name\":\"f\"}}],\"content_blocks\":" PLACES "}",
            texts[i]);
        snprintf(
            out, sizeof(out),
            "\"messages\":[{\"role\":\"assistant\",\"content\":[" THOUGHT_OUT(
                "a", "s1") "," THOUGHT_OUT("b",
                                           "s2") ",{\"type\":\"text\",\"text\":\"%s\"},{\"type\":"
                                                 "\"tool_use\",\"id\":\"c\",\"name\":\"f\","
                                                 "\"input\":{}}]}]",
            texts[i]);
        become(in, out);
    }
    become(
        "{\"role\":\"assistant\",\"content\":\"Hiyou\",\"content_blocks\":[{\"type\":\"tool_use\","
        "\"bytes\":5},{\"type\":\"text\",\"bytes\":-1},7,{\"type\":\"text\"}]}",
        "\"messages\":[{\"role\":\"assistant\",\"content\":[7,{\"type\":\"text\",\"text\":"
        "\"Hiyou\"}]}]");
    CU_ASSERT_EQUAL(encode_at(TR_OP_CHAT, "m",
                              "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\","
                              "\"content_blocks\":{}}]}",
                              false),
                    TR_ERR_INVALID);
}

static void a_tool_of_the_servers_is_no_call_and_comes_back_whole(void) {
    tr_outcome outcome;
    CU_ASSERT_EQUAL(
        decode(TR_OP_CHAT,
               START BLOCK(
                   0, "{\"type\":\"server_tool_use\",\"id\":\"s\",\"name\":\"w\",\"input\":{}}")
                   DELTA(0, "{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"q\\\":\"}")
                       DELTA(0, "{\"type\":\"input_json_delta\",\"partial_json\":\"1}\"}")
                           BLOCK(1, "{\"type\":\"web_search_tool_result\",\"tool_use_id\":\"s\","
                                    "\"content\":[ 1.0 ]}") DELTA(2, TEXT("ok")) STOP("pause_turn"),
               &outcome),
        TR_DONE);
    CU_ASSERT_EQUAL(outcome.finish, TR_FINISH_OTHER);
    CU_ASSERT_STRING_EQUAL(
        heard, "okcontent_blocks=[{\"type\":\"server_tool_use\",\"id\":\"s\",\"name\":\"w\","
               "\"input\":{\"q\":1}},{\"type\":\"web_search_tool_result\",\"tool_use_id\":\"s\","
               "\"content\":[ 1.0 ]}];stop_reason=\"pause_turn\";");
}

static void a_count_is_one_text_of_json(void) {
    tr_outcome outcome;
    CU_ASSERT_EQUAL(decode(TR_OP_COUNT, "{\"input_tokens\":14}", &outcome), TR_DONE);
    CU_ASSERT_STRING_EQUAL(heard, "{\"tokens\":14,\"exact\":true}");
    CU_ASSERT_EQUAL(decode(TR_OP_COUNT, "{\"tokens\":14}", &outcome), TR_ERR_SERVER);
}

static void usage_tells_what_the_cache_gave(void) {
    tr_outcome outcome;
    CU_ASSERT_EQUAL(
        decode(TR_OP_CHAT,
               "{\"type\":\"message\",\"id\":\"i\",\"model\":\"c\",\"content\":[],"
               "\"stop_reason\":\"max_tokens\",\"usage\":{\"input_tokens\":4,"
               "\"cache_read_input_tokens\":100,\"cache_creation_input_tokens\":50,"
               "\"output_tokens\":9,\"output_tokens_details\":{\"thinking_tokens\":2}}}",
               &outcome),
        TR_DONE);
    CU_ASSERT_EQUAL(outcome.finish, TR_FINISH_LENGTH);
    CU_ASSERT_EQUAL(outcome.usage.in, 4);
    CU_ASSERT_EQUAL(outcome.usage.cached, 100);
    CU_ASSERT_EQUAL(outcome.usage.out, 9);
    CU_ASSERT_EQUAL(outcome.usage.reasoning, 2);
    CU_ASSERT_STRING_EQUAL(outcome.model, "c");
    CU_ASSERT_STRING_EQUAL(heard, "cache_creation_input_tokens=50;");
}

/* The surcharge of an answer, streamed when `later` (the usage of its message_delta) is given. */
static uint32_t surcharge(const char *usage, const char *later) {
    static char answer[1024];
    tr_outcome outcome;
    if (later == NULL) {
        snprintf(answer, sizeof answer,
                 "{\"type\":\"message\",\"id\":\"i\",\"model\":\"c\",\"content\":[],"
                 "\"stop_reason\":\"end_turn\",\"usage\":{\"input_tokens\":4,%s}}",
                 usage);
    } else {
        snprintf(answer, sizeof answer,
                 "data: {\"type\":\"message_start\",\"message\":{\"id\":\"i\",\"usage\":{%s}}}\n\n"
                 "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},"
                 "\"usage\":{%s}}\n\ndata: {\"type\":\"message_stop\"}\n\n",
                 usage, later);
    }
    CU_ASSERT_EQUAL(decode(TR_OP_CHAT, answer, &outcome), TR_DONE);
    return outcome.usage.surcharge;
}

/* docs.anthropic.com, Prompt caching, Pricing: 5 minutes cost 1.25 times the price, 1 hour twice.
 */
static void what_is_written_into_the_cache_costs_more(void) {
#define WRITTEN "\"cache_creation_input_tokens\":1000"
#define SPLIT(minutes, hour)                                                                       \
    ",\"cache_creation\":{\"ephemeral_5m_input_tokens\":" minutes                                  \
    ",\"ephemeral_1h_input_tokens\":" hour "}"
    CU_ASSERT_EQUAL(surcharge("\"cache_read_input_tokens\":1000", NULL), 0);
    CU_ASSERT_EQUAL(surcharge(WRITTEN, NULL), 1250);
    CU_ASSERT_EQUAL(surcharge(WRITTEN SPLIT("1000", "0"), NULL), 1250);
    CU_ASSERT_EQUAL(surcharge(WRITTEN SPLIT("0", "1000"), NULL), 2000);
    CU_ASSERT_EQUAL(surcharge(WRITTEN SPLIT("600", "400"), NULL), 1550);
    /* A stream says the split once, and the sum again at its end. */
    CU_ASSERT_EQUAL(surcharge(WRITTEN SPLIT("0", "1000"), "\"output_tokens\":9"), 2000);
    CU_ASSERT_EQUAL(surcharge(WRITTEN SPLIT("0", "1000"), WRITTEN ",\"output_tokens\":9"), 2000);
    CU_ASSERT_EQUAL(surcharge(WRITTEN SPLIT("600", "400"), WRITTEN), 1550);
    CU_ASSERT_EQUAL(surcharge(WRITTEN, WRITTEN), 1250);
    /* More for an hour than at all cannot be. */
    CU_ASSERT_EQUAL(surcharge(WRITTEN SPLIT("0", "5000"), NULL), 2000);
}

int main(void) {
    if (CU_initialize_registry() != CUE_SUCCESS) {
        return 1;
    }
    CU_pSuite suite = CU_add_suite("anthropic", NULL, NULL);
    CU_ADD_TEST(suite, a_plain_question_has_max_tokens_all_the_same);
    CU_ADD_TEST(suite, sampling_options_go_under_the_servers_names);
    CU_ADD_TEST(suite, what_the_server_cannot_do_is_refused_not_dropped);
    CU_ADD_TEST(suite, system_messages_stand_at_the_top);
    CU_ADD_TEST(suite, images_are_sources);
    CU_ADD_TEST(suite, results_of_tools_are_one_user_message);
    CU_ADD_TEST(suite, tools_and_their_choice_are_said_the_servers_way);
    CU_ADD_TEST(suite, effort_is_a_budget_or_an_adaptation);
    CU_ADD_TEST(suite, a_budget_stays_below_max_tokens);
    CU_ADD_TEST(suite, a_schema_stands_in_output_config);
    CU_ADD_TEST(suite, own_fields_pass_byte_for_byte_at_every_level);
    CU_ADD_TEST(suite, a_count_is_asked_with_what_changes_it);
    CU_ADD_TEST(suite, thoughts_come_back_before_text_and_calls);
    CU_ADD_TEST(suite, an_unusual_order_is_kept);
    CU_ADD_TEST(suite, places_that_do_not_fit_any_more_are_forgotten);
    CU_ADD_TEST(suite, a_tool_of_the_servers_is_no_call_and_comes_back_whole);
    CU_ADD_TEST(suite, a_count_is_one_text_of_json);
    CU_ADD_TEST(suite, usage_tells_what_the_cache_gave);
    CU_ADD_TEST(suite, what_is_written_into_the_cache_costs_more);
    CU_basic_set_mode(CU_BRM_NORMAL);
    CU_basic_run_tests();
    int failed = (int)CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed == 0 ? 0 : 1;
}
