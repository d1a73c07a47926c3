/* The catalog's rows, base URLs, and the map that provider and door share. */
#include "providers/catalog.h"
#include "providers/key_file.h"

#include <CUnit/Basic.h>
#include <stdio.h>
#include <string.h>

#include "providers/azure.h"
#include "providers/slots.h"

static tr_str str(const char *text) {
    return (tr_str){text, strlen(text)};
}

static void every_row_is_complete_and_found_by_its_name(void) {
    size_t count = 0;
    for (const tr_catalog_row *row = tr_catalog_at(0); row != NULL; row = tr_catalog_at(++count)) {
        CU_ASSERT_PTR_EQUAL(tr_catalog_find(row->name), row);
        CU_ASSERT_PTR_NOT_NULL(tr_dialect_find(row->dialect));
        CU_ASSERT_PTR_NOT_NULL(row->key_env);
        CU_ASSERT(row->base_url != NULL || row->any_base_url || row->base_url_env != NULL);
        CU_ASSERT(row->base_url == NULL || tr_base_url_valid(str(row->base_url)));
        CU_ASSERT_STRING_EQUAL(tr_key_account(row->name), tr_catalog_account(row->name));
        /* A key that must be there must be to be had somewhere. */
        CU_ASSERT(row->key_need != TR_KEY_REQUIRED || row->key_page != NULL);
        /* A required key never leaves for a server that a request names. */
        CU_ASSERT(row->key_need != TR_KEY_REQUIRED || !row->any_base_url);
    }
    CU_ASSERT(count >= 10);
    CU_ASSERT_PTR_NULL(tr_catalog_find("OpenAI"));
    CU_ASSERT_PTR_NULL(tr_dialect_find("esperanto"));
}

/* Tests run from the project's root. */
static void the_manual_names_every_row(void) {
    static char text[65536];
    char cell[128];
    FILE *file = fopen("docs/providers.md", "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    size_t size = fread(text, 1, sizeof(text) - 1, file);
    text[size] = '\0';
    fclose(file);
    size_t i = 0;
    for (const tr_catalog_row *row = tr_catalog_at(0); row != NULL; row = tr_catalog_at(++i)) {
        snprintf(cell, sizeof(cell), "| `%s` | `%s`", row->name, row->key_env);
        CU_ASSERT_PTR_NOT_NULL(strstr(text, cell));
        snprintf(cell, sizeof(cell), "`%s`", row->base_url_env);
        CU_ASSERT_PTR_NOT_NULL(strstr(text, cell));
        CU_ASSERT(row->base_url == NULL || strstr(text, row->base_url) != NULL);
    }
}

static void azure_puts_the_deployment_into_the_path(void) {
    static const struct {
        const char *base, *model, *path, *version, *url;
    } cases[] = {
        {"https://r.openai.azure.com", "gpt-4o", "/chat/completions", NULL,
         "https://r.openai.azure.com/openai/deployments/gpt-4o/chat/completions"
         "?api-version=" TR_AZURE_VERSION_default},
        {"https://r.openai.azure.com/", "a b/c?", "/embeddings", "2025-01-01-preview",
         "https://r.openai.azure.com/openai/deployments/a%20b%2Fc%3F/embeddings"
         "?api-version=2025-01-01-preview"},
        {"https://gw.example/openai/", "d", "/chat/completions", "x&y=1",
         "https://gw.example/openai/deployments/d/chat/completions?api-version=x%26y%3D1"},
        {"https://r.openai.azure.com/openai/v1/", "d", "/chat/completions", "2024-10-21",
         "https://r.openai.azure.com/openai/v1/chat/completions"},
        {"https://r.openai.azure.com/openai/deployments/mine/", "d", "/chat/completions", "v",
         "https://r.openai.azure.com/openai/deployments/mine/chat/completions?api-version=v"},
        {"https://r.openai.azure.com", "", "/models", NULL,
         "https://r.openai.azure.com/openai/models?api-version=" TR_AZURE_VERSION_default},
    };
    char url[256];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CU_ASSERT_TRUE(tri_azure_url(str(cases[i].base), str(cases[i].model), cases[i].path,
                                     cases[i].version, url, sizeof(url)));
        CU_ASSERT_STRING_EQUAL(url, cases[i].url);
        for (size_t size = 0; size <= strlen(cases[i].url); size++) {
            CU_ASSERT_FALSE(tri_azure_url(str(cases[i].base), str(cases[i].model), cases[i].path,
                                          cases[i].version, url, size));
        }
    }
}

static void base_urls_are_checked(void) {
    CU_ASSERT(tr_base_url_valid(str("http://localhost:1234/v1")));
    CU_ASSERT(tr_base_url_valid(str("https://x.org")));
    CU_ASSERT(tr_base_url_valid(str("http://[::1]:80/")));
    static const char *const bad[] = {
        "",           "localhost:1234",        "ftp://x",         "http://",     "http:///v1",
        "http://:80", "http://user:pass@x/v1", "http://x/v1?a=b", "http://x/#a", "http://x/a b",
        "http://x/\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CU_ASSERT_FALSE(tr_base_url_valid(str(bad[i])));
    }
}

static void an_origin_is_scheme_host_and_port(void) {
    CU_ASSERT(tr_base_url_same_origin(str("http://x:1/v1"), str("http://x:1/other")));
    CU_ASSERT(tr_base_url_same_origin(str("http://x:1"), str("http://x:1/")));
    CU_ASSERT_FALSE(tr_base_url_same_origin(str("http://x:1/"), str("https://x:1/")));
    CU_ASSERT_FALSE(tr_base_url_same_origin(str("http://x:1/"), str("http://x:2/")));
    CU_ASSERT_FALSE(tr_base_url_same_origin(str("http://x:1/"), str("http://x:11/")));
    CU_ASSERT_FALSE(tr_base_url_same_origin(str("nonsense"), str("nonsense")));
}

static void the_map_finds_what_was_added_and_not_removed(void) {
    enum { COUNT = 3000 };
    tri_slots slots = {0};
    uint32_t value = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        CU_ASSERT_EQUAL(tri_slots_add(&slots, 1 + i % 7, i / 7, i), TR_OK);
    }
    CU_ASSERT_EQUAL(tri_slots_add(&slots, 1, 0, 5), TR_ERR_EXISTS);
    for (uint32_t i = 0; i < COUNT; i += 2) {
        tri_slots_remove(&slots, 1 + i % 7, i / 7);
        tri_slots_remove(&slots, 1 + i % 7, i / 7);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        bool found = tri_slots_find(&slots, 1 + i % 7, i / 7, &value);
        CU_ASSERT_EQUAL(found, i % 2 == 1);
        CU_ASSERT(!found || value == i);
    }
    CU_ASSERT_EQUAL(slots.count, COUNT / 2);
    tri_slots_fini(&slots);
}

int main(void) {
    if (CU_initialize_registry() != CUE_SUCCESS) {
        return 1;
    }
    CU_pSuite suite = CU_add_suite("catalog", NULL, NULL);
    CU_ADD_TEST(suite, every_row_is_complete_and_found_by_its_name);
    CU_ADD_TEST(suite, the_manual_names_every_row);
    CU_ADD_TEST(suite, azure_puts_the_deployment_into_the_path);
    CU_ADD_TEST(suite, base_urls_are_checked);
    CU_ADD_TEST(suite, an_origin_is_scheme_host_and_port);
    CU_ADD_TEST(suite, the_map_finds_what_was_added_and_not_removed);
    CU_basic_set_mode(CU_BRM_NORMAL);
    CU_basic_run_tests();
    int failed = (int)CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed == 0 ? 0 : 1;
}
