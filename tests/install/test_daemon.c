/* The daemon inside this program, through the shared libraries, as libtrouped's users have it: it
 * starts, stops and starts again, keeps nothing, and says what is wrong. */
#include <CUnit/Basic.h>
#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <troupe.h>
#include <trouped.h>

#define QUIET "listen: {socket: off}\nlog: {level: error}\n"

static char folder[] = "/tmp/troupe-install-XXXXXX";

static tr_daemon_options options_of(const char *config) {
    tr_daemon_options options = TR_DAEMON_OPTIONS_INIT;
    options.config_text = config;
    options.inproc = "inproc://embedded";
    return options;
}

static tr_daemon *start_quiet(void) {
    tr_daemon_options options = options_of(QUIET);
    tr_daemon *daemon = NULL;
    CU_ASSERT_EQUAL(tr_daemon_start(&options, &daemon), 0);
    if (daemon == NULL) {
        fprintf(stderr, "tr_daemon_start: %s\n", tr_daemon_error());
    }
    CU_ASSERT_PTR_NOT_NULL_FATAL(daemon);
    return daemon;
}

static void echoes(const char *url) {
    tr_client *client = NULL;
    tr_result *result = NULL;
    tr_options options = TR_OPTIONS_INIT;
    options.model = "echo/any";
    CU_ASSERT_EQUAL_FATAL(tr_client_open(url, &client), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "hello", &result), TR_OK);
    CU_ASSERT_EQUAL(tr_result_error(result), TR_OK);
    CU_ASSERT_STRING_EQUAL(tr_result_text(result), "hello");
    tr_result_free(result);
    tr_client_close(client);
}

static int count_entries(const char *path) {
    DIR *directory = opendir(path);
    CU_ASSERT_PTR_NOT_NULL_FATAL(directory);
    int count = 0;
    while (readdir(directory) != NULL) {
        count++;
    }
    closedir(directory);
    return count;
}

static void after_a_stop_another_starts_and_nothing_piles_up(void) {
    int descriptors = 0;
    int threads = 0;
    for (int round = 0; round < 4; round++) {
        tr_daemon *daemon = start_quiet();
        echoes(tr_daemon_url(daemon));
        tr_daemon_stop(daemon);
        if (round == 0) { /* NNG has started its own by now, for the life of the process */
            descriptors = count_entries("/proc/self/fd");
            threads = count_entries("/proc/self/task");
        }
    }
    CU_ASSERT_EQUAL(count_entries("/proc/self/fd"), descriptors);
    CU_ASSERT_EQUAL(count_entries("/proc/self/task"), threads);
    CU_ASSERT_EQUAL(count_entries(folder), 3); /* ".", ".." and "troupe" */
}

static void second_daemon_is_refused_and_the_first_goes_on(void) {
    tr_daemon *daemon = start_quiet();
    tr_daemon_options options = options_of(QUIET);
    tr_daemon *second = NULL;
    CU_ASSERT_EQUAL(tr_daemon_start(&options, &second), TR_ERR_EXISTS);
    CU_ASSERT_PTR_NULL(second);
    CU_ASSERT_PTR_NOT_NULL(strstr(tr_daemon_error(), "in this process already"));
    echoes(tr_daemon_url(daemon));
    tr_daemon_stop(daemon);
}

static void failed_start_says_why_and_lets_the_next_one_start(void) {
    static const struct {
        const char *config, *sentence;
        tr_err err;
    } faults[] = {
        {"lisen: {}\n", "lisen", TR_ERR_INVALID},
        {"listen: {socket: off, tcp: 'tcp://127.0.0.1:0', token_file: /nowhere}\n",
         "/nowhere cannot be read", TR_ERR_INVALID},
        {"listen: {socket: 'ipc:///proc/nowhere/a.sock'}\nlog: {level: error}\n", "/proc/nowhere",
         TR_OK},
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        tr_daemon_options options = options_of(faults[i].config);
        tr_daemon *daemon = NULL;
        int err = tr_daemon_start(&options, &daemon);
        CU_ASSERT_NOT_EQUAL(err, 0);
        CU_ASSERT_TRUE(faults[i].err == TR_OK || (tr_err)err == faults[i].err);
        CU_ASSERT_PTR_NULL(daemon);
        CU_ASSERT_PTR_NOT_NULL(strstr(tr_daemon_error(), faults[i].sentence));
        if (strstr(tr_daemon_error(), faults[i].sentence) == NULL) {
            fprintf(stderr, "fault %zu: %d: %s\n", i, err, tr_daemon_error());
        }
    }
    tr_daemon_stop(start_quiet());
}

