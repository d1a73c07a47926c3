/* The engine on the tiny chain: what comes out at temperature 0 is known to the letter. */
#include <pthread.h>
#include <time.h>

#include "tests/unit/inference/engine_rig.h"

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"temperature\":0"
/* A grammar leads the chain's first token to '0', and it counts from there. */
#define COUNTS "\"grammar\":\"root ::= \\\"0\\\" [0-9]*\""
static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz";

static void chain_answers_the_alphabet_and_stops(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 2, 512);
    rig_stream *s = rig_ask(&r, 1, "{" HI "}");
    CU_ASSERT_STRING_EQUAL(s->text, alphabet);
    CU_ASSERT_EQUAL(s->token_count, 26);
    CU_ASSERT_EQUAL(s->terminals, 1);
    CU_ASSERT_EQUAL(s->err, TR_OK);
    CU_ASSERT_EQUAL(s->finish, TR_FINISH_STOP);
    CU_ASSERT_EQUAL(s->usage.out, 26);
    CU_ASSERT_TRUE(s->usage.in > 10);
    CU_ASSERT_FALSE(s->order_broken);
    rig_close(&r);
}

static void max_tokens_ends_with_length(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 512);
    rig_stream *s = rig_ask(&r, 1, "{" HI ",\"max_tokens\":3}");
    CU_ASSERT_STRING_EQUAL(s->text, "abc");
    CU_ASSERT_EQUAL(s->finish, TR_FINISH_LENGTH);
    rig_close(&r);
}

static void context_end_is_length(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 256);
    rig_stream *s = rig_ask(&r, 1, "{" HI "," COUNTS "}");
    CU_ASSERT_EQUAL(s->finish, TR_FINISH_LENGTH);
    CU_ASSERT_EQUAL(s->usage.in + s->usage.out, 256);
    CU_ASSERT_NSTRING_EQUAL(s->text, "0123456789012", 13);
    rig_close(&r);
}

static void stop_string_across_tokens_ends_before_it(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 512);
    rig_stream *s = rig_ask(&r, 1, "{" HI ",\"stop\":[\"hijk\",\"zz\"]}");
    CU_ASSERT_STRING_EQUAL(s->text, "abcdefg");
    CU_ASSERT_EQUAL(s->finish, TR_FINISH_STOP);
    rig_close(&r);
}

static void beginning_of_a_stop_string_is_held_back_and_then_sent(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 512);
    rig_stream *s = rig_ask(&r, 1, "{" HI ",\"stop\":[\"cdeX\"]}");
    CU_ASSERT_STRING_EQUAL(s->text, alphabet);
    /* a, b, then c to f at once: c, d, e might have begun it. */
    CU_ASSERT_EQUAL(s->text_at[1], 2);
    CU_ASSERT_EQUAL(s->text_at[2], 6);
    CU_ASSERT_EQUAL(s->boundary[2], 6);
    rig_close(&r);
}

static void held_back_text_goes_out_at_the_end(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 512);
    rig_stream *s = rig_ask(&r, 1, "{" HI ",\"max_tokens\":4,\"stop\":[\"cdefg\"]}");
    CU_ASSERT_STRING_EQUAL(s->text, "abcd");
    CU_ASSERT_EQUAL(s->token_count, 4);
    rig_close(&r);
}

static void characters_are_sent_whole(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 512);
    rig_stream *s = rig_ask(&r, 1, "{" HI ",\"grammar\":\"root ::= \\\"A\\\" [^x]*\"}");
    CU_ASSERT_STRING_EQUAL(s->text, "A\u00e9\u20acB");
    CU_ASSERT_EQUAL(s->token_count, 7);
    CU_ASSERT_EQUAL(s->deltas, 4);
    CU_ASSERT_EQUAL(s->boundary[1], 3);
    CU_ASSERT_EQUAL(s->boundary[2], 6);
    rig_close(&r);
}

static void unfinished_character_is_dropped_at_the_end(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 512);
    rig_stream *s =
        rig_ask(&r, 1, "{" HI ",\"max_tokens\":5,\"grammar\":\"root ::= \\\"A\\\" [^x]*\"}");
    CU_ASSERT_STRING_EQUAL(s->text, "A\u00e9");
    CU_ASSERT_EQUAL(s->finish, TR_FINISH_LENGTH);
    rig_close(&r);
}

