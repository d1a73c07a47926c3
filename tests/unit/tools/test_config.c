/* The configuration: defaults, faults by line and key, printing that reads back. */
#include <CUnit/Basic.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/utf8.h"
#include "tools/trouped/config.h"

static tr_config config;
static char why[TR_CONFIG_WHY_size];

static tr_err parse(const char *text) {
    return tr_config_parse(text, strlen(text), "t.yaml", &config, why);
}

/* Refused by one value alone, by what it means together with others, or by neither. */
static tr_err parse_and_check(const char *text) {
    tr_err err = parse(text);
    if (err == TR_OK) {
        err = tr_config_check(&config, why);
        tr_config_fini(&config);
    }
    return err;
}

static void refused(const char *text, const char *sentence) {
    CU_ASSERT_EQUAL(parse_and_check(text), TR_ERR_INVALID);
    if (strstr(why, sentence) == NULL) {
        printf("\n    said \"%s\" and not \"%s\"\n", why, sentence);
        CU_FAIL("another sentence");
    }
}

/* Names are shown shortened: never to half a character. */
static void faults_are_utf8_also_where_they_shorten_a_name(void) {
    char text[128];
    memset(text, 'x', 63);
    memcpy(text + 63, "\xc3\xa9: 1\n", sizeof "\xc3\xa9: 1\n");
    CU_ASSERT_EQUAL(parse(text), TR_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "there is no such key"));
    CU_ASSERT_TRUE(tr_utf8_valid(why, strlen(why)));
}

static void no_file_gives_a_local_model(void) {
    CU_ASSERT_EQUAL_FATAL(tr_config_load(NULL, &config, why), TR_OK);
    CU_ASSERT_EQUAL_FATAL(config.locals.count, 1);
    const tr_config_local *local = config.locals.items;
    CU_ASSERT_STRING_EQUAL(local->name, "smollm2-135m");
    CU_ASSERT_STRING_EQUAL(local->file, "default");
    CU_ASSERT_EQUAL(local->sequences, 4);
    CU_ASSERT_EQUAL(local->idle_unload_ms, 600000);
    CU_ASSERT_EQUAL(config.first_token_ms, 120000);
    CU_ASSERT_STRING_EQUAL(config.socket, "default");
    tr_config_fini(&config);
}

static void an_empty_file_is_the_defaults(void) {
    CU_ASSERT_EQUAL_FATAL(parse("# nothing\n"), TR_OK);
    CU_ASSERT_EQUAL(config.locals.count, 1);
    tr_config_fini(&config);
}

static void values_are_read(void) {
    CU_ASSERT_EQUAL_FATAL(
        parse("local:\n  q: {file: /m.gguf, context: 0, threads: auto, preload: true}\n"
              "providers:\n  lm: {kind: openai-compatible, keys: [env:A]}\n"
              "aliases:\n  fast: openai/x\n  two: [openai/x, q]\n"
              "  spread: {targets: [openai/x, q], policy: weight, weights: [3, 1]}\n"
              "attempts: 5\ntimeouts: {idle: 2m}\nlog: {format: json}\n"),
        TR_OK);
    const tr_config_local *local = config.locals.items;
    CU_ASSERT_STRING_EQUAL(local->file, "/m.gguf");
    CU_ASSERT_EQUAL(local->context, 0);
    CU_ASSERT_EQUAL(local->threads, 0);
    CU_ASSERT_TRUE(local->preload);
    const tr_config_provider *provider = config.providers.items;
    CU_ASSERT_EQUAL_FATAL(provider->keys.count, 1);
    CU_ASSERT_STRING_EQUAL(provider->keys.items[0], "env:A");
    const tr_config_alias *alias = config.aliases.items;
    CU_ASSERT_EQUAL_FATAL(config.aliases.count, 3);
    CU_ASSERT_EQUAL_FATAL(alias[0].targets.count, 1);
    CU_ASSERT_STRING_EQUAL(alias[0].targets.items[0], "openai/x");
    CU_ASSERT_STRING_EQUAL(alias[0].policy, "order");
    CU_ASSERT_EQUAL_FATAL(alias[1].targets.count, 2);
    CU_ASSERT_STRING_EQUAL(alias[1].targets.items[1], "q");
    CU_ASSERT_STRING_EQUAL(alias[2].policy, "weight");
    CU_ASSERT_STRING_EQUAL(alias[2].weights.items[1], "1");
    CU_ASSERT_EQUAL(config.attempts, 5);
    CU_ASSERT_EQUAL(config.idle_ms, 120000);
    CU_ASSERT_STRING_EQUAL(config.log_format, "json");
    tr_config_fini(&config);
}

static void an_empty_local_section_means_no_local_model(void) {
    CU_ASSERT_EQUAL_FATAL(parse("local: {}\n"), TR_OK);
    CU_ASSERT_EQUAL(config.locals.count, 0);
    tr_config_fini(&config);
}

