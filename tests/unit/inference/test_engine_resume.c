/* Resuming: a stream cut after any of its DELTAs goes on elsewhere as if nothing had happened. The
 * random model makes every token depend on all before it, so a slip anywhere shows. */
#include "tests/unit/inference/engine_rig.h"

#define ASK "\"messages\":[{\"role\":\"user\",\"content\":\"Tell me about the sea.\"}]"

/* Runs `json` undisturbed, then again from each of its DELTAs on, on another engine that serves
 * others at the same time, and compares text and tokens. */
static void check_every_cut(tr_tiny_kind kind, const char *json) {
    rig one, two;
    rig_open(&one, kind, 1, 512);
    rig_open(&two, kind, 4, 512);
    rig_stream *whole = rig_ask(&one, 0, json);
    CU_ASSERT_EQUAL(whole->terminals, 1);
    CU_ASSERT_EQUAL(whole->err, TR_OK);
    CU_ASSERT_TRUE_FATAL(whole->deltas > 3);
    uint64_t ref = 1;
    for (uint32_t cut = 0; cut < whole->deltas; cut++) {
        if (ref + 2 >= RIG_REFS) {
            break;
        }
        tr_submit head = rig_plenty;
        head.resume_count = whole->boundary[cut];
        rig_submit(&two, ref + 1, &rig_plenty, NULL,
                   "{\"messages\":[{\"role\":\"user\",\"content\":\"other\"}],\"max_tokens\":20}");
        CU_ASSERT_TRUE(tr_engine_step(two.engine));
        rig_submit(&two, ref, &head, whole->tokens, json);
        while (tr_engine_step(two.engine)) {
        }
        rig_stream *rest = rig_of(&two, ref);
        CU_ASSERT_EQUAL(rest->terminals, 1);
        CU_ASSERT_EQUAL(rest->err, TR_OK);
        CU_ASSERT_EQUAL(rest->finish, whole->finish);
        CU_ASSERT_EQUAL(rest->usage.out, whole->usage.out);
        CU_ASSERT_EQUAL(rest->usage.in, whole->usage.in);
        CU_ASSERT_STRING_EQUAL(rest->text, whole->text + whole->text_at[cut]);
        CU_ASSERT_EQUAL(whole->boundary[cut] + rest->token_count, whole->token_count);
        ref += 2;
    }
    rig_close(&one);
    rig_close(&two);
}

static void greedy_stream_resumes_anywhere(void) {
    check_every_cut(TR_TINY_RANDOM, "{" ASK ",\"temperature\":0,\"max_tokens\":30}");
}

static void sampled_stream_resumes_anywhere(void) {
    check_every_cut(TR_TINY_RANDOM, "{" ASK ",\"temperature\":1,\"seed\":42,\"max_tokens\":30}");
    check_every_cut(TR_TINY_RANDOM, "{" ASK ",\"temperature\":1.5,\"top_k\":0,\"top_p\":1,"
                                    "\"min_p\":0,\"seed\":9,\"max_tokens\":30}");
}

static void penalties_and_grammar_are_led_through_the_resumed_tokens(void) {
    check_every_cut(TR_TINY_RANDOM,
                    "{" ASK ",\"temperature\":1,\"seed\":3,\"repeat_penalty\":1.3,"
                    "\"frequency_penalty\":0.4,\"presence_penalty\":0.2,\"repeat_last_n\":16,"
                    "\"max_tokens\":30}");
    check_every_cut(TR_TINY_RANDOM, "{" ASK ",\"temperature\":1,\"seed\":3,\"max_tokens\":30,"
                                    "\"grammar\":\"root ::= (\\\"(\\\" [a-m]+ \\\") \\\")*\"}");
}

static void stop_strings_are_matched_across_the_cut(void) {
    check_every_cut(TR_TINY_CHAIN, "{" ASK ",\"temperature\":0,\"stop\":[\"mnop\",\"efX\"]}");
    check_every_cut(TR_TINY_CHAIN, "{" ASK ",\"temperature\":0,\"max_tokens\":9,"
                                   "\"stop\":[\"ghijkl\"]}");
}

static void characters_of_several_tokens_are_whole_across_the_cut(void) {
    check_every_cut(TR_TINY_CHAIN,
                    "{" ASK ",\"temperature\":0,\"grammar\":\"root ::= \\\"A\\\" [^x]*\"}");
}

static void seed_of_the_submit_counts_when_the_request_has_none(void) {
    rig r;
    rig_open(&r, TR_TINY_RANDOM, 1, 512);
    const char *json = "{" ASK ",\"temperature\":1,\"max_tokens\":20}";
    tr_submit other = rig_plenty;
    other.seed++;
    rig_submit(&r, 1, &rig_plenty, NULL, json);
    rig_submit(&r, 2, &rig_plenty, NULL, json);
    rig_submit(&r, 3, &other, NULL, json);
    while (tr_engine_step(r.engine)) {
    }
    CU_ASSERT_STRING_EQUAL(rig_of(&r, 1)->text, rig_of(&r, 2)->text);
    CU_ASSERT_STRING_NOT_EQUAL(rig_of(&r, 1)->text, rig_of(&r, 3)->text);
    rig_close(&r);
}