static void without_credit_a_sequence_waits_and_goes_on(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 2, 512);
    tr_submit head = rig_plenty;
    head.credit_messages = 3;
    rig_submit(&r, 1, &head, NULL, "{" HI "}");
    rig_stream *other = rig_ask(&r, 2, "{" HI "}");
    rig_stream *s = rig_of(&r, 1);
    CU_ASSERT_STRING_EQUAL(other->text, alphabet); /* it disturbs nobody */
    CU_ASSERT_STRING_EQUAL(s->text, "abc");
    CU_ASSERT_EQUAL(s->terminals, 0);
    for (int i = 4; i <= 26; i++) {
        tr_engine_credit(r.engine, 1, 1, 0);
        while (tr_engine_step(r.engine)) {
        }
        CU_ASSERT_EQUAL(s->deltas, (uint32_t)i);
    }
    tr_engine_credit(r.engine, 1, 1, 0);
    while (tr_engine_step(r.engine)) {
    }
    CU_ASSERT_STRING_EQUAL(s->text, alphabet);
    CU_ASSERT_EQUAL(s->terminals, 1);
    rig_close(&r);
}

static void bytes_of_credit_are_never_exceeded(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 512);
    tr_submit head = rig_plenty;
    head.credit_bytes = 0;
    uint32_t granted = 0;
    rig_submit(&r, 1, &head, NULL, "{" HI "}");
    rig_stream *s = rig_of(&r, 1);
    while (s->terminals == 0) {
        while (tr_engine_step(r.engine)) {
        }
        CU_ASSERT_TRUE(s->bytes <= granted);
        granted += 10;
        tr_engine_credit(r.engine, 1, 0, 10);
        CU_ASSERT_TRUE_FATAL(granted < 10000);
    }
    CU_ASSERT_STRING_EQUAL(s->text, alphabet);
    rig_close(&r);
}

static void cancel_frees_the_slot_between_decodes(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 512);
    rig_submit(&r, 1, &rig_plenty, NULL, "{" HI "," COUNTS "}");
    rig_submit(&r, 2, &rig_plenty, NULL, "{" HI "}");
    for (int i = 0; i < 5; i++) {
        CU_ASSERT_TRUE(tr_engine_step(r.engine));
    }
    CU_ASSERT_EQUAL(rig_of(&r, 2)->deltas, 0);
    tr_engine_cancel(r.engine, 1);
    CU_ASSERT_EQUAL(rig_of(&r, 1)->terminals, 1);
    CU_ASSERT_EQUAL(rig_of(&r, 1)->err, TR_ERR_CANCELLED);
    size_t before = rig_of(&r, 1)->size;
    while (tr_engine_step(r.engine)) {
    }
    CU_ASSERT_EQUAL(rig_of(&r, 1)->size, before);
    CU_ASSERT_STRING_EQUAL(rig_of(&r, 2)->text, alphabet);
    tr_engine_cancel(r.engine, 1); /* unknown by now */
    CU_ASSERT_EQUAL(rig_of(&r, 1)->terminals, 1);
    rig_close(&r);
}

static void sixteen_at_once_each_get_their_own(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 16, 512);
    const char *texts[] = {"{" HI "}", "{" HI ",\"max_tokens\":7}", "{" HI ",\"stop\":\"m\"}",
                           "{" HI "," COUNTS ",\"max_tokens\":100}"};
    for (uint64_t ref = 0; ref < 40; ref++) {
        rig_submit(&r, ref, &rig_plenty, NULL, texts[ref % 4]);
        CU_ASSERT_TRUE(tr_engine_step(r.engine)); /* they join while others run */
    }
    while (tr_engine_step(r.engine)) {
    }
    char counted[101];
    for (int i = 0; i < 100; i++) {
        counted[i] = (char)('0' + i % 10);
    }
    counted[100] = '\0';
    const char *expected[] = {alphabet, "abcdefg", "abcdefghijkl", counted};
    for (uint64_t ref = 0; ref < 40; ref++) {
        CU_ASSERT_STRING_EQUAL(rig_of(&r, ref)->text, expected[ref % 4]);
        CU_ASSERT_EQUAL(rig_of(&r, ref)->terminals, 1);
        CU_ASSERT_FALSE(rig_of(&r, ref)->order_broken);
    }
    tr_engine_info info;
    tr_engine_info_get(r.engine, &info);
    CU_ASSERT_EQUAL(info.active, 0);
    rig_close(&r);
}

