/* The configuration as a whole: names lead somewhere, files are there, each fault has its place. */
#include <CUnit/Basic.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/trouped/config.h"

static tr_config config;
static char why[TR_CONFIG_WHY_size];
static char heard[4096];

static void hear(void *arg, const char *sentence) {
    size_t used = strlen(heard);
    (void)arg;
    snprintf(heard + used, sizeof heard - used, "%s\n", sentence);
}

/* What is wrong, "" for nothing; the warnings stand in `heard`. */
static const char *check(const char *text) {
    heard[0] = '\0';
    CU_ASSERT_EQUAL_FATAL(tr_config_parse(text, strlen(text), "t.yaml", &config, why), TR_OK);
    tr_err err = tr_config_check(&config, why);
    CU_ASSERT_TRUE(err == TR_OK || err == TR_ERR_INVALID);
    if (err == TR_OK) {
        tr_config_warn(&config, hear, NULL);
    }
    tr_config_fini(&config);
    return err == TR_OK ? "" : why;
}

static void says(const char *text, const char *sentence) {
    const char *said = check(text);
    if (sentence[0] == '\0' ? said[0] != '\0' : strstr(said, sentence) == NULL) {
        printf("\n    said \"%s\" and not \"%s\"\n", said, sentence);
        CU_FAIL("another sentence");
    }
}

static void warns(const char *text, const char *sentence) {
    says(text, "");
    if (sentence[0] == '\0' ? heard[0] != '\0' : strstr(heard, sentence) == NULL) {
        printf("\n    warned \"%s\" and not \"%s\"\n", heard, sentence);
        CU_FAIL("another warning");
    }
}

static void kinds_are_those_of_the_catalog(void) {
    says(
        "providers:\n  lm: {kind: opnai-compatible, base_url: 'http://h/v1'}\n",
        "t.yaml:2:14: kind: there is no kind \"opnai-compatible\"; did you mean openai-compatible");
    says("providers:\n  lm: {base_url: 'http://h/v1'}\n",
         "t.yaml:2:3: lm: no provider of the catalog has this name");
    says("providers:\n  lm: {base_url: 'http://h/v1'}\n", "there are openai, openai-compatible");
    says("providers: {opnai: {at_once: 2}}\n", "did you mean openai");
    says("providers: {lm: {kind: openai-compatible, base_url: 'http://h/v1'}}\n", "");
    says("providers: {groq: {at_once: 2}}\n", "");
}

static void provider_names_are_free_and_fit(void) {
    says("providers: {local: {kind: openai}}\n", "t.yaml:1:13: local: this name is taken");
    says("providers: {echo: {kind: openai}}\n", "echo: this name is taken");
    says("providers: {'a:b': {kind: openai}}\n", "no blank, colon or slash");
    char text[8192] = "providers:\n";
    for (int i = 0; i < TR_CONFIG_PROVIDERS_max; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "  p%d: {kind: openai}\n", i);
    }
    says(text, "too many providers: 64 with those of the catalog");
}

static void base_urls_and_keys_are_well_formed(void) {
    static const char *const urls[] = {"h/v1",          "ftp://h",           "http://",
                                       "http://u@h/v1", "http://h/v1?key=s", "http://h/v 1",
                                       "http://:80/v1"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        char text[128];
        snprintf(text, sizeof text, "providers:\n  lm:\n    base_url: '%s'\n    kind: openai\n",
                 urls[i]);
        says(text, "t.yaml:3:15: base_url: expected http(s)://HOST[:PORT][/PATH]");
    }
    says("providers:\n  openai:\n    keys: [sk-1]\n", "t.yaml:3:11: keys: expected a reference");
    CU_ASSERT_PTR_NULL(strstr(why, "sk-1"));
    says("providers: {openai: {keys: 'env:'}}\n", "expected a reference env:NAME");
    says("providers: {openai: {keys: [env:A, 'file:/b', 'command:pass show b']}}\n", "");
    says("providers: {openai: {keys: [env:A, sk-2]}}\n", "expected a reference env:NAME");
    says("providers: {openai: {keys: ['file:b']}}\n", "keys: file: expected a whole path");
    says("providers: {openai: {keys: ['command:']}}\n", "expected a reference");
    says("providers: {openai: {keys: ['env:A', 'env:A', 'env:A', 'env:A', 'env:A', 'env:A', "
         "'env:A', 'env:A', 'env:A']}}\n",
         "keys: 9 sources; at most 8");
    says("providers: {openai: {keys: 'env:A B'}}\n", "no name of a variable");
}

