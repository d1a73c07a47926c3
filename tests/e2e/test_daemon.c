/* The daemon as a program: two at once, bad configuration, signals, logs, its end. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/stage.h"

#define SECRET "sk-secret-0123456789abcdef"
#define PROMPT "a-prompt-that-no-log-may-show"

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz";

static void ask_chain(const char *model) {
    tr_client *client = tr_stage_client();
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result = NULL;
    options.model = model;
    options.temperature = 0;
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, PROMPT, &result), TR_OK);
    CU_ASSERT_STRING_EQUAL(tr_result_text(result), alphabet);
    tr_result_free(result);
    tr_client_close(client);
}

/* An answer of the daemon itself, in so many pieces of 64 bytes. */
static tr_stream *echo_open(tr_client *client, const char *chunks) {
    char extra[96];
    tr_options options = TR_OPTIONS_INIT;
    tr_request *request = NULL;
    tr_stream *stream = NULL;
    snprintf(extra, sizeof extra, "{\"echo\":{\"chunks\":%s,\"bytes\":64}}", chunks);
    options.model = "echo/x";
    options.forget = 1; /* it is as fast as the client reads */
    options.extra_json = extra;
    CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &request), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_request_text(request, "user", PROMPT), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_stream_open(client, request, &stream), TR_OK);
    tr_request_free(request);
    return stream;
}

static bool logged(void *text) {
    return tr_stage_logged(text) > 0;
}

static void a_second_daemon_says_who_holds_the_socket(void) {
    char config[96], holder[64];
    tr_stage_open(1, NULL);
    snprintf(config, sizeof config, "%s/troupe.yaml", tr_stage_now.folder);
    const char *second[] = {"trouped", "--config", config, NULL};
    CU_ASSERT_EQUAL(tr_stage_wait(tr_stage_spawn(second, -1), 10000), 3);
    snprintf(holder, sizeof holder, "another daemon (process %d) listens at",
             (int)tr_stage_now.daemon);
    CU_ASSERT_EQUAL(tr_stage_logged(holder), 1);
    ask_chain("chain");
    tr_stage_close();
}

static void a_dead_daemons_socket_is_replaced(void) {
    tr_stage_open(1, NULL);
    tr_stage_kill();
    CU_ASSERT_EQUAL(access(tr_stage_now.url + strlen("ipc://"), F_OK), 0);
    tr_stage_restart();
    ask_chain("chain");
    tr_stage_close();
}

static void bad_configuration_is_named_by_place_and_key(void) {
    char config[96], place[128], out[16384];
    tr_stage_open(1, NULL);
    snprintf(config, sizeof config, "%s/troupe.yaml", tr_stage_now.folder);
    const char *check[] = {"trouped", "--config", config, "--check", NULL};
    const char *print[] = {"trouped", "--config", config, "--check", "--print", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(check, out, sizeof out), 0);
    CU_ASSERT_EQUAL(tr_stage_run(print, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "drain"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "random"));
    tr_stage_configure(1, "drain: 1s\nlog:\n  colour: red\n");
    snprintf(place, sizeof place, "%s:7:3: colour", config);
    CU_ASSERT_EQUAL(tr_stage_run(check, out, sizeof out), 2);
    CU_ASSERT_EQUAL(tr_stage_logged(place), 1);
    const char *serve[] = {"trouped", "--config", config, NULL};
    CU_ASSERT_EQUAL(tr_stage_wait(tr_stage_spawn(serve, -1), 10000), 2);
    CU_ASSERT_EQUAL(tr_stage_logged(place), 2);
    CU_ASSERT_EQUAL(kill(tr_stage_now.daemon, SIGHUP), 0); /* the old one stays */
    CU_ASSERT_TRUE(tr_stage_until(logged, (void *)"the old configuration stays", 5000));
    ask_chain("chain");
    tr_stage_close();
}

