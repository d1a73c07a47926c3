/*
 * Tools with the engine on tiny models: what the model is told, that a call it must make is whole
 * and valid whatever its weights say, and that a stream of calls resumes from any of its DELTAs.
 */
#include "inference/engine_tools.h"
#include "tests/unit/inference/engine_rig.h"

#define TOOL(name, schema)                                                                         \
    "{\"type\":\"function\",\"function\":{\"name\":\"" name "\",\"description\":\"does\","         \
    "\"parameters\":" schema "}}"
#define TOOLS                                                                                      \
    "\"tools\":[" TOOL("look", "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":"             \
                               "\"integer\"}},\"required\":[\"n\"],"                               \
                               "\"additionalProperties\":false}") "," TOOL("wa\\\"it", "{}") "]"
#define ASK "\"messages\":[{\"role\":\"user\",\"content\":\"Do it.\"}]," TOOLS
#define FORCED "{" ASK ",\"tool_choice\":\"required\",\"temperature\":1,"

static void run(rig *r) {
    while (tr_engine_step(r->engine)) {
    }
}

/* Runs it whole, then again from each DELTA on in a second engine. */
static rig_stream check_every_cut(tr_tiny_kind kind, const char *json) {
    rig one, two;
    rig_open(&one, kind, 1, 2048);
    rig_open(&two, kind, 2, 2048);
    rig_stream *whole = rig_ask(&one, 0, json);
    CU_ASSERT_EQUAL(whole->terminals, 1);
    CU_ASSERT_EQUAL(whole->err, TR_OK);
    CU_ASSERT_FALSE(whole->order_broken);
    CU_ASSERT_TRUE_FATAL(whole->deltas > 0);
    uint32_t step = whole->deltas > 50 ? whole->deltas / 50 + 1 : 1;
    for (uint32_t cut = 0, ref = 1; cut < whole->deltas; cut += step, ref++) {
        tr_submit head = rig_plenty;
        head.resume_count = whole->boundary[cut];
        rig_submit(&two, ref, &head, whole->tokens, json);
        run(&two);
        rig_stream *rest = rig_of(&two, ref);
        CU_ASSERT_EQUAL(rest->err, TR_OK);
        CU_ASSERT_EQUAL(rest->finish, whole->finish);
        CU_ASSERT_EQUAL(rest->usage.out, whole->usage.out);
        CU_ASSERT_STRING_EQUAL(rest->text, whole->text + whole->text_at[cut]);
    }
    rig_stream copy = *whole;
    rig_close(&one);
    rig_close(&two);
    return copy;
}

static void call_that_must_be_made_is_whole_and_resumes_anywhere(void) {
    int finished = 0;
    for (int seed = 1; seed <= 6; seed++) {
        char json[2048];
        snprintf(json, sizeof json,
                 FORCED "\"parallel_tool_calls\":false,\"seed\":%d,"
                        "\"max_tokens\":400}",
                 seed);
        rig_stream s = check_every_cut(TR_TINY_RANDOM, json);
        CU_ASSERT_EQUAL(s.calls, 1);
        CU_ASSERT_EQUAL(s.plain, 0);
        if (s.finish == TR_FINISH_TOOL_CALLS) {
            tr_json *args = NULL;
            const char *at = strchr(s.text, ']');
            CU_ASSERT_PTR_NOT_NULL_FATAL(at);
            CU_ASSERT_EQUAL(tr_json_parse(at + 1, strlen(at + 1), &args, NULL), TR_OK);
            tr_json_free(args);
            finished++;
        } else {
            CU_ASSERT_EQUAL(s.finish, TR_FINISH_LENGTH);
        }
    }
    CU_ASSERT_TRUE(finished > 0);
}

static void named_tool_is_called_and_ids_count_on(void) {
    rig r;
    rig_open(&r, TR_TINY_RANDOM, 1, 2048);
    rig_stream *s = rig_ask(&r, 1,
                            "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":"
                            "\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"call_0\","
                            "\"type\":\"function\",\"function\":{\"name\":\"look\",\"arguments\":"
                            "\"{}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"call_0\",\"content\":"
                            "\"b\"}]," TOOLS ",\"temperature\":1,\"seed\":3,\"max_tokens\":200,"
                            "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":"
                            "\"wa\\\"it\"}}}");
    CU_ASSERT_EQUAL(s->err, TR_OK);
    CU_ASSERT_EQUAL(strncmp(s->text, "[call_1 wa\"it]{", 15), 0);
    rig_close(&r);
}

