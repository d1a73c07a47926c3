/* What requests look like on the wire: each body is read back by protocol/chat, as the daemon does.
 */
#include "tests/unit/client/client_test.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "protocol/chat.h"

static tr_chat *chat_of(const tr_request *request) {
    char *json = NULL;
    MUST(tr_request_json(request, &json));
    tr_chat *chat = NULL;
    char why[256] = "";
    tr_err err = tr_chat_parse(TR_OP_CHAT, json, strlen(json), &chat, why, sizeof why);
    if (err != TR_OK) {
        fprintf(stderr, "%s: %s\n", why, json);
    }
    CU_ASSERT_EQUAL_FATAL(err, TR_OK);
    tr_memory_free(json);
    return chat;
}

static bool is(tr_str text, const char *expected) {
    return text.size == strlen(expected) && memcmp(text.ptr, expected, text.size) == 0;
}

static void defaults_say_nothing_but_the_turns(void) {
    tr_request *request = NULL;
    MUST(tr_request_new(NULL, &request));
    char *json = NULL;
    CU_ASSERT_EQUAL(tr_request_json(request, &json), TR_ERR_INVALID);
    MUST(tr_request_text(request, "user", "a \"quoted\"\nline \xE2\x82\xAC"));
    MUST(tr_request_json(request, &json));
    CU_ASSERT_STRING_EQUAL(json, "{\"messages\":[{\"role\":\"user\",\"content\":\"a "
                                 "\\\"quoted\\\"\\nline \xE2\x82\xAC\"}]}");
    tr_memory_free(json);
    tr_request_free(request);
}

static void every_option_arrives(void) {
    static const char *const stops[] = {"END", "\n\n"};
    tr_options o = TR_OPTIONS_INIT;
    o.system = "be brief";
    o.json_schema = "{\"type\":\"object\"}";
    o.extra_json = "{\"vendor\":{\"deep\":[1,2.50]},\"logprobs\":true}";
    o.stop = stops;
    o.stop_count = 2;
    o.temperature = 0.1;
    o.top_p = 0.9;
    o.min_p = 0.05;
    o.repeat_penalty = 1.1;
    o.frequency_penalty = 0.2;
    o.presence_penalty = -0.3;
    o.seed = 1234567890123;
    o.top_k = 40;
    o.max_tokens = 77;
    o.reasoning_effort = "low";
    tr_request *request = NULL;
    MUST(tr_request_new(&o, &request));
    MUST(tr_request_text(request, "user", "hi"));
    tr_chat *chat = chat_of(request);
    CU_ASSERT_EQUAL(chat->turn_count, 2);
    CU_ASSERT_EQUAL(chat->turns[0].role, TR_CHAT_SYSTEM);
    CU_ASSERT_TRUE(is(chat->turns[0].parts[0].text, "be brief"));
    CU_ASSERT_DOUBLE_EQUAL(chat->temperature, 0.1, 0);
    CU_ASSERT_DOUBLE_EQUAL(chat->top_p, 0.9, 0);
    CU_ASSERT_DOUBLE_EQUAL(chat->min_p, 0.05, 0);
    CU_ASSERT_DOUBLE_EQUAL(chat->repeat_penalty, 1.1, 0);
    CU_ASSERT_DOUBLE_EQUAL(chat->frequency_penalty, 0.2, 0);
    CU_ASSERT_DOUBLE_EQUAL(chat->presence_penalty, -0.3, 0);
    CU_ASSERT_EQUAL(chat->top_k, 40);
    CU_ASSERT_EQUAL(chat->seed, 1234567890123);
    CU_ASSERT_EQUAL(chat->max_tokens, 77);
    CU_ASSERT_TRUE(is(chat->reasoning_effort, "low"));
    CU_ASSERT_EQUAL(chat->stop_count, 2);
    CU_ASSERT_TRUE(is(chat->stops[1], "\n\n"));
    CU_ASSERT_TRUE(is(chat->schema, "{\"type\":\"object\"}"));
    CU_ASSERT_PTR_NOT_NULL_FATAL(chat->extra.ptr);
    CU_ASSERT_PTR_NOT_NULL(strstr(chat->extra.ptr, "{\"deep\":[1,2.50]}"));
    tr_chat_free(chat);
    tr_request_free(request);
}

