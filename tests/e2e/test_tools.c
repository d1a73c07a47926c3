/*
 * Conversations with tools: the example weather.c in every dialect against troupe-mock, the
 * command-line program, which also takes images, and a local model whose worker is killed in the
 * middle of a call.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/e2e/upstream.h"

#define KEY "sk-e2e-tools-123456"

enum { path_max = 128 };

static tr_client *client, *watcher;

/* The mock must be there before the daemon, which reads its variables when it starts. */
static void open_stage(void) {
    char url[64];
    unsigned port = tr_upstream_open(NULL);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v1", port);
    setenv("OPENAI_BASE_URL", url, 1);
    setenv("OPENAI_API_KEY", KEY, 1);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v1beta", port);
    setenv("GEMINI_BASE_URL", url, 1);
    setenv("GEMINI_API_KEY", KEY, 1);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", port);
    setenv("ANTHROPIC_BASE_URL", url, 1);
    setenv("ANTHROPIC_API_KEY", KEY, 1);
    setenv("OLLAMA_HOST", url, 1);
    tr_stage_open(2, NULL);
    client = tr_stage_client();
    watcher = tr_stage_client();
}

static void close_stage(void) {
    tr_client_close(client);
    tr_client_close(watcher);
    tr_stage_close();
    tr_upstream_close();
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

#define SCHEMA "{\"type\":\"object\",\"properties\":{\"at\":{\"type\":\"string\"}}}"
#define LOOK "\"name\":\"look\",\"parameters\":" SCHEMA

/* A file in the stage's folder. */
static void write_file(char *path, const char *name, const char *bytes, size_t size) {
    snprintf(path, path_max, "%s/%s", tr_stage_now.folder, name);
    FILE *file = fopen(path, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    if (file != NULL) {
        CU_ASSERT_EQUAL(fwrite(bytes, 1, size, file), size);
        fclose(file);
    }
}

static void write_tools(char *path) {
    static const char tools[] = "[{\"type\":\"function\",\"function\":{" LOOK "}}]";
    write_file(path, "tools.json", tools, sizeof tools - 1);
}

static void program_says_which_tools_the_model_calls(void) {
    char path[path_max], out[4096];
    write_tools(path);
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

#define PNG "\x89PNG\r\n\x1a\nxyz"
#define PNG_BASE64 "iVBORw0KGgp4eXo="
#define JPEG "\xff\xd8\xff\xe0jpg"
#define JPEG_BASE64 "/9j/4GpwZw=="
#define PART(mime, data)                                                                           \
    "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:" mime ";base64," data "\"}}"
#define BLOCK(mime, data)                                                                          \
    "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"" mime                   \
    "\",\"data\":\"" data "\"}}"
#define INPUT(mime, data)                                                                          \
    "{\"type\":\"input_image\",\"image_url\":\"data:" mime ";base64," data "\"}"
#define INLINE(mime, data) "{\"inlineData\":{\"mimeType\":\"" mime "\",\"data\":\"" data "\"}}"

static void images_and_tools_are_shown_in_each_providers_form(void) {
    static const struct {
        const char *model, *key, *images, *tool;
    } forms[] = {
        {"openai/m", "\nAuthorization: Bearer ***\n",
         "[{\"type\":\"text\",\"text\":\"Look\"}," PART("image/png", PNG_BASE64) "," PART(
             "image/jpeg", JPEG_BASE64) "]",
         "\"tools\":[{\"type\":\"function\",\"function\":{" LOOK "}}],\"tool_choice\":\"auto\""},
        {"openai-responses/m", "\nAuthorization: Bearer ***\n",
         "[{\"type\":\"input_text\",\"text\":\"Look\"}," INPUT("image/png", PNG_BASE64) "," INPUT(
             "image/jpeg", JPEG_BASE64) "]",
         "\"tools\":[{\"type\":\"function\"," LOOK ",\"strict\":false}],\"tool_choice\":\"auto\""},
        {"anthropic/m", "\nx-api-key: ***\n",
         "[{\"type\":\"text\",\"text\":\"Look\"}," BLOCK("image/png", PNG_BASE64) "," BLOCK(
             "image/jpeg", JPEG_BASE64) "]",
         "\"tools\":[{\"name\":\"look\",\"input_schema\":" SCHEMA
         "}],\"tool_choice\":{\"type\":\"auto\"}"},
        {"gemini/m", "\nx-goog-api-key: ***\n",
         "\"parts\":[{\"text\":\"Look\"}," INLINE("image/png", PNG_BASE64) "," INLINE(
             "image/jpeg", JPEG_BASE64) "]",
         "\"tools\":[{\"functionDeclarations\":[{\"name\":\"look\",\"description\":\"\","
         "\"parametersJsonSchema\":" SCHEMA
         "}]}],\"toolConfig\":{\"functionCallingConfig\":{\"mode\":\"AUTO\"}}"},
        {"ollama/m", "POST http://127.0.0.1:",
         "\"content\":\"Look\",\"images\":[\"" PNG_BASE64 "\",\"" JPEG_BASE64 "\"]",
         "\"tools\":[{\"type\":\"function\",\"function\":{" LOOK "}}]"},
    };
    char tools[path_max], png[path_max], jpeg[path_max], out[8192];
    write_tools(tools);
    write_file(png, "picture", PNG, sizeof PNG - 1);    /* its bytes say what it is, */
    write_file(jpeg, "a b.png", JPEG, sizeof JPEG - 1); /* not its name */
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        const char *argv[] = {
            "troupe",  "ask", "--show-request", "-m",  forms[i].model,  "--image", png,
            "--image", jpeg,  "--tools",        tools, "--tool-choice", "auto",    "Look",
            NULL};
        CU_ASSERT_EQUAL(tr_stage_run(argv, out, sizeof out), 0);
        says(out, forms[i].key);
        says(out, forms[i].images);
        says(out, forms[i].tool);
        CU_ASSERT_PTR_NULL(strstr(out, KEY));
    }
}

/* The status of `ask` with an image. */
static int ask_with(const char *model, const char *image, char *out, size_t size) {
    const char *argv[] = {"troupe", "ask", "-m", model, "--image", image, "Look", NULL};
    return tr_stage_run(argv, out, size);
}

static void an_image_is_sent_and_what_is_none_is_refused_with_its_name(void) {
    char png[path_max], text[path_max], empty[path_max], big[path_max], out[4096];
    write_file(png, "one.png", PNG, sizeof PNG - 1);
    write_file(text, "text.png", "hello, I am no image", 20);
    write_file(empty, "empty.png", "", 0);
    write_file(big, "big.png", PNG, sizeof PNG - 1);
    CU_ASSERT_EQUAL(truncate(big, 20 * 1024 * 1024 + 1), 0);
    CU_ASSERT_EQUAL(ask_with("openai/mock:tokens=2", png, out, sizeof out), 0);
    CU_ASSERT_EQUAL(ask_with("gemini/mock:tokens=2", png, out, sizeof out), 0);
    CU_ASSERT_EQUAL(ask_with("openai/mock:tokens=2", text, out, sizeof out), 2);
    CU_ASSERT_EQUAL(tr_stage_logged("text.png is neither PNG, JPEG, GIF nor WebP"), 1);
    CU_ASSERT_EQUAL(ask_with("openai/mock:tokens=2", empty, out, sizeof out), 2);
    CU_ASSERT_EQUAL(tr_stage_logged("empty.png is neither PNG, JPEG, GIF nor WebP"), 1);
    CU_ASSERT_EQUAL(ask_with("openai/mock:tokens=2", big, out, sizeof out), 2);
    CU_ASSERT_EQUAL(tr_stage_logged("big.png is 20971521 bytes, at most 20971520"), 1);
    CU_ASSERT_EQUAL(ask_with("openai/mock:tokens=2", "/nonexistent/a.png", out, sizeof out), 2);
    CU_ASSERT_EQUAL(tr_stage_logged("--image /nonexistent/a.png cannot be opened: No such"), 1);
    CU_ASSERT_EQUAL(ask_with("openai/mock:tokens=2", "", out, sizeof out), 2);
    CU_ASSERT_EQUAL(ask_with("chain", png, out, sizeof out), 2);
    CU_ASSERT_TRUE(
        tr_stage_logged("troupe: local models take text only, no images: name a model that") > 0);
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
        {"images_and_tools_are_shown_in_each_providers_form",
         images_and_tools_are_shown_in_each_providers_form},
        {"an_image_is_sent_and_what_is_none_is_refused_with_its_name",
         an_image_is_sent_and_what_is_none_is_refused_with_its_name},
        {"worker_killed_in_a_call_changes_no_byte", worker_killed_in_a_call_changes_no_byte},
        {"(the daemon stops)", close_stage},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("tools", tests);
}
