/*
 * No option is dropped in silence: for every row of the catalog and every common option, the
 * request that is written holds the value that was asked for, or an error names the option. Each
 * value is one that stands nowhere else in the request.
 */
#include <CUnit/Basic.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "providers/catalog.h"

typedef struct option {
    const char *json;       /* as it stands in the common request */
    const char *needles[6]; /* one of these must arrive */
    const char *named;      /* what an error calls it */
    unsigned times;         /* how often; 0 = once */
} option;

#define CHOSEN "{\"type\":\"function\",\"function\":{\"name\":\"zebra_tool\"}}"
#define SCHEMA "{\"type\":\"object\",\"properties\":{\"zyx\":{\"type\":\"string\"}}}"
#define PIXEL "iVBORw0KGgo="

static const option options[] = {
    {"\"temperature\":0.4375", {"0.4375"}, "temperature", 0},
    {"\"top_p\":0.8125", {"0.8125"}, "top_p", 0},
    {"\"min_p\":0.0625", {"0.0625"}, "min_p", 0},
    {"\"top_k\":37", {"37"}, "top_k", 0},
    {"\"max_tokens\":12347", {"12347"}, "max_tokens", 0},
    {"\"seed\":77123", {"77123"}, "seed", 0},
    {"\"stop\":[\"HALT\"]", {"HALT"}, "stop", 0},
    {"\"frequency_penalty\":0.3125", {"0.3125"}, "frequency_penalty", 0},
    {"\"presence_penalty\":0.1875", {"0.1875"}, "presence_penalty", 0},
    {"\"repeat_penalty\":1.0625", {"1.0625"}, "repeat_penalty", 0},
    {"\"repeat_last_n\":53", {"53"}, "repeat_last_n", 0},
    {"\"grammar\":\"root ::= [q]\"", {"root ::= [q]"}, "grammar", 0},
    {"\"logprobs\":true",
     {"\"logprobs\":true", "\"responseLogprobs\":true", "output_text.logprobs"},
     "logprobs",
     0},
    {"\"logprobs\":true,\"top_logprobs\":4",
     {"\"top_logprobs\":4", "\"logprobs\":4"},
     "logprobs",
     0},
    {"\"n\":3", {"\"n\":3", "\"candidateCount\":3"}, "n", 0},
    {"\"parallel_tool_calls\":false",
     {"\"parallel_tool_calls\":false", "\"disable_parallel_tool_use\":true"},
     "parallel_tool_calls",
     0},
    {"\"tool_choice\":" CHOSEN, {"\"zebra_tool\""}, "tool_choice", 2},
    {"\"tool_choice\":\"required\"",
     {"\"tool_choice\":\"required\"", "\"tool_choice\":{\"type\":\"any\"}", "\"mode\":\"ANY\""},
     "tool_choice",
     0},
    {"\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"s\","
     "\"schema\":" SCHEMA "}}",
     {"\"zyx\""},
     "schema",
     0},
    {"\"response_format\":{\"type\":\"json_object\"}",
     {"{\"type\":\"json_object\"}", "\"application/json\"", "\"format\":\"json\""},
     "response_format",
     0},
    {"\"reasoning_effort\":\"high\"",
     {"\"reasoning_effort\":\"high\"", "\"effort\":\"high\"", "\"thinkingLevel\":\"high\"",
      "\"thinkingBudget\":24576", "\"budget_tokens\":16384", "\"think\":\"high\""},
     "reasoning_effort",
     0},
    {"\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"},{\"type\":"
     "\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64," PIXEL "\"}}]}]",
     {PIXEL},
     "images",
     0},
    {"\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
     "\"https://zebra.example/a.png\"}}]}]",
     {"https://zebra.example/a.png"},
     "images",
     0},
    {"\"logit_bias\":{\"9871\":1}", {"9871"}, "logit_bias", 0},
    {"\"keep_alive\":\"913s\"", {"913s"}, "keep_alive", 0},
    {"\"vendor_field\":\"zebra\"", {"\"vendor_field\":\"zebra\""}, "vendor_field", 0},
};

static const option embeddings[] = {
    {"\"dimensions\":257", {"257"}, "dimensions", 0},
    {"\"encoding_format\":\"base64\"", {"\"base64\""}, "encoding_format", 0},
    {"\"user\":\"zebra\"", {"zebra"}, "user", 0},
};

static unsigned count(const char *text, const char *needle) {
    unsigned found = 0;
    for (const char *at = text; (at = strstr(at, needle)) != NULL; at++) {
        found++;
    }
    return found;
}

static bool holds(const char *body, const option *option) {
    bool fine = false;
    for (size_t i = 0; i < sizeof(option->needles) / sizeof(option->needles[0]); i++) {
        const char *needle = option->needles[i];
        fine = fine ||
               (needle != NULL && count(body, needle) >= (option->times > 0 ? option->times : 1));
    }
    return fine;
}

/* As a word of its own: "n" stands in most sentences. */
static bool names(const char *why, const char *name) {
    size_t size = strlen(name);
    for (const char *at = why; (at = strstr(at, name)) != NULL; at++) {
        bool begins = at == why || (!isalnum((unsigned char)at[-1]) && at[-1] != '_');
        bool ends = !isalnum((unsigned char)at[size]) && at[size] != '_';
        if (begins && ends) {
            return true;
        }
    }
    return false;
}

static bool arrives(const tr_catalog_row *row, tr_op op, const option *option) {
    char request[1024], why[512] = "";
    tr_chat *chat = NULL;
    tr_encoded encoded = {0};
    bool own = strstr(option->json, "\"messages\"") != NULL;
    snprintf(request, sizeof(request), "{%s,%s%s}",
             op == TR_OP_EMBED ? "\"input\":[\"Hi\"]"
                               : "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":"
                                 "\"zebra_tool\"}}]",
             op == TR_OP_EMBED || own ? ""
                                      : "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],",
             option->json);
    tr_err err = tr_chat_parse(op, request, strlen(request), &chat, why, sizeof(why));
    if (err == TR_OK) {
        tr_encode in = {.op = op,
                        .chat = chat,
                        .model = {"m", 1},
                        .quirks = row->quirks,
                        .provider = row->name};
        err = tr_dialect_find(row->dialect)->encode(&in, &encoded, why, sizeof(why));
    }
    bool embeds_none =
        op == TR_OP_EMBED && err == TR_ERR_UNSUPPORTED && strstr(why, "embed") != NULL;
    bool fine =
        err == TR_OK ? holds(encoded.body, option) : embeds_none || names(why, option->named);
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
            CU_ASSERT_TRUE(arrives(row, TR_OP_CHAT, &options[i]));
        }
        for (size_t i = 0; i < sizeof(embeddings) / sizeof(embeddings[0]); i++) {
            CU_ASSERT_TRUE(arrives(row, TR_OP_EMBED, &embeddings[i]));
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