static void reload_changes_aliases_and_log_level(void) {
    const char *level[] = {"troupe", "log-level", "info", NULL};
    char out[256];
    tr_stage_open(1, "aliases: {letters: chain}\n");
    ask_chain("letters");
    tr_stage_configure(1, "aliases: {abc: chain}\nlog: {level: debug}\n");
    kill(tr_stage_now.daemon, SIGHUP);
    CU_ASSERT_TRUE(tr_stage_until(logged, (void *)"the configuration was read again", 5000));
    ask_chain("abc");
    tr_client *client = tr_stage_client();
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result = NULL;
    options.model = "letters";
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "x", &result), TR_OK);
    CU_ASSERT_EQUAL(tr_result_error(result), TR_ERR_NOT_FOUND);
    tr_result_free(result);
    tr_client_close(client);
    CU_ASSERT_EQUAL(tr_stage_run(level, out, sizeof out), 0);
    const char *wrong[] = {"troupe", "log-level", "loud", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(wrong, out, sizeof out), 2);
    const char *debug[] = {"troupe", "log-level", "debug", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(debug, out, sizeof out), 0);
    tr_stage_close();
}

static void limits_are_shown_and_changed(void) {
    char out[4096];
    tr_stage_open(1, "providers: {groq: {rpm: 60, burst: 3}}\n");
    const char *show[] = {"troupe", "limit", "groq", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(show, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "0 of 64 slots in use"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "requests a minute: 60, of which 3 may go now"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "tokens a minute: no limit"));
    const char *change[] = {"troupe", "limit",  "groq",      "--rpm", "0", "--tpm",
                            "6000",   "--json", "--at-once", "2",     NULL};
    CU_ASSERT_EQUAL(tr_stage_run(change, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"at_once\":2,"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"rpm\":0,\"tpm\":6000,\"burst\":3,"));
    const char *nobody[] = {"troupe", "limit", "nobody", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(nobody, out, sizeof out), 2);
    const char *wrong[] = {"troupe", "limit", "groq", "--rpm", "-1", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(wrong, out, sizeof out), 2);
    tr_stage_close();
}

static void logs_name_requests_and_hold_no_prompt_and_no_key(void) {
    char out[32768];
    setenv("OPENAI_API_KEY", SECRET, 1);
    tr_stage_open(1, "log: {level: debug}\n");
    unsetenv("OPENAI_API_KEY");
    ask_chain("chain");
    const char *wrong[] = {"troupe", "ask", "-m", "nobody/knows", PROMPT, NULL};
    CU_ASSERT_EQUAL(tr_stage_run(wrong, out, sizeof out), 2);
    const char *gone[] = {"troupe", "ask", "-m", "openai/x", "--base-url", "http://127.0.0.1:9/v1",
                          PROMPT,   NULL};
    CU_ASSERT_NOT_EQUAL(tr_stage_run(gone, out, sizeof out), 0);
    CU_ASSERT_PTR_NULL(strstr(out, SECRET));
    const char *shows[][3] = {{"status", NULL, NULL},
                              {"models", NULL, NULL},
                              {"tree", "--once", NULL},
                              {"requests", NULL, NULL}};
    for (size_t i = 0; i < sizeof shows / sizeof *shows; i++) {
        const char *argv[] = {"troupe", shows[i][0], shows[i][1], NULL};
        CU_ASSERT_EQUAL(tr_stage_run(argv, out, sizeof out), 0);
        CU_ASSERT_PTR_NULL(strstr(out, SECRET));
    }
    CU_ASSERT_TRUE(tr_stage_logged("msg=\"request done\" request=<") > 0);
    CU_ASSERT_TRUE(tr_stage_logged("msg=\"request failed\" request=<") > 0);
    CU_ASSERT_EQUAL(tr_stage_logged(PROMPT), 0);
    CU_ASSERT_EQUAL(tr_stage_logged("sk-secret"), 0);
    tr_stage_close();
}

/* --- its end --- */

