/* Model servers that the daemon starts: troupe-mock as one that loads long, crashes, hangs, listens
 * elsewhere or dies in the middle of an answer; and a real llama-server, where there is one. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/json.h"
#include "tests/e2e/stage.h"

static char out[65536];

static int run(const char *const *argv) {
    return tr_stage_run(argv, out, sizeof out);
}

static int ask(const char *model) {
    const char *const argv[] = {"troupe", "ask", "-m", model, "Hi", NULL};
    return run(argv);
}

/* The settings of a server; `more` are options of the mock. */
static void add(char *to, size_t size, const char *name, const char *plan, const char *keys,
                const char *more) {
    char program[512];
    const char *folder = getenv("TROUPE_BIN");
    char *real = realpath(folder != NULL ? folder : "build/bin", NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(real);
    snprintf(program, sizeof program, "%s/troupe-mock", real);
    free(real);
    size_t used = strlen(to);
    snprintf(to + used, size - used,
             "  %s: {kind: managed/other, model: \"mock:%s\", health: /health, %scommand: '\"%s\" "
             "--port {port} %s'}\n",
             name, plan, keys, program, more);
}

static const char *llama_server(char *buf, size_t size) {
    const char *home = getenv("HOME");
    snprintf(buf, size, "%s/.cache/troupe/llama/bin/llama-server", home != NULL ? home : "");
    return access(buf, X_OK) == 0 ? buf : NULL;
}

static void open_stage(void) {
    static char yaml[8192];
    char once[3][128];
    for (int i = 0; i < 3; i++) {
        snprintf(once[i], sizeof once[i], "/tmp/troupe-managed-%d-%d", (int)getpid(), i);
        unlink(once[i]);
    }
    char more[256];
    size_t size = sizeof yaml;
    add(yaml, size, "slow", "tokens=3", "", "--load-time 700ms");
    add(yaml, size, "broken", "tokens=3", "", "--load-time 20ms --crash-loading");
    snprintf(more, sizeof more, "--load-time 20ms --crash-loading --once %s", once[0]);
    add(yaml, size, "second", "tokens=3", "", more);
    add(yaml, size, "elsewhere", "tokens=3", "load_limit: 800ms, ", "--ignore-port");
    snprintf(more, sizeof more, "--once %s", once[1]);
    add(yaml, size, "dies", "tokens=50,interval=5ms,die=0", "", more);
    add(yaml, size, "dies-late", "tokens=50,interval=5ms,die=2000", "", "");
    snprintf(more, sizeof more, "--hang-after 1 --once %s", once[2]);
    add(yaml, size, "hangs", "tokens=3", "hang: 1s, ", more);
    add(yaml, size, "two", "tokens=4,interval=50ms", "sequences: 2, ", "");
    add(yaml, size, "idle", "tokens=3", "idle_unload: 300ms, ", "");
    size_t used = strlen(yaml);
    snprintf(yaml + used, size - used,
             "  missing: {kind: managed/other, model: x, command: \"no-such-server {port}\"}\n");
    setenv("OPENAI_API_KEY", "sk-must-not-be-seen", 1);
    tr_stage_open(1, yaml);
}

static void close_stage(void) {
    tr_stage_close();
    for (int i = 0; i < 3; i++) {
        char path[128];
        snprintf(path, sizeof path, "/tmp/troupe-managed-%d-%d", (int)getpid(), i);
        unlink(path);
    }
}

/* A number of a model's status, or -1. */
static long fact(const char *model, const char *name) {
    tr_client *client = tr_stage_client();
    char *text = NULL;
    tr_json *json = NULL;
    int64_t number = -1;
    CU_ASSERT_EQUAL_FATAL(tr_control_json(client, "{\"do\":\"models\"}", &text), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_json_parse(text, strlen(text), &json, NULL), TR_OK);
    const tr_json_value *item = tr_json_first(tr_json_get(tr_json_root(json), "local"));
    for (; item != NULL; item = tr_json_next(item)) {
        tr_str its = tr_json_string(tr_json_get(item, "model"));
        if (its.size == strlen(model) && memcmp(its.ptr, model, its.size) == 0 &&
            tr_json_get(item, name) != NULL) {
            number = tr_json_int(tr_json_get(item, name), -1);
        }
    }
    tr_json_free(json);
    tr_memory_free(text);
    tr_client_close(client);
    return (long)number;
}

static bool is_stopped(void *arg) {
    return fact(arg, "pid") <= 0;
}

static bool is_gone(void *arg) {
    return kill(*(pid_t *)arg, 0) != 0;
}

static void a_long_load_is_only_a_wait(void) {
    CU_ASSERT_EQUAL(ask("slow"), 0);
    CU_ASSERT_STRING_EQUAL(out, "t0 t1 t2 \n");
    long began = tr_stage_now_ms();
    CU_ASSERT_EQUAL(ask("slow"), 0);
    CU_ASSERT(tr_stage_now_ms() - began < 600); /* it is there now */
}

static void a_crash_while_loading_fails_with_the_servers_words(void) {
    CU_ASSERT_NOT_EQUAL(ask("broken"), 0);
    CU_ASSERT(tr_stage_logged("ended with status 3 while it was loading, 3 times in a row; its "
                              "last words: ") > 0);
    CU_ASSERT(tr_stage_logged("troupe-mock: error: the weights are damaged") > 0);
}

static void one_crash_while_loading_is_mended(void) {
    CU_ASSERT_EQUAL(ask("second"), 0);
    CU_ASSERT_STRING_EQUAL(out, "t0 t1 t2 \n");
    CU_ASSERT_EQUAL(fact("second", "restarts"), 1);
}

static void one_that_listens_elsewhere_fails_and_says_where_it_was_looked_for(void) {
    CU_ASSERT_NOT_EQUAL(ask("elsewhere"), 0);
    CU_ASSERT(tr_stage_logged("gave no healthy answer at http://127.0.0.1:") > 0);
}

static void a_crash_before_the_first_token_is_retried(void) {
    CU_ASSERT_EQUAL(ask("dies"), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "t0 t1 t2 "));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "t49 "));
    CU_ASSERT_EQUAL(fact("dies", "restarts"), 1);
}

