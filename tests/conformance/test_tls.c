/*
 * Providers behind TLS, through a daemon in this process: whose certificate is trusted serves, and
 * each that must not be trusted is refused by name before a key goes out. The servers are openssl's
 * s_server, which says to its first client what stands on its standard input; where that program is
 * not installed, the test says that it did not run, and exits with 77.
 */
#include <CUnit/Basic.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/assert.h"
#include "protocol/client/troupe.h"
#include "tests/lib/cert.h"
#include "tests/lib/replay_server.h"
#include "tools/trouped/trouped.h"

#define KEY "sk-tls-0123456789"
#define KEY_ENV "TROUPE_TLS_KEY"
#define ANSWER                                                                                     \
    "{\"id\":\"a\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"     \
    "\"Hi\"},\"finish_reason\":\"stop\"}]}" /* 103 bytes */
#define ANSWERED                                                                                   \
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 103\r\n\r\n" ANSWER

extern char **environ;

static char folder[] = "/tmp/troupe-tls-XXXXXX";
static replay_server *plain; /* speaks no TLS */
static tr_daemon *daemon_now;
static tr_client *client;

static struct tls_server {
    const char *name, *address, *cert, *key;
    pid_t pid;
    int in, out;
    unsigned port;
} servers[] = {
    {.name = "good", .address = "127.0.0.1", .cert = tr_test_cert, .key = tr_test_key},
    {.name = "host", .address = "127.0.0.2", .cert = tr_test_cert, .key = tr_test_key},
    {.name = "old", .address = "127.0.0.1", .cert = tr_expired_cert, .key = tr_expired_key},
    {.name = "moved", .address = "127.0.0.1", .cert = tr_test_cert, .key = tr_test_key},
};
#define SERVERS (sizeof(servers) / sizeof(servers[0]))

static void path_of(const char *name, const char *suffix, char path[128]) {
    snprintf(path, 128, "%s/%s%s", folder, name, suffix);
}

static void write_file(const char *name, const char *suffix, const char *text) {
    char path[128];
    path_of(name, suffix, path);
    FILE *file = fopen(path, "we");
    TR_ASSERT(file != NULL);
    fputs(text, file);
    fclose(file);
}

/* Waits for the line "ACCEPT address:port". */
static unsigned read_port(int fd) {
    char said[1024] = "";
    size_t used = 0;
    const char *at = NULL;
    while ((at = strstr(said, "ACCEPT ")) == NULL || strchr(at, '\n') == NULL) {
        ssize_t n = read(fd, said + used, sizeof(said) - 1 - used);
        if (n <= 0) {
            return 0;
        }
        used += (size_t)n;
        said[used] = '\0';
    }
    const char *colon = strchr(at, ':');
    return colon == NULL ? 0 : (unsigned)strtoul(colon + 1, NULL, 10);
}

static bool start_server(struct tls_server *s) {
    char cert[128], key[128], address[64], program[] = "openssl", verb[] = "s_server";
    char accept[] = "-accept", cert_is[] = "-cert", key_is[] = "-key";
    int in[2], out[2];
    write_file(s->name, ".pem", s->cert);
    write_file(s->name, ".key", s->key);
    path_of(s->name, ".pem", cert);
    path_of(s->name, ".key", key);
    snprintf(address, sizeof(address), "%s:0", s->address);
    char *argv[] = {program, verb, accept, address, cert_is, cert, key_is, key, NULL};
    TR_ASSERT(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    int failed = posix_spawnp(&s->pid, program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    s->in = in[1];
    s->out = out[0];
    s->port = failed == 0 ? read_port(s->out) : 0;
    return s->port != 0;
}

static void trust(const char *name) {
    char path[128];
    path_of(name, ".pem", path);
    if (name[0] == '\0') {
        unsetenv("SSL_CERT_FILE");
    } else {
        setenv("SSL_CERT_FILE", path, 1); /* nothing runs in the daemon that would read it now */
    }
}

static uint32_t retries; /* that a request may have */
static uint32_t taken;   /* of them, those that it is expected to take */

static void expect(const char *provider, tr_err err, const char *sentence, const char *site) {
    char model[64];
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result = NULL;
    snprintf(model, sizeof(model), "%s/m", provider);
    options.model = model;
    options.retries = retries;
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "Hi", &result), TR_OK);
    const char *message = tr_result_message(result);
    bool right = tr_result_error(result) == err && strstr(message, sentence) != NULL &&
                 strstr(message, site) != NULL && strstr(message, KEY) == NULL;
    CU_ASSERT_TRUE(right);
    if (!right) {
        printf("\n    %s: %d \"%s\"\n", provider, (int)tr_result_error(result), message);
    }
    CU_ASSERT_EQUAL(tr_result_attempts(result), 1 + taken);
    CU_ASSERT_STRING_EQUAL(tr_result_text(result), err == TR_OK ? "Hi" : "");
    tr_result_free(result);
}