static void sigterm_lets_running_answers_finish(void) {
    tr_stage_open(1, "drain: 20s\n");
    tr_client *client = tr_stage_client();
    tr_client *late = tr_stage_client();
    tr_stream *stream = echo_open(client, "3000");
    tr_chunk chunk;
    CU_ASSERT_EQUAL_FATAL(tr_stream_next(stream, 5000, &chunk), TR_OK);
    kill(tr_stage_now.daemon, SIGTERM);
    CU_ASSERT_TRUE(tr_stage_until(logged, (void *)"draining", 5000));
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result = NULL;
    options.model = "chain";
    CU_ASSERT_EQUAL_FATAL(tr_ask(late, &options, "x", &result), TR_OK);
    CU_ASSERT_EQUAL(tr_result_error(result), TR_ERR_SHUTDOWN);
    CU_ASSERT_PTR_NOT_NULL(strstr(tr_result_message(result), "again"));
    tr_result_free(result);
    int chunks = 1;
    tr_err err;
    while ((err = tr_stream_next(stream, 5000, &chunk)) == TR_OK) {
        chunks++;
    }
    CU_ASSERT_EQUAL(err, TR_DONE);
    CU_ASSERT_EQUAL(chunks, 3000);
    CU_ASSERT_EQUAL(tr_stage_wait(tr_stage_now.daemon, 5000), 0);
    tr_stream_close(stream);
    tr_client_close(client);
    tr_client_close(late);
    tr_stage_restart();
    tr_stage_close();
}

static void the_drain_limit_ends_what_never_ends(void) {
    tr_stage_open(1, "drain: 500ms\n");
    tr_client *client = tr_stage_client();
    tr_stream *stream = echo_open(client, "100000000");
    tr_chunk chunk;
    CU_ASSERT_EQUAL_FATAL(tr_stream_next(stream, 5000, &chunk), TR_OK);
    long began = tr_stage_now_ms();
    kill(tr_stage_now.daemon, SIGTERM);
    tr_err err;
    while ((err = tr_stream_next(stream, 5000, &chunk)) == TR_OK) {
    }
    CU_ASSERT_EQUAL(err, TR_ERR_SHUTDOWN);
    CU_ASSERT_TRUE(tr_stage_now_ms() - began >= 400);
    CU_ASSERT_EQUAL(tr_stage_wait(tr_stage_now.daemon, 8000), 0);
    tr_stream_close(stream);
    tr_client_close(client);
    tr_stage_restart();
    tr_stage_close();
}

/* A service manager's end: the next datagram, "" when none comes within `ms`. */
static const char *manager_hears(int fd, int ms) {
    static char text[1024];
    struct pollfd end = {.fd = fd, .events = POLLIN};
    ssize_t got = poll(&end, 1, ms) == 1 ? recv(fd, text, sizeof text - 1, MSG_DONTWAIT) : 0;
    text[got > 0 ? got : 0] = '\0';
    return text;
}

