/*
 * No option is dropped in silence: for every row of the catalog and every common option, the
 * request that is written holds the value that was asked for, or an error names the option. Each
 * value is one that stands nowhere else in the request.
 */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "providers/catalog.h"

typedef struct option {
    const char *json;   /* as it stands in the common request */
    const char *needle; /* what of it must arrive */
    const char *named;  /* what an error calls it */
} option;

static const option options[] = {
    {"\"temperature\":0.4375", "0.4375", "temperature"},
    {"\"top_p\":0.8125", "0.8125", "top_p"},
    {"\"min_p\":0.0625", "0.0625", "min_p"},
    {"\"top_k\":37", "37", "top_k"},
    {"\"max_tokens\":12347", "12347", "max_tokens"},
    {"\"seed\":77123", "77123", "seed"},
    {"\"stop\":[\"HALT\"]", "HALT", "stop"},
    {"\"frequency_penalty\":0.3125", "0.3125", "frequency_penalty"},
    {"\"presence_penalty\":0.1875", "0.1875", "presence_penalty"},
    {"\"repeat_penalty\":1.0625", "1.0625", "repeat_penalty"},
    {"\"repeat_last_n\":53", "53", "repeat_last_n"},
    {"\"grammar\":\"root ::= [q]\"", "root ::= [q]", "grammar"},
    {"\"logprobs\":true", "ogprobs", "logprobs"},
    {"\"n\":3", "3", "n"},
    {"\"parallel_tool_calls\":false", "arallel", "parallel_tool_calls"},
    {"\"logit_bias\":{\"9871\":1}", "9871", "logit_bias"},
    {"\"keep_alive\":\"913s\"", "913s", "keep_alive"},
    {"\"vendor_field\":\"zebra\"", "zebra", "vendor_field"},
};

static bool arrives(const tr_catalog_row *row, const option *option) {
    char request[512], why[512] = "";
    tr_chat *chat = NULL;
    tr_encoded encoded = {0};
    snprintf(request, sizeof(request),
             "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"tools\":[{\"type\":"
             "\"function\",\"function\":{\"name\":\"f\"}}],%s}",
             option->json);
    tr_err err = tr_chat_parse(TR_OP_CHAT, request, strlen(request), &chat, why, sizeof(why));
    if (err == TR_OK) {
        tr_encode in = {.op = TR_OP_CHAT,
                        .chat = chat,
                        .model = {"m", 1},
                        .quirks = row->quirks,
                        .provider = row->name};
        err = tr_dialect_find(row->dialect)->encode(&in, &encoded, why, sizeof(why));
    }
    bool fine = err == TR_OK ? strstr(encoded.body, option->needle) != NULL
                             : strstr(why, option->named) != NULL;
    if (!fine) {
        printf("\n    %s, %s: %s", row->name, option->json, err == TR_OK ? encoded.body : why);
    }
    tr_chat_free(chat);
    free(encoded.body);
    return fine;
}

static void each_option_arrives_or_is_refused_by_name(void) {
    size_t row_count = 0;
    for (const tr_catalog_row *row = tr_catalog_at(0); row != NULL;
         row = tr_catalog_at(++row_count)) {
        for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
            CU_ASSERT_TRUE(arrives(row, &options[i]));
        }
    }
    CU_ASSERT(row_count >= 10);
}

int main(void) {
    if (CU_initialize_registry() != CUE_SUCCESS) {
        return 1;
    }
    CU_pSuite suite = CU_add_suite("options", NULL, NULL);
    CU_ADD_TEST(suite, each_option_arrives_or_is_refused_by_name);
    CU_basic_set_mode(CU_BRM_NORMAL);
    CU_basic_run_tests();
    int failed = (int)CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed == 0 ? 0 : 1;
}