static void a_grammar_arrives(void) {
    tr_options o = TR_OPTIONS_INIT;
    o.grammar = "root ::= \"yes\" | \"no\"";
    tr_request *request = NULL;
    MUST(tr_request_new(&o, &request));
    MUST(tr_request_text(request, "user", "hi"));
    tr_chat *chat = chat_of(request);
    CU_ASSERT_TRUE(is(chat->grammar, o.grammar));
    tr_chat_free(chat);
    tr_request_free(request);
}

static void refused(tr_options o, const char *word) {
    tr_request *request = NULL;
    CU_ASSERT_EQUAL(tr_request_new(&o, &request), TR_ERR_INVALID);
    CU_ASSERT_PTR_NULL(request);
    SAYS(tr_client_error(), word);
}

static void wrong_options_are_named(void) {
    static const char *const stops[17] = {"a"};
    static const char *const empty[] = {""};
    const tr_options fine = TR_OPTIONS_INIT;
    tr_options o = fine;
    o.size = 0;
    refused(o, "TR_OPTIONS_INIT");
    o = fine;
    o.stop = stops;
    o.stop_count = 17;
    refused(o, "stop");
    o.stop = empty;
    o.stop_count = 1;
    refused(o, "stop");
    o = fine;
    o.retries = 20;
    refused(o, "retries");
    o = fine;
    o.priority = 128;
    refused(o, "priority");
    o = fine;
    o.seed = -2;
    refused(o, "seed");
    o = fine;
    o.window_bytes = 40 * 1024 - 1;
    refused(o, "window_bytes");
    o = fine;
    o.window_messages = 65537;
    refused(o, "window_messages");
    o = fine;
    o.total_ms = 24 * 3600 * 1000 + 1;
    refused(o, "total_ms");
    o = fine;
    o.model = "\xff";
    refused(o, "model");
    o = fine;
    o.system = "\xc0\x80";
    refused(o, "UTF-8");
    o = fine;
    o.json_schema = "{";
    refused(o, "json_schema");
    o.json_schema = "[]";
    refused(o, "json_schema");
    o = fine;
    o.extra_json = "{\"a\":1} x";
    refused(o, "extra_json");
    o.extra_json = "{\"messages\":[]}";
    refused(o, "messages");
    o.extra_json = "{\"temperature\":1}";
    o.temperature = 0.5;
    refused(o, "temperature");
}

/* A program built with an older header brings a shorter struct. */
static void an_older_struct_is_taken(void) {
    tr_options o = TR_OPTIONS_INIT;
    o.temperature = 0.5;
    o.size = offsetof(tr_options, top_p);
    o.top_p = 0.25; /* beyond its size: not there */
    tr_request *request = NULL;
    MUST(tr_request_new(&o, &request));
    MUST(tr_request_text(request, "user", "hi"));
    tr_chat *chat = chat_of(request);
    CU_ASSERT_DOUBLE_EQUAL(chat->temperature, 0.5, 0);
    CU_ASSERT_TRUE(isnan(chat->top_p));
    tr_chat_free(chat);
    tr_request_free(request);
}