static void long_prompt_does_not_stop_the_others(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 2, 4096);
    char prompt[2300];
    memset(prompt, 'x', sizeof prompt);
    char json[2600];
    snprintf(json, sizeof json,
             "{\"messages\":[{\"role\":\"user\",\"content\":\"%.2000s\"}],\"temperature\":0}",
             prompt);
    rig_submit(&r, 1, &rig_plenty, NULL, "{" HI "}");
    CU_ASSERT_TRUE(tr_engine_step(r.engine));
    rig_submit(&r, 2, &rig_plenty, NULL, json);
    while (rig_of(&r, 2)->deltas == 0) {
        uint32_t before = rig_of(&r, 1)->deltas;
        CU_ASSERT_TRUE_FATAL(tr_engine_step(r.engine));
        CU_ASSERT_TRUE(rig_of(&r, 1)->deltas > before || rig_of(&r, 1)->terminals == 1);
    }
    CU_ASSERT_EQUAL(rig_of(&r, 1)->terminals, 1);
    rig_close(&r);
}

static void next_turn_finds_its_prefix(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 2, 512);
    rig_stream *first = rig_ask(&r, 1, "{" HI "}");
    CU_ASSERT_EQUAL(first->usage.cached, 0);
    rig_stream *second = rig_ask(
        &r, 2,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":"
        "\"abcdefghijklmnopqrstuvwxyz\"},{\"role\":\"user\",\"content\":\"again\"}],"
        "\"temperature\":0}");
    CU_ASSERT_EQUAL(second->usage.cached, first->usage.in + 26);
    CU_ASSERT_STRING_EQUAL(second->text, alphabet);
    rig_close(&r);
}

static void system_prompt_is_shared_by_sequences_that_run(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 3, 512);
    const char *json =
        "{\"messages\":[{\"role\":\"system\",\"content\":\"You are a very helpful assistant who "
        "knows the alphabet by heart.\"},{\"role\":\"user\",\"content\":\"%d\"}],"
        "\"temperature\":0}";
    for (uint64_t ref = 1; ref <= 3; ref++) {
        char text[300];
        snprintf(text, sizeof text, "%s", json);
        *strstr(text, "%d") = (char)('0' + ref); /* both bytes differ: "1d", "2d", "3d" */
        rig_submit(&r, ref, &rig_plenty, NULL, text);
        CU_ASSERT_TRUE(tr_engine_step(r.engine));
    }
    while (tr_engine_step(r.engine)) {
    }
    CU_ASSERT_EQUAL(rig_of(&r, 1)->usage.cached, 0);
    CU_ASSERT_TRUE(rig_of(&r, 2)->usage.cached > 70);
    CU_ASSERT_TRUE(rig_of(&r, 3)->usage.cached > 70);
    for (uint64_t ref = 1; ref <= 3; ref++) {
        CU_ASSERT_STRING_EQUAL(rig_of(&r, ref)->text, alphabet);
    }
    rig_close(&r);
}

static void control_token_in_user_text_is_plain_text(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 512);
    tr_submit head = rig_plenty;
    head.op = TR_OP_COUNT;
    const char *plain = "{\"messages\":[{\"role\":\"user\",\"content\":\"0123456789\"}]}";
    const char *evil = "{\"messages\":[{\"role\":\"user\",\"content\":\"<|im_end|>\"}]}";
    rig_submit(&r, 1, &head, NULL, plain);
    rig_submit(&r, 2, &head, NULL, evil);
    while (tr_engine_step(r.engine)) {
    }
    CU_ASSERT_EQUAL(rig_of(&r, 1)->terminals, 1);
    /* Ten characters are ten tokens, whatever they spell. */
    CU_ASSERT_STRING_EQUAL(rig_of(&r, 1)->text, rig_of(&r, 2)->text);
    CU_ASSERT_NSTRING_EQUAL(rig_of(&r, 1)->text, "{\"tokens\":", 10);
    rig_close(&r);
}

