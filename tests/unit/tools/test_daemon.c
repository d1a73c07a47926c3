/* The daemon as a library, seen from inside: what it does when its tree gives up, and what a reload
 * changes. */
#include <CUnit/Basic.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/client/troupe.h"
#include "tools/trouped/daemon_internal.h"

static char folder[] = "/tmp/troupe-daemon-XXXXXX";

static atomic_uint asked; /* seq_cst, partner: the test that waits for it */
static atomic_uint killed;

static void stop_requested(void *arg) {
    (void)arg;
    atomic_fetch_add(&asked, 1);
}

static tr_daemon *start(const char *config) {
    tr_daemon_options options = TR_DAEMON_OPTIONS_INIT;
    options.config_text = config;
    options.inproc = "inproc://inside";
    options.stop_requested = stop_requested;
    tr_daemon *daemon = NULL;
    atomic_store(&asked, 0);
    int err = tr_daemon_start(&options, &daemon);
    if (err != 0) {
        fprintf(stderr, "%s\n", tr_daemon_error());
    }
    CU_ASSERT_EQUAL_FATAL(err, 0);
    return daemon;
}

static tr_err kill_gateway(tr_self *self, void *state, const void *args) {
    (void)state;
    (void)args;
    tr_exit(self, tr_whereis(tr_self_node(self), "gateway"), TR_ERR_CANCELLED);
    atomic_fetch_add(&killed, 1);
    return TR_DONE;
}

static void tree_that_gives_up_asks_to_be_stopped_and_says_so(void) {
    static const tr_behaviour killer = {.name = "killer", .state_size = 1, .init = kill_gateway};
    static const tr_spawn_spec spec = {.behaviour = &killer};
    tr_daemon *daemon = start("listen: {socket: off}\nlog: {level: error}\n");
    CU_ASSERT_FALSE(tri_daemon_gave_up(daemon));
    for (unsigned i = 0; i < 4; i++) {
        tr_id before = tr_whereis(daemon->node, "gateway");
        atomic_store(&killed, 0);
        CU_ASSERT_EQUAL_FATAL(tr_node_spawn(daemon->node, 0, &spec), TR_OK);
        while (atomic_load(&killed) == 0 ||
               (i < 3 && tr_whereis(daemon->node, "gateway") == before) ||
               (i < 3 && tr_whereis(daemon->node, "gateway") == TR_ID_NONE)) {
            sched_yield();
        }
    }
    while (atomic_load(&asked) == 0) {
        sched_yield();
    }
    CU_ASSERT_TRUE(tri_daemon_gave_up(daemon));
    tr_daemon_stop(daemon);
    daemon = start("listen: {socket: off}\nlog: {level: error}\n"); /* and the next one is well */
    CU_ASSERT_FALSE(tri_daemon_gave_up(daemon));
    tr_daemon_stop(daemon);
    CU_ASSERT_EQUAL(atomic_load(&asked), 0);
}

/* ---- reload ---- */

static char config_file[64];
static char log_file[64];
static char token_file[64];

static void write_config(const char *text) {
    FILE *file = fopen(config_file, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT(fputs(text, file) >= 0);
    CU_ASSERT_EQUAL(fclose(file), 0);
}

/* Reloads with `text`; what it logged. */
static const char *reload(tr_daemon *daemon, const char *text, int expected) {
    static char logged[16384];
    write_config(text);
    int kept = dup(STDERR_FILENO);
    int log = open(log_file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CU_ASSERT_FATAL(kept >= 0 && log >= 0);
    dup2(log, STDERR_FILENO);
    CU_ASSERT_EQUAL(tr_daemon_reload(daemon), expected);
    dup2(kept, STDERR_FILENO);
    close(kept);
    ssize_t size = pread(log, logged, sizeof logged - 1, 0);
    CU_ASSERT_FATAL(size >= 0);
    logged[size] = '\0';
    close(log);
    return logged;
}

static unsigned count(const char *text, const char *what) {
    unsigned found = 0;
    for (const char *at = strstr(text, what); at != NULL; at = strstr(at + 1, what)) {
        found++;
    }
    return found;
}

static bool status_says(tr_daemon *daemon, const char *part) {
    tr_client *client = NULL;
    char *json = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_client_open(tr_daemon_url(daemon), &client), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_control_json(client, "{\"do\":\"status\"}", &json), TR_OK);
    bool says = strstr(json, part) != NULL;
    tr_memory_free(json);
    tr_client_close(client);
    return says;
}

#define BASE "listen: {socket: off}\nlog: {level: warn}\nshards: 1\n"

static tr_daemon *start_from_file(const char *text) {
    tr_daemon_options options = TR_DAEMON_OPTIONS_INIT;
    write_config(text);
    options.config_file = config_file;
    options.inproc = "inproc://inside";
    tr_daemon *daemon = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_daemon_start(&options, &daemon), 0);
    return daemon;
}

static void reload_without_a_change_warns_of_nothing(void) {
    static const char text[] = BASE "local: {m: {file: /nowhere.gguf}}\n"
                                    "providers: {openai: {keys: [env:A]}, own: {kind: "
                                    "openai-compatible, base_url: 'http://127.0.0.1:9/v1'}}\n";
    tr_daemon *daemon = start_from_file(text);
    CU_ASSERT_STRING_EQUAL(reload(daemon, text, 0), "");
    /* A provider of the catalog that is listed with its defaults is not another one. */
    CU_ASSERT_STRING_EQUAL(reload(daemon,
                                  BASE "local: {m: {file: /nowhere.gguf}}\n"
                                       "providers: {groq: {at_once: 64}, openai: {keys: "
                                       "[env:A]}, own: {kind: openai-compatible, "
                                       "base_url: 'http://127.0.0.1:9/v1'}}\n",
                                  0),
                           "");
    tr_daemon_stop(daemon);
}

