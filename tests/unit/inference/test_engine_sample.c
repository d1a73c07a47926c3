/* Penalties and emission by themselves, where the tokens are the test's own. */
#include <time.h>

#include "inference/engine_internal.h"
#include "tests/unit/inference/engine_rig.h"

enum { VOCABULARY = 40000 };

/* The plain reading of what penalties are: for each token of the window, how often it is there. */
static llama_token best_by_definition(const tri_sampler *s, const float *logits,
                                      const llama_token *tokens, size_t count, size_t vocabulary) {
    size_t from = count > s->window ? count - s->window : 0, best = 0;
    float best_logit = 0;
    for (size_t id = 0; id < vocabulary; id++) {
        size_t times = 0;
        for (size_t i = from; i < count; i++) {
            times += tokens[i] == (llama_token)id;
        }
        float logit = logits[id];
        if (times > 0) {
            logit = logit <= 0 ? logit * s->repeat : logit / s->repeat;
            logit -= (float)times * s->frequency + s->presence;
        }
        if (id == 0 || logit > best_logit) {
            best = id;
            best_logit = logit;
        }
    }
    return (llama_token)best;
}

static tri_sampler_scratch new_scratch(size_t size) {
    return (tri_sampler_scratch){.candidates = calloc(size, sizeof(llama_token_data)),
                                 .times = calloc(size, sizeof(uint32_t)),
                                 .size = size};
}

static void penalties_count_each_token_of_the_window(void) {
    enum { SMALL = 50, COUNT = 300 };
    tri_sampler_scratch scratch = new_scratch(SMALL);
    float logits[SMALL];
    llama_token tokens[COUNT];
    uint32_t dice = 1;
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < COUNT; i++) {
            dice = dice * 1664525U + 1013904223U;
            tokens[i] = (llama_token)((dice >> 16) % SMALL);
            logits[i % SMALL] = (float)((dice >> 8) % 1000) / 100.0F - 4.0F;
        }
        tri_sampler sampler = {.greedy = true,
                               .repeat = 1.3F,
                               .frequency = 0.4F,
                               .presence = 0.2F,
                               .window = (size_t)(round % 4) * 40 + 1};
        llama_token picked = -1;
        CU_ASSERT_EQUAL(tri_sampler_pick(&sampler, &scratch, logits, tokens, COUNT, 0, &picked),
                        TR_OK);
        CU_ASSERT_EQUAL(picked, best_by_definition(&sampler, logits, tokens, COUNT, SMALL));
    }
    free(scratch.candidates);
    free(scratch.times);
}

static void a_window_over_everything_costs_its_length_only(void) {
    tri_sampler_scratch scratch = new_scratch(VOCABULARY);
    float *logits = calloc(VOCABULARY, sizeof *logits);
    llama_token *tokens = calloc(VOCABULARY, sizeof *tokens);
    for (int i = 0; i < VOCABULARY; i++) {
        tokens[i] = i;
        logits[i] = (float)i;
    }
    tri_sampler sampler = {.greedy = true, .repeat = 1.0F, .presence = 1.0F, .window = INT32_MAX};
    clock_t before = clock();
    for (int i = 0; i < 20; i++) {
        llama_token picked = -1;
        CU_ASSERT_EQUAL(
            tri_sampler_pick(&sampler, &scratch, logits, tokens, VOCABULARY - 1, 0, &picked),
            TR_OK);
        CU_ASSERT_EQUAL(picked, VOCABULARY - 1);
    }
    /* Token by token against each other it is 10 s, and more with sanitizers. */
    CU_ASSERT_TRUE(clock() - before < 2 * CLOCKS_PER_SEC);
    free(scratch.candidates);
    free(scratch.times);
    free(logits);
    free(tokens);
}

static void many_silent_tokens_behind_a_possible_stop_go_out_in_parts(void) {
    static const tr_str stop = {"END", 3};
    rig r = {0};
    tr_engine engine = {.spec = {.emit = rig_emit, .arg = &r}};
    tri_seq seq = {.ref = 1, .credit_messages = 2, .credit_bytes = 1 << 20};
    tri_text_init(&seq.text, &stop, 1);
    CU_ASSERT_EQUAL(tri_text_push(&seq.text, 7, "oh E", 4), TR_OK);
    for (int i = 0; i < 2500; i++) {
        CU_ASSERT_EQUAL(tri_text_push(&seq.text, 100 + i, "", 0), TR_OK);
        CU_ASSERT_TRUE(tri_emit_text(&engine, &seq));
    }
    rig_stream *s = rig_of(&r, 1);
    CU_ASSERT_EQUAL(s->deltas, 0);
    CU_ASSERT_EQUAL(tri_text_push(&seq.text, 8, "x", 1), TR_OK);
    CU_ASSERT_FALSE(tri_emit_text(&engine, &seq)); /* two messages of credit, three needed */
    CU_ASSERT_EQUAL(s->deltas, 2);
    CU_ASSERT_EQUAL(s->token_count, 2048);
    seq.credit_messages = 1;
    CU_ASSERT_TRUE(tri_emit_text(&engine, &seq));
    CU_ASSERT_FALSE(s->order_broken);
    CU_ASSERT_STRING_EQUAL(s->text, "oh Ex");
    CU_ASSERT_EQUAL_FATAL(s->token_count, 2502);
    CU_ASSERT_EQUAL(s->tokens[0], 7);
    CU_ASSERT_EQUAL(s->tokens[2500], 100 + 2499);
    CU_ASSERT_EQUAL(s->tokens[2501], 8);
    tri_text_fini(&seq.text);
    rig_close(&r);
}

int main(void) {
    CU_TestInfo tests[] = {
        {"penalties_count_each_token_of_the_window", penalties_count_each_token_of_the_window},
        {"a_window_over_everything_costs_its_length_only",
         a_window_over_everything_costs_its_length_only},
        {"many_silent_tokens_behind_a_possible_stop_go_out_in_parts",
         many_silent_tokens_behind_a_possible_stop_go_out_in_parts},
        CU_TEST_INFO_NULL};
    return rig_main("engine-sample", tests);
}