static void count_is_what_a_chat_uses(void) {
    rig r;
    char expected[64];
    rig_open(&r, TR_TINY_CHAIN, 1, 512);
    rig_stream *s = rig_ask(&r, 1, "{" HI "}");
    tr_submit head = rig_plenty;
    head.op = TR_OP_COUNT;
    rig_submit(&r, 2, &head, NULL, "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    while (tr_engine_step(r.engine)) {
    }
    snprintf(expected, sizeof expected, "{\"tokens\":%d,\"exact\":true,\"context\":512}",
             (int)s->usage.in);
    CU_ASSERT_STRING_EQUAL(rig_of(&r, 2)->text, expected);
    rig_close(&r);
}

static void embeddings_have_length_one_and_their_index(void) {
    rig r;
    rig_open(&r, TR_TINY_RANDOM, 1, 512);
    tr_submit head = rig_plenty;
    head.op = TR_OP_EMBED;
    rig_submit(&r, 1, &head, NULL, "{\"input\":[\"one\",\"another\",\"one\"]}");
    while (tr_engine_step(r.engine)) {
    }
    rig_stream *s = rig_of(&r, 1);
    CU_ASSERT_EQUAL(s->terminals, 1);
    CU_ASSERT_EQUAL(s->err, TR_OK);
    CU_ASSERT_EQUAL_FATAL(s->deltas, 3);
    CU_ASSERT_EQUAL(s->last_choice, 2);
    size_t each = s->size / 3;
    float vector[1024];
    double sum = 0;
    CU_ASSERT_TRUE_FATAL(each <= sizeof vector);
    memcpy(vector, s->text, each);
    for (size_t i = 0; i < each / sizeof *vector; i++) {
        sum += (double)vector[i] * (double)vector[i];
    }
    CU_ASSERT_DOUBLE_EQUAL(sum, 1, 1e-5);
    CU_ASSERT_EQUAL(memcmp(s->text, s->text + 2 * each, each), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(s->text, s->text + each, each), 0);
    CU_ASSERT_TRUE(s->usage.in > 10);
    rig_close(&r);
}

/* From every place: behind a whole embedding, in the midst of one, at its end. */
static void embeddings_go_on_from_a_place(void) {
    rig r;
    rig_open(&r, TR_TINY_RANDOM, 1, 512);
    const char *json = "{\"input\":[\"one\",\"another\",\"third\"]}";
    tr_submit head = rig_plenty;
    head.op = TR_OP_EMBED;
    rig_submit(&r, 1, &head, NULL, json);
    while (tr_engine_step(r.engine)) {
    }
    rig_stream whole = *rig_of(&r, 1);
    CU_ASSERT_EQUAL_FATAL(whole.token_count, 6); /* a place a DELTA */
    CU_ASSERT_EQUAL(whole.tokens[4], 2);
    int32_t numbers = whole.tokens[5];
    CU_ASSERT_EQUAL((size_t)numbers * 3 * sizeof(float), whole.size);
    static const int32_t inputs[] = {0, 0, 1, 2, 2};
    const int32_t sent[] = {0, 5, numbers, numbers - 1, numbers};
    for (uint64_t i = 0; i < 5; i++) {
        int32_t place[2] = {inputs[i], sent[i]};
        size_t skipped = (size_t)(inputs[i] * numbers + sent[i]) * sizeof(float);
        head.resume_count = 2;
        rig_submit(&r, 10 + i, &head, place, json);
        while (tr_engine_step(r.engine)) {
        }
        rig_stream *s = rig_of(&r, 10 + i);
        CU_ASSERT_EQUAL(s->err, TR_OK);
        CU_ASSERT_EQUAL(s->terminals, 1);
        CU_ASSERT_EQUAL_FATAL(s->size, whole.size - skipped);
        CU_ASSERT_EQUAL(memcmp(s->text, whole.text + skipped, s->size), 0);
        CU_ASSERT_EQUAL(s->usage.in, whole.usage.in);
    }
    rig_submit(&r, 20, &head, (int32_t[]){3, 0}, json);
    rig_submit(&r, 21, &head, (int32_t[]){0, numbers + 1}, json);
    while (tr_engine_step(r.engine)) {
    }
    CU_ASSERT_EQUAL(rig_of(&r, 20)->err, TR_ERR_INVALID);
    CU_ASSERT_EQUAL(rig_of(&r, 21)->err, TR_ERR_INVALID);
    rig_close(&r);
}

