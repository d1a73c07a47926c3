/* Log lines, read back from a pipe. */
#include <CUnit/Basic.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/log.h"
#include "tests/lib/puppet.h"

static int ends[2];

static void open_log(tr_log_format format, tr_log_level level) {
    CU_ASSERT_EQUAL_FATAL(pipe2(ends, O_NONBLOCK), 0);
    tr_log_set(format, level, ends[1]);
}

/* The lines written so far, without the time stamps. */
static const char *close_log(void) {
    static char text[8192];
    ssize_t size = read(ends[0], text, sizeof text - 1);
    text[size > 0 ? size : 0] = '\0';
    close(ends[0]);
    close(ends[1]);
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_INFO, STDERR_FILENO);
    const char *level = strstr(text, "level");
    return level != NULL ? level : text;
}

static void logfmt_line_has_level_message_and_fields(void) {
    open_log(TR_LOG_LOGFMT, TR_LOG_INFO);
    tr_log(TR_LOG_WARN, NULL, "it \"broke\"\n", "request=%s err=%s", "7f", "TR_ERR_IO");
    CU_ASSERT_STRING_EQUAL(close_log(),
                           "level=warn msg=\"it \\\"broke\\\"\\n\" request=7f err=TR_ERR_IO\n");
}

static void line_without_fields_has_no_trailing_blank(void) {
    open_log(TR_LOG_LOGFMT, TR_LOG_INFO);
    tr_log(TR_LOG_INFO, NULL, "up", "%s", "");
    CU_ASSERT_STRING_EQUAL(close_log(), "level=info msg=\"up\"\n");
}

static void json_line_is_made_of_the_same_fields(void) {
    open_log(TR_LOG_JSON, TR_LOG_INFO);
    tr_log(TR_LOG_ERROR, NULL, "no", "request=7f n=12 zero=007 why=\"a \\\"b\\\" c\" empty= bad");
    CU_ASSERT_STRING_EQUAL(close_log(),
                           "level\":\"error\",\"msg\":\"no\",\"request\":\"7f\",\"n\":12,"
                           "\"zero\":\"007\",\"why\":\"a \\\"b\\\" c\",\"empty\":\"\"}\n");
}

static void level_is_a_threshold_that_changes_at_run_time(void) {
    open_log(TR_LOG_LOGFMT, TR_LOG_WARN);
    tr_log(TR_LOG_INFO, NULL, "hidden", "%s", "");
    CU_ASSERT(!tr_log_on(TR_LOG_DEBUG));
    tr_log_set_level(TR_LOG_DEBUG);
    CU_ASSERT(tr_log_on(TR_LOG_DEBUG));
    tr_log(TR_LOG_DEBUG, NULL, "shown", "%s", "");
    CU_ASSERT_STRING_EQUAL(close_log(), "level=debug msg=\"shown\"\n");
}

static void levels_are_read_by_name(void) {
    tr_log_level level = TR_LOG_N;
    for (int i = 0; i < TR_LOG_N; i++) {
        CU_ASSERT(tr_log_level_parse(tr_log_level_name((tr_log_level)i), &level));
        CU_ASSERT_EQUAL((int)level, i);
    }
    CU_ASSERT(!tr_log_level_parse("loud", &level));
    CU_ASSERT(!tr_log_level_parse("", &level));
    CU_ASSERT_STRING_EQUAL(tr_log_level_name(TR_LOG_N), "unknown");
}