static void a_crash_in_the_middle_of_an_answer_fails_it(void) {
    CU_ASSERT_NOT_EQUAL(ask("dies-late"), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "t0 t1 "));
    CU_ASSERT(tr_stage_logged("local/dies-late: the connection broke off") > 0);
}

static void one_that_hangs_is_killed_and_another_life_answers(void) {
    CU_ASSERT_EQUAL(ask("hangs"), 0);
    CU_ASSERT_STRING_EQUAL(out, "t0 t1 t2 \n");
    CU_ASSERT(tr_stage_logged("gave no healthy answer") > 1);
    CU_ASSERT_EQUAL(fact("hangs", "restarts"), 1);
}

static void a_missing_program_is_named(void) {
    CU_ASSERT_NOT_EQUAL(ask("missing"), 0);
    CU_ASSERT(tr_stage_logged("the program no-such-server is not in the daemon's PATH") > 0);
}

static void requests_beyond_its_number_wait_in_line(void) {
    static const char *const gather[] = {"troupe", "gather", "-m", "two", "a", "b", "c", "d", NULL};
    const char *const load[] = {"troupe", "load", "two", NULL};
    CU_ASSERT_EQUAL(run(load), 0);
    long began = tr_stage_now_ms();
    CU_ASSERT_EQUAL(run(gather), 0);
    CU_ASSERT(tr_stage_now_ms() - began >= 300); /* two rounds of four tokens */
    CU_ASSERT_EQUAL(fact("two", "granted"), 4);
}

static void it_is_loaded_and_unloaded_by_command(void) {
    const char *const load[] = {"troupe", "load", "idle", NULL};
    const char *const unload[] = {"troupe", "unload", "slow", NULL};
    CU_ASSERT_EQUAL(run(load), 0);
    CU_ASSERT(fact("slow", "pid") > 0);
    pid_t pid = (pid_t)fact("slow", "pid");
    CU_ASSERT_EQUAL(run(unload), 0);
    CU_ASSERT(is_stopped("slow"));
    CU_ASSERT(tr_stage_until(is_gone, &pid, 5000));
    CU_ASSERT(tr_stage_until(is_stopped, "idle", 10000)); /* it leaves by itself */
}

static void models_status_and_tree_show_it(void) {
    static const char *const models[] = {"troupe", "models", "local", NULL};
    static const char *const tree[] = {"troupe", "tree", NULL};
    CU_ASSERT_EQUAL(run(models), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "managed/other"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "failed"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "the weights are damaged"));
    CU_ASSERT_EQUAL(run(tree), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "pool:two"));
}

static bool env_of(pid_t pid, const char *text) {
    char path[64];
    static char env[32768];
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    FILE *file = fopen(path, "re");
    size_t size = file != NULL ? fread(env, 1, sizeof env, file) : 0;
    if (file != NULL) {
        fclose(file);
    }
    return memmem(env, size, text, strlen(text)) != NULL;
}

static void a_server_sees_no_keys_and_dies_with_a_killed_daemon(void) {
    pid_t pid = (pid_t)fact("two", "pid");
    CU_ASSERT_FATAL(pid > 0);
    CU_ASSERT(env_of(pid, "PATH="));
    CU_ASSERT(!env_of(pid, "sk-must-not-be-seen"));
    tr_stage_kill();
    CU_ASSERT(tr_stage_until(is_gone, &pid, 5000));
    tr_stage_restart();
}