static bool begins(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

/* With a path, or with a name in the abstract namespace whose size is all that ends it. */
static void manager_is_told(const char *name, bool abstract) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", name);
    setenv("NOTIFY_SOCKET", name, 1);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    if (abstract) {
        address.sun_path[0] = '\0';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(fd, (const struct sockaddr *)&address, size), 0);
    tr_stage_open(1, "drain: 7s\n");
    unsetenv("NOTIFY_SOCKET");
    CU_ASSERT_TRUE(begins(manager_hears(fd, 5000), "READY=1\n"));
    kill(tr_stage_now.daemon, SIGHUP);
    const char *heard = manager_hears(fd, 5000);
    CU_ASSERT_TRUE(begins(heard, "RELOADING=1\nMONOTONIC_USEC="));
    CU_ASSERT_TRUE(strtoll(strrchr(heard, '=') + 1, NULL, 10) / 1000 <= tr_stage_now_ms());
    CU_ASSERT_STRING_EQUAL(manager_hears(fd, 5000), "READY=1\nSTATUS=ready");
    tr_stage_configure(1, "colour: red\n");
    kill(tr_stage_now.daemon, SIGHUP);
    CU_ASSERT_TRUE(begins(manager_hears(fd, 5000), "RELOADING=1\n"));
    heard = manager_hears(fd, 5000);
    CU_ASSERT_TRUE(begins(heard, "READY=1\nSTATUS=the old configuration stays: "));
    CU_ASSERT_PTR_NOT_NULL(strstr(heard, "colour"));
    tr_stage_close();
    heard = manager_hears(fd, 5000);
    CU_ASSERT_TRUE(begins(heard, "STOPPING=1\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(heard, "EXTEND_TIMEOUT_USEC=37000000"));
    close(fd);
}

static void systemd_is_told(void) {
    char name[64];
    snprintf(name, sizeof name, "/tmp/troupe-e2e-notify-%d", (int)getpid());
    manager_is_told(name, false);
    unlink(name);
    snprintf(name, sizeof name, "@troupe-e2e-notify-%d", (int)getpid());
    manager_is_told(name, true);
}

/* Sends WATCHDOG=1 at half of the time, only when it is meant for this process, and not when
 * nobody asked. */
static void the_watchdog_is_fed(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/tmp/troupe-e2e-notify-%d", (int)getpid());
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
    setenv("WATCHDOG_USEC", "200000", 1);
    tr_stage_open(1, NULL);
    CU_ASSERT_TRUE(begins(manager_hears(fd, 5000), "READY=1\n"));
    for (int i = 0; i < 5; i++) {
        CU_ASSERT_STRING_EQUAL(manager_hears(fd, 5000), "WATCHDOG=1");
    }
    tr_stage_close();
    while (begins(manager_hears(fd, 0), "WATCHDOG=1")) {
    }
    setenv("WATCHDOG_PID", "1", 1); /* somebody else's */
    tr_stage_open(1, NULL);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    CU_ASSERT_TRUE(begins(manager_hears(fd, 5000), "READY=1\n"));
    CU_ASSERT_STRING_EQUAL(manager_hears(fd, 500), "");
    tr_stage_close();
    unlink(address.sun_path);
    close(fd);
}

/* --print shows the effective values and starts nothing, with and without --check. */
static void print_alone_starts_nothing(void) {
    char config[96], out[16384];
    tr_stage_open(1, NULL);
    snprintf(config, sizeof config, "%s/troupe.yaml", tr_stage_now.folder);
    const char *print[] = {"trouped", "--config", config, "--print", NULL};
    CU_ASSERT_EQUAL(tr_stage_run(print, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "silence: 10s"));
    CU_ASSERT_EQUAL(tr_stage_logged("another daemon"), 0);
    tr_stage_configure(1, "default_model: chian\n");
    CU_ASSERT_EQUAL(tr_stage_run(print, out, sizeof out), 2);
    CU_ASSERT_STRING_EQUAL(out, "");
    CU_ASSERT_EQUAL(tr_stage_logged("did you mean chain"), 1);
    tr_stage_close();
}

/* What is missing is said at start with its place, and the rest serves. */
static void a_missing_model_file_stops_nothing(void) {
    tr_stage_open(1, "default_model: chain\n");
    CU_ASSERT_EQUAL(tr_stage_logged("models=\"chain random\""), 1);
    tr_stage_kill();
    char path[96];
    snprintf(path, sizeof path, "%s/random.gguf", tr_stage_now.folder);
    CU_ASSERT_EQUAL(unlink(path), 0);
    tr_stage_restart();
    CU_ASSERT_EQUAL(tr_stage_logged("models_without_file=\"random\""), 1);
    CU_ASSERT_EQUAL(tr_stage_logged("troupe.yaml:4:"), 1);
    CU_ASSERT_EQUAL(tr_stage_logged("the model cannot be loaded from"), 1);
    ask_chain("chain");
    tr_stage_close();
}

static bool is_gone(void *arg) {
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)*(const pid_t *)arg);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return true;
    }
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    const char *state = strrchr(text, ')');
    return got <= 0 || (state != NULL && state[1] != '\0' && state[2] == 'Z');
}