static void overlong_line_is_cut_and_still_one_line(void) {
    char big[6000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    open_log(TR_LOG_LOGFMT, TR_LOG_INFO);
    tr_log(TR_LOG_INFO, NULL, big, "field=%s", big);
    const char *line = close_log();
    size_t size = strlen(line);
    CU_ASSERT(size > 1000 && size < 4200);
    CU_ASSERT_EQUAL(line[size - 1], '\n');
    CU_ASSERT_PTR_EQUAL(strchr(line, '\n'), line + size - 1);
}

static void overlong_json_line_is_still_json(void) {
    char big[3000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    big[900] = '\\';
    open_log(TR_LOG_JSON, TR_LOG_INFO);
    tr_log(TR_LOG_INFO, NULL, big, "a=1 big=\"%s\" z=1", big);
    const char *line = close_log();
    size_t size = strlen(line);
    CU_ASSERT(size > 1000);
    CU_ASSERT_STRING_EQUAL(line + size - 3, "\"}\n");
    open_log(TR_LOG_JSON, TR_LOG_INFO);
    memset(big, '\x01', sizeof big - 1);
    tr_log(TR_LOG_INFO, NULL, big, "a=1 big=%s", big);
    line = close_log();
    size = strlen(line);
    CU_ASSERT_STRING_EQUAL(line + size - 9, "\",\"a\":1}\n");
}

static void quote_escapes_and_cuts_between_characters(void) {
    char buf[32];
    CU_ASSERT_STRING_EQUAL(tr_log_quote("a\tb\x01", 4, buf, sizeof buf), "\"a\\tb\\u0001\"");
    CU_ASSERT_STRING_EQUAL(tr_log_quote("", 0, buf, sizeof buf), "\"\"");
    CU_ASSERT_STRING_EQUAL(tr_log_quote("\xc3\xa9\xc3\xa9", 4, buf, 6), "\"\xc3\xa9\"");
    CU_ASSERT_STRING_EQUAL(tr_log_quote("a\xff\xc3z", 4, buf, sizeof buf), "\"a\\ufffd\\ufffdz\"");
    CU_ASSERT_STRING_EQUAL(tr_log_quote("abc", 3, buf, 2), "");
    CU_ASSERT_STRING_EQUAL(tr_log_quote("\x01", 1, buf, 5), "\"\"");
}

static void unquoted_field_begins_no_line_of_its_own(void) {
    open_log(TR_LOG_LOGFMT, TR_LOG_INFO);
    tr_log(TR_LOG_INFO, NULL, "m", "target=%s", "a\nlevel=error\xff");
    CU_ASSERT_STRING_EQUAL(close_log(), "level=info msg=\"m\" target=a?level=error?\n");
}

static void log_as(tr_self *self, void *arg) {
    (void)arg;
    tr_log(TR_LOG_INFO, self, "here", "n=%d", 1);
}

static void actor_is_named(void) {
    open_log(TR_LOG_LOGFMT, TR_LOG_INFO);
    tr_node *node = puppet_node(1);
    puppet_record a;
    puppet_start(node, 0, &a);
    puppet_tell(node, &a, log_as, NULL);
    tr_node_free(node);
    CU_ASSERT_STRING_EQUAL(close_log(), "level=info actor=puppet id=<0.0.1.1> msg=\"here\" n=1\n");
}

/* A blocking pipe that nobody reads: a log that waited would end this test by its alarm. */
static void full_pipe_loses_lines_and_stops_nobody(void) {
    CU_ASSERT_EQUAL_FATAL(pipe2(ends, O_CLOEXEC), 0);
    CU_ASSERT_EQUAL_FATAL(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_INFO, ends[1]);
    char big[900];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    alarm(30);
    for (int round = 0; round < 2; round++) {
        const unsigned sent = 1000;
        for (unsigned i = 0; i < sent; i++) {
            tr_log(TR_LOG_INFO, NULL, "many", "fill=%s", big);
        }
        static char text[1024 * 1024];
        ssize_t size = read(ends[0], text, sizeof text - 1);
        CU_ASSERT_FATAL(size > 0 && read(ends[0], text + size, 1) < 0);
        text[size] = '\0';
        CU_ASSERT_EQUAL(text[size - 1], '\n');
        unsigned came = 0;
        for (const char *at = text; (at = strstr(at, "msg=\"many\"")) != NULL; at++) {
            came++;
        }
        CU_ASSERT(came > 10 && came < sent);
        tr_log(TR_LOG_INFO, NULL, "after", "%s", "");
        size = read(ends[0], text, sizeof text - 1);
        text[size > 0 ? size : 0] = '\0';
        char lost[64];
        snprintf(lost, sizeof lost, " lines=%u\n", sent - came);
        const char *told = strstr(text, lost);
        CU_ASSERT_PTR_NOT_NULL_FATAL(told);
        CU_ASSERT_PTR_NOT_NULL(strstr(told, "msg=\"after\"\n"));
        tr_log(TR_LOG_INFO, NULL, "told once", "%s", "");
        size = read(ends[0], text, sizeof text - 1);
        text[size > 0 ? size : 0] = '\0';
        CU_ASSERT_PTR_NULL(strstr(text, "lines="));
        CU_ASSERT_PTR_NOT_NULL(strstr(text, "told once"));
    }
    alarm(0);
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_INFO, STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(logfmt_line_has_level_message_and_fields),
        PUPPET_TEST(line_without_fields_has_no_trailing_blank),
        PUPPET_TEST(json_line_is_made_of_the_same_fields),
        PUPPET_TEST(level_is_a_threshold_that_changes_at_run_time),
        PUPPET_TEST(levels_are_read_by_name),
        PUPPET_TEST(overlong_line_is_cut_and_still_one_line),
        PUPPET_TEST(overlong_json_line_is_still_json),
        PUPPET_TEST(quote_escapes_and_cuts_between_characters),
        PUPPET_TEST(unquoted_field_begins_no_line_of_its_own),
        PUPPET_TEST(actor_is_named),
        PUPPET_TEST(full_pipe_loses_lines_and_stops_nobody),
    };
    return puppet_main("log", tests, sizeof tests / sizeof tests[0]);
}
