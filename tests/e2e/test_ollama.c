/* A daemon whose environment names an Ollama server, and troupe-mock as that server: chats,
 * embeddings, and the server's models listed, loaded and let go. */
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/stage.h"

extern char **environ;

static pid_t mock;
static char out[65536];

/* Prints its address, whose port becomes OLLAMA_HOST as people write it. */
static void start_mock(void) {
    const char *folder = getenv("TROUPE_BIN");
    char program[512];
    char die[] = "--die-with-parent";
    char line[128] = "";
    char host[32];
    int ends[2];
    snprintf(program, sizeof program, "%s/troupe-mock", folder != NULL ? folder : "build/bin");
    char *argv[] = {program, die, NULL};
    posix_spawn_file_actions_t actions;
    CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    CU_ASSERT_EQUAL_FATAL(posix_spawn(&mock, program, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    FILE *file = fdopen(ends[0], "r");
    CU_ASSERT_FATAL(file != NULL && fgets(line, sizeof line, file) != NULL);
    fclose(file);
    const char *colon = strrchr(line, ':');
    CU_ASSERT_PTR_NOT_NULL_FATAL(colon);
    snprintf(host, sizeof host, "0.0.0.0:%lu", strtoul(colon + 1, NULL, 10));
    setenv("OLLAMA_HOST", host, 1);
}

static void open_stage(void) {
    start_mock();
    tr_stage_open(1, NULL);
}

static void close_stage(void) {
    tr_stage_close();
    kill(mock, SIGTERM);
    CU_ASSERT_EQUAL(waitpid(mock, NULL, 0), mock);
}

static int run(const char *const *argv) {
    return tr_stage_run(argv, out, sizeof out);
}

static void an_answer_comes_from_the_server(void) {
    static const char *const ask[] = {"troupe",          "ask", "-m", "ollama/mock:echo",
                                      "Hello big world", NULL};
    static const char *const whole[] = {"troupe",      "ask", "-m", "ollama/mock:tokens=3",
                                        "--no-stream", "Hi",  NULL};
    CU_ASSERT_EQUAL(run(ask), 0);
    CU_ASSERT_STRING_EQUAL(out, "Hello big world\n");
    CU_ASSERT_EQUAL(run(whole), 0);
    CU_ASSERT_STRING_EQUAL(out, "t0 t1 t2 \n");
}

static void thoughts_calls_and_counts_arrive_apart(void) {
    tr_client *client = tr_stage_client();
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result = NULL;
    options.model = "ollama/mock:tools,reasoning=2";
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "Hi", &result), TR_OK);
    CU_ASSERT_STRING_EQUAL(tr_result_text(result), "");
    CU_ASSERT_STRING_EQUAL(tr_result_reasoning(result), "t0 t1 ");
    CU_ASSERT_STRING_EQUAL(tr_result_finish(result), "tool_calls");
    CU_ASSERT_EQUAL_FATAL(tr_result_tool_calls(result), 1);
    CU_ASSERT_STRING_EQUAL(tr_result_tool_call(result, 0).id, "call_0");
    CU_ASSERT_STRING_EQUAL(tr_result_tool_call(result, 0).name, "mock");
    CU_ASSERT_STRING_EQUAL(tr_result_tool_call(result, 0).arguments_json, "{\"a\":1}");
    CU_ASSERT_EQUAL(tr_result_usage(result).out, 3);
    tr_result_free(result);
    tr_client_close(client);
}

static void an_error_is_the_servers_own(void) {
    static const char *const ask[] = {"troupe", "ask", "-m", "ollama/mock:status=404", "Hi", NULL};
    CU_ASSERT_EQUAL(run(ask), 2);
    CU_ASSERT_STRING_EQUAL(out, "");
    CU_ASSERT(tr_stage_logged("the mock was told to fail") > 0);
}

static void a_stream_that_is_cut_says_so(void) {
    static const char *const cut[] = {"troupe", "ask", "-m", "ollama/mock:cut=400", "Hi", NULL};
    static const char *const open[] = {"troupe", "ask", "-m", "ollama/mock:nodone", "Hi", NULL};
    CU_ASSERT_EQUAL(run(cut), 7);
    CU_ASSERT_EQUAL(run(open), 7);
}

static void texts_are_embedded(void) {
    static const char *const embed[] = {"troupe", "embed", "-m", "ollama/mock:dim=4",
                                        "a",      "b",     NULL};
    CU_ASSERT_EQUAL(run(embed), 0);
    const char *second = strchr(out, '\n');
    CU_ASSERT_PTR_NOT_NULL_FATAL(second);
    CU_ASSERT_EQUAL(out[0], '[');
    CU_ASSERT_EQUAL(second[1], '[');
}

static void models_are_listed_loaded_and_let_go(void) {
    static const char *const list[] = {"troupe", "models", "ollama", NULL};
    static const char *const json[] = {"troupe", "models", "ollama", "--json", NULL};
    static const char *const load[] = {"troupe", "load", "ollama/mock:echo", NULL};
    static const char *const unload[] = {"troupe", "unload", "ollama/mock:echo", NULL};
    CU_ASSERT_EQUAL(run(unload), 0);
    CU_ASSERT_EQUAL(run(list), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "ollama/mock: 1M Q4_0 bytes=1000"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "ollama/mock:echo bytes=1000\n"));
    CU_ASSERT_EQUAL(run(load), 0);
    CU_ASSERT_EQUAL(run(list), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "ollama/mock:echo bytes=1000 loaded\n"));
    CU_ASSERT_EQUAL(run(json), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "{\"provider\":\"ollama\",\"models\":[{\"name\":\"mock:\""));
    CU_ASSERT_EQUAL(run(unload), 0);
    CU_ASSERT_EQUAL(run(unload), 0);
    CU_ASSERT_EQUAL(run(list), 0);
    CU_ASSERT_PTR_NULL(strstr(out, "mock:echo bytes=1000 loaded"));
}

static void who_does_not_exist_is_not_listed(void) {
    static const char *const list[] = {"troupe", "models", "olama", NULL};
    static const char *const two[] = {"troupe", "models", "a", "b", NULL};
    CU_ASSERT_EQUAL(run(list), 2);
    CU_ASSERT(tr_stage_logged("did you mean ollama") > 0);
    CU_ASSERT_EQUAL(run(two), 2);
}

int main(void) {
    CU_TestInfo tests[] = {
        {"(the daemon starts)", open_stage},
        {"an_answer_comes_from_the_server", an_answer_comes_from_the_server},
        {"thoughts_calls_and_counts_arrive_apart", thoughts_calls_and_counts_arrive_apart},
        {"an_error_is_the_servers_own", an_error_is_the_servers_own},
        {"a_stream_that_is_cut_says_so", a_stream_that_is_cut_says_so},
        {"texts_are_embedded", texts_are_embedded},
        {"models_are_listed_loaded_and_let_go", models_are_listed_loaded_and_let_go},
        {"who_does_not_exist_is_not_listed", who_does_not_exist_is_not_listed},
        {"(the daemon stops)", close_stage},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("ollama", tests);
}