static void faults_name_line_and_key(void) {
    refused("log:\n  colour: red\n", "t.yaml:2:3: colour: there is no such key in log");
    refused("shards: many\n", "t.yaml:1:9: shards: \"many\" is not a whole number");
    refused("shards: 65\n", "out of range: 0 to 64");
    refused("shards: -1\n", "is not a whole number");
    refused("shards: [1]\n", "expected a single value");
    refused("log: {level: info}\nshards: 1\nlog: {level: warn}\n",
            "t.yaml:3:1: log: the key stands here again; first in line 1");
    refused("timeouts: {idle: 10}\n", "is not a time such as");
    refused("timeouts: {idle: 0s}\n", "out of range");
    refused("timeouts: {idle: 99999999999999999999h}\n", "idle");
    refused("log: {level: loud}\n", "none of error|warn|info|debug");
    refused("aliases: {a: {targets: [x/y], policy: random}}\n",
            "none of order|weight|least_busy|fastest");
    refused("aliases: {a: {targets: {b: c}}}\n", "targets: each entry must be a text");
    refused("aliases: {a: [[b]]}\n", "targets: each entry must be a text");
    refused("attempts: 0\n", "out of range: 1 to 20");
    refused("local: [a]\n", "expected names");
    refused("local: {\"a b\": {}}\n", "a name has 1 to 48");
    refused("local: {a: {preload: yes}}\n", "neither true nor false");
    refused("- a\n", "expected keys with values");
    refused("local: {qwen: /q.gguf}\n", "qwen: expected keys with values, as in qwen: {file: ...}");
    refused("a: {b\n", "not YAML");
    refused("? [a]\n: b\n", "a key must be a plain text");
    refused("listen: {tcp: 'tcp://127.0.0.1:1'}\n", "t.yaml:1:15: tcp needs a token_file");
    refused("listen: {tcp: 'tls+tcp://h:1', token_file: t}\n", "needs a cert_file");
    refused("listen: {tcp: 'http://h', token_file: t}\n", "begins neither");
    refused("listen: {socket: /tmp/x}\n", "neither ipc://PATH");
    refused("providers: {openai: {keys: [sk-123]}}\n", "expected a reference env:NAME");
    CU_ASSERT_PTR_NULL(strstr(why, "sk-123")); /* a key is not repeated */
}

static void what_is_no_configuration_is_refused_with_its_place(void) {
    refused("log:\n\tlevel: info\n", "t.yaml:2:1: not YAML: found character that cannot start any "
                                     "token; the line is indented with a tab");
    refused("a: *b\n", "t.yaml:1:4: not YAML: found undefined alias");
    refused("log: &a {level: info}\ntimeouts: *a\n", "level: there is no such key in timeouts");
    refused("log: &a {level: *a}\n", "expected a single value");
    refused("shards: 1\n---\nshards: 2\n", "t.yaml:3:1: a second document begins here");
    refused("shards: 1\n}\n", "t.yaml:2:1: not YAML");
    refused("default_model: \"a\\0b\"\n", "t.yaml:1:16: a text must not hold a zero byte");
    refused("\"log\\0\": {}\n", "t.yaml:1:1: a text must not hold a zero byte");
    refused("shards: 1\n\x7f"
            "ELF\x02\n",
            "t.yaml:2:1: not YAML: control characters are not allowed; is this a text file");
    refused("log: {level: \xff}\n", "is this a text file in UTF-8?");
    refused("local: {a: {file: }, a: {}}\n", "a: the key stands here again");
    refused("log: {levle: info}\n", "did you mean level; there are format, level");
    refused("timeout: {}\n", "did you mean timeouts");
}

/* Input whose handling must not take more than a moment: the test's time limit says so. */
static void big_and_deep_files_are_refused_soon(void) {
    size_t size = 1024 * 1024;
    char *text = malloc(size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    memset(text, '[', size);
    CU_ASSERT_EQUAL(tr_config_parse(text, size, "t.yaml", &config, why), TR_ERR_INVALID);
    CU_ASSERT_STRING_EQUAL(why, "t.yaml:1:17: lists and mappings stand in each other more than 16 "
                                "deep");
    for (size_t i = 0; i + 4 <= size; i += 4) {
        memcpy(text + i, "{a: ", 4);
    }
    CU_ASSERT_EQUAL(tr_config_parse(text, size, "t.yaml", &config, why), TR_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "more than 16 deep"));
    size_t used = (size_t)snprintf(text, size, "aliases:\n");
    for (unsigned i = 0; used + 16 < size; i++) {
        used += (size_t)snprintf(text + used, size - used, " k%x: a/b\n", i);
    }
    CU_ASSERT_EQUAL(tr_config_parse(text, used, "t.yaml", &config, why), TR_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "names; at most 1024 are possible"));
    free(text);
}