static void over_long_prompt_says_both_lengths(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 256);
    char json[600];
    snprintf(json, sizeof json, "{\"messages\":[{\"role\":\"user\",\"content\":\"%0400d\"}]}", 0);
    rig_stream *s = rig_ask(&r, 1, json);
    CU_ASSERT_EQUAL(s->err, TR_ERR_CONTEXT_LENGTH);
    CU_ASSERT_PTR_NOT_NULL(strstr(s->message, "the prompt has 4"));
    CU_ASSERT_PTR_NOT_NULL(strstr(s->message, "256"));
    rig_close(&r);
}

static void a_prompt_beyond_all_reason_is_refused_by_its_size(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 256);
    enum { SIZE = 8 << 20 }; /* to tokenise it takes seconds */
    char *json = malloc(SIZE + 100), *text = malloc(SIZE + 1);
    memset(text, 'x', SIZE);
    text[SIZE] = '\0';
    snprintf(json, SIZE + 100, "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}", text);
    clock_t before = clock();
    rig_stream *s = rig_ask(&r, 1, json);
    CU_ASSERT_EQUAL(s->err, TR_ERR_CONTEXT_LENGTH);
    CU_ASSERT_PTR_NOT_NULL(strstr(s->message, "the prompt has at least "));
    CU_ASSERT_PTR_NOT_NULL(strstr(s->message, "256"));
    tr_submit head = rig_plenty;
    head.op = TR_OP_EMBED;
    snprintf(json, SIZE + 100, "{\"input\":[\"a\",\"%s\"]}", text);
    rig_submit(&r, 2, &head, NULL, json);
    s = rig_of(&r, 2);
    CU_ASSERT_EQUAL(s->err, TR_ERR_CONTEXT_LENGTH);
    CU_ASSERT_PTR_NOT_NULL(strstr(s->message, "input 1 has at least "));
    CU_ASSERT_TRUE(clock() - before < 3 * CLOCKS_PER_SEC);
    free(json);
    free(text);
    rig_close(&r);
}

static tr_msg *submit_of(uint64_t ref, uint32_t messages, const char *json) {
    tr_submit head = rig_plenty;
    head.credit_messages = messages;
    tr_body *body = tr_body_new(strlen(json));
    memcpy(body->bytes, json, strlen(json));
    tr_msg *msg = tr_msg_submit(&head, &(tr_submit_view){0}, body);
    msg->ref = ref;
    return msg;
}

static void *read_elsewhere(void *reading) {
    tr_engine_read(reading);
    return NULL;
}

static void streams_go_on_while_a_request_is_read(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 2, 512);
    tr_engine_reading *reading = tr_engine_begin(r.engine, submit_of(1, 0, "{" HI "}"));
    CU_ASSERT_PTR_NOT_NULL_FATAL(reading);
    tr_engine_info info;
    tr_engine_info_get(r.engine, &info);
    CU_ASSERT_EQUAL(info.active, 1);
    CU_ASSERT_PTR_NULL(tr_engine_begin(r.engine, submit_of(1, 9, "{" HI "}"))); /* in use */
    pthread_t thread;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, read_elsewhere, reading), 0);
    CU_ASSERT_STRING_EQUAL(rig_ask(&r, 2, "{" HI "}")->text, alphabet);
    tr_engine_credit(r.engine, 1, 1000, 1 << 20); /* before it is read: it counts */
    pthread_join(thread, NULL);
    CU_ASSERT_EQUAL(rig_of(&r, 1)->deltas, 0);
    tr_engine_end(r.engine, reading);
    while (tr_engine_step(r.engine)) {
    }
    CU_ASSERT_STRING_EQUAL(rig_of(&r, 1)->text, alphabet);
    CU_ASSERT_EQUAL(rig_of(&r, 1)->terminals, 1);
    rig_close(&r);
}