/* Children of the daemon that ended and were not reaped. */
static int zombies(void) {
    int count = 0;
    DIR *proc = opendir("/proc");
    for (const struct dirent *at; proc != NULL && (at = readdir(proc)) != NULL;) {
        char path[300], text[256] = "", state = ' ';
        int parent = 0;
        snprintf(path, sizeof path, "/proc/%s/stat", at->d_name);
        FILE *file = at->d_name[0] >= '1' && at->d_name[0] <= '9' ? fopen(path, "re") : NULL;
        if (file == NULL) {
            continue;
        }
        const char *end = fgets(text, sizeof text, file) != NULL ? strrchr(text, ')') : NULL;
        count += end != NULL && sscanf(end + 1, " %c %d", &state, &parent) == 2 && state == 'Z' &&
                 parent == (int)tr_stage_now.daemon;
        fclose(file);
    }
    if (proc != NULL) {
        closedir(proc);
    }
    return count;
}

static void no_worker_outlives_the_daemon_and_none_stays_a_zombie(void) {
    tr_stage_open(2, NULL);
    tr_client *client = tr_stage_client();
    pid_t pids[3] = {0};
    CU_ASSERT_EQUAL_FATAL(tr_load(client, "random"), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_load(client, "chain"), TR_OK);
    pid_t first = tr_stage_worker(client, "chain", 0);
    CU_ASSERT_TRUE_FATAL(first > 0);
    kill(first, SIGKILL);
    CU_ASSERT_TRUE(tr_stage_until(is_gone, &first, 5000));
    ask_chain("chain"); /* by its successor */
    CU_ASSERT_EQUAL(zombies(), 0);
    CU_ASSERT_EQUAL(tr_unload(client, "chain"), TR_OK);
    CU_ASSERT_EQUAL(zombies(), 0);
    CU_ASSERT_EQUAL_FATAL(tr_load(client, "chain"), TR_OK);
    pids[0] = tr_stage_worker(client, "random", 0);
    pids[1] = tr_stage_worker(client, "random", 1);
    pids[2] = tr_stage_worker(client, "chain", 0);
    tr_stage_kill();
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_TRUE(i == 1 || pids[i] > 0);
        CU_ASSERT_TRUE(pids[i] == 0 || tr_stage_until(is_gone, &pids[i], 3000));
    }
    tr_client_close(client);
    tr_stage_restart();
    tr_stage_close();
}

int main(void) {
    CU_TestInfo tests[] = {
        {"a_second_daemon_says_who_holds_the_socket", a_second_daemon_says_who_holds_the_socket},
        {"a_dead_daemons_socket_is_replaced", a_dead_daemons_socket_is_replaced},
        {"bad_configuration_is_named_by_place_and_key",
         bad_configuration_is_named_by_place_and_key},
        {"limits_are_shown_and_changed", limits_are_shown_and_changed},
        {"reload_changes_aliases_and_log_level", reload_changes_aliases_and_log_level},
        {"logs_name_requests_and_hold_no_prompt_and_no_key",
         logs_name_requests_and_hold_no_prompt_and_no_key},
        {"sigterm_lets_running_answers_finish", sigterm_lets_running_answers_finish},
        {"the_drain_limit_ends_what_never_ends", the_drain_limit_ends_what_never_ends},
        {"systemd_is_told", systemd_is_told},
        {"the_watchdog_is_fed", the_watchdog_is_fed},
        {"print_alone_starts_nothing", print_alone_starts_nothing},
        {"a_missing_model_file_stops_nothing", a_missing_model_file_stops_nothing},
        {"no_worker_outlives_the_daemon_and_none_stays_a_zombie",
         no_worker_outlives_the_daemon_and_none_stays_a_zombie},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("daemon", tests);
}