static void files_that_cannot_be_read_say_why(void) {
    char path[] = "/tmp/troupe-config-XXXXXX";
    int fd = mkstemp(path);
    CU_ASSERT_EQUAL(tr_config_load("/tmp", &config, why), TR_ERR_INVALID);
    CU_ASSERT_STRING_EQUAL(why, "/tmp: cannot be read: Is a directory");
    CU_ASSERT_EQUAL(tr_config_load("/tmp/troupe/is/not/here", &config, why), TR_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "No such file"));
    CU_ASSERT_EQUAL_FATAL(ftruncate(fd, 1024 * 1024 + 1), 0);
    CU_ASSERT_EQUAL(tr_config_load(path, &config, why), TR_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "larger than 1 MiB"));
    if (geteuid() != 0) { /* root reads everything */
        CU_ASSERT_EQUAL(fchmod(fd, 0), 0);
        CU_ASSERT_EQUAL(tr_config_load(path, &config, why), TR_ERR_INVALID);
        CU_ASSERT_PTR_NOT_NULL(strstr(why, "Permission denied"));
    }
    close(fd);
    unlink(path);
}

static char *printed(void) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    tr_config_print(&config, out);
    fclose(out);
    return text;
}

static void what_is_printed_reads_back_the_same(void) {
    CU_ASSERT_EQUAL_FATAL(parse("local: {q: {file: 'a \"b\"'}}\nproviders: {x: {keys: [env:K]}}\n"
                                "aliases: {a: [echo/x, 'echo/y']}\ntimeouts: {connect: 1500ms}\n"),
                          TR_OK);
    char *once = printed();
    tr_config_fini(&config);
    CU_ASSERT_EQUAL_FATAL(parse(once), TR_OK);
    char *twice = printed();
    tr_config_fini(&config);
    CU_ASSERT_STRING_EQUAL(once, twice);
    CU_ASSERT_PTR_NOT_NULL(strstr(once, "1500ms"));
    free(once);
    free(twice);
}

static void the_document_is_up_to_date(void) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    tr_config_document(out);
    fclose(out);
    FILE *file = fopen("docs/config.md", "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    char *kept = calloc(1, size + 2);
    size_t kept_size = fread(kept, 1, size + 1, file);
    fclose(file);
    CU_ASSERT_EQUAL(kept_size, size);
    CU_ASSERT_STRING_EQUAL(kept, text); /* trouped --document > docs/config.md */
    free(kept);
    free(text);
}

static void mutations_never_crash(void) {
    const char *good = "log: {level: info}\nlocal:\n  a: {file: x}\n  b: {file: y, workers: 2}\n";
    char text[128];
    uint32_t state = 1;
    for (int i = 0; i < 20000; i++) {
        size_t size = strlen(good);
        memcpy(text, good, size + 1);
        for (int k = 0; k < 3; k++) {
            state = state * 1664525U + 1013904223U;
            text[(state >> 8) % size] = "{}[]:,'\"\n &*-?|>!%@`a0\t"[(state >> 20) % 24];
        }
        if (tr_config_parse(text, size, "m", &config, why) == TR_OK) {
            tr_config_fini(&config);
        }
    }
}

static void a_faulty_name_moves_no_cursor(void) {
    static const char text[] = "aliases: {\"odd\\e[2Jname\": echo/x, \"a\\e[2J\": 5}\n"
                               "\"b\\e[2J\": 1\n";
    tr_config config;
    char why[TR_CONFIG_WHY_size] = "";
    CU_ASSERT_EQUAL(tr_config_parse(text, sizeof text - 1, "t", &config, why), TR_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, " [2J"));
    CU_ASSERT_PTR_NULL(strchr(why, '\033'));
}

int main(void) {
    CU_TestInfo tests[] = {
        {"no_file_gives_a_local_model", no_file_gives_a_local_model},
        {"faults_are_utf8_also_where_they_shorten_a_name",
         faults_are_utf8_also_where_they_shorten_a_name},
        {"an_empty_file_is_the_defaults", an_empty_file_is_the_defaults},
        {"values_are_read", values_are_read},
        {"an_empty_local_section_means_no_local_model",
         an_empty_local_section_means_no_local_model},
        {"faults_name_line_and_key", faults_name_line_and_key},
        {"what_is_no_configuration_is_refused_with_its_place",
         what_is_no_configuration_is_refused_with_its_place},
        {"big_and_deep_files_are_refused_soon", big_and_deep_files_are_refused_soon},
        {"files_that_cannot_be_read_say_why", files_that_cannot_be_read_say_why},
        {"what_is_printed_reads_back_the_same", what_is_printed_reads_back_the_same},
        {"the_document_is_up_to_date", the_document_is_up_to_date},
        {"a_faulty_name_moves_no_cursor", a_faulty_name_moves_no_cursor},
        {"mutations_never_crash", mutations_never_crash},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"config", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
