/* Every format in which providers speak of their limits. */
#include <CUnit/Basic.h>
#include <stdlib.h>
#include <string.h>

#include "providers/http.h"
#include "providers/provider.h"
#include "providers/rates.h"
#include "tests/lib/stand_in.h"

#define NOW 1742031500000LL /* 2025-03-15T09:38:20Z */

static void resets_are_read_in_every_format(void) {
    static const struct {
        const char *text;
        int64_t ms; /* -1 = it is none */
    } rows[] = {
        {"6ms", 6},
        {"120ms", 120},
        {"0s", 0},
        {"1m0s", 60000},
        {"8.64s", 8640},
        {"59.369s", 59369},
        {"1m51.595s", 111595},
        {"1h2m3s", 3723000},
        {"2d", 172800000},
        {"48s", 48000},
        {"120us", 1},
        {"120µs", 1},
        {"300ns", 0},
        {"0", 0},
        {"7", 7000},
        {"0.5", 500},
        {"60", 60000},
        {"1742031510", 10000},  /* seconds since 1970 */
        {"1742031500250", 250}, /* milliseconds since 1970 */
        {"1742031490", 0},      /* has passed */
        {"2025-03-15T09:38:27Z", 7000},
        {"2025-03-15T09:38:27.250Z", 7250},
        {"2025-03-15t11:38:21+02:00", 1000},
        {"2025-03-15T04:08:22-0530", 2000},
        {"2025-03-15T09:00:00Z", 0},
        {"2024-02-29T00:00:00Z", 0},
        {"9999-12-31T23:59:59Z", 366LL * 24 * 3600 * 1000}, /* nobody waits for ever */
        {"", -1},
        {"soon", -1},
        {"-5", -1},
        {"inf", -1},
        {"nan", -1},
        {"0x10", -1},
        {"1e5", -1},
        {"5 apples", -1},
        {"1m s", -1},
        {"m", -1},
        {"1.2.3s", -1},
        {"2025-13-15T09:38:27Z", -1},
        {"2025-03-15T09:38:27", -1},
        {"2025-03-15", -1},
        {"99999999999999999999999999999999999", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t ms = -1;
        bool read = tr_rates_reset((tr_str){rows[i].text, strlen(rows[i].text)}, NOW, &ms);
        CU_ASSERT_EQUAL(read, rows[i].ms >= 0);
        CU_ASSERT_EQUAL(ms, rows[i].ms);
        if (ms != rows[i].ms) {
            printf("\n\"%s\" gave %lld\n", rows[i].text, (long long)ms);
        }
    }
}

static void expect(const char *headers, int64_t requests, int64_t requests_ms, int64_t tokens,
                   int64_t tokens_ms) {
    tr_rates rates;
    CU_ASSERT_TRUE_FATAL(tr_rates_read((tr_str){headers, strlen(headers)}, NOW, &rates));
    CU_ASSERT_EQUAL(rates.requests_left, requests);
    CU_ASSERT_EQUAL(rates.requests_reset_ms, requests_ms);
    CU_ASSERT_EQUAL(rates.tokens_left, tokens);
    CU_ASSERT_EQUAL(rates.tokens_reset_ms, tokens_ms);
}

static void openai_gives_durations(void) {
    expect("x-request-id: r\nx-ratelimit-limit-requests: 10000\n"
           "x-ratelimit-remaining-requests: 9999\nx-ratelimit-reset-requests: 8.64s\n"
           "x-ratelimit-remaining-tokens: 0\nx-ratelimit-reset-tokens: 1m0s\n",
           9999, 8640, 0, 60000);
}

static void azure_gives_milliseconds_as_plain_numbers(void) {
    expect("x-ratelimit-remaining-requests: 119\nx-ratelimit-reset-requests: 500\n"
           "x-ratelimit-remaining-tokens: 119986\nx-ratelimit-reset-tokens: 7\n"
           "x-ratelimit-renewalperiod-requests: 60\nx-ratelimit-renewalperiod-tokens: 60\n",
           119, 500, 119986, 7);
    /* without its mark they are seconds */
    expect("x-ratelimit-remaining-requests: 0\nx-ratelimit-reset-requests: 5\n", 0, 5000, -1, -1);
}

static void anthropic_gives_moments_and_the_scarcest_budget_counts(void) {
    expect("anthropic-ratelimit-requests-remaining: 3999\n"
           "anthropic-ratelimit-requests-reset: 2025-03-15T09:38:21Z\n"
           "anthropic-ratelimit-tokens-remaining: 478000\n"
           "anthropic-ratelimit-tokens-reset: 2025-03-15T09:38:23Z\n"
           "anthropic-ratelimit-input-tokens-remaining: 399000\n"
           "anthropic-ratelimit-input-tokens-reset: 2025-03-15T09:38:24Z\n"
           "anthropic-ratelimit-output-tokens-remaining: 0\n"
           "anthropic-ratelimit-output-tokens-reset: 2025-03-15T09:38:28Z\n",
           3999, 1000, 0, 8000);
}

static void openrouter_gives_one_budget_and_a_moment_in_milliseconds(void) {
    expect("x-ratelimit-limit: 20\nx-ratelimit-remaining: 0\n"
           "x-ratelimit-reset: 1742031560000\n",
           0, 60000, -1, -1);
}

static void what_is_left_without_a_reset_is_known_too(void) {
    expect("x-ratelimit-remaining-tokens: 12\n", -1, -1, 12, -1);
    expect("x-ratelimit-remaining-requests: 3 \r\nx-ratelimit-reset-requests: nonsense\n", 3, -1,
           -1, -1);
}

static void headers_that_say_nothing_are_nothing(void) {
    static const char *const rows[] = {"",
                                       "date: x\n",
                                       "x-ratelimit-limit-requests: 5\n",
                                       "x-ratelimit-remaining-requests: many\n",
                                       "x-ratelimit-remaining-requests: -1\n",
                                       "x-ratelimit-remaining-requests:\n"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tr_rates rates;
        CU_ASSERT_FALSE(tr_rates_read((tr_str){rows[i], strlen(rows[i])}, NOW, &rates));
    }
}

/* Through the provider actor, with stand-ins for its door and its limiter. */
static void the_limiter_learns_what_the_headers_say(void) {
    static const char headers[] = "x-ratelimit-remaining-requests: 12\n"
                                  "x-ratelimit-reset-requests: 1m0s\n";
    static const char body[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}";
    setenv("OPENAI_API_KEY", "sk-secret-123456", 1);
    tr_node *node = puppet_node(1);
    stand_in door, limiter, caller;
    stand_in_start(&door, node, 0, "http:0");
    stand_in_start(&limiter, node, 0, "limiter:openai");
    stand_in_start(&caller, node, 0, NULL);
    tr_provider_spec provider;
    char why[200], actor[TR_PROVIDER_ACTOR_size];
    CU_ASSERT_EQUAL_FATAL(
        tr_provider_spec_init("openai", NULL, NULL, NULL, &provider, why, sizeof why), TR_OK);
    tr_child_spec child = tr_provider_child(&provider, 0, actor);
    tr_spawn_spec spec = {.behaviour = child.behaviour,
                          .args = child.args,
                          .args_size = child.args_size,
                          .name = child.name,
                          .registers = true};
    CU_ASSERT_EQUAL_FATAL(tr_node_spawn(node, 0, &spec), TR_OK);
    puppet_run(node);
    tr_id to = tr_whereis(node, actor);
    tr_submit head = {.op = TR_OP_CHAT, .credit_messages = 100, .credit_bytes = 200000};
    tr_body *text = tr_body_new(sizeof body - 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    memcpy(text->bytes, body, sizeof body - 1);
    tr_submit_view view = {.target = {"m", 1}};
    stand_in_send(&caller, to, tr_msg_submit(&head, &view, text), 7);
    tr_msg *start = stand_in_expect(&door, TR_KIND_HTTP_START);
    tr_http_head h = {.status = 200, .wall_s = (uint32_t)(NOW / 1000)};
    stand_in_send(&door, to,
                  tr_http_head_msg(start->ref, &h, (tr_str){headers, sizeof headers - 1}),
                  start->ref);
    tr_msg_free(start);
    tr_msg *told = stand_in_expect(&limiter, TR_KIND_RATES);
    const tr_rates *rates = (const tr_rates *)(const void *)told->data;
    CU_ASSERT_EQUAL(rates->requests_left, 12);
    CU_ASSERT_EQUAL(rates->requests_reset_ms, 60000);
    CU_ASSERT_EQUAL(rates->tokens_left, -1);
    /* Whose they are, where the provider counts by model. */
    CU_ASSERT_EQUAL_FATAL(told->size, sizeof *rates + 1);
    CU_ASSERT_EQUAL(told->data[sizeof *rates], 'm');
    tr_msg_free(told);
    tr_node_free(node);
}

int main(void) {
    CU_initialize_registry();
    CU_pSuite suite = CU_add_suite("rates", NULL, NULL);
    CU_ADD_TEST(suite, resets_are_read_in_every_format);
    CU_ADD_TEST(suite, openai_gives_durations);
    CU_ADD_TEST(suite, azure_gives_milliseconds_as_plain_numbers);
    CU_ADD_TEST(suite, anthropic_gives_moments_and_the_scarcest_budget_counts);
    CU_ADD_TEST(suite, openrouter_gives_one_budget_and_a_moment_in_milliseconds);
    CU_ADD_TEST(suite, what_is_left_without_a_reset_is_known_too);
    CU_ADD_TEST(suite, headers_that_say_nothing_are_nothing);
    CU_ADD_TEST(suite, the_limiter_learns_what_the_headers_say);
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0 ? 1 : 0;
}
