/* Command lines that go through no shell. */
#include <CUnit/Basic.h>
#include <stdlib.h>
#include <string.h>

#include "actors/command.h"
#include "tests/lib/puppet.h"

static tr_command command;
static char why[200];

static tr_err read_it(const char *text) {
    static const tr_command_values values = {.model = "org/my model; rm -rf $HOME",
                                             .host = "127.0.0.1",
                                             .port = 4711,
                                             .context = 4096,
                                             .sequences = 4};
    memset(&command, 0, sizeof command);
    return tr_command_read(text, &values, &command, why, sizeof why);
}

static void expect(const char *text, const char *const *words) {
    CU_ASSERT_EQUAL_FATAL(read_it(text), TR_OK);
    size_t i = 0;
    for (; words[i] != NULL; i++) {
        CU_ASSERT_PTR_NOT_NULL_FATAL(command.words[i]);
        CU_ASSERT_STRING_EQUAL(command.words[i], words[i]);
    }
    CU_ASSERT_PTR_NULL(command.words[i]);
}

static void words_are_divided_by_blanks(void) {
    expect("  a  b\tc\nd ", (const char *const[]){"a", "b", "c", "d", NULL});
}

static void quotes_keep_blanks_and_make_empty_words(void) {
    expect("a 'b  c' \"d e\"f '' \"\"", (const char *const[]){"a", "b  c", "d ef", "", "", NULL});
    expect("a \"it's\" 'say \"x\"'", (const char *const[]){"a", "it's", "say \"x\"", NULL});
}

static void a_backslash_takes_the_next_character(void) {
    expect("a\\ b \"c\\\"d\" 'e\\f'", (const char *const[]){"a b", "c\"d", "e\\f", NULL});
}

static void a_value_is_never_split(void) {
    expect(
        "serve {model} --at={host}:{port}",
        (const char *const[]){"serve", "org/my model; rm -rf $HOME", "--at=127.0.0.1:4711", NULL});
}

static void sizes_are_numbers(void) {
    expect("s {context} {sequences} {cache}",
           (const char *const[]){"s", "4096", "4", "16384", NULL});
}

static void shell_signs_mean_nothing(void) {
    expect("a $HOME `b` *;|&>c", (const char *const[]){"a", "$HOME", "`b`", "*;|&>c", NULL});
}

static void other_braces_mean_themselves(void) {
    expect("a '{\"x\": {}}' {1} {", (const char *const[]){"a", "{\"x\": {}}", "{1}", "{", NULL});
}

static void an_unknown_name_is_told(void) {
    CU_ASSERT_EQUAL(read_it("a {modle}"), TR_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "{modle}"));
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "{model}"));
}

static void what_cannot_be_a_command_is_refused(void) {
    CU_ASSERT_EQUAL(read_it(""), TR_ERR_INVALID);
    CU_ASSERT_EQUAL(read_it("   "), TR_ERR_INVALID);
    CU_ASSERT_EQUAL(read_it("''"), TR_ERR_INVALID);
    CU_ASSERT_EQUAL(read_it("a 'b"), TR_ERR_INVALID);
    CU_ASSERT_EQUAL(read_it("a \"b"), TR_ERR_INVALID);
    static char many[2 * TR_COMMAND_WORDS_max + 3];
    for (size_t i = 0; i < TR_COMMAND_WORDS_max + 1; i++) {
        memcpy(many + 2 * i, "a ", 2);
    }
    CU_ASSERT_EQUAL(read_it(many), TR_ERR_INVALID);
    many[2 * TR_COMMAND_WORDS_max] = '\0';
    CU_ASSERT_EQUAL(read_it(many), TR_OK);
    static char long_one[TR_COMMAND_TEXT_max + 1];
    memset(long_one, 'a', sizeof long_one - 1);
    CU_ASSERT_EQUAL(read_it(long_one), TR_ERR_INVALID); /* no room for its NUL */
    long_one[sizeof long_one - 2] = '\0';
    CU_ASSERT_EQUAL(read_it(long_one), TR_OK);
}

static void names_are_found_in_a_command(void) {
    CU_ASSERT(tr_command_has("a --p {port}", "port"));
    CU_ASSERT(!tr_command_has("a --p {ports} port", "port"));
}

static void programs_are_found_by_the_path(void) {
    char path[256];
    setenv("PATH", "/nonexistent::/bin:/usr/bin", 1);
    CU_ASSERT(tr_command_find("sh", path, sizeof path));
    CU_ASSERT_STRING_EQUAL(path, "/bin/sh");
    CU_ASSERT(!tr_command_find("no-such-program-here", path, sizeof path));
    CU_ASSERT(tr_command_find("./here", path, sizeof path));
    CU_ASSERT_STRING_EQUAL(path, "./here");
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(words_are_divided_by_blanks),
        PUPPET_TEST(quotes_keep_blanks_and_make_empty_words),
        PUPPET_TEST(a_backslash_takes_the_next_character),
        PUPPET_TEST(a_value_is_never_split),
        PUPPET_TEST(sizes_are_numbers),
        PUPPET_TEST(shell_signs_mean_nothing),
        PUPPET_TEST(other_braces_mean_themselves),
        PUPPET_TEST(an_unknown_name_is_told),
        PUPPET_TEST(what_cannot_be_a_command_is_refused),
        PUPPET_TEST(names_are_found_in_a_command),
        PUPPET_TEST(programs_are_found_by_the_path),
    };
    return puppet_main("command", tests, sizeof tests / sizeof *tests);
}