static void expect_of(struct tls_server *s, tr_err err, const char *sentence) {
    char site[64];
    snprintf(site, sizeof(site), "https://%s:%u", s->address, s->port);
    expect(s->name, err, sentence, err == TR_OK ? "" : site);
}

static void say(const struct tls_server *s, const char *text) {
    CU_ASSERT_EQUAL(write(s->in, text, strlen(text)), (ssize_t)strlen(text));
}

/* However often it may be tried again: a certificate does not get better. */
static void expect_distrust(struct tls_server *s, const char *sentence) {
    retries = 2;
    expect_of(s, TR_ERR_CONNECT, sentence);
    retries = 0;
}

/* ---- claims ---- */

static void a_certificate_of_nobodys_is_refused_and_what_to_do_is_said(void) {
    trust("");
    expect_distrust(&servers[0], "name the file with the certificate to trust");
}

static void whom_the_user_trusts_serves(void) {
    trust("good");
    say(&servers[0], ANSWERED);
    expect_of(&servers[0], TR_OK, "");
}

static void a_certificate_for_another_host_is_refused(void) {
    trust("good");
    expect_distrust(&servers[1], "127.0.0.2");
}

static void a_certificate_of_yesterday_is_refused(void) {
    trust("old");
    expect_distrust(&servers[2], "expired");
}

static void a_key_leaves_tls_by_no_redirect(void) {
    char answer[256];
    trust("good");
    snprintf(answer, sizeof(answer),
             "HTTP/1.1 308 Moved\r\nLocation: http://127.0.0.1:%u/v1/chat/completions\r\n"
             "Content-Length: 0\r\n\r\n",
             (unsigned)replay_server_port(plain, 0));
    say(&servers[3], answer);
    expect_of(&servers[3], TR_ERR_NOT_FOUND, "a key goes to no other server");
    replay_request request = replay_server_request(plain, 0);
    CU_ASSERT_EQUAL(request.accepted, 0);
    replay_request_fini(&request);
}

/* It says so by its first word, which is none of TLS: that does not change by itself. */
static void a_server_without_tls_is_told_at_once(void) {
    char site[64], instead[64];
    unsigned port = replay_server_port(plain, 1);
    replay_script early = {.bytes = ANSWERED, .size = sizeof(ANSWERED) - 1, .early = true};
    replay_server_add(plain, 1, &early);
    snprintf(site, sizeof(site), "https://127.0.0.1:%u", port);
    snprintf(instead, sizeof(instead), "http://127.0.0.1:%u", port);
    retries = 2;
    expect("plain", TR_ERR_CONNECT, "does not speak TLS", site);
    expect("plain", TR_ERR_CONNECT, instead, site);
    retries = 0;
}

