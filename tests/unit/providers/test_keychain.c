/* Where a provider's keys come from. */
#include "providers/keychain_internal.h"

#include <CUnit/Basic.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/troupe-keychain-XXXXXX";
static tr_keychain *chain;
static tr_keychain_key taken;

static const char *path_of(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *text) {
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CU_ASSERT_EQUAL_FATAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void new_chain(const char *kind, const char *a, const char *b, const char *store) {
    const char *sources[] = {a, b};
    tr_keychain_spec spec = {.provider = "p",
                             .kind = kind,
                             .sources = sources,
                             .source_count = a == NULL   ? 0
                                             : b == NULL ? 1
                                                         : 2,
                             .store_file = store};
    tr_keychain_free(chain);
    chain = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_keychain_new(&spec, &chain), TR_OK);
}

static const char *take_at(uint64_t now_us) {
    memset(&taken, 0, sizeof taken);
    switch (tr_keychain_take(chain, now_us, NULL, 0, &taken)) {
    case TR_KEYCHAIN_TAKEN:
        return taken.text;
    case TR_KEYCHAIN_NONE:
        return "none";
    case TR_KEYCHAIN_OUT:
        return "out";
    case TR_KEYCHAIN_AWAIT:
        return "await";
    }
    return "";
}

static void store_goes_before_the_variable_and_the_configuration_before_both(void) {
    char store[128];
    snprintf(store, sizeof store, "%s", path_of("store"));
    setenv("OPENAI_API_KEY", "of-env\n", 1);
    new_chain("openai", NULL, NULL, store);
    CU_ASSERT_STRING_EQUAL(take_at(1), "of-env");
    write_file("store", "of-store\n");
    CU_ASSERT_STRING_EQUAL(take_at(1), "of-store");
    CU_ASSERT_STRING_EQUAL(take_at(1), "of-store");
    unlink(store);
    CU_ASSERT_STRING_EQUAL(take_at(1), "of-env");
    write_file("store", "of-store\n");
    setenv("TR_OWN_KEY", "of-config", 1);
    new_chain("openai", "env:TR_OWN_KEY", NULL, store);
    CU_ASSERT_STRING_EQUAL(take_at(1), "of-config");
    unsetenv("TR_OWN_KEY");
    CU_ASSERT_STRING_EQUAL(take_at(1), "none"); /* what was asked for by name is not replaced */
    unsetenv("OPENAI_API_KEY");
    unlink(store);
}

static void first_variable_that_is_set_counts_and_a_token_goes_as_bearer(void) {
    setenv("ANTHROPIC_AUTH_TOKEN", "token-1", 1);
    new_chain("anthropic", NULL, NULL, NULL);
    CU_ASSERT_STRING_EQUAL(take_at(1), "token-1");
    CU_ASSERT_TRUE(taken.bearer);
    setenv("ANTHROPIC_API_KEY", "key-1", 1);
    CU_ASSERT_STRING_EQUAL(take_at(1), "key-1");
    CU_ASSERT_FALSE(taken.bearer);
    unsetenv("ANTHROPIC_API_KEY");
    unsetenv("ANTHROPIC_AUTH_TOKEN");
}

static void key_comes_back_when_its_file_changes(void) {
    char source[160];
    char words[400];
    snprintf(source, sizeof source, "file:%s", path_of("k"));
    write_file("k", "a\nb\n");
    new_chain("openai", source, NULL, NULL);
    CU_ASSERT_STRING_EQUAL(take_at(1), "a");
    tr_keychain_refused(chain, taken.id, 1);
    CU_ASSERT_STRING_EQUAL(take_at(1), "b");
    tr_keychain_refused(chain, taken.id, 1);
    CU_ASSERT_STRING_EQUAL(take_at(1), "out");
    tr_keychain_is_out(chain, 1, words, sizeof words);
    CU_ASSERT_PTR_NOT_NULL(strstr(words, "all 2 keys were refused (2 of file:"));
    write_file("k", "a\nb\n\n");
    CU_ASSERT_STRING_EQUAL(take_at(1), "a");
    CU_ASSERT_EQUAL(chmod(path_of("k"), 0644), 0);
    CU_ASSERT_STRING_EQUAL(take_at(1), "none");
    tr_keychain_lacks(chain, words, sizeof words);
    CU_ASSERT_PTR_NOT_NULL(strstr(words, "others may read it"));
    unlink(path_of("k"));
    CU_ASSERT_STRING_EQUAL(take_at(1), "none");
    tr_keychain_lacks(chain, words, sizeof words);
    CU_ASSERT_PTR_NOT_NULL(strstr(words, "No such file"));
    CU_ASSERT_EQUAL(mkfifo(path_of("k"), 0600), 0);
    CU_ASSERT_STRING_EQUAL(take_at(1), "none"); /* and nobody waits for a writer */
    unlink(path_of("k"));
}

static void what_is_no_small_file_is_not_read(void) {
    char source[160];
    char words[400];
    snprintf(source, sizeof source, "file:%s", path_of("k"));
    CU_ASSERT_EQUAL(mkdir(path_of("k"), 0700), 0);
    new_chain("openai", source, NULL, NULL);
    CU_ASSERT_STRING_EQUAL(take_at(1), "none");
    tr_keychain_lacks(chain, words, sizeof words);
    CU_ASSERT_PTR_NOT_NULL(strstr(words, "it is no file"));
    CU_ASSERT_EQUAL(rmdir(path_of("k")), 0);
    CU_ASSERT_EQUAL(symlink("/dev/zero", path_of("k")), 0);
    CU_ASSERT_STRING_EQUAL(take_at(1), "none");
    unlink(path_of("k"));
    write_file("k", "a\n");
    CU_ASSERT_EQUAL(truncate(path_of("k"), (off_t)1 << 40), 0); /* a terabyte, all hole */
    CU_ASSERT_STRING_EQUAL(take_at(1), "none");
    tr_keychain_lacks(chain, words, sizeof words);
    CU_ASSERT_PTR_NOT_NULL(strstr(words, "it is larger than"));
    unlink(path_of("k"));
}