static void names_lead_to_models(void) {
    says("default_model: smolm2\n",
         "t.yaml:1:16: default_model: there is no model or alias \"smolm2\"");
    says("default_model: smolm2\n", "did you mean smollm2-135m");
    says("default_model: opnai/x\n", "there is no provider \"opnai\" (`troupe models` lists those "
                                     "there are); did you mean openai");
    says("default_model: openai\n", "name a model of openai: openai/MODEL");
    says("default_model: local/nobody\n", "there is no model or alias \"nobody\"");
    says("default_model: fast\naliases: {fast: openai/x}\n", "");
    says("default_model: lm/x\nproviders: {lm: {kind: openai}}\n", "");
    says("aliases:\n  fast: opnai/x\n", "t.yaml:2:9: fast: there is no provider \"opnai\"");
    says("aliases:\n  fast: {targets: nobody}\n", "t.yaml:2:19: fast: there is no model");
    says("aliases:\n  fast: [echo/x, nobody]\n", "t.yaml:2:9: fast: there is no model");
    says("aliases: {fast: [echo/x, openai/y, smollm2-135m]}\n", "");
    says("aliases: {fast: []}\n", "fast: the alias has no target");
    says("aliases:\n  fast:\n", "t.yaml:2:3: fast: the alias has no target");
    says("aliases: {a: b, b: a}\n", "leads in a circle");
    says("aliases: {a: b, b: echo/x}\n", "");
    says("aliases: {a: [echo/x, b], b: [echo/y, a]}\n", "leads in a circle");
    says("aliases: {a: [echo/1, echo/2, echo/3, echo/4, echo/5, echo/6, echo/7, b], "
         "b: [echo/8, echo/9]}\n",
         "a: the alias leads to more than 8 models");
    says("local: {}\ndefault_model: smollm2-135m\n", "there is no model");
}

static void weights_fit_their_targets(void) {
#define SPREAD(rest) "aliases:\n  s: {targets: [echo/x, echo/y]" rest "}\n"
    says(SPREAD(", policy: weight, weights: [3, 0]"), "");
    says(SPREAD(", policy: weight"), "");
    says(SPREAD(", weights: [3, 1]"), "a meaning with policy: weight only");
    says(SPREAD(", policy: weight, weights: [3]"), "1 numbers for 2 targets");
    says(SPREAD(", policy: weight, weights: [3, 1001]"), "\"1001\" is no whole number");
    says(SPREAD(", policy: weight, weights: [3, -1]"), "\"-1\" is no whole number");
    says(SPREAD(", policy: weight, weights: [0, 0]"), "at least one must be more than 0");
#undef SPREAD
}

static void models_have_a_provider_and_prices_that_are_numbers(void) {
    says("models: {openai/gpt-4o: {context: 128000, in: 2.5, out: 10, cached: .5}}\n", "");
    says("models: {groq/openai/gpt-oss-20b: {in: 0}, 'vllm/*': {in: 0, out: 0}}\n", "");
    says("models: {gpt-4o: {in: 1}}\n", "t.yaml:1:10: gpt-4o: write provider/model");
    says("models: {openai/: {in: 1}}\n", "write provider/model");
    says("models: {openai/x: {out: -1}}\n", "out: \"-1\" is no price");
    says("models: {openai/x: {in: 1.2.3}}\n", "in: \"1.2.3\" is no price");
    says("models: {openai/x: {in: 1e3}}\n", "is no price");
    says("models: {openai/x: {in: .}}\n", "is no price");
    says("models: {openai/x: {cached: 1000001}}\n", "is no price");
}

static void an_alias_does_not_hide_a_model(void) {
    says("local:\n  q: {}\naliases:\n  q: openai/x\n",
         "t.yaml:4:3: q: a local model (line 2) has this name too");
    says("aliases:\n  smollm2-135m: openai/x\n", "a local model has this name too");
    says("aliases: {openai: openai/x}\n", "");
}

