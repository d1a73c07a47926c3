/*
 * Providers' keys from end to end: a daemon with keys from a file, the store, a command and its
 * environment, against a small server that judges by the key and quotes those that it refuses.
 * Whatever happens, no key appears in what daemon and programs write.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/stage.h"

#define CANARY "sk-canary-7f3a9" /* every key begins so */
#define GOOD CANARY "-good-1"
#define GOOD_2 CANARY "-good-2"
#define BAD CANARY "-bad-1"
#define LIMITED CANARY "-limited-1"

static pid_t server;
static uint16_t port;
static tr_client *client;
static char heard[1 << 20]; /* all that programs have printed */

/* ---- the server ---- */

static void say(int fd, const char *status, const char *header, const char *body) {
    dprintf(fd, "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\nConnection: close\r\n\r\n%s", status,
            header, strlen(body), body);
}

static void serve_one(int fd) {
    char request[16384];
    char body[1024];
    size_t used = 0;
    ssize_t got = 0;
    while (used < sizeof request - 1 &&
           (got = read(fd, request + used, sizeof request - 1 - used)) > 0) {
        used += (size_t)got;
        request[used] = '\0';
        const char *end = strstr(request, "\r\n\r\n");
        const char *length = strstr(request, "Content-Length: ");
        size_t more = length != NULL ? strtoul(length + 16, NULL, 10) : 0;
        if (end != NULL && used >= (size_t)(end + 4 - request) + more) {
            break;
        }
    }
    request[used] = '\0';
    const char *key = strstr(request, "Bearer ");
    int size = key != NULL ? (int)strcspn(key + 7, "\r\n") : 0;
    key = key != NULL ? key + 7 : "";
    if (strstr(request, "\"redirect\"") != NULL) {
        say(fd, "302 Found", "Location: http://127.0.0.2:9/v1\r\n", "");
    } else if (memmem(key, (size_t)size, "-good-", 6) == NULL &&
               memmem(key, (size_t)size, "-limited-", 9) == NULL) {
        snprintf(body, sizeof body, "{\"error\":{\"message\":\"no such key: %.*s\\u001b[2J\"}}",
                 size, key);
        say(fd, "401 Unauthorized", "Content-Type: application/json\r\n", body);
    } else if (memmem(key, (size_t)size, "-limited-", 9) != NULL) {
        say(fd, "429 Too Many Requests", "Retry-After: 60\r\nContent-Type: application/json\r\n",
            "{\"error\":{\"message\":\"slow down\"}}");
    } else if (strncmp(request, "GET ", 4) == 0) {
        say(fd, "200 OK", "Content-Type: application/json\r\n", "{\"data\":[{\"id\":\"m\"}]}");
    } else {
        say(fd, "200 OK", "Content-Type: text/event-stream\r\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"yes\"},\"finish_reason\":"
            "\"stop\"}]}\n\ndata: [DONE]\n\n");
    }
    shutdown(fd, SHUT_WR);
    while (read(fd, body, sizeof body) > 0) {
    }
    close(fd);
}

static void start_server(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_FATAL(bind(listener, (struct sockaddr *)&at, sizeof at) == 0 &&
                    listen(listener, 64) == 0 &&
                    getsockname(listener, (struct sockaddr *)&at, &size) == 0);
    port = ntohs(at.sin_port);
    fflush(NULL);
    server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            int fd = accept(listener, NULL, NULL);
            if (fd >= 0) {
                serve_one(fd);
            }
        }
    }
    close(listener);
    CU_ASSERT_FATAL(server > 0);
}

/* ---- the stage ---- */

static void path_of(const char *name, char buf[160]) {
    snprintf(buf, 160, "%s/%s", tr_stage_now.folder, name);
}

static void write_file(const char *name, const char *text, mode_t mode) {
    char path[160];
    char fresh[192];
    path_of(name, path);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CU_ASSERT_EQUAL_FATAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    CU_ASSERT_EQUAL(fchmod(fd, mode), 0);
    close(fd);
    CU_ASSERT_EQUAL(rename(fresh, path), 0);
}

static char *configuration(const char *more) {
    static char text[4096];
    snprintf(text, sizeof text,
             "log: {level: debug}\n"
             "providers:\n"
             "  filed: {kind: openai-compatible, base_url: 'http://127.0.0.1:%u/v1', keys: "
             "['file:%s/filed.keys']}\n"
             "  stored: {kind: openai-compatible, base_url: 'http://127.0.0.1:%u/v1'}\n"
             "  printed: {kind: openai-compatible, base_url: 'http://127.0.0.1:%u/v1', keys: "
             "['command:cat %s/printed | grep -v nothing; echo ls %s/printed >&2']}\n"
             "  dead: {kind: openai-compatible, base_url: 'http://127.0.0.1:9/v1', keys: "
             "[env:TROUPE_E2E_KEY]}\n"
             "  hung: {kind: openai-compatible, base_url: 'http://127.0.0.1:%u/v1', keys: "
             "['command:cat %s/pipe']}\n"
             "  swift: {kind: openai-compatible, base_url: 'http://127.0.0.1:%u/v1', keys: "
             "['command:cat %s/swift']}\n%s",
             (unsigned)port, tr_stage_now.folder, (unsigned)port, (unsigned)port,
             tr_stage_now.folder, tr_stage_now.folder, (unsigned)port, tr_stage_now.folder,
             (unsigned)port, tr_stage_now.folder, more);
    return text;
}

