/*
 * The example weather.c, the program that users copy, against conversations with tools that were
 * recorded: the replay server gives the recorded calls, then the recorded answer, and the example
 * says both. What it sent in between must hold each call, by its id where the API has ids, and each
 * result. The daemon is in this process, with a socket that the example finds as any program would.
 * Not run without recordings (TROUPE_RECORDINGS).
 */
#include <CUnit/Basic.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/conformance/door.h"
#include "tools/trouped/trouped.h"

extern char **environ;

static const char *const talks[][2] = {
    /* the calls, the answer */
    {"anthropic__messages-tools-stream-parallel", "anthropic__messages-tools-stream-parallel-2"},
    {"anthropic__messages-tools-stream", "anthropic__messages-tools-stream-2"},
    {"anthropic__messages-thinking-tools-stream-2", "anthropic__messages-thinking-tools-stream"},
    {"openai__chat-tools-stream", "openai__chat-tools-stream-2"},
    {"openai__responses-tools-stream-parallel", "openai__responses-tools-stream-parallel-2"},
    {"gemini__generate-tools-stream", "gemini__generate-tools-stream-2"},
    {"groq__chat-tools-stream-2", "groq__chat-tools-stream"},
    {"openrouter__chat-tools-reasoning-details-stream",
     "openrouter__chat-tools-reasoning-details-stream-2"},
    {"ollama__chat-tools-thinking", "ollama__chat-tools"},
};
enum { talk_count = sizeof talks / sizeof *talks, out_max = 32768 };

static exchange *exchanges;
static size_t exchange_count;
static replay_server *server;
static door_run runs[talk_count][2];

static const exchange *find(const char *name) {
    for (size_t i = 0; i < exchange_count; i++) {
        if (strcmp(exchanges[i].name, name) == 0) {
            return &exchanges[i];
        }
    }
    printf("\n    there is no recording %s\n", name);
    return NULL;
}

/* The server says the calls, then the answer for ever. */
static void arm(size_t slot) {
    for (size_t k = 0; k < 2; k++) {
        const exchange *one = find(talks[slot][k]);
        CU_ASSERT_PTR_NOT_NULL_FATAL(one);
        door_prepare(&runs[slot][k], one, (door_way){.kind = DOOR_WHOLE});
    }
    door_arm(server, slot, &runs[slot][0]);
    door_arm_next(server, slot, &runs[slot][1]);
}

static tr_daemon *start_daemon(void) {
    text config = {0};
    char line[512] = "log: {level: error}\nshards: 2\nproviders:\n";
    tr_daemon_options options = TR_DAEMON_OPTIONS_INIT;
    tr_daemon *daemon = NULL;
    text_add(&config, (tr_str){line, strlen(line)});
    for (size_t i = 0; i < talk_count; i++) {
        snprintf(line, sizeof line,
                 "  x%zu: {kind: %s, base_url: \"http://127.0.0.1:%u%s\", keys: ['env:%s']}\n", i,
                 runs[i][0].kind, (unsigned)replay_server_port(server, i), runs[i][0].base_path,
                 DOOR_KEY_ENV);
        text_add(&config, (tr_str){line, strlen(line)});
    }
    options.config_text = config.bytes;
    if (tr_daemon_start(&options, &daemon) != 0) {
        printf("\n    %s\n", tr_daemon_error());
    }
    free(config.bytes);
    CU_ASSERT_PTR_NOT_NULL_FATAL(daemon);
    return daemon;
}

/* Its exit status; what it said on both outputs. */
static int run_example(size_t slot, char *out) {
    char program[] = EXAMPLE, model[256], question[] = "What now?";
    char choice[] = "required";
    char *argv[] = {program, model, question, choice, NULL};
    posix_spawn_file_actions_t actions;
    int fds[2], status = -1;
    pid_t pid;
    size_t used = 0;
    snprintf(model, sizeof model, "x%zu/%s", slot, runs[slot][0].model);
    if (strcmp(runs[slot][0].kind, "ollama") == 0) {
        memcpy(choice, "auto", sizeof "auto"); /* its API cannot force a call */
    }
    CU_ASSERT_FATAL(pipe2(fds, O_CLOEXEC) == 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 2);
    CU_ASSERT_EQUAL_FATAL(posix_spawn(&pid, program, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    for (ssize_t got; (got = read(fds[0], out + used, out_max - 1 - used)) > 0;) {
        used += (size_t)got;
    }
    out[used] = '\0';
    close(fds[0]);
    waitpid(pid, &status, 0);
    return status;
}

static void has(const char *what, const char *text, tr_str part) {
    bool does = part.ptr != NULL && part.size > 0 &&
                memmem(text, strlen(text), part.ptr, part.size) != NULL;
    CU_ASSERT_TRUE(does);
    if (!does) {
        printf("\n    %s lacks \"%.*s\": %s\n", what, (int)part.size, part.ptr, text);
    }
}

/* Of the calls in order: where the example says each, by its name and whole arguments. */
static void check_calls(const door_run *run, const char *out) {
    const tr_json_value *calls = tr_json_get(tr_json_root(run->exchange->expected), "tool_calls");
    const char *at = out;
    CU_ASSERT_TRUE(tr_json_count(calls) > 0);
    for (const tr_json_value *call = tr_json_first(calls); call != NULL;
         call = tr_json_next(call)) {
        char head[160];
        tr_str name = tr_json_string(tr_json_get(call, "name"));
        tr_json *arguments = NULL;
        snprintf(head, sizeof head, "\n[%.*s] ", (int)name.size, name.ptr);
        at = strstr(at, head);
        CU_ASSERT_PTR_NOT_NULL(at);
        if (at == NULL) {
            return;
        }
        at += strlen(head);
        size_t size = strcspn(at, "\n");
        CU_ASSERT_EQUAL(tr_json_parse(at, size, &arguments, NULL), TR_OK);
        CU_ASSERT_TRUE(arguments != NULL &&
                       exchange_same_json(tr_json_get(call, "arguments"), tr_json_root(arguments)));
        tr_json_free(arguments);
    }
}

static size_t count_of(const char *text, const char *part) {
    size_t count = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part)) {
        count++;
    }
    return count;
}