static void doors_are_well_formed_and_their_files_usable(void) {
    char token[] = "/tmp/troupe-token-XXXXXX";
    char text[256];
    int fd = mkstemp(token);
    says("listen: {socket: 'ipc://x.sock'}\n", "t.yaml:1:18: socket: \"ipc://x.sock\" is neither");
    snprintf(text, sizeof text, "listen: {socket: 'ipc:///%0120d'}\n", 0);
    says(text, "socket: the path has 121 bytes; a socket's has at most 107");
    says("listen: {tcp: 'tcp://h', token_file: t}\n", "does not end in HOST:PORT");
    says("listen: {tcp: 'tcp://h:70000', token_file: t}\n", "does not end in HOST:PORT");
    says("listen: {tcp: 'tcp://h:1', token_file: /tmp/troupe/no}\n",
         "t.yaml:1:40: token_file: /tmp/troupe/no cannot be read: No such file");
    says("listen: {tcp: 'tcp://h:1', token_file: /tmp}\n", "is no file");
    snprintf(text, sizeof text, "listen: {tcp: 'tcp://[::1]:1', token_file: %s}\n", token);
    says(text, "holds 0 bytes; a token has 16 to 256");
    CU_ASSERT_EQUAL(write(fd, "0123456789abcdef\n", 17), 17);
    says(text, "");
    CU_ASSERT_EQUAL(fchmod(fd, 0644), 0);
    says(text, "others may read");
    CU_ASSERT_EQUAL(fchmod(fd, 0600), 0);
    snprintf(text, sizeof text,
             "listen: {tcp: 'tls+tcp://h:1', token_file: %s, cert_file: /tmp/troupe/no}\n", token);
    says(text, "cert_file: /tmp/troupe/no cannot be read");
    close(fd);
    unlink(token);
}

static void missing_model_files_are_warnings(void) {
    char folder[] = "/tmp/troupe-cache-XXXXXX";
    char text[256];
    char path[128];
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    setenv("TROUPE_CACHE", folder, 1);
    warns("shards: 1\n", "smollm2-135m: the model cannot be loaded from");
    warns("shards: 1\n", "tools/setup installs it");
    warns("local: {}\n", "");
    warns("local:\n  q: {file: ~/q.gguf}\n", "t.yaml:2:13: local: q: the model cannot be loaded "
                                             "from ~/q.gguf: No such file or directory; ~ is not");
    warns("local: {q: {file: q.gguf}}\n", "write the whole path");
    warns("local: {q: {file: /tmp}}\n", "it is no file");
    warns("local: {q: {file: /tmp/troupe/no, workers: 0}}\n", ""); /* its workers join */
    snprintf(path, sizeof path, "%s/q.gguf", folder);
    snprintf(text, sizeof text, "local: {q: {file: %s}}\n", path);
    FILE *file = fopen(path, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs("<html>", file);
    fclose(file);
    warns(text, "it is no GGUF file");
    file = fopen(path, "we");
    fputs("GGUF...", file);
    fclose(file);
    warns(text, "");
    unlink(path);
    rmdir(folder);
    unsetenv("TROUPE_CACHE");
}

static void keys_and_places_that_are_missing_are_warnings(void) {
    unsetenv("GROQ_API_KEY");
    unsetenv("OPENAI_COMPATIBLE_BASE_URL");
    warns("local: {}\nproviders:\n  groq: {}\n", "t.yaml:3:3: providers: groq: a key is missing: "
                                                 "the daemon's environment lacks GROQ_API_KEY");
    warns("local: {}\nproviders:\n  lm: {kind: openai-compatible, base_url: 'http://h/v1', keys: "
          "'env:TR_NO_KEY'}\n",
          "t.yaml:3:64: providers: lm: a key is missing: the daemon's environment lacks TR_NO_KEY");
    setenv("TR_NO_KEY", "x", 1);
    warns("local: {}\nproviders: {groq: {keys: 'env:TR_NO_KEY'}}\n", "");
    unsetenv("TR_NO_KEY");
    warns("local: {}\nproviders: {lm: {kind: openai-compatible}}\n", "it has no base_url");
    warns("local: {}\n", ""); /* nobody asked for the catalog's */
}

int main(void) {
    CU_TestInfo tests[] = {
        {"kinds_are_those_of_the_catalog", kinds_are_those_of_the_catalog},
        {"provider_names_are_free_and_fit", provider_names_are_free_and_fit},
        {"base_urls_and_keys_are_well_formed", base_urls_and_keys_are_well_formed},
        {"names_lead_to_models", names_lead_to_models},
        {"weights_fit_their_targets", weights_fit_their_targets},
        {"models_have_a_provider_and_prices_that_are_numbers",
         models_have_a_provider_and_prices_that_are_numbers},
        {"an_alias_does_not_hide_a_model", an_alias_does_not_hide_a_model},
        {"doors_are_well_formed_and_their_files_usable",
         doors_are_well_formed_and_their_files_usable},
        {"missing_model_files_are_warnings", missing_model_files_are_warnings},
        {"keys_and_places_that_are_missing_are_warnings",
         keys_and_places_that_are_missing_are_warnings},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"config_check", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