/* A server that is about to start hangs up too. */
static void who_hangs_up_in_the_handshake_is_asked_again(void) {
    char site[64];
    replay_script mute = {.early = true, .end = REPLAY_CLOSE};
    replay_server_add(plain, 2, &mute);
    snprintf(site, sizeof(site), "https://127.0.0.1:%u", (unsigned)replay_server_port(plain, 2));
    retries = taken = 1;
    expect("mute", TR_ERR_CONNECT, "does it speak TLS", site);
    retries = taken = 0;
}

/* ---- the stage ---- */

static void the_daemon_starts(void) {
    static char config[2048];
    size_t used =
        (size_t)snprintf(config, sizeof(config),
                         "listen: {socket: off}\nlog: {level: error}\nshards: 1\nproviders:\n");
    for (size_t i = 0; i < SERVERS; i++) {
        used += (size_t)snprintf(config + used, sizeof(config) - used,
                                 "  %s: {kind: openai-compatible, base_url: \"https://%s:%u/v1\", "
                                 "keys: ['env:" KEY_ENV "']}\n",
                                 servers[i].name, servers[i].address, servers[i].port);
    }
    snprintf(config + used, sizeof(config) - used,
             "  plain: {kind: openai-compatible, base_url: \"https://127.0.0.1:%u/v1\"}\n"
             "  mute: {kind: openai-compatible, base_url: \"https://127.0.0.1:%u/v1\"}\n",
             (unsigned)replay_server_port(plain, 1), (unsigned)replay_server_port(plain, 2));
    tr_daemon_options options = TR_DAEMON_OPTIONS_INIT;
    options.config_text = config;
    options.inproc = "inproc://tls";
    setenv(KEY_ENV, KEY, 1);
    CU_ASSERT_EQUAL_FATAL(tr_daemon_start(&options, &daemon_now), 0);
    CU_ASSERT_EQUAL_FATAL(tr_client_open(tr_daemon_url(daemon_now), &client), TR_OK);
}

static void the_daemon_stops(void) {
    tr_client_close(client);
    tr_daemon_stop(daemon_now);
}

static void end_servers(void) {
    char path[128];
    for (size_t i = 0; i < SERVERS; i++) {
        if (servers[i].pid > 0) {
            kill(servers[i].pid, SIGTERM);
            waitpid(servers[i].pid, NULL, 0);
            close(servers[i].in);
            close(servers[i].out);
        }
        path_of(servers[i].name, ".pem", path);
        remove(path);
        path_of(servers[i].name, ".key", path);
        remove(path);
    }
    remove(folder);
    replay_server_stop(plain);
}

int main(void) {
    if (CU_initialize_registry() != CUE_SUCCESS || mkdtemp(folder) == NULL) {
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    plain = replay_server_start(3);
    bool up = true;
    for (size_t i = 0; i < SERVERS && up; i++) {
        up = start_server(&servers[i]);
    }
    if (!up) {
        printf("not run: openssl s_server does not start here\n");
        end_servers();
        return 77;
    }
    CU_pSuite suite = CU_add_suite("tls", NULL, NULL);
    CU_ADD_TEST(suite, the_daemon_starts);
    CU_ADD_TEST(suite, a_certificate_of_nobodys_is_refused_and_what_to_do_is_said);
    CU_ADD_TEST(suite, whom_the_user_trusts_serves);
    CU_ADD_TEST(suite, a_certificate_for_another_host_is_refused);
    CU_ADD_TEST(suite, a_certificate_of_yesterday_is_refused);
    CU_ADD_TEST(suite, a_key_leaves_tls_by_no_redirect);
    CU_ADD_TEST(suite, a_server_without_tls_is_told_at_once);
    CU_ADD_TEST(suite, who_hangs_up_in_the_handshake_is_asked_again);
    CU_ADD_TEST(suite, the_daemon_stops);
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    bool failed = CU_get_number_of_failures() > 0 || CU_get_number_of_suites_failed() > 0;
    CU_cleanup_registry();
    end_servers();
    return failed ? 1 : 0;
}