static void options_are_copied(void) {
    char config[128] = QUIET;
    char name[64] = "inproc://copied";
    tr_daemon_options options = options_of(config);
    options.inproc = name;
    tr_daemon *daemon = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_daemon_start(&options, &daemon), 0);
    memset(config, '?', sizeof config - 1);
    memset(name, '?', sizeof name - 1);
    CU_ASSERT_STRING_EQUAL(tr_daemon_url(daemon), "inproc://copied");
    CU_ASSERT_EQUAL(tr_daemon_reload(daemon), 0);
    echoes("inproc://copied");
    tr_daemon_stop(daemon);
}

static void without_inproc_the_url_is_the_socket_and_it_goes_with_the_daemon(void) {
    tr_daemon_options options = options_of("log: {level: error}\n");
    options.inproc = NULL;
    tr_daemon *daemon = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_daemon_start(&options, &daemon), 0);
    char url[256];
    snprintf(url, sizeof url, "%s", tr_daemon_url(daemon));
    CU_ASSERT_PTR_NOT_NULL(strstr(url, folder));
    CU_ASSERT_EQUAL(access(url + strlen("ipc://"), F_OK), 0);
    echoes(url);
    tr_daemon_stop(daemon);
    CU_ASSERT_EQUAL(access(url + strlen("ipc://"), F_OK), -1);
}

static _Atomic int asked;

static void stop_requested(void *arg) {
    CU_ASSERT_PTR_EQUAL(arg, &asked);
    atomic_fetch_add(&asked, 1);
}

static void stop_request_is_the_programs_to_grant(void) {
    for (int lent = 0; lent < 2; lent++) {
        tr_daemon_options options = options_of(QUIET);
        options.stop_requested = lent == 1 ? stop_requested : NULL;
        options.arg = &asked;
        tr_daemon *daemon = NULL;
        tr_client *client = NULL;
        char *answer = NULL;
        CU_ASSERT_EQUAL_FATAL(tr_daemon_start(&options, &daemon), 0);
        CU_ASSERT_EQUAL_FATAL(tr_client_open(tr_daemon_url(daemon), &client), TR_OK);
        tr_err err = tr_control_json(client, "{\"do\":\"stop\"}", &answer);
        CU_ASSERT_EQUAL(err == TR_OK, lent == 1);
        CU_ASSERT_EQUAL(atomic_load(&asked), lent);
        tr_memory_free(answer);
        tr_client_close(client);
        tr_daemon_stop(daemon);
    }
}

static void stopping_nothing_is_fine(void) {
    tr_daemon_stop(NULL);
    CU_ASSERT_PTR_NOT_NULL(tr_daemon_error());
}

int main(void) {
    if (mkdtemp(folder) == NULL || setenv("XDG_RUNTIME_DIR", folder, 1) != 0) {
        return 1;
    }
    CU_TestInfo tests[] = {
        {"after_a_stop_another_starts_and_nothing_piles_up",
         after_a_stop_another_starts_and_nothing_piles_up},
        {"second_daemon_is_refused_and_the_first_goes_on",
         second_daemon_is_refused_and_the_first_goes_on},
        {"failed_start_says_why_and_lets_the_next_one_start",
         failed_start_says_why_and_lets_the_next_one_start},
        {"options_are_copied", options_are_copied},
        {"without_inproc_the_url_is_the_socket_and_it_goes_with_the_daemon",
         without_inproc_the_url_is_the_socket_and_it_goes_with_the_daemon},
        {"stop_request_is_the_programs_to_grant", stop_request_is_the_programs_to_grant},
        {"stopping_nothing_is_fine", stopping_nothing_is_fine},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{.pName = "libtrouped", .pTests = tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 1;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    char path[128];
    static const char *const left[] = {"/troupe/troupe.sock.lock", "/troupe", ""};
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        snprintf(path, sizeof path, "%s%s", folder, left[i]);
        if (remove(path) != 0 && i > 0) {
            fprintf(stderr, "%s has something left in it\n", path);
        }
    }
    return failed == 0 ? 0 : 1;
}