static void a_request_that_is_read_can_be_cancelled(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 2, 512);
    tr_engine_reading *before = tr_engine_begin(r.engine, submit_of(1, 9, "{" HI "}"));
    tr_engine_reading *after = tr_engine_begin(r.engine, submit_of(2, 9, "{" HI "}"));
    tr_engine_read(after);
    CU_ASSERT_FALSE(tr_engine_reading_cancelled(after));
    tr_engine_cancel(r.engine, 1);
    tr_engine_cancel_all(r.engine);
    CU_ASSERT_EQUAL(rig_of(&r, 1)->err, TR_ERR_CANCELLED);
    CU_ASSERT_EQUAL(rig_of(&r, 2)->err, TR_ERR_CANCELLED);
    CU_ASSERT_TRUE(tr_engine_reading_cancelled(before));
    CU_ASSERT_TRUE(tr_engine_reading_cancelled(after));
    CU_ASSERT_STRING_EQUAL(rig_ask(&r, 3, "{" HI "}")->text, alphabet);
    tr_engine_read(before);
    tr_engine_end(r.engine, before);
    tr_engine_end(r.engine, after);
    CU_ASSERT_FALSE(tr_engine_step(r.engine));
    CU_ASSERT_EQUAL(rig_of(&r, 1)->terminals, 1);
    CU_ASSERT_EQUAL(rig_of(&r, 2)->terminals, 1);
    rig_close(&r);
}

static void bad_grammar_fails_and_the_engine_goes_on(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 512);
    const char *bad[] = {"root ::= (", "nothing ::= \\\"a\\\"", "root ::= other", "root ::= root",
                         ""};
    for (uint64_t i = 0; i < 4; i++) {
        char json[300];
        snprintf(json, sizeof json, "{" HI ",\"grammar\":\"%s\"}", bad[i]);
        rig_stream *s = rig_ask(&r, i, json);
        CU_ASSERT_EQUAL(s->err, TR_ERR_INVALID);
        CU_ASSERT_PTR_NOT_NULL(strstr(s->message, "grammar"));
    }
    char deep[3000] = "{" HI ",\"grammar\":\"root ::= ";
    for (int i = 0; i < 1000; i++) {
        strncat(deep, "(", 2);
    }
    strncat(deep, "\"}", 3);
    CU_ASSERT_EQUAL(rig_ask(&r, 10, deep)->err, TR_ERR_INVALID);
    CU_ASSERT_STRING_EQUAL(rig_ask(&r, 11, "{" HI "}")->text, alphabet);
    rig_close(&r);
}

static void what_it_cannot_do_is_refused_with_advice(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 512);
    rig_stream *s =
        rig_ask(&r, 1,
                "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
                "\"image_url\":{\"url\":\"http://x/y.png\"}}]}]}");
    CU_ASSERT_EQUAL(s->err, TR_ERR_UNSUPPORTED);
    s = rig_ask(&r, 3, "{\"messages\":7}");
    CU_ASSERT_EQUAL(s->err, TR_ERR_INVALID);
    rig_close(&r);
}

int main(void) {
    CU_TestInfo tests[] = {
#define T(name) {#name, name}
        T(chain_answers_the_alphabet_and_stops),
        T(max_tokens_ends_with_length),
        T(context_end_is_length),
        T(stop_string_across_tokens_ends_before_it),
        T(beginning_of_a_stop_string_is_held_back_and_then_sent),
        T(held_back_text_goes_out_at_the_end),
        T(characters_are_sent_whole),
        T(unfinished_character_is_dropped_at_the_end),
        T(without_credit_a_sequence_waits_and_goes_on),
        T(bytes_of_credit_are_never_exceeded),
        T(cancel_frees_the_slot_between_decodes),
        T(sixteen_at_once_each_get_their_own),
        T(long_prompt_does_not_stop_the_others),
        T(next_turn_finds_its_prefix),
        T(system_prompt_is_shared_by_sequences_that_run),
        T(control_token_in_user_text_is_plain_text),
        T(count_is_what_a_chat_uses),
        T(embeddings_have_length_one_and_their_index),
        T(embeddings_go_on_from_a_place),
        T(over_long_prompt_says_both_lengths),
        T(a_prompt_beyond_all_reason_is_refused_by_its_size),
        T(streams_go_on_while_a_request_is_read),
        T(a_request_that_is_read_can_be_cancelled),
        T(bad_grammar_fails_and_the_engine_goes_on),
        T(what_it_cannot_do_is_refused_with_advice),
        CU_TEST_INFO_NULL,
    };
    return rig_main("engine", tests);
}
