/* Requests of the ollama dialect, and its server's address; its answers are held to
 * tests/conformance. */
#include "providers/ollama.h"

#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "providers/ollama_internal.h"

static char why[200];
static char body[8192];
static char path[sizeof(((tr_encoded *)NULL)->path)];

static tr_err encode_op(tr_op op, const char *request, bool stream) {
    tr_chat *chat = NULL;
    tr_encoded encoded;
    body[0] = why[0] = path[0] = '\0';
    CU_ASSERT_EQUAL_FATAL(tr_chat_parse(op, request, strlen(request), &chat, why, sizeof(why)),
                          TR_OK);
    tr_encode in = {
        .op = op, .chat = chat, .model = {"m", 1}, .stream = stream, .provider = "ollama"};
    tr_err err = tr_dialect_ollama.encode(&in, &encoded, why, sizeof(why));
    tr_chat_free(chat);
    if (err == TR_OK) {
        CU_ASSERT_EQUAL(strlen(encoded.body), encoded.body_size);
        CU_ASSERT_FALSE(encoded.get);
        CU_ASSERT_FALSE(encoded.from_root);
        snprintf(body, sizeof(body), "%s", encoded.body);
        snprintf(path, sizeof(path), "%s", encoded.path);
        free(encoded.body);
    }
    return err;
}

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"
#define HI_OUT                                                                                     \
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"stream\":false"

/* `fields` beside a plain question. */
static tr_err ask(const char *fields) {
    char request[4096];
    snprintf(request, sizeof(request), "{" HI "%s}", fields);
    return encode_op(TR_OP_CHAT, request, false);
}

static void expect(const char *fields, const char *out) {
    char whole[4096];
    snprintf(whole, sizeof(whole), HI_OUT "%s}", out);
    CU_ASSERT_EQUAL(ask(fields), TR_OK);
    CU_ASSERT_STRING_EQUAL(body, whole);
}

static void expect_refused(const char *fields, tr_err err, const char *words) {
    CU_ASSERT_EQUAL(ask(fields), err);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, words));
}

/* Messages alone, in and out. */
static void expect_turns(const char *in, const char *out) {
    char request[4096];
    char whole[4096];
    snprintf(request, sizeof(request), "{\"messages\":[%s]}", in);
    snprintf(whole, sizeof(whole), "{\"model\":\"m\",\"messages\":[%s],\"stream\":true}", out);
    CU_ASSERT_EQUAL(encode_op(TR_OP_CHAT, request, true), TR_OK);
    CU_ASSERT_STRING_EQUAL(body, whole);
}

static void a_plain_question_is_written_plainly(void) {
    expect("", "");
    CU_ASSERT_STRING_EQUAL(path, "/api/chat");
    expect_turns("{\"role\":\"system\",\"content\":\"Be brief\"},{\"role\":\"user\",\"content\":"
                 "\"Hi\"}",
                 "{\"role\":\"system\",\"content\":\"Be brief\"},{\"role\":\"user\",\"content\":"
                 "\"Hi\"}");
}

static void sampling_goes_into_options(void) {
    expect(",\"temperature\":0.5,\"top_p\":0.9,\"min_p\":0.1,\"repeat_penalty\":1.1,"
           "\"frequency_penalty\":0.2,\"presence_penalty\":0.3,\"top_k\":40,\"repeat_last_n\":64,"
           "\"seed\":7,\"max_tokens\":20,\"stop\":[\"a\",\"b\"]",
           ",\"options\":{\"temperature\":0.5,\"top_p\":0.9,\"min_p\":0.1,\"repeat_penalty\":1.1,"
           "\"frequency_penalty\":0.2,\"presence_penalty\":0.3,\"top_k\":40,\"repeat_last_n\":64,"
           "\"seed\":7,\"num_predict\":20,\"stop\":[\"a\",\"b\"]}");
}

static void ollamas_own_fields_find_their_place_and_win(void) {
    expect(",\"num_ctx\":8192,\"keep_alive\":\"10m\"",
           ",\"options\":{\"num_ctx\":8192},\"keep_alive\":\"10m\"");
    expect(",\"temperature\":1,\"seed\":7,\"num_gpu\":3,\"options\":{\"seed\":1e0,\"num_ctx\":4,"
           "\"novel\":[1]}",
           ",\"options\":{\"temperature\":1,\"num_gpu\":3,\"seed\":1e0,\"num_ctx\":4,\"novel\":[1]"
           "}");
    expect(",\"keep_alive\":-1,\"think\":true,\"reasoning_effort\":\"low\",\"format\":{\"a\":1},"
           "\"response_format\":{\"type\":\"json_object\"}",
           ",\"keep_alive\":-1,\"think\":true,\"format\":{\"a\":1}");
    expect_refused(",\"options\":7", TR_ERR_INVALID, "options");
}

