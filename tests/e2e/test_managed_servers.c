/* Servers that others made, started by the daemon: mlx_lm.server and `transformers serve`, with a
 * tiny model of random weights (tests/e2e/tiny_hf.py), so that none need be downloaded.
 *
 * TROUPE_MLX_SERVER and TROUPE_TRANSFORMERS name the programs by whole paths; mlx_lm.server is also
 * found where `tools/setup --model-servers` puts it. Whatever is not there is named as not run;
 * with neither the test counts as skipped. A test here is a server's whole life: load, a stream,
 * SIGKILL in the middle of another, the next life, unload, the next request. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/json.h"
#include "tests/e2e/stage.h"

#define SKIPPED 77
#define LOAD_MS 120000 /* Python reads its libraries from a cold disk */

static char out[65536];
static char model[256];

static int run(const char *const *argv) {
    return tr_stage_run(argv, out, sizeof out);
}

/* A number of the server's status, or -1. */
static long fact(const char *name) {
    tr_client *client = tr_stage_client();
    char *text = NULL;
    tr_json *json = NULL;
    int64_t number = -1;
    CU_ASSERT_EQUAL_FATAL(tr_control_json(client, "{\"do\":\"models\"}", &text), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_json_parse(text, strlen(text), &json, NULL), TR_OK);
    const tr_json_value *item = tr_json_first(tr_json_get(tr_json_root(json), "local"));
    for (; item != NULL; item = tr_json_next(item)) {
        tr_str its = tr_json_string(tr_json_get(item, "model"));
        if (its.size == 4 && memcmp(its.ptr, "real", 4) == 0 && tr_json_get(item, name) != NULL) {
            number = tr_json_int(tr_json_get(item, name), -1);
        }
    }
    tr_json_free(json);
    tr_memory_free(text);
    tr_client_close(client);
    return (long)number;
}

static bool is_gone(void *arg) {
    return kill(*(pid_t *)arg, 0) != 0;
}

static bool has_begun(void *arg) {
    char byte;
    return read(*(int *)arg, &byte, 1) == 1;
}

static void streams_an_answer(void) {
    static const char *const ask[] = {"troupe",       "ask", "-m", "real",
                                      "--max-tokens", "6",   "Hi", NULL};
    CU_ASSERT_EQUAL(run(ask), 0);
    CU_ASSERT(strlen(out) > 1);
}

/* Whether it is the server itself whose pid the status shows, not one that looks after it. */
static bool is_the_server(pid_t pid) {
    char path[64];
    char words[4096];
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    FILE *file = fopen(path, "re");
    size_t size = file != NULL ? fread(words, 1, sizeof words, file) : 0;
    if (file != NULL) {
        fclose(file);
    }
    return memmem(words, size, model, strlen(model)) != NULL;
}