static void tools_and_how_to_choose_them_travel_as_they_were_written(void) {
    static const char tool[] =
        "{\"type\": \"function\",\"function\":{\"name\":\"x\",\"strict\":true},"
        " \"cache_control\":{\"type\":\"ephemeral\"}}";
    static const char *const choices[][2] = {
        {"auto", "\"tool_choice\":\"auto\""},
        {"required", "\"tool_choice\":\"required\""},
        {"none", "\"tool_choice\":\"none\""},
        {"x", "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"x\"}}"},
    };
    for (size_t i = 0; i < 4; i++) {
        tr_options options = TR_OPTIONS_INIT;
        tr_request *request = NULL;
        char *json = NULL, array[512];
        options.tool_choice = choices[i][0];
        options.one_tool_call = i == 0;
        MUST(tr_request_new(&options, &request));
        MUST(tr_request_text(request, "user", "hi"));
        snprintf(array, sizeof array, i % 2 == 0 ? "%s" : "[%s]", tool);
        MUST(tr_request_tools_json(request, array));
        CU_ASSERT_EQUAL(tr_request_tools_json(request, "[{}]"), TR_ERR_INVALID);
        CU_ASSERT_EQUAL(tr_request_tools_json(request, "[{]"), TR_ERR_INVALID);
        MUST(tr_request_json(request, &json));
        CU_ASSERT_PTR_NOT_NULL(strstr(json, tool));
        CU_ASSERT_PTR_NOT_NULL(strstr(json, choices[i][1]));
        CU_ASSERT_EQUAL(strstr(json, "\"parallel_tool_calls\":false") != NULL, i == 0);
        tr_memory_free(json);
        tr_request_free(request);
    }
}

/* The body's JSON holds `text`, or does not. */
static void body_says(const tr_request *request, const char *text, bool does) {
    char *json = NULL;
    MUST(tr_request_json(request, &json));
    CU_ASSERT_EQUAL(strstr(json, text) != NULL, does);
    tr_memory_free(json);
}

static void the_choice_of_tools_may_differ_between_two_turns(void) {
    static const char named[] =
        "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"a\\\"b\"}}";
    tr_options options = TR_OPTIONS_INIT;
    tr_request *request = NULL;
    options.tool_choice = "required";
    options.max_tokens = 9;
    MUST(tr_request_new(&options, &request));
    MUST(tr_request_text(request, "user", "hi"));
    MUST(tr_request_tool(request, "a\"b", NULL, NULL));
    body_says(request, "\"tool_choice\":\"required\"", true);
    MUST(tr_request_tool_choice(request, "a\"b"));
    body_says(request, named, true);
    body_says(request, "required", false);
    CU_ASSERT_EQUAL(tr_request_tool_choice(request, ""), TR_ERR_INVALID);
    SAYS(tr_client_error(), "tool_choice");
    CU_ASSERT_EQUAL(tr_request_tool_choice(request, "\xff"), TR_ERR_INVALID);
    body_says(request, named, true); /* the old one stays */
    MUST(tr_request_tool_choice(request, NULL));
    body_says(request, "tool_choice", false);
    body_says(request, "\"max_tokens\":9", true);
    MUST(tr_request_tool_choice(request, "none"));
    tr_chat *chat = chat_of(request);
    CU_ASSERT_TRUE(is(chat->tool_choice, "\"none\""));
    tr_chat_free(chat);
    tr_request_free(request);
}

static void a_choice_in_extra_json_is_the_only_one(void) {
    tr_options options = TR_OPTIONS_INIT;
    tr_request *request = NULL;
    options.extra_json = "{\"tool_choice\":\"required\"}";
    MUST(tr_request_new(&options, &request));
    MUST(tr_request_text(request, "user", "hi"));
    CU_ASSERT_EQUAL(tr_request_tool_choice(request, "auto"), TR_ERR_INVALID);
    SAYS(tr_client_error(), "extra_json");
    body_says(request, "\"tool_choice\":\"required\"", true);
    tr_request_free(request);
    options.tool_choice = "auto";
    refused(options, "tool_choice");
}