static void an_answers_form_is_a_format(void) {
    expect(",\"response_format\":{\"type\":\"json_object\"}", ",\"format\":\"json\"");
    expect(",\"response_format\":{\"type\":\"text\"}", "");
    expect(",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"x\","
           "\"schema\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}}}",
           ",\"format\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}");
}

static void effort_becomes_think(void) {
    static const char *const levels[][2] = {
        {"none", "false"},    {"minimal", "\"low\""}, {"low", "\"low\""}, {"medium", "\"medium\""},
        {"high", "\"high\""}, {"xhigh", "\"high\""},  {"max", "\"max\""}};
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        char in[64];
        char out[64];
        snprintf(in, sizeof(in), ",\"reasoning_effort\":\"%s\"", levels[i][0]);
        snprintf(out, sizeof(out), ",\"think\":%s", levels[i][1]);
        expect(in, out);
    }
    expect_refused(",\"reasoning_effort\":\"frantic\"", TR_ERR_UNSUPPORTED, "reasoning_effort");
}

static void tools_are_written_as_they_came(void) {
#define TOOL                                                                                       \
    "{\"type\":\"function\",\"function\":{\"name\":\"w\",\"description\":\"d\",\"parameters\":{"   \
    "\"type\":\"object\"},\"strict\":true},\"mark\":1}"
    expect(",\"tools\":[" TOOL "]", ",\"tools\":[" TOOL "]");
    expect(",\"tool_choice\":\"auto\",\"tools\":[" TOOL "]", ",\"tools\":[" TOOL "]");
    expect(",\"tool_choice\":\"none\",\"tools\":[" TOOL "]", "");
    expect_refused(",\"tool_choice\":\"required\",\"tools\":[" TOOL "]", TR_ERR_UNSUPPORTED,
                   "tool_choice");
    expect_refused(",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"w\"}},"
                   "\"tools\":[" TOOL "]",
                   TR_ERR_UNSUPPORTED, "tool_choice");
#undef TOOL
}

static void calls_and_results_make_the_round_trip(void) {
    expect_turns(
        "{\"role\":\"assistant\",\"content\":null,\"reasoning_content\":\"Hm.\",\"tool_calls\":[{"
        "\"id\":\"call_0\",\"type\":\"function\",\"function\":{\"name\":\"w\",\"arguments\":\"{"
        "\\\"n\\\":9007199254740993}\"},\"mark\":1},{\"id\":\"call_1\",\"type\":\"function\","
        "\"function\":{\"name\":\"t\",\"arguments\":\"\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"call_1\",\"content\":\"noon\"},"
        "{\"role\":\"tool\",\"tool_call_id\":\"call_0\",\"content\":\"rain\"}",
        "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"call_0\",\"function\":{"
        "\"name\":\"w\",\"arguments\":{\"n\":9007199254740993}},\"mark\":1},{\"id\":\"call_1\","
        "\"function\":{\"name\":\"t\",\"arguments\":{}}}],\"thinking\":\"Hm.\"},"
        "{\"role\":\"tool\",\"content\":\"noon\",\"tool_call_id\":\"call_1\",\"tool_name\":\"t\"},"
        "{\"role\":\"tool\",\"content\":\"rain\",\"tool_call_id\":\"call_0\",\"tool_name\":\"w\"}");
}

static void a_call_of_a_later_turn_names_the_tool(void) {
    expect_turns("{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"call_0\",\"type\":\"function\","
                 "\"function\":{\"name\":\"old\",\"arguments\":\"{}\"}}]},"
                 "{\"role\":\"tool\",\"tool_call_id\":\"call_0\",\"content\":\"1\"},"
                 "{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"call_0\",\"type\":\"function\","
                 "\"function\":{\"name\":\"new\",\"arguments\":\"{}\"}}]},"
                 "{\"role\":\"tool\",\"tool_call_id\":\"call_0\",\"content\":\"2\"}",
                 "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"call_0\","
                 "\"function\":{\"name\":\"old\",\"arguments\":{}}}]},"
                 "{\"role\":\"tool\",\"content\":\"1\",\"tool_call_id\":\"call_0\",\"tool_name\":"
                 "\"old\"},"
                 "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"call_0\","
                 "\"function\":{\"name\":\"new\",\"arguments\":{}}}]},"
                 "{\"role\":\"tool\",\"content\":\"2\",\"tool_call_id\":\"call_0\",\"tool_name\":"
                 "\"new\"}");
}