static void expect(const char *model, tr_err err, const char *words) {
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result = NULL;
    options.model = model;
    options.retries = 0;
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "hi", &result), TR_OK);
    const char *said = err == TR_OK ? tr_result_text(result) : tr_result_message(result);
    if (tr_result_error(result) != err || strstr(said, words) == NULL) {
        printf("\n    %s: %s: %s\n", model, tr_err_name(tr_result_error(result)),
               tr_result_message(result));
    }
    CU_ASSERT_EQUAL(tr_result_error(result), err);
    CU_ASSERT_PTR_NOT_NULL(strstr(said, words));
    CU_ASSERT_PTR_NULL(strstr(tr_result_message(result), CANARY));
    CU_ASSERT_PTR_NULL(strchr(tr_result_message(result), 0x1b)); /* what the server says is plain */
    tr_result_free(result);
}

/* Runs a program; what it prints is kept for the last test. */
static int run(const char *const *argv, char *out, size_t size) {
    int status = tr_stage_run(argv, out, size);
    strncat(heard, out, sizeof heard - strlen(heard) - 1);
    return status;
}

#define RUN(out, ...) run((const char *const[]){__VA_ARGS__, NULL}, out, sizeof out)

static int key(const char *action, const char *provider, const char *in) {
    char command[512];
    char out[4096];
    const char *bin = getenv("TROUPE_BIN");
    snprintf(command, sizeof command, "printf '%s' | %s/troupe key %s %s 2>&1", in,
             bin != NULL ? bin : "build/bin", action, provider);
    setenv("XDG_CONFIG_HOME", tr_stage_now.folder, 1);
    setenv("XDG_RUNTIME_DIR", tr_stage_now.folder, 1);
    FILE *pipe = popen(command, "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(pipe);
    size_t got = fread(out, 1, sizeof out - 1, pipe);
    out[got] = '\0';
    strncat(heard, out, sizeof heard - strlen(heard) - 1);
    unsetenv("XDG_CONFIG_HOME");
    unsetenv("XDG_RUNTIME_DIR");
    int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ---- claims ---- */

static void refused_key_is_passed_over_and_the_next_one_serves(void) {
    for (int i = 0; i < 4; i++) {
        expect("filed/m", TR_OK, "yes"); /* the file holds a bad one and a good one */
    }
    CU_ASSERT_EQUAL(tr_stage_logged("a key was refused"), 1);
    char out[16384];
    CU_ASSERT_EQUAL(RUN(out, "troupe", "status"), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "filed.keys, 1 refused"));
}

static void a_refusal_names_the_only_key_or_says_that_none_was_sent(void) {
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v1", (unsigned)port);
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result = NULL;
    options.model = "m";
    options.provider = "openai-compatible";
    options.base_url = url;
    expect("stored/m", TR_ERR_AUTH,
           "(no key was sent: store one with troupe key set stored, or name its source in the "
           "configuration, providers.stored.keys)");
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "hi", &result), TR_OK);
    CU_ASSERT_EQUAL(tr_result_error(result), TR_ERR_AUTH);
    CU_ASSERT_PTR_NOT_NULL(strstr(tr_result_message(result),
                                  "(no key was sent: a base URL that comes with a request"));
    tr_result_free(result);
    write_file("filed.keys", BAD "\n", 0600);
    expect("filed/m", TR_ERR_AUTH, "(asked with key 1 of file:");
    write_file("filed.keys", BAD "\n" GOOD "\n", 0600);
    expect("filed/m", TR_OK, "yes");
}

static void file_is_read_again_when_it_changes(void) {
    write_file("filed.keys", BAD "\n" BAD "x\n", 0600);
    expect("filed/m", TR_ERR_AUTH, "all 2 keys were refused (2 of file:");
    expect("filed/m", TR_ERR_AUTH, "tried again in");
    write_file("filed.keys", LIMITED "\n", 0600);
    expect("filed/m", TR_ERR_RATE_LIMIT, "slow down");
    write_file("filed.keys", LIMITED "\n" GOOD "\n", 0600);
    expect("filed/m", TR_OK, "yes");
    expect("filed/m", TR_OK, "yes");
    write_file("filed.keys", LIMITED "\n" BAD "\n", 0600);
    expect("filed/m", TR_ERR_RATE_LIMIT, "");
    write_file("filed.keys", GOOD "\n", 0640);
    expect("filed/m", TR_ERR_AUTH, "others may read it: chmod 600 it");
    write_file("filed.keys", "# ours\n\n" GOOD "\n", 0600);
    expect("filed/m", TR_OK, "yes");
}