static void tools_and_their_results_arrive(void) {
    tr_request *request = NULL;
    MUST(tr_request_new(NULL, &request));
    MUST(tr_request_text(request, "user", "weather?"));
    MUST(tr_request_tool(request, "weather", "looks out of the window", "{\"type\":\"object\"}"));
    MUST(tr_request_tool(request, "noop", NULL, NULL));
    CU_ASSERT_EQUAL(tr_request_tool(request, "bad", NULL, "{]"), TR_ERR_INVALID);
    CU_ASSERT_EQUAL(tr_request_tool(request, "", NULL, NULL), TR_ERR_INVALID);
    MUST(tr_request_tool_result(request, "id-1", "rain"));
    CU_ASSERT_EQUAL(tr_request_text(request, "tool", "x"), TR_ERR_INVALID);
    CU_ASSERT_EQUAL(tr_request_text(request, "user", "\xff"), TR_ERR_INVALID);
    tr_chat *chat = chat_of(request);
    CU_ASSERT_EQUAL(chat->tool_count, 2);
    CU_ASSERT_TRUE(is(chat->tools[0].name, "weather"));
    CU_ASSERT_TRUE(is(chat->tools[0].parameters, "{\"type\":\"object\"}"));
    CU_ASSERT_EQUAL_FATAL(chat->turn_count, 2);
    CU_ASSERT_EQUAL(chat->turns[1].role, TR_CHAT_TOOL);
    CU_ASSERT_TRUE(is(chat->turns[1].tool_call_id, "id-1"));
    tr_chat_free(chat);
    tr_request_free(request);
}

static void write_file(char *path, const void *data, size_t size) {
    int fd = mkstemp(path);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, data, size), (ssize_t)size);
    close(fd);
}

static void images_travel_inside(void) {
    char png[] = "/tmp/troupe-image-XXXXXX", text[] = "/tmp/troupe-image-XXXXXX";
    write_file(png, "\x89PNG\r\n\x1a\nxyz\0", 12);
    write_file(text, "hello", 5);
    tr_request *request = NULL;
    MUST(tr_request_new(NULL, &request));
    MUST(tr_request_text(request, "user", "what is it?"));
    MUST(tr_request_image(request, png));
    MUST(tr_request_image(request, "https://example.org/a.png"));
    CU_ASSERT_EQUAL(tr_request_image(request, text), TR_ERR_INVALID);
    CU_ASSERT_EQUAL(tr_request_image(request, "/tmp/troupe-no-such-image"), TR_ERR_IO);
    SAYS(tr_client_error(), "/tmp/troupe-no-such-image");
    CU_ASSERT_EQUAL(tr_request_image(request, "/tmp"), TR_ERR_INVALID);
    CU_ASSERT_EQUAL(tr_request_image(request, ""), TR_ERR_INVALID);
    tr_chat *chat = chat_of(request);
    CU_ASSERT_EQUAL_FATAL(chat->turn_count, 1);
    CU_ASSERT_EQUAL_FATAL(chat->turns[0].part_count, 3);
    CU_ASSERT_TRUE(is(chat->turns[0].parts[0].text, "what is it?"));
    CU_ASSERT_TRUE(is(chat->turns[0].parts[1].url, "data:image/png;base64,iVBORw0KGgp4eXoA"));
    CU_ASSERT_TRUE(is(chat->turns[0].parts[2].url, "https://example.org/a.png"));
    tr_chat_free(chat);
    tr_request_free(request);
    unlink(png);
    unlink(text);
}

int main(void) {
    CU_initialize_registry();
    CU_pSuite suite = CU_add_suite("request", NULL, NULL);
    CU_ADD_TEST(suite, defaults_say_nothing_but_the_turns);
    CU_ADD_TEST(suite, every_option_arrives);
    CU_ADD_TEST(suite, a_grammar_arrives);
    CU_ADD_TEST(suite, wrong_options_are_named);
    CU_ADD_TEST(suite, an_older_struct_is_taken);
    CU_ADD_TEST(suite, tools_and_their_results_arrive);
    CU_ADD_TEST(suite, tools_and_how_to_choose_them_travel_as_they_were_written);
    CU_ADD_TEST(suite, the_choice_of_tools_may_differ_between_two_turns);
    CU_ADD_TEST(suite, a_choice_in_extra_json_is_the_only_one);
    CU_ADD_TEST(suite, images_travel_inside);
    return finish_tests();
}