/* The second request: every call's name, a result for every call, and no call is forced. */
static void check_sent(size_t slot) {
    static const char *const forced[] = {"\"tool_choice\":\"required\"", "\"type\":\"any\"",
                                         "\"mode\":\"ANY\""};
    replay_request request = replay_server_request(server, slot);
    const tr_json_value *expected = tr_json_root(runs[slot][0].exchange->expected);
    const tr_json_value *calls = tr_json_get(expected, "tool_calls");
    CU_ASSERT_EQUAL(request.count, 2);
    CU_ASSERT_TRUE(request.whole);
    char *body = request.body != NULL ? strndup(request.body, request.body_size) : NULL;
    CU_ASSERT_PTR_NOT_NULL(body);
    if (body == NULL) {
        return;
    }
    CU_ASSERT_EQUAL(count_of(body, "elsewhere: 21 degrees, sun"), tr_json_count(calls));
    for (const tr_json_value *call = tr_json_first(calls); call != NULL;
         call = tr_json_next(call)) {
        has("the second request", body, tr_json_string(tr_json_get(call, "name")));
    }
    for (size_t i = 0; i < sizeof forced / sizeof *forced; i++) {
        CU_ASSERT_EQUAL(count_of(body, forced[i]), 0);
    }
    free(body);
    replay_request_fini(&request);
}

static void example_says_the_recorded_calls_and_the_recorded_answer(void) {
    static char out[out_max];
    char folder[] = "/tmp/troupe-weather-XXXXXX";
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    setenv("XDG_RUNTIME_DIR", folder, 1);
    setenv("XDG_CONFIG_HOME", folder, 1);
    setenv(DOOR_KEY_ENV, DOOR_KEY, 1);
    server = replay_server_start(talk_count);
    CU_ASSERT_PTR_NOT_NULL_FATAL(server);
    for (size_t i = 0; i < talk_count; i++) {
        arm(i);
    }
    tr_daemon *daemon = start_daemon();
    for (size_t i = 0; i < talk_count; i++) {
        int status = run_example(i, out);
        if (status != 0) {
            printf("\n    %s: %s\n", talks[i][0], out);
        }
        CU_ASSERT_EQUAL(status, 0);
        check_calls(&runs[i][0], out);
        has(talks[i][1], out,
            tr_json_string(tr_json_get(tr_json_root(runs[i][1].exchange->expected), "text")));
        check_sent(i);
        door_run_fini(&runs[i][0]);
        door_run_fini(&runs[i][1]);
    }
    tr_daemon_stop(daemon);
    replay_server_stop(server);
    char path[64];
    snprintf(path, sizeof path, "%s/troupe/troupe.sock.lock", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/troupe", folder);
    rmdir(path);
    CU_ASSERT_EQUAL(rmdir(folder), 0);
}

int main(void) {
    enum { skipped = 77 };
    const char *folder = getenv("TROUPE_RECORDINGS");
    if (folder == NULL) {
        printf("not run: TROUPE_RECORDINGS is not set\n");
        return skipped;
    }
    if (exchange_load_all(folder, &exchanges, &exchange_count) != 0) {
        return 1;
    }
    CU_TestInfo tests[] = {{"example_says_the_recorded_calls_and_the_recorded_answer",
                            example_says_the_recorded_calls_and_the_recorded_answer},
                           CU_TEST_INFO_NULL};
    CU_SuiteInfo suites[] = {{"weather", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    exchange_free_all(exchanges, exchange_count);
    return failed > 0;
}