static void arguments_follow_the_tools_schema(void) {
    rig r;
    rig_open(&r, TR_TINY_RANDOM, 1, 2048);
    for (uint64_t seed = 1; seed <= 8; seed++) {
        char json[2048];
        snprintf(json, sizeof json,
                 "{" ASK ",\"temperature\":1.5,\"seed\":%llu,\"max_tokens\":200,\"tool_choice\":{"
                 "\"type\":\"function\",\"function\":{\"name\":\"look\"}}}",
                 (unsigned long long)seed);
        rig_stream *s = rig_ask(&r, seed, json);
        tr_json *args = NULL;
        CU_ASSERT_EQUAL(s->finish, TR_FINISH_TOOL_CALLS);
        CU_ASSERT_EQUAL(strncmp(s->text, "[call_0 look]", 13), 0);
        CU_ASSERT_EQUAL_FATAL(tr_json_parse(s->text + 13, s->size - 13, &args, NULL), TR_OK);
        CU_ASSERT_EQUAL(tr_json_count(tr_json_root(args)), 1);
        CU_ASSERT_EQUAL(tr_json_type_of(tr_json_get(tr_json_root(args), "n")), TR_JSON_NUMBER);
        tr_json_free(args);
    }
    rig_close(&r);
}

static void schema_beyond_the_subset_is_any_object_unless_strict(void) {
    static const char form[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{\"type\":"
        "\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\","
        "\"properties\":{\"a\":{\"not\":{}}}}%s}}],\"tool_choice\":\"required\","
        "\"parallel_tool_calls\":false,\"temperature\":1,\"seed\":4,\"max_tokens\":60}";
    char json[1024];
    rig r;
    rig_open(&r, TR_TINY_RANDOM, 1, 2048);
    snprintf(json, sizeof json, form, "");
    CU_ASSERT_EQUAL(strncmp(rig_ask(&r, 1, json)->text, "[call_0 f]{", 11), 0);
    snprintf(json, sizeof json, form, ",\"strict\":true");
    rig_stream *s = rig_ask(&r, 2, json);
    CU_ASSERT_EQUAL(s->err, TR_ERR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(s->message, "not"));
    rig_close(&r);
}

static void answer_is_of_the_schema_or_a_call(void) {
    rig r;
    rig_open(&r, TR_TINY_RANDOM, 1, 2048);
    int calls = 0, answers = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        char json[2048];
        snprintf(json, sizeof json,
                 "{" ASK ",\"temperature\":2,\"top_k\":0,\"top_p\":1,\"min_p\":0,\"seed\":%llu,"
                 "\"parallel_tool_calls\":false,\"max_tokens\":300,\"response_format\":{\"type\":"
                 "\"json_schema\",\"json_schema\":{\"schema\":{\"enum\":[\"yes\",\"no\"]}}}}",
                 (unsigned long long)seed);
        rig_stream *s = rig_ask(&r, seed, json);
        CU_ASSERT_EQUAL(s->err, TR_OK);
        bool answer = strcmp(s->text, "\"yes\"") == 0 || strcmp(s->text, "\"no\"") == 0;
        answers += answer;
        calls += s->calls == 1;
        CU_ASSERT_TRUE(answer != (s->calls == 1));
    }
    CU_ASSERT_TRUE(calls > 0 && answers > 0);
    rig_close(&r);
}

static void free_answer_without_a_call_is_text(void) {
    rig_stream s = check_every_cut(TR_TINY_CHAIN, "{" ASK ",\"temperature\":0}");
    CU_ASSERT_STRING_EQUAL(s.text, "abcdefghijklmnopqrstuvwxyz");
    CU_ASSERT_EQUAL(s.finish, TR_FINISH_STOP);
    CU_ASSERT_EQUAL(s.calls, 0);
    check_every_cut(TR_TINY_RANDOM, "{" ASK ",\"temperature\":1,\"seed\":5,\"max_tokens\":60}");
    s = check_every_cut(TR_TINY_CHAIN, "{" ASK ",\"temperature\":0,\"stop\":[\"mn\"]}");
    CU_ASSERT_STRING_EQUAL(s.text, "abcdefghijkl");
}

static void call_cut_short_before_its_name_is_text(void) {
    rig_stream s = check_every_cut(TR_TINY_RANDOM, FORCED "\"seed\":2,\"max_tokens\":20}");
    CU_ASSERT_EQUAL(s.finish, TR_FINISH_LENGTH);
    CU_ASSERT_EQUAL(s.calls, 0);
    CU_ASSERT_EQUAL(strncmp(s.text, "<tool_call>", 11), 0);
}

static void stop_string_inside_a_call_ends_nothing(void) {
    rig_stream s = check_every_cut(TR_TINY_RANDOM,
                                   FORCED "\"parallel_tool_calls\":false,\"seed\":4,"
                                          "\"max_tokens\":300,\"stop\":[\"\\\"\",\"{\",\"a\"]}");
    CU_ASSERT_EQUAL(s.calls, 1);
    CU_ASSERT_EQUAL(s.plain, 0);
    CU_ASSERT_NOT_EQUAL(s.finish, TR_FINISH_STOP);
}

static void with_none_the_model_is_told_of_no_tool(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 2048);
    uint64_t with = rig_ask(&r, 1, "{" ASK ",\"temperature\":0}")->usage.in;
    rig_stream *s = rig_ask(&r, 2, "{" ASK ",\"temperature\":0,\"tool_choice\":\"none\"}");
    rig_stream *plain =
        rig_ask(&r, 3, "{\"messages\":[{\"role\":\"user\",\"content\":\"Do it.\"}]}");
    CU_ASSERT_EQUAL(s->usage.in, plain->usage.in);
    CU_ASSERT_TRUE(with > plain->usage.in + 300);
    tr_submit head = rig_plenty;
    head.op = TR_OP_COUNT;
    rig_submit(&r, 4, &head, NULL, "{" ASK "}");
    run(&r);
    char count[64];
    snprintf(count, sizeof count, "{\"tokens\":%llu,", (unsigned long long)with);
    CU_ASSERT_EQUAL(strncmp(rig_of(&r, 4)->text, count, strlen(count)), 0);
    rig_close(&r);
}