static void stored_key_serves_at_once_and_shows_nowhere(void) {
    char path[160];
    struct stat status;
    CU_ASSERT_EQUAL(key("set", "stored", GOOD "\\n"), 0);
    expect("stored/m", TR_OK, "yes");
    path_of("troupe/keys/stored", path);
    CU_ASSERT_EQUAL_FATAL(stat(path, &status), 0);
    CU_ASSERT_EQUAL(status.st_mode & 0777, 0600);
    path_of("troupe/keys", path);
    CU_ASSERT_EQUAL_FATAL(stat(path, &status), 0);
    CU_ASSERT_EQUAL(status.st_mode & 0777, 0700);
    CU_ASSERT_EQUAL(key("add", "stored", BAD "\\n"), 0);
    expect("stored/m", TR_OK, "yes");
    expect("stored/m", TR_OK, "yes");
    CU_ASSERT_EQUAL(key("check", "stored", ""), 4);
    CU_ASSERT_PTR_NOT_NULL(strstr(heard, "refused"));
    CU_ASSERT_EQUAL(key("rm", "stored 2", ""), 0);
    CU_ASSERT_EQUAL(key("check", "stored", ""), 0);
    CU_ASSERT_EQUAL(key("rm", "stored 2", ""), 2);
    CU_ASSERT_EQUAL(key("set", "stored", "two words\\n"), 2);
    CU_ASSERT_EQUAL(key("set", "stored", ""), 2);
    CU_ASSERT_EQUAL(key("set", "../stored", GOOD), 2);
    CU_ASSERT_EQUAL(key("set", "stored " GOOD, ""), 2); /* never an argument */
    CU_ASSERT_EQUAL(key("rm", "stored", ""), 0);
    expect("stored/m", TR_ERR_AUTH, "no such key"); /* it went without one */
}

#define READ_AGAIN "the configuration was read again"

static bool read_again(void *arg) {
    return tr_stage_logged(READ_AGAIN) > *(const unsigned *)arg;
}

static void command_prints_the_key_and_is_run_again_at_a_reload(void) {
    write_file("printed", "nothing\n", 0600);
    expect("printed/m", TR_ERR_AUTH, "it printed no key");
    write_file("printed", GOOD_2 "\n", 0600);
    unsigned before = tr_stage_logged(READ_AGAIN);
    CU_ASSERT_EQUAL(kill(tr_stage_now.daemon, SIGHUP), 0);
    CU_ASSERT_TRUE(tr_stage_until(read_again, &before, 10000));
    expect("printed/m", TR_OK, "yes");
    expect("printed/m", TR_OK, "yes");
}

static bool hangs(void *arg) {
    char out[65536];
    (void)arg;
    return RUN(out, "troupe", "tree", "--once") == 0 && strstr(out, "a command of hung") != NULL;
}

/* The hung one is a `cat` of a pipe that nobody writes to, until the test does. */
static void command_that_hangs_keeps_no_other_providers_key(void) {
    char path[160];
    tr_options options = TR_OPTIONS_INIT;
    tr_request *request = NULL;
    tr_stream *stream = NULL;
    tr_chunk chunk;
    path_of("pipe", path);
    CU_ASSERT_EQUAL_FATAL(mkfifo(path, 0600), 0);
    write_file("swift", GOOD_2 "\n", 0600);
    options.model = "hung/m";
    options.retries = 0;
    CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &request), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_request_text(request, "user", "hi"), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_stream_open(client, request, &stream), TR_OK);
    CU_ASSERT_TRUE(tr_stage_until(hangs, NULL, 10000));
    expect("swift/m", TR_OK, "yes");
    CU_ASSERT_EQUAL(tr_stream_next(stream, 0, &chunk), TR_ERR_TIMEOUT); /* it waits still */
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT(write(fd, GOOD_2 "\n", sizeof GOOD_2) == (ssize_t)sizeof GOOD_2);
    close(fd);
    tr_err err = TR_OK;
    while ((err = tr_stream_next(stream, 20000, &chunk)) == TR_OK) {
    }
    CU_ASSERT_EQUAL(err, TR_DONE);
    tr_stream_close(stream);
    tr_request_free(request);
    unlink(path);
}