static void company_and_caches_change_nothing(void) {
    rig alone, busy;
    rig_open(&alone, TR_TINY_RANDOM, 1, 1024);
    rig_open(&busy, TR_TINY_RANDOM, 8, 1024);
    char texts[8][1200];
    for (int i = 0; i < 8; i++) {
        snprintf(texts[i], sizeof texts[i],
                 "{\"messages\":[{\"role\":\"system\",\"content\":\"%0*d\"},{\"role\":\"user\","
                 "\"content\":\"%d\"}],\"temperature\":0,\"max_tokens\":%d}",
                 40 + i * 97, 0, i, 50 + 10 * i);
    }
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < 8; i++) {
            rig_submit(&busy, i + 8 * (uint64_t)round, &rig_plenty, NULL, texts[i]);
            CU_ASSERT_TRUE(tr_engine_step(busy.engine));
        }
        while (tr_engine_step(busy.engine)) {
        }
    }
    for (uint64_t i = 0; i < 8; i++) {
        rig_stream *s = rig_ask(&alone, i, texts[i]);
        for (uint64_t round = 0; round < 3; round++) {
            CU_ASSERT_STRING_EQUAL(rig_of(&busy, i + 8 * round)->text, s->text);
        }
    }
    rig_close(&alone);
    rig_close(&busy);
}

static void tokens_that_could_not_have_been_sent_are_refused(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 512);
    const int32_t bad[][2] = {{-1, 5}, {1 << 30, 5}, {2, 5}}; /* 2 ends an answer */
    tr_submit head = rig_plenty;
    head.resume_count = 2;
    for (uint64_t i = 0; i < 3; i++) {
        rig_submit(&r, i, &head, bad[i], "{" ASK ",\"temperature\":0}");
        CU_ASSERT_EQUAL(rig_of(&r, i)->err, TR_ERR_INVALID);
    }
    const int32_t against[] = {tr_tiny_token('a'), tr_tiny_token('b')};
    rig_submit(&r, 5, &head, against,
               "{" ASK ",\"temperature\":0,\"grammar\":\"root ::= [0-9]+\"}");
    CU_ASSERT_EQUAL(rig_of(&r, 5)->err, TR_ERR_INVALID);
    rig_submit(&r, 6, &head, against, "{" ASK ",\"temperature\":0,\"max_tokens\":1}");
    CU_ASSERT_EQUAL(rig_of(&r, 6)->err, TR_ERR_INVALID);
    rig_submit(&r, 7, &head, against, "{" ASK ",\"temperature\":0}");
    while (tr_engine_step(r.engine)) {
    }
    CU_ASSERT_STRING_EQUAL(rig_of(&r, 7)->text, "cdefghijklmnopqrstuvwxyz");
    rig_close(&r);
}

static void more_tokens_than_the_context_holds_are_the_end(void) {
    rig large, small;
    rig_open(&large, TR_TINY_RANDOM, 1, 1024);
    rig_open(&small, TR_TINY_RANDOM, 1, 256);
    const char *json = "{" ASK ",\"temperature\":0,\"max_tokens\":400}";
    rig_stream *whole = rig_ask(&large, 1, json);
    CU_ASSERT_EQUAL_FATAL(whole->token_count, 400);
    tr_submit head = rig_plenty;
    head.resume_count = 400;
    rig_submit(&small, 1, &head, whole->tokens, json);
    while (tr_engine_step(small.engine)) {
    }
    CU_ASSERT_EQUAL(rig_of(&small, 1)->err, TR_OK);
    CU_ASSERT_EQUAL(rig_of(&small, 1)->finish, TR_FINISH_LENGTH);
    CU_ASSERT_EQUAL(rig_of(&small, 1)->size, 0);
    rig_close(&large);
    rig_close(&small);
}

int main(void) {
    CU_TestInfo tests[] = {
#define T(name) {#name, name}
        T(greedy_stream_resumes_anywhere),
        T(sampled_stream_resumes_anywhere),
        T(penalties_and_grammar_are_led_through_the_resumed_tokens),
        T(stop_strings_are_matched_across_the_cut),
        T(characters_of_several_tokens_are_whole_across_the_cut),
        T(seed_of_the_submit_counts_when_the_request_has_none),
        T(company_and_caches_change_nothing),
        T(tokens_that_could_not_have_been_sent_are_refused),
        T(more_tokens_than_the_context_holds_are_the_end),
        CU_TEST_INFO_NULL,
    };
    return rig_main("engine_resume", tests);
}