/* With the real thing, and the model that tools/setup installs. */
static void a_real_llama_server_answers(void) {
    char program[512];
    char model[512];
    char yaml[2048];
    const char *home = getenv("HOME");
    snprintf(model, sizeof model, "%s/.cache/troupe/models/default.gguf", home != NULL ? home : "");
    if (llama_server(program, sizeof program) == NULL || access(model, R_OK) != 0) {
        printf("not run: no llama-server (tools/setup --llama-server) ");
        return;
    }
    tr_stage_close();
    snprintf(yaml, sizeof yaml,
             "  real: {kind: managed/llama-server, model: %s, context: 512, sequences: 2, "
             "command: '%s --model {model} --host {host} --port {port} --ctx-size {cache} "
             "--parallel {sequences}'}\n"
             "  noise: {kind: managed/llama-server, model: /nonexistent.gguf, command: '%s --model "
             "{model} --port {port}'}\n",
             model, program, program);
    tr_stage_open(1, yaml);
    static const char *const real[] = {"troupe",       "ask", "-m",         "real",
                                       "--max-tokens", "8",   "Say hello.", NULL};
    CU_ASSERT_EQUAL(run(real), 0);
    CU_ASSERT(strlen(out) > 2);
    const char *const unload[] = {"troupe", "unload", "real", NULL};
    pid_t pid = (pid_t)fact("real", "pid");
    CU_ASSERT(pid > 0);
    CU_ASSERT_EQUAL(run(unload), 0);
    CU_ASSERT(tr_stage_until(is_gone, &pid, 5000));
    CU_ASSERT_NOT_EQUAL(ask("noise"), 0);
    CU_ASSERT(tr_stage_logged("/nonexistent.gguf") > 0);
}

static bool is_in_path(const char *program) {
    char places[4096], file[4608];
    const char *path = getenv("PATH");
    char *rest = places;
    snprintf(places, sizeof places, "%s", path != NULL ? path : "");
    for (char *place = strsep(&rest, ":"); place != NULL; place = strsep(&rest, ":")) {
        snprintf(file, sizeof file, "%s/%s", place, program);
        if (access(file, X_OK) == 0) {
            return true;
        }
    }
    return false;
}

/* With a model that whoever runs the tests has chosen: such servers load theirs from a hub. */
static void real_server(const char *program, const char *kind, const char *variable) {
    char yaml[1024];
    const char *model = getenv(variable);
    if (!is_in_path(program) || model == NULL) {
        printf("not run: %s is not in PATH, or %s names no model ", program, variable);
        return;
    }
    tr_stage_close();
    snprintf(yaml, sizeof yaml, "  real: {kind: %s, model: '%s', sequences: 2}\n", kind, model);
    tr_stage_open(1, yaml);
    static const char *const real[] = {"troupe",       "ask", "-m",         "real",
                                       "--max-tokens", "8",   "Say hello.", NULL};
    CU_ASSERT_EQUAL(run(real), 0);
    CU_ASSERT(strlen(out) > 2);
}

static void a_real_mlx_server_answers(void) {
    real_server("mlx_lm.server", "managed/mlx", "TROUPE_MLX_MODEL");
}

static void a_real_transformers_server_answers(void) {
    real_server("transformers", "managed/transformers", "TROUPE_TRANSFORMERS_MODEL");
}

static void a_real_vllm_server_answers(void) {
    real_server("vllm", "managed/vllm", "TROUPE_VLLM_MODEL");
}

int main(void) {
    CU_TestInfo tests[] = {
        {"(the daemon starts)", open_stage},
        {"a_long_load_is_only_a_wait", a_long_load_is_only_a_wait},
        {"a_crash_while_loading_fails_with_the_servers_words",
         a_crash_while_loading_fails_with_the_servers_words},
        {"one_crash_while_loading_is_mended", one_crash_while_loading_is_mended},
        {"one_that_listens_elsewhere_fails_and_says_where_it_was_looked_for",
         one_that_listens_elsewhere_fails_and_says_where_it_was_looked_for},
        {"a_crash_before_the_first_token_is_retried", a_crash_before_the_first_token_is_retried},
        {"a_crash_in_the_middle_of_an_answer_fails_it",
         a_crash_in_the_middle_of_an_answer_fails_it},
        {"one_that_hangs_is_killed_and_another_life_answers",
         one_that_hangs_is_killed_and_another_life_answers},
        {"a_missing_program_is_named", a_missing_program_is_named},
        {"requests_beyond_its_number_wait_in_line", requests_beyond_its_number_wait_in_line},
        {"it_is_loaded_and_unloaded_by_command", it_is_loaded_and_unloaded_by_command},
        {"models_status_and_tree_show_it", models_status_and_tree_show_it},
        {"a_server_sees_no_keys_and_dies_with_a_killed_daemon",
         a_server_sees_no_keys_and_dies_with_a_killed_daemon},
        {"a_real_llama_server_answers", a_real_llama_server_answers},
        {"a_real_mlx_server_answers", a_real_mlx_server_answers},
        {"a_real_transformers_server_answers", a_real_transformers_server_answers},
        {"a_real_vllm_server_answers", a_real_vllm_server_answers},
        {"(the daemon stops)", close_stage},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("managed", tests);
}