static void command_is_awaited_and_wanted_again_after_a_refusal(void) {
    char command[TR_KEY_SOURCE_max + 1];
    uint32_t ticket = 0;
    new_chain("openai", "command:pass show TOKEN=1", NULL, NULL);
    CU_ASSERT_STRING_EQUAL(take_at(1), "await");
    CU_ASSERT_TRUE(tr_keychain_next_command(chain, 1, command, &ticket));
    CU_ASSERT_STRING_EQUAL(command, "pass show TOKEN=1");
    CU_ASSERT_FALSE(tr_keychain_next_command(chain, 1, command, &ticket));
    CU_ASSERT_STRING_EQUAL(take_at(1), "await");
    tr_keychain_ran(chain, ticket + 1, (tr_str){"wrong", 5}, NULL, 1);
    CU_ASSERT_STRING_EQUAL(take_at(1), "await");
    tr_keychain_ran(chain, ticket, (tr_str){"key-1\n", 6}, NULL, 1);
    CU_ASSERT_STRING_EQUAL(take_at(2), "key-1");
    tr_keychain_refused(chain, taken.id, 2);
    CU_ASSERT_FALSE(tr_keychain_wants_command(chain, 2)); /* it has only just run */
    tr_keychain_refused(chain, taken.id, 9000000);
    CU_ASSERT_TRUE(tr_keychain_wants_command(chain, 9000000));
    CU_ASSERT_TRUE(tr_keychain_next_command(chain, 9000000, command, &ticket));
    tr_keychain_ran(chain, ticket, (tr_str){"key-2\n", 6}, NULL, 9000001);
    CU_ASSERT_STRING_EQUAL(take_at(9000002), "key-2");
    CU_ASSERT_EQUAL(tr_keychain_configure(chain, NULL, 0), TR_OK);
    CU_ASSERT_STRING_EQUAL(take_at(9000003), "none");
}

static void status_names_sources_and_no_key(void) {
    char *text = NULL;
    tr_jsonw w;
    setenv("TR_OWN_KEY", "sk-secret-123456", 1);
    new_chain("openai", "env:TR_OWN_KEY", "command:pass show sk-also-secret", NULL);
    CU_ASSERT_STRING_EQUAL(take_at(1), "sk-secret-123456");
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_keychain_write(chain, 1, false, &w);
    tr_jsonw_close(&w, '}');
    CU_ASSERT_EQUAL_FATAL(tr_jsonw_take(&w, &text, NULL), TR_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"key\":\"present\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "{\"source\":\"env:TR_OWN_KEY\",\"count\":1"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"source\":\"command:pass ...\""));
    CU_ASSERT_PTR_NULL(strstr(text, "secret"));
    free(text);
    unsetenv("TR_OWN_KEY");
}

/* smaps: the mapping that holds the address has VmFlags with dd. */
static bool left_out_of_cores(const void *address) {
    char line[512];
    bool here = false;
    bool left_out = false;
    unsigned long from = 0;
    unsigned long to = 0;
    FILE *file = fopen("/proc/self/smaps", "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
            here = from <= (unsigned long)address && (unsigned long)address < to;
        } else if (here && strncmp(line, "VmFlags:", 8) == 0) {
            left_out = strstr(line, " dd") != NULL;
        }
    }
    fclose(file);
    return left_out;
}

static void keys_lie_where_no_core_dump_looks(void) {
    char here[] = "not a key";
    setenv("TR_OWN_KEY", "sk-vault-0123456789", 1);
    new_chain("openai", "env:TR_OWN_KEY", NULL, NULL);
    CU_ASSERT_STRING_EQUAL(take_at(1), "sk-vault-0123456789");
    CU_ASSERT_STRING_EQUAL(chain->vault->keys.list[0].text, "sk-vault-0123456789");
    CU_ASSERT_TRUE(left_out_of_cores(chain->vault->keys.list[0].text));
    CU_ASSERT_TRUE(left_out_of_cores(chain->vault->file)); /* where files are read to */
    CU_ASSERT_FALSE(left_out_of_cores(here));
    unsetenv("TR_OWN_KEY");
}

int main(void) {
    static CU_TestInfo tests[] = {
        {"store_goes_before_the_variable_and_the_configuration_before_both",
         store_goes_before_the_variable_and_the_configuration_before_both},
        {"first_variable_that_is_set_counts_and_a_token_goes_as_bearer",
         first_variable_that_is_set_counts_and_a_token_goes_as_bearer},
        {"key_comes_back_when_its_file_changes", key_comes_back_when_its_file_changes},
        {"what_is_no_small_file_is_not_read", what_is_no_small_file_is_not_read},
        {"command_is_awaited_and_wanted_again_after_a_refusal",
         command_is_awaited_and_wanted_again_after_a_refusal},
        {"status_names_sources_and_no_key", status_names_sources_and_no_key},
        {"keys_lie_where_no_core_dump_looks", keys_lie_where_no_core_dump_looks},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"keychain", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (mkdtemp(folder) == NULL || CU_initialize_registry() != CUE_SUCCESS ||
        CU_register_suites(suites) != CUE_SUCCESS) {
        return 1;
    }
    CU_basic_set_mode(CU_BRM_NORMAL);
    CU_basic_run_tests();
    int failed = (int)CU_get_number_of_failures();
    CU_cleanup_registry();
    tr_keychain_free(chain);
    rmdir(folder);
    return failed == 0 ? 0 : 1;
}
