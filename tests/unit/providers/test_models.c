/* The table of models and the arithmetic of a cost. */
#include "providers/models.h"

#include <CUnit/Basic.h>
#include <math.h>
#include <string.h>

static tr_model_facts of(const char *kind, const char *model) {
    return tr_model_facts_of(kind, (tr_str){model, strlen(model)});
}

static bool costs(const tr_model_facts *facts, tr_usage_wire usage, double expected) {
    usage.cost = __builtin_nan("");
    return fabs(tr_model_cost(facts, &usage) - expected) < 1e-12;
}

static bool unknown(const tr_model_facts *facts, tr_usage_wire usage) {
    usage.cost = __builtin_nan("");
    return isnan(tr_model_cost(facts, &usage));
}

static void a_dated_version_is_the_model_and_a_namesake_is_not(void) {
    CU_ASSERT_TRUE(of("openai", "gpt-4o-mini").in == 0.15);
    CU_ASSERT_TRUE(of("openai", "gpt-4o-mini-2024-07-18").in == 0.15);
    CU_ASSERT_TRUE(of("openai-responses", "gpt-4o-mini").context == 128000);
    CU_ASSERT_TRUE(of("openai", "gpt-4o-2024-05-13").in == 5);
    CU_ASSERT_TRUE(of("anthropic", "claude-opus-4-20250514").in == 15);
    CU_ASSERT_TRUE(of("anthropic", "claude-opus-4-5-20251101").in == 5);
    CU_ASSERT_TRUE(isnan(of("anthropic", "claude-opus-4-99-20990101").in));
    CU_ASSERT_TRUE(isnan(of("openai", "gpt-4o-mini-audio-preview").in));
    CU_ASSERT_TRUE(isnan(of("openai-compatible", "gpt-4o-mini").in));
    CU_ASSERT_EQUAL(of("openai", "gpt-4o-mini-audio-preview").context, 0);
}

static void a_cost_counts_the_cache_as_its_vendor_does(void) {
    tr_model_facts openai = of("openai", "gpt-4o-mini");
    CU_ASSERT_TRUE(costs(&openai, (tr_usage_wire){.in = 1000000, .out = 1000000}, 0.75));
    CU_ASSERT_TRUE(costs(&openai, (tr_usage_wire){.in = 1000000, .cached = 1000000}, 0.075));
    tr_model_facts anthropic = of("anthropic", "claude-haiku-4-5");
    CU_ASSERT_TRUE(
        costs(&anthropic, (tr_usage_wire){.in = 1000000, .out = 100000, .cached = 1000000}, 1.6));
    CU_ASSERT_TRUE(costs(&anthropic, (tr_usage_wire){.in = 1000000, .surcharge = 1000000}, 2.0));
    /* 1,000 afresh, 100,000 read at a tenth, 20,000 written for 5 minutes (as 25,000), 1,000 out.
     */
    tr_model_facts opus = of("anthropic", "claude-opus-4-5");
    CU_ASSERT_TRUE(
        costs(&opus, (tr_usage_wire){.in = 1000, .out = 1000, .cached = 100000, .surcharge = 25000},
              0.005 + 0.05 + 0.125 + 0.025));
    tr_model_facts xai = of("xai", "grok-3");
    CU_ASSERT_TRUE(costs(&xai, (tr_usage_wire){.out = 500000, .reasoning = 500000}, 15));
}

static void what_is_not_known_makes_the_cost_unknown(void) {
    tr_model_facts none = of("openai", "gpt-next");
    CU_ASSERT_TRUE(unknown(&none, (tr_usage_wire){.in = 10, .out = 10}));
    tr_model_facts mini = of("openai", "gpt-4o-mini");
    CU_ASSERT_TRUE(unknown(&mini, (tr_usage_wire){0})); /* nobody said what was used */
    tr_model_facts pro = of("gemini", "gemini-2.5-pro");
    CU_ASSERT_FALSE(unknown(&pro, (tr_usage_wire){.in = 10, .out = 10}));
    CU_ASSERT_TRUE(unknown(&pro, (tr_usage_wire){.in = 10, .cached = 1}));
    CU_ASSERT_TRUE(unknown(&pro, (tr_usage_wire){.in = 200001, .out = 1}));
    tr_model_facts local = of("local", "smollm2");
    CU_ASSERT_TRUE(costs(&local, (tr_usage_wire){.in = 10, .out = 10}, 0));
}

static void a_cost_that_the_provider_told_is_kept(void) {
    tr_model_facts mini = of("openai", "gpt-4o-mini");
    tr_usage_wire usage = {.in = 10, .out = 10, .cost = 0.5};
    CU_ASSERT_TRUE(tr_model_cost(&mini, &usage) == 0.5);
}

static void own_figures_go_before_the_tables(void) {
    tr_model_facts facts = of("gemini", "gemini-2.5-pro");
    tr_model_facts own = {.in = 1, .out = __builtin_nan(""), .cached = 0.1, .context = 7};
    tr_model_facts_merge(&facts, &own);
    CU_ASSERT_TRUE(facts.in == 1 && facts.out == 10 && facts.cached == 0.1);
    CU_ASSERT_EQUAL(facts.context, 7);
    CU_ASSERT_EQUAL(facts.output, 65536);
    CU_ASSERT_FALSE(unknown(&facts, (tr_usage_wire){.in = 300000, .out = 1}));
}

int main(void) {
    CU_TestInfo tests[] = {
        {"a_dated_version_is_the_model_and_a_namesake_is_not",
         a_dated_version_is_the_model_and_a_namesake_is_not},
        {"a_cost_counts_the_cache_as_its_vendor_does", a_cost_counts_the_cache_as_its_vendor_does},
        {"what_is_not_known_makes_the_cost_unknown", what_is_not_known_makes_the_cost_unknown},
        {"a_cost_that_the_provider_told_is_kept", a_cost_that_the_provider_told_is_kept},
        {"own_figures_go_before_the_tables", own_figures_go_before_the_tables},
        CU_TEST_INFO_NULL};
    CU_SuiteInfo suites[] = {{"models", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