static void arguments_that_are_no_object_are_refused(void) {
    CU_ASSERT_EQUAL(encode_op(TR_OP_CHAT,
                              "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":"
                              "\"a\",\"type\":\"function\",\"function\":{\"name\":\"w\","
                              "\"arguments\":\"[1]\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"a\","
                              "\"content\":\"1\"}]}",
                              true),
                    TR_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "object"));
}

static void images_are_base64_beside_the_text(void) {
    expect_turns("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"What is \"},{"
                 "\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,QUJD\","
                 "\"detail\":\"auto\"}},{\"type\":\"text\",\"text\":\"this?\"},{\"type\":"
                 "\"image_url\",\"image_url\":{\"url\":\"data:image/jpeg;base64,REVG\"}}]}",
                 "{\"role\":\"user\",\"content\":\"What is this?\",\"images\":[\"QUJD\",\"REVG\"]"
                 "}");
    expect_turns("{\"role\":\"user\",\"content\":\"What?\",\"images\":[\"QUJD\"]}",
                 "{\"role\":\"user\",\"content\":\"What?\",\"images\":[\"QUJD\"]}");
}

/* One user's turn with one part. */
static tr_err part(const char *text) {
    char request[1024];
    snprintf(request, sizeof(request),
             "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
             "%s]}]}",
             text);
    return encode_op(TR_OP_CHAT, request, true);
}

static void what_a_message_has_no_place_for_is_refused(void) {
    CU_ASSERT_EQUAL(
        part("{\"type\":\"image_url\",\"image_url\":{\"url\":\"https://x.org/a.png\"}}"),
        TR_ERR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "base64"));
    CU_ASSERT_EQUAL(part("{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/svg+xml,x\"}"
                         "}"),
                    TR_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(part("{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,"
                         "QUJD\",\"detail\":\"high\"}}"),
                    TR_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(
        part("{\"type\":\"text\",\"text\":\"b\",\"cache_control\":{\"type\":\"ephemeral\"}}"),
        TR_ERR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "part"));
}

static void what_ollama_lacks_is_refused(void) {
    expect_refused(",\"grammar\":\"root ::= x\"", TR_ERR_UNSUPPORTED, "grammar");
    expect_refused(",\"logit_bias\":{\"1\":2}", TR_ERR_UNSUPPORTED, "logit_bias");
    expect_refused(",\"n\":2", TR_ERR_UNSUPPORTED, "one answer");
    expect(",\"n\":1", "");
    CU_ASSERT_EQUAL(encode_op(TR_OP_COUNT, "{" HI "}", false), TR_ERR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "count"));
}

static void inputs_are_embedded_in_their_order(void) {
    CU_ASSERT_EQUAL(encode_op(TR_OP_EMBED,
                              "{\"input\":[\"a\",\"b\"],\"dimensions\":64,\"keep_alive\":0,"
                              "\"encoding_format\":\"float\",\"num_ctx\":9,\"truncate\":false}",
                              false),
                    TR_OK);
    CU_ASSERT_STRING_EQUAL(body, "{\"model\":\"m\",\"input\":[\"a\",\"b\"],\"options\":{\"num_ctx\""
                                 ":9},\"dimensions\":64,\"keep_alive\":0,\"truncate\":false}");
    CU_ASSERT_STRING_EQUAL(path, "/api/embed");
}

static void inquire(tr_op op, const char *model, bool get, const char *to, const char *text) {
    tr_encoded encoded;
    tr_encode in = {.op = op, .model = {model, strlen(model)}, .provider = "ollama"};
    CU_ASSERT_EQUAL_FATAL(tr_dialect_ollama.inquire(&in, &encoded, why, sizeof(why)), TR_OK);
    CU_ASSERT_EQUAL(encoded.get, get);
    CU_ASSERT_FALSE(encoded.from_root);
    CU_ASSERT_STRING_EQUAL(encoded.path, to);
    CU_ASSERT_STRING_EQUAL(encoded.body == NULL ? "" : encoded.body, text);
    CU_ASSERT_EQUAL(encoded.body_size, strlen(text));
    free(encoded.body);
}