static void check_says_which_key_is_refused_or_unreachable(void) {
    CU_ASSERT_EQUAL(key("check", "filed", ""), 0);
    CU_ASSERT_EQUAL(key("check", "dead", ""), 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(heard, "unreachable"));
    CU_ASSERT_EQUAL(key("list", "", ""), 0);
    CU_ASSERT_EQUAL(key("check", "nobody", ""), 2);
}

static bool dumps_core(void) {
    struct rlimit all = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    struct rlimit was;
    int status = 0;
    getrlimit(RLIMIT_CORE, &was);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &all);
        (void)!chdir("/tmp");
        abort();
    }
    waitpid(pid, &status, 0);
    return WCOREDUMP(status);
}

static void no_key_is_in_anything_that_was_written(void) {
    static const char *const looks[][4] = {
        {"troupe", "status", "--json", NULL},   {"troupe", "tree", "--once", NULL},
        {"troupe", "tree", "--once", "--json"}, {"troupe", "requests", NULL, NULL},
        {"troupe", "models", "filed", NULL},    {"troupe", "key", "list", "--json"}};
    static char out[262144];
    expect("filed/redirect", TR_ERR_NOT_FOUND, "127.0.0.2");
    expect("dead/m", TR_ERR_CONNECT, "127.0.0.1");
    pid_t worker = tr_stage_worker(client, "random", 0);
    if (worker != 0) {
        kill(worker, SIGKILL);
    }
    for (size_t i = 0; i < sizeof looks / sizeof *looks; i++) {
        const char *argv[] = {looks[i][0], looks[i][1], looks[i][2], looks[i][3], NULL};
        CU_ASSERT_EQUAL(run(argv, out, sizeof out), 0);
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)tr_stage_now.daemon);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = read(fd, out, sizeof out);
    close(fd);
    CU_ASSERT(size > 0 && memmem(out, (size_t)size, CANARY, strlen(CANARY)) == NULL);
    CU_ASSERT(strlen(heard) > 1000);
    CU_ASSERT_PTR_NULL(strstr(heard, CANARY));
    CU_ASSERT_PTR_NULL(strchr(heard, 0x1b));
    char *log = tr_stage_log();
    CU_ASSERT_PTR_NOT_NULL_FATAL(log);
    CU_ASSERT(strlen(log) > 1000);
    CU_ASSERT_PTR_NULL(strstr(log, CANARY));
    free(log);
}

static void daemon_leaves_no_core(void) {
    struct rlimit all = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    if (!dumps_core()) {
        printf("(no process leaves one here) ");
        return;
    }
    int status = 0;
    CU_ASSERT_EQUAL(prlimit(tr_stage_now.daemon, RLIMIT_CORE, &all, NULL), 0);
    tr_client_close(client);
    client = NULL;
    CU_ASSERT_EQUAL(kill(tr_stage_now.daemon, SIGABRT), 0);
    CU_ASSERT_EQUAL(waitpid(tr_stage_now.daemon, &status, 0), tr_stage_now.daemon);
    CU_ASSERT(WIFSIGNALED(status) && !WCOREDUMP(status));
    tr_stage_restart();
    client = tr_stage_client();
}

static void open_stage(void) {
    start_server();
    setenv("TROUPE_E2E_KEY", CANARY "-good-env", 1);
    tr_stage_open(1, "");
    tr_stage_kill();
    write_file("filed.keys", BAD "\n" GOOD "\n", 0600);
    tr_stage_configure(1, configuration(""));
    tr_stage_restart();
    client = tr_stage_client();
}

static void close_stage(void) {
    char path[160];
    tr_client_close(client);
    path_of("troupe/keys", path);
    rmdir(path);
    tr_stage_close();
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
}

int main(void) {
    CU_TestInfo tests[] = {
        {"(the daemon and the server start)", open_stage},
        {"refused_key_is_passed_over_and_the_next_one_serves",
         refused_key_is_passed_over_and_the_next_one_serves},
        {"a_refusal_names_the_only_key_or_says_that_none_was_sent",
         a_refusal_names_the_only_key_or_says_that_none_was_sent},
        {"file_is_read_again_when_it_changes", file_is_read_again_when_it_changes},
        {"stored_key_serves_at_once_and_shows_nowhere",
         stored_key_serves_at_once_and_shows_nowhere},
        {"command_prints_the_key_and_is_run_again_at_a_reload",
         command_prints_the_key_and_is_run_again_at_a_reload},
        {"command_that_hangs_keeps_no_other_providers_key",
         command_that_hangs_keeps_no_other_providers_key},
        {"check_says_which_key_is_refused_or_unreachable",
         check_says_which_key_is_refused_or_unreachable},
        {"no_key_is_in_anything_that_was_written", no_key_is_in_anything_that_was_written},
        {"daemon_leaves_no_core", daemon_leaves_no_core},
        {"(they end)", close_stage},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("keys", tests);
}
