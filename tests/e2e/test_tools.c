/*
 * Conversations with tools: the example weather.c in every dialect against troupe-mock, the
 * command-line program, and a local model whose worker is killed in the middle of a call.
 */
#include <fcntl.h>
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
static tr_client *client, *watcher;

/* The mock must be there before the daemon, which reads its variables when it starts. */
static void open_stage(void) {
    char program[512], line[128] = "", url[64];
    char die[] = "--die-with-parent";
    char *argv[] = {program, die, NULL};
    const char *folder = getenv("TROUPE_BIN");
    int out[2];
    posix_spawn_file_actions_t actions;
    snprintf(program, sizeof program, "%s/troupe-mock", folder != NULL ? folder : "build/bin");
    CU_ASSERT_FATAL(pipe2(out, O_CLOEXEC) == 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    CU_ASSERT_EQUAL_FATAL(posix_spawn(&mock, program, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    FILE *file = fdopen(out[0], "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    if (file != NULL) {
        CU_ASSERT_PTR_NOT_NULL(fgets(line, sizeof line, file));
        fclose(file);
    }
    const char *colon = strrchr(line, ':');
    unsigned long port = colon == NULL ? 0 : strtoul(colon + 1, NULL, 10);
    CU_ASSERT_NOT_EQUAL_FATAL(port, 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%lu/v1", port);
    setenv("OPENAI_BASE_URL", url, 1);
    setenv("OPENAI_API_KEY", "sk-e2e-tools-123456", 1);
    snprintf(url, sizeof url, "http://127.0.0.1:%lu/v1beta", port);
    setenv("GEMINI_BASE_URL", url, 1);
    setenv("GEMINI_API_KEY", "sk-e2e-tools-123456", 1);
    snprintf(url, sizeof url, "http://127.0.0.1:%lu", port);
    setenv("ANTHROPIC_BASE_URL", url, 1);
    setenv("ANTHROPIC_API_KEY", "sk-e2e-tools-123456", 1);
    setenv("OLLAMA_HOST", url, 1);
    tr_stage_open(2, NULL);
    client = tr_stage_client();
    watcher = tr_stage_client();
}

static void close_stage(void) {
    tr_client_close(client);
    tr_client_close(watcher);
    tr_stage_close();
    kill(mock, SIGTERM);
    waitpid(mock, NULL, 0);
}

static void says(const char *text, const char *expected) {
    bool does = strstr(text, expected) != NULL;
    CU_ASSERT_TRUE(does);
    if (!does) {
        printf("\n    expected %s\n    in %s\n", expected, text);
    }
}

static void example_calls_in_parallel_and_answers_in_every_dialect(void) {
    static const char *const models[] = {
        "openai/mock:converse",
        "openai-responses/mock:converse,reasoning=2",
        "anthropic/mock:converse",
        "anthropic/mock:converse,reasoning=2",
        "gemini/mock:converse",
        "ollama/mock:converse",
        "openai/mock:converse,reasoning=2",
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char out[4096];
        bool forced = strncmp(models[i], "ollama/", 7) != 0; /* its API knows no tool_choice */
        const char *argv[] = {"../examples/example_weather", models[i],
                              forced ? NULL : "How is the weather in Oslo and in Rome?", "auto",
                              NULL};
        int status = tr_stage_run(argv, out, sizeof out);
        CU_ASSERT_EQUAL(status, 0);
        says(out, "[get_weather] {\"city\":\"Oslo\"}");
        says(out, "[get_weather] {\"city\":\"Rome\"}");
        says(out, "Oslo: 4 degrees, snow");
        says(out, "elsewhere: 21 degrees, sun");
    }
}

static void program_says_which_tools_the_model_calls(void) {
    static const char tools[] =
        "[{\"type\":\"function\",\"function\":{\"name\":\"look\",\"parameters\":{\"type\":"
        "\"object\",\"properties\":{\"at\":{\"type\":\"string\"}}}}}]";
    char path[128], out[4096];
    snprintf(path, sizeof path, "%s/tools.json", tr_stage_now.folder);
    FILE *file = fopen(path, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    if (file != NULL) {
        fputs(tools, file);
        fclose(file);
    }
    const char *argv[] = {"troupe",  "ask", "--json",        "-m",       "openai/mock:converse",
                          "--tools", path,  "--tool-choice", "required", "Look at Oslo",
                          NULL};
    CU_ASSERT_EQUAL(tr_stage_run(argv, out, sizeof out), 0);
    says(out, "\"tool_calls\":[{\"id\":\"call_1\",\"name\":\"look\",\"arguments\":\"{\\\"at\\\":"
              "\\\"Oslo\\\"}\"}]");
    says(out, "\"finish\":\"tool_calls\"");
    const char *local[] = {"troupe", "ask",           "--json", "-m",           "random", "--tools",
                           path,     "--tool-choice", "look",   "--max-tokens", "200",    "--seed",
                           "2",      "Look at Oslo",  NULL};
    CU_ASSERT_EQUAL(tr_stage_run(local, out, sizeof out), 0);
    says(out, "\"name\":\"look\"");
}

/* Tool calls of a random model as text; kills all workers when `at` bytes have come. */
static int stream_calls(char *text, size_t size, size_t at) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = "random";
    options.temperature = 1;
    options.seed = 5;
    options.max_tokens = 260;
    options.window_messages = 4; /* so that the stream does not run ahead of its killer */
    options.tool_choice = "required";
    tr_request *request;
    tr_stream *s;
    CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &request), TR_OK);
    CU_ASSERT_EQUAL(tr_request_text(request, "user", "go"), TR_OK);
    CU_ASSERT_EQUAL(tr_request_tool(request, "note", NULL, NULL), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_stream_open(client, request, &s), TR_OK);
    size_t used = 0;
    int killed = 0;
    tr_chunk chunk;
    tr_err err;
    while ((err = tr_stream_next(s, 60000, &chunk)) == TR_OK) {
        CU_ASSERT_FATAL(used + chunk.size + 600 < size);
        if (chunk.kind == TR_CHUNK_TOOL_START) {
            used += (size_t)snprintf(text + used, size - used, "[%s %s]", chunk.id, chunk.name);
        }
        memcpy(text + used, chunk.text, chunk.size);
        used += chunk.size;
        for (unsigned i = 0; i < 2 && used >= at && killed < 2; i++) {
            pid_t pid = tr_stage_worker(watcher, "random", i);
            killed += pid > 0 && kill(pid, SIGKILL) == 0;
        }
    }
    text[used] = '\0';
    CU_ASSERT_EQUAL(err, TR_DONE);
    tr_stream_close(s);
    tr_request_free(request);
    return killed;
}

static void worker_killed_in_a_call_changes_no_byte(void) {
    static char whole[8192], cut[8192];
    stream_calls(whole, sizeof whole, SIZE_MAX);
    says(whole, "[call_0 note]{");
    for (size_t at = 1; at < strlen(whole); at += strlen(whole) / 5 + 1) {
        CU_ASSERT_TRUE(stream_calls(cut, sizeof cut, at) > 0);
        CU_ASSERT_STRING_EQUAL(cut, whole);
    }
}

int main(void) {
    CU_TestInfo tests[] = {
        {"(the daemon starts)", open_stage},
        {"example_calls_in_parallel_and_answers_in_every_dialect",
         example_calls_in_parallel_and_answers_in_every_dialect},
        {"program_says_which_tools_the_model_calls", program_says_which_tools_the_model_calls},
        {"worker_killed_in_a_call_changes_no_byte", worker_killed_in_a_call_changes_no_byte},
        {"(the daemon stops)", close_stage},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("tools", tests);
}
