/*
 * The estimate of tokens, against what providers counted. The recordings' answers are texts whose
 * count is known to the token; without them (TROUPE_RECORDINGS) that test is not run.
 */
#include "protocol/tokens.h"

#include <CUnit/Basic.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/json.h"

static uint64_t of_text(const char *text) {
    return tr_tokens_of_text((tr_str){text, strlen(text)});
}

static uint64_t of_body(const char *body) {
    return tr_tokens_of_body(body, strlen(body));
}

static bool near(uint64_t estimate, uint64_t real, uint64_t percent, uint64_t free) {
    uint64_t off = estimate > real ? estimate - real : real - estimate;
    return off <= free || off * 100 <= real * percent;
}

static void scripts_have_prices_of_their_own(void) {
    CU_ASSERT_EQUAL(of_text(""), 0);
    CU_ASSERT_EQUAL(of_text("Hello"), 1);
    CU_ASSERT_EQUAL(of_text("one two three four"), 4);
    CU_ASSERT_EQUAL(of_text("1234567"), 3);
    CU_ASSERT_EQUAL(of_text("\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"), 3); /* three ideographs */
    CU_ASSERT_TRUE(of_text("\xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82") <= 3);
    CU_ASSERT_EQUAL(of_text("camelCaseName"), 3);
    CU_ASSERT_EQUAL(of_text("\xf0\x9f\x98\x80"), 2);
    CU_ASSERT_TRUE(of_text("\xff\xff\xe6") >= 1); /* what is no UTF-8 ends as well */
}

static void a_body_counts_what_the_model_reads(void) {
    uint64_t plain = of_body("{\"messages\":[{\"role\":\"user\",\"content\":\"one two\"}]}");
    CU_ASSERT_EQUAL(plain, 3 + 4 + 2);
    CU_ASSERT_EQUAL(
        of_body("{\"temperature\":0.5,\"user\":\"not a prompt\",\"messages\":[{\"role\":"
                "\"user\",\"content\":[{\"type\":\"text\",\"text\":\"one two\"}]}]}"),
        plain);
    CU_ASSERT_EQUAL(of_body("{\"messages\":[{\"role\":\"user\",\"content\":\"\\u006fne two\"}],"
                            "\"metadata\":{\"messages\":\"one two three\"}}"),
                    plain);
    CU_ASSERT_EQUAL(of_body("{\"input\":[\"one\",\"two three\"]}"), 3 + 3);
    CU_ASSERT_TRUE(
        of_body("{\"messages\":[{\"role\":\"user\",\"content\":\"one two\"}],\"tools\":[{"
                "\"type\":\"function\",\"function\":{\"name\":\"weather\"}}]}") > plain + 8);
}

static void an_image_costs_the_same_however_long_its_text_is(void) {
    static const char begin[] = "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
                                "\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,";
    char body[20000];
    for (size_t size = 10; size < 15000; size += 14000) {
        char *at = body + sizeof begin - 1;
        memcpy(body, begin, sizeof begin - 1);
        memset(at, 'A', size);
        snprintf(at + size, 64, "\"}}]}]}");
        CU_ASSERT_EQUAL(of_body(body), 3 + 4 + TR_TOKENS_OF_IMAGE);
        snprintf(at + size, 64, "\",\"detail\":\"low\"}}]}]}");
        CU_ASSERT_EQUAL(of_body(body), 3 + 4 + TR_TOKENS_OF_LOW_IMAGE);
    }
}

/* Every beginning of a body, alone in its memory, so that the sanitizers see a step too far. */
static void any_bytes_come_to_an_end(void) {
    static const char body[] =
        "{\"messages\":[{\"role\":\"a\",\"content\":[{\"text\":\"\\u12\\\"x\"}],\"tool_calls\":[{"
        "\"function\":{\"arguments\":\"{}\"}}]},{]},,\"tools\":[[}{]] }:";
    for (size_t size = 0; size < sizeof body; size++) {
        char *copy = malloc(size + 1);
        memcpy(copy, body, size);
        CU_ASSERT_TRUE(tr_tokens_of_body(copy, size) >= 3);
        free(copy);
    }
    char deep[4096];
    memset(deep, '[', sizeof deep);
    memcpy(deep, "{\"messages\":", 12);
    CU_ASSERT_TRUE(tr_tokens_of_body(deep, sizeof deep) >= 3);
}

static tr_json *read_json(const char *folder, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return NULL;
    }
    static char text[1 << 20];
    size_t size = fread(text, 1, sizeof text, file);
    fclose(file);
    tr_json *json = NULL;
    return tr_json_parse(text, size, &json, NULL) == TR_OK ? json : NULL;
}

/* Whether the whole output is the text: no thoughts, calls or further choices were counted. */
static bool is_plain(const char *name, const tr_json_value *root) {
    static const char *const others[] = {"thinking", "reasoning", "-n2",
                                         "tools",    "error",     "refusal"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (strstr(name, others[i]) != NULL) {
            return false;
        }
    }
    return tr_json_get(root, "reasoning") == NULL && tr_json_get(root, "tool_calls") == NULL;
}

static void answers_are_within_a_quarter_of_what_providers_counted(void) {
    const char *folder = getenv("TROUPE_RECORDINGS");
    DIR *list = folder != NULL ? opendir(folder) : NULL;
    if (list == NULL) {
        puts("not run: TROUPE_RECORDINGS names no folder");
        return;
    }
    uint64_t all = 0, all_real = 0;
    unsigned count = 0;
    for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
        if (strstr(entry->d_name, ".expected.json") == NULL) {
            continue;
        }
        tr_json *json = read_json(folder, entry->d_name);
        const tr_json_value *root = json != NULL ? tr_json_root(json) : NULL;
        tr_str text = tr_json_string(tr_json_get(root, "text"));
        int64_t real = tr_json_int(tr_json_get(tr_json_get(root, "usage"), "output_tokens"), 0);
        if (text.size >= 60 && real > 0 && is_plain(entry->d_name, root)) {
            uint64_t estimate = tr_tokens_of_text(text);
            if (!near(estimate, (uint64_t)real, 25, 6)) {
                printf("%s: %llu estimated, %lld counted\n", entry->d_name,
                       (unsigned long long)estimate, (long long)real);
                CU_FAIL("an estimate is off by more than a quarter");
            }
            all += estimate;
            all_real += (uint64_t)real;
            count++;
        }
        tr_json_free(json);
    }
    closedir(list);
    CU_ASSERT_TRUE(count >= 12);
    CU_ASSERT_TRUE(near(all, all_real, 10, 0));
}

int main(void) {
    CU_TestInfo tests[] = {
        {"scripts_have_prices_of_their_own", scripts_have_prices_of_their_own},
        {"a_body_counts_what_the_model_reads", a_body_counts_what_the_model_reads},
        {"an_image_costs_the_same_however_long_its_text_is",
         an_image_costs_the_same_however_long_its_text_is},
        {"any_bytes_come_to_an_end", any_bytes_come_to_an_end},
        {"answers_are_within_a_quarter_of_what_providers_counted",
         answers_are_within_a_quarter_of_what_providers_counted},
        CU_TEST_INFO_NULL};
    CU_SuiteInfo suites[] = {{"tokens", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failures = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failures == 0 ? 0 : 1;
}