static void reload_applies_slots_and_says_so_of_nothing(void) {
    tr_daemon *daemon = start_from_file(BASE "providers: {openai: {at_once: 5}}\n");
    CU_ASSERT(status_says(daemon, "\"provider\":\"openai\",\"used\":0,\"at_once\":5,"));
    CU_ASSERT_STRING_EQUAL(
        reload(daemon, BASE "providers: {openai: {at_once: 7}}\ndrain: 1s\naliases: {a: echo/x}\n",
               0),
        "");
    CU_ASSERT(status_says(daemon, "\"provider\":\"openai\",\"used\":0,\"at_once\":7,"));
    CU_ASSERT_STRING_EQUAL(
        reload(daemon, BASE "providers: {openai: {rpm: 500, tpm: 9000, burst: 4}}\n", 0), "");
    CU_ASSERT(status_says(daemon, "\"provider\":\"openai\",\"used\":0,\"at_once\":64,\"waiting\":0,"
                                  "\"rpm\":500,\"tpm\":9000,\"burst\":4,"));
    CU_ASSERT_STRING_EQUAL(reload(daemon, BASE, 0), ""); /* back to the default */
    CU_ASSERT(status_says(daemon, "\"rpm\":0,\"tpm\":0,\"burst\":0,"));
    CU_ASSERT(status_says(daemon, "\"provider\":\"openai\",\"used\":0,\"at_once\":64,"));
    tr_daemon_stop(daemon);
}

static void each_key_that_takes_a_restart_is_named_once(void) {
    static const char *const keys[] = {"listen.tcp",      "listen.token_file",
                                       "local.m.context", "local.m.preload",
                                       "local.fresh",     "local.gone",
                                       "providers.own",   "providers.openai.base_url",
                                       "providers.old",   "shards",
                                       "mailbox"};
    tr_daemon *daemon =
        start_from_file("listen: {socket: off}\nlog: {level: warn}\nshards: 1\n"
                        "local: {m: {file: /nowhere.gguf}, gone: {file: /nowhere.gguf}}\n"
                        "providers: {groq: {keys: [env:A]}, old: {kind: openai-compatible, "
                        "base_url: 'http://127.0.0.1:9/v1'}}\n");
    char changed[2048];
    snprintf(
        changed, sizeof changed,
        "listen: {socket: off, tcp: 'tcp://127.0.0.1:0', token_file: %s}\n"
        "log: {level: warn}\nshards: 2\nmailbox: inproc\n"
        "local: {fresh: {file: /nowhere.gguf}, m: {file: /nowhere.gguf, context: 512, preload: "
        "true}}\n"
        "providers: {groq: {keys: [env:B]}, openai: {base_url: 'http://127.0.0.1:9/v1'}, own: "
        "{kind: openai-compatible, base_url: 'http://127.0.0.1:9/v1'}}\n",
        token_file);
    for (int round = 0; round < 2; round++) { /* as long as it has not been restarted */
        const char *logged = reload(daemon, changed, 0);
        CU_ASSERT_EQUAL(count(logged, "takes a restart"), sizeof keys / sizeof *keys);
        CU_ASSERT_EQUAL(count(logged, "\n"), sizeof keys / sizeof *keys);
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
            char key[96];
            snprintf(key, sizeof key, "key=%s file=", keys[i]);
            CU_ASSERT_EQUAL(count(logged, key), 1);
        }
    }
    CU_ASSERT_STRING_EQUAL(reload(daemon, "shards: nonsense\n", TR_ERR_INVALID), "");
    CU_ASSERT_PTR_NOT_NULL(strstr(tr_daemon_error(), "shards"));
    tr_daemon_stop(daemon);
}

int main(void) {
    CU_TestInfo tests[] = {
        {"tree_that_gives_up_asks_to_be_stopped_and_says_so",
         tree_that_gives_up_asks_to_be_stopped_and_says_so},
        {"reload_without_a_change_warns_of_nothing", reload_without_a_change_warns_of_nothing},
        {"reload_applies_slots_and_says_so_of_nothing",
         reload_applies_slots_and_says_so_of_nothing},
        {"each_key_that_takes_a_restart_is_named_once",
         each_key_that_takes_a_restart_is_named_once},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"daemon", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (mkdtemp(folder) == NULL || setenv("XDG_RUNTIME_DIR", folder, 1) != 0 ||
        CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    snprintf(config_file, sizeof config_file, "%s/troupe.yaml", folder);
    snprintf(log_file, sizeof log_file, "%s/log", folder);
    snprintf(token_file, sizeof token_file, "%s/token", folder);
    int token = open(token_file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (token < 0 || write(token, "0123456789abcdef", 16) != 16 || close(token) != 0) {
        return 2;
    }
    alarm(110); /* whatever waits for ever ends here */
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    unlink(config_file);
    unlink(log_file);
    unlink(token_file);
    char left[96];
    snprintf(left, sizeof left, "%s/troupe", folder);
    rmdir(left);
    rmdir(folder);
    return failed > 0;
}