/* SIGKILL while a long answer runs: the client's call fails, and the next life answers. */
static void dies_in_a_stream(void) {
    static const char *const ask[] = {"troupe",       "ask",  "-m",    "real",
                                      "--max-tokens", "3000", "Write", NULL};
    int ends[2];
    pid_t server = (pid_t)fact("pid");
    CU_ASSERT_FATAL(server > 0);
    CU_ASSERT(is_the_server(server));
    CU_ASSERT_EQUAL_FATAL(pipe2(ends, O_CLOEXEC), 0);
    pid_t client = tr_stage_spawn(ask, ends[1]);
    close(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    CU_ASSERT(tr_stage_until(has_begun, &ends[0], LOAD_MS));
    CU_ASSERT_EQUAL(fact("active"), 1);
    CU_ASSERT_EQUAL(kill(server, SIGKILL), 0);
    int status = tr_stage_wait(client, 30000);
    close(ends[0]);
    CU_ASSERT(status > 0 && status < 1000); /* it failed, and was no crash */
    /* An answer without a length ends as its connection does: the missing end of text tells. */
    CU_ASSERT(tr_stage_logged("troupe: local/real: the stream ended before the answer was") +
                  tr_stage_logged("troupe: local/real: the connection broke off") >
              0);
    streams_an_answer();
    CU_ASSERT_EQUAL(fact("restarts"), 1);
    CU_ASSERT(is_the_server((pid_t)fact("pid")));
}

/* The daemon finds the program in its PATH, and starts it with the kind's own command. */
static void put_in_path(const char *program) {
    char path[8192];
    const char *others = getenv("PATH");
    snprintf(path, sizeof path, "%.*s:%s", (int)(strrchr(program, '/') - program), program,
             others != NULL ? others : "/usr/bin:/bin");
    setenv("PATH", path, 1);
}

static void whole_life(const char *kind, const char *program) {
    char yaml[512];
    put_in_path(program);
    snprintf(yaml, sizeof yaml, "  real: {kind: managed/%s, model: \"%s\", load_limit: 3m}\n", kind,
             model);
    tr_stage_open(1, yaml);
    static const char *const load[] = {"troupe", "load", "real", NULL};
    static const char *const unload[] = {"troupe", "unload", "real", NULL};
    CU_ASSERT_EQUAL(run(load), 0);
    streams_an_answer();
    dies_in_a_stream();
    pid_t pid = (pid_t)fact("pid");
    CU_ASSERT_FATAL(pid > 0);
    CU_ASSERT_EQUAL(run(unload), 0);
    CU_ASSERT(tr_stage_until(is_gone, &pid, 8000));
    CU_ASSERT(fact("pid") <= 0);
    streams_an_answer(); /* and it is loaded again by the next request */
    tr_stage_close();
}

/* The program that `variable` names, else the one of tools/setup; NULL: there is none, as is said.
 */
static const char *find(const char *what, const char *variable, const char *installed) {
    static char paths[2][1024];
    char *path = paths[installed == NULL];
    const char *named = getenv(variable);
    const char *cache = getenv("TROUPE_CACHE");
    const char *xdg = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    if (named != NULL) {
        snprintf(path, sizeof paths[0], "%s", named);
    } else if (installed == NULL) {
        printf("not run: %s (%s names no program)\n", what, variable);
        return NULL;
    } else if (cache != NULL && cache[0] != '\0') {
        snprintf(path, sizeof paths[0], "%s/%s", cache, installed);
    } else if (xdg != NULL && xdg[0] != '\0') {
        snprintf(path, sizeof paths[0], "%s/troupe/%s", xdg, installed);
    } else {
        snprintf(path, sizeof paths[0], "%s/.cache/troupe/%s", home != NULL ? home : "", installed);
    }
    if (path[0] != '/' || access(path, X_OK) != 0) {
        printf("not run: %s (no program %s; %s names another%s)\n", what, path, variable,
               installed != NULL ? ", tools/setup --model-servers installs one" : "");
        return NULL;
    }
    return path;
}

static const char *mlx_server;
static const char *transformers;

static void an_mlx_server_loads_streams_dies_and_comes_back(void) {
    whole_life("mlx", mlx_server);
}

static void a_transformers_server_loads_streams_dies_and_comes_back(void) {
    whole_life("transformers", transformers);
}

static void say_what_is_there(void) {
    mlx_server = find("mlx_lm.server", "TROUPE_MLX_SERVER", "servers/mlx/bin/mlx_lm.server");
    transformers = find("transformers serve", "TROUPE_TRANSFORMERS", NULL);
}

int main(void) {
    say_what_is_there();
    if (mlx_server == NULL && transformers == NULL) {
        return SKIPPED;
    }
    snprintf(model, sizeof model, "/tmp/troupe-tiny-hf-%d", (int)getpid());
    pid_t maker = fork();
    if (maker == 0) {
        execlp("python3", "python3", "tests/e2e/tiny_hf.py", model, (char *)NULL);
        _exit(127);
    }
    if (tr_stage_wait(maker, 30000) != 0) {
        printf("tests/e2e/tiny_hf.py could not make a model\n");
        return 1;
    }
    CU_TestInfo tests[3] = {CU_TEST_INFO_NULL};
    size_t count = 0;
    if (mlx_server != NULL) {
        tests[count++] = (CU_TestInfo){"an_mlx_server_loads_streams_dies_and_comes_back",
                                       an_mlx_server_loads_streams_dies_and_comes_back};
    }
    if (transformers != NULL) {
        tests[count++] = (CU_TestInfo){"a_transformers_server_loads_streams_dies_and_comes_back",
                                       a_transformers_server_loads_streams_dies_and_comes_back};
    }
    tests[count] = (CU_TestInfo)CU_TEST_INFO_NULL;
    int status = tr_stage_main("managed_servers", tests);
    say_what_is_there(); /* once more, where the eye falls */
    static const char *const parts[] = {"config.json", "generation_config.json",
                                        "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char path[320];
        snprintf(path, sizeof path, "%s/%s", model, parts[i]);
        unlink(path);
    }
    rmdir(model);
    return status;
}