/* What tri_tools_silence says of a chat: 1 = there is a grammar. */
static int silenced(const char *json) {
    tr_chat *chat = NULL;
    char why[256] = "";
    CU_ASSERT_EQUAL_FATAL(tr_chat_parse(TR_OP_CHAT, json, strlen(json), &chat, why, sizeof why),
                          TR_OK);
    int is = tri_tools_silence(chat) != NULL;
    tr_chat_free(chat);
    return is;
}

static void with_none_earlier_calls_are_not_written_again(void) {
#define HISTORY                                                                                    \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":"    \
    "null,"                                                                                        \
    "\"tool_calls\":[{\"id\":\"c\",\"type\":\"function\",\"function\":{\"name\":\"look\","         \
    "\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"b\"}]"
    CU_ASSERT_EQUAL(silenced(HISTORY "}"), 1);
    CU_ASSERT_EQUAL(silenced("{" ASK ",\"tool_choice\":\"none\"}"), 0);
    CU_ASSERT_EQUAL(silenced(HISTORY ",\"grammar\":\"root ::= [a-z]\"}"), 0);
    CU_ASSERT_EQUAL(silenced(HISTORY ",\"response_format\":{\"type\":\"json_schema\","
                                     "\"json_schema\":{\"name\":\"a\",\"schema\":{}}}}"),
                    0);
    rig_stream s = check_every_cut(TR_TINY_RANDOM, HISTORY "," TOOLS ",\"tool_choice\":\"none\","
                                                           "\"temperature\":1,\"seed\":6,"
                                                           "\"max_tokens\":100}");
    CU_ASSERT_EQUAL(s.calls, 0);
    CU_ASSERT_TRUE(s.plain > 0);
}

static void credit_of_one_message_at_a_time_changes_nothing(void) {
    static const char json[] = FORCED "\"seed\":1,\"max_tokens\":200}";
    rig r;
    rig_open(&r, TR_TINY_RANDOM, 1, 2048);
    rig_stream *whole = rig_ask(&r, 1, json);
    tr_submit head = rig_plenty;
    head.credit_messages = 1;
    rig_submit(&r, 2, &head, NULL, json);
    rig_stream *s = rig_of(&r, 2);
    for (int i = 0; i < 2000 && s->terminals == 0; i++) {
        run(&r);
        CU_ASSERT_TRUE(s->deltas <= (uint32_t)i + 1);
        tr_engine_credit(r.engine, 2, 1, 0);
    }
    CU_ASSERT_STRING_EQUAL(s->text, whole->text);
    CU_ASSERT_EQUAL(s->finish, whole->finish);
    CU_ASSERT_FALSE(s->order_broken);
    rig_close(&r);
}

static void what_cannot_be_is_refused_with_a_sentence(void) {
    static const struct {
        const char *json, *says;
    } bad[] = {
        {"{" ASK ",\"tool_choice\":\"any\"}", "tool_choice"},
        {"{" ASK ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"nobody\"}}}",
         "nobody"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tool_choice\":\"required\"}",
         "no tool"},
        {"{" ASK ",\"grammar\":\"root ::= [a-z]\"}", "grammar"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"tool\",\"tool_call_id\":"
         "\"c\",\"content\":\"y\"}]}",
         "tool_call_id"},
    };
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 2048);
    for (uint64_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rig_stream *s = rig_ask(&r, i, bad[i].json);
        CU_ASSERT_EQUAL(s->err, TR_ERR_INVALID);
        CU_ASSERT_PTR_NOT_NULL(strstr(s->message, bad[i].says));
    }
    rig_close(&r);
}

int main(void) {
    CU_TestInfo tests[] = {
#define T(name) {#name, name}
        T(call_that_must_be_made_is_whole_and_resumes_anywhere),
        T(named_tool_is_called_and_ids_count_on),
        T(arguments_follow_the_tools_schema),
        T(schema_beyond_the_subset_is_any_object_unless_strict),
        T(answer_is_of_the_schema_or_a_call),
        T(free_answer_without_a_call_is_text),
        T(call_cut_short_before_its_name_is_text),
        T(stop_string_inside_a_call_ends_nothing),
        T(with_none_the_model_is_told_of_no_tool),
        T(with_none_earlier_calls_are_not_written_again),
        T(credit_of_one_message_at_a_time_changes_nothing),
        T(what_cannot_be_is_refused_with_a_sentence),
        CU_TEST_INFO_NULL,
    };
    return rig_main("engine_tools", tests);
}