static void models_are_listed_loaded_and_let_go(void) {
    inquire(TR_OP_MODELS, "", true, "/api/tags", "");
    inquire(TR_OP_LOADED, "", true, "/api/ps", "");
    inquire(TR_OP_LOAD, "a\"b", false, "/api/chat",
            "{\"model\":\"a\\\"b\",\"messages\":[],\"stream\":false}");
    inquire(TR_OP_UNLOAD, "m:1b", false, "/api/chat",
            "{\"model\":\"m:1b\",\"messages\":[],\"stream\":false,\"keep_alive\":0}");
}

/* Each as Ollama's envconfig reads it, but for the addresses of all interfaces. */
static void the_host_is_read_as_ollama_reads_it(void) {
    static const char *const hosts[][2] = {{"", "http://127.0.0.1:11434"},
                                           {"1.2.3.4", "http://1.2.3.4:11434"},
                                           {"1.2.3.4:1234", "http://1.2.3.4:1234"},
                                           {":1234", "http://127.0.0.1:1234"},
                                           {"example.com", "http://example.com:11434"},
                                           {"example.com:56789", "http://example.com:56789"},
                                           {"http://1.2.3.4", "http://1.2.3.4:80"},
                                           {"https://1.2.3.4", "https://1.2.3.4:443"},
                                           {"https://example.com:4321", "https://example.com:4321"},
                                           {"http://example.com/a/b/", "http://example.com:80/a/b"},
                                           {"example.com:1/ollama", "http://example.com:1/ollama"},
                                           {"ollama.com", "https://ollama.com:443"},
                                           {"https://ollama.com", "https://ollama.com:443"},
                                           {"[::1]", "http://[::1]:11434"},
                                           {"[::1]:1337", "http://[::1]:1337"},
                                           {"::1", "http://[::1]:11434"},
                                           {"[2001:db8::1]:80", "http://[2001:db8::1]:80"},
                                           {"0.0.0.0", "http://127.0.0.1:11434"},
                                           {"http://0.0.0.0:8080", "http://127.0.0.1:8080"},
                                           {"[::]:5", "http://[::1]:5"},
                                           {"1.2.3.4:66000", "http://1.2.3.4:11434"},
                                           {"1.2.3.4:-1", "http://1.2.3.4:11434"},
                                           {"http://1.2.3.4:port", "http://1.2.3.4:80"},
                                           {"  \"example.com\" ", "http://example.com:11434"},
                                           {"'10.0.0.1:9'", "http://10.0.0.1:9"}};
    char url[128];
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        url[0] = '\0';
        CU_ASSERT(tri_ollama_host(hosts[i][0], url, sizeof(url)));
        CU_ASSERT_STRING_EQUAL(url, hosts[i][1]);
    }
    static const char *const bad[] = {"ftp://x", "user@example.com", "a b", "x?y", "http://x\n/a"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CU_ASSERT_FALSE(tri_ollama_host(bad[i], url, sizeof(url)));
    }
    CU_ASSERT_FALSE(tri_ollama_host("example.com", url, 12)); /* no room */
}

int main(void) {
    if (CU_initialize_registry() != CUE_SUCCESS) {
        return 1;
    }
    CU_pSuite suite = CU_add_suite("ollama", NULL, NULL);
    CU_ADD_TEST(suite, a_plain_question_is_written_plainly);
    CU_ADD_TEST(suite, sampling_goes_into_options);
    CU_ADD_TEST(suite, ollamas_own_fields_find_their_place_and_win);
    CU_ADD_TEST(suite, an_answers_form_is_a_format);
    CU_ADD_TEST(suite, effort_becomes_think);
    CU_ADD_TEST(suite, tools_are_written_as_they_came);
    CU_ADD_TEST(suite, calls_and_results_make_the_round_trip);
    CU_ADD_TEST(suite, a_call_of_a_later_turn_names_the_tool);
    CU_ADD_TEST(suite, arguments_that_are_no_object_are_refused);
    CU_ADD_TEST(suite, images_are_base64_beside_the_text);
    CU_ADD_TEST(suite, what_a_message_has_no_place_for_is_refused);
    CU_ADD_TEST(suite, what_ollama_lacks_is_refused);
    CU_ADD_TEST(suite, inputs_are_embedded_in_their_order);
    CU_ADD_TEST(suite, models_are_listed_loaded_and_let_go);
    CU_ADD_TEST(suite, the_host_is_read_as_ollama_reads_it);
    CU_basic_set_mode(CU_BRM_NORMAL);
    CU_basic_run_tests();
    int failed = (int)CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed == 0 ? 0 : 1;
}
