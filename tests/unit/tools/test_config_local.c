/* Local models in the configuration: which keys go with which kind, and commands that could be
 * started. */
#include <CUnit/Basic.h>
#include <stdlib.h>
#include <string.h>

#include "tools/trouped/config.h"

static tr_config config;
static char why[TR_CONFIG_WHY_size];
static char heard[4096];

static void hear(void *arg, const char *sentence) {
    (void)arg;
    snprintf(heard, sizeof heard, "%s", sentence);
}

/* `keys` of a model m; `sentence` "" = nothing is wrong with them. */
static void says(const char *keys, const char *sentence) {
    char text[1024];
    snprintf(text, sizeof text, "local: {m: {%s}}\n", keys);
    heard[0] = why[0] = '\0';
    CU_ASSERT_EQUAL_FATAL(tr_config_parse(text, strlen(text), "t.yaml", &config, why), TR_OK);
    tr_err err = tr_config_check(&config, why);
    if (err == TR_OK) {
        tr_config_warn(&config, hear, NULL);
    }
    if ((sentence[0] == '\0') != (err == TR_OK) || strstr(why, sentence) == NULL) {
        printf("\n    said \"%s\" and not \"%s\"\n", why, sentence);
        CU_FAIL("another sentence");
    }
    tr_config_fini(&config);
}

static void each_kind_of_server_needs_little(void) {
    says("kind: managed/mlx, model: a/b", "");
    says("kind: managed/llama-server, model: /m.gguf, context: 8192, sequences: 2", "");
    says("kind: managed/transformers, model: a/b", "");
    says("kind: managed/vllm, model: a/b, idle_unload: 1h, preload: true, hang: 5m", "");
    says("kind: managed/other, command: 'x {port}'", "");
    says("kind: managed/other, command: '/x -m {model} {port}', model: y, env: [A, B_*]", "");
}

static void keys_of_the_other_sort_are_refused(void) {
    says("kind: managed/mlx, model: a/b, file: /m.gguf",
         "t.yaml:1:50: file: this key is of Troupe's own workers; m is of kind managed/mlx: name "
         "its model by `model`");
    says("kind: managed/mlx, model: a/b, threads: 3", "threads: this key is of Troupe's own");
    says("model: a/b", "model: this key is of managed servers; m is of kind worker");
    says("command: x", "command: this key is of managed servers");
    says("kind: managed/mlx, model: a/b, workers: 1", ""); /* as it would be printed */
}

static void a_command_must_be_one_that_can_be_started(void) {
    says("kind: managed/other", "m: a server of kind managed/other needs a command");
    says("kind: managed/mlx", "m: it needs a model, since {model} stands in its command");
    says("kind: managed/other, command: 'x'", "without {port}");
    says("kind: managed/other, command: 'x \"{port}'", "command: a \" is not closed");
    says("kind: managed/other, command: 'x {port} {prot}'", "{prot} is nothing that is known");
    says("kind: managed/other, command: 'x {port} {model}'", "it needs a model");
}

static void other_keys_are_well_formed(void) {
    says("kind: managed/mlx, model: a/b, health: health", "health: expected a path");
    says("kind: managed/mlx, model: a/b, env: ['A=b']", "env: \"A=b\" is no name");
    says("kind: managed/mlx, model: a/b, env: ['*']", "env: \"*\" is no name");
    says("kind: managed/mlx, model: a/b, env: ['A*B']", "env: \"A*B\" is no name");
}

static void names_of_servers_are_short(void) {
    static const char text[] = "local:\n  a234567890123456789012345678901234567890: {kind: "
                               "managed/mlx, model: a/b}\n";
    CU_ASSERT_EQUAL_FATAL(tr_config_parse(text, strlen(text), "t.yaml", &config, why), TR_OK);
    CU_ASSERT_EQUAL(tr_config_check(&config, why), TR_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "at most 34 characters"));
    tr_config_fini(&config);
}

static void a_server_is_no_provider(void) {
    static const char text[] = "providers: {m: {kind: managed/mlx}}\n";
    CU_ASSERT_EQUAL_FATAL(tr_config_parse(text, strlen(text), "t.yaml", &config, why), TR_OK);
    CU_ASSERT_EQUAL(tr_config_check(&config, why), TR_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "under `local:`"));
    tr_config_fini(&config);
}

static void a_program_that_is_not_there_is_a_warning(void) {
    setenv("PATH", "/nonexistent", 1);
    says("kind: managed/vllm, model: a/b", "");
    CU_ASSERT_PTR_NOT_NULL(strstr(heard, "the program vllm is not in PATH here"));
    CU_ASSERT_PTR_NOT_NULL(strstr(heard, "pip install vllm"));
}

int main(void) {
    CU_TestInfo tests[] = {
        {"each_kind_of_server_needs_little", each_kind_of_server_needs_little},
        {"keys_of_the_other_sort_are_refused", keys_of_the_other_sort_are_refused},
        {"a_command_must_be_one_that_can_be_started", a_command_must_be_one_that_can_be_started},
        {"other_keys_are_well_formed", other_keys_are_well_formed},
        {"names_of_servers_are_short", names_of_servers_are_short},
        {"a_server_is_no_provider", a_server_is_no_provider},
        {"a_program_that_is_not_there_is_a_warning", a_program_that_is_not_there_is_a_warning},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"config_local", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
