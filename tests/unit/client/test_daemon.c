/*
 * The client against the daemon's own supervision tree, by each kind of door: the user's socket,
 * tcp with a token, TLS, and inproc. The backend is the echo provider.
 */
#include "tests/unit/client/client_test.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actors/company.h"
#include "runtime/log.h"
#include "runtime/transport.h"
#include "tests/lib/cert.h"

#define TOKEN "0123456789abcdef0123"

static char directory[] = "/tmp/troupe-daemon-XXXXXX";
static char ipc_url[128], tcp_url[64], tls_url[64], ca_file[128], cert_file[128];
static const char inproc_url[] = "inproc://client-test";
static tr_services *services;
static tr_node *node;
static tr_company *company;
static pthread_mutex_t state_mtx = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t state_cond = PTHREAD_COND_INITIALIZER;
static bool is_up, is_down;

static void tell(bool *flag) {
    pthread_mutex_lock(&state_mtx);
    *flag = true;
    pthread_cond_broadcast(&state_cond);
    pthread_mutex_unlock(&state_mtx);
}

static void up(void *arg, tr_err err, const char *why) {
    (void)arg;
    if (err != TR_OK) {
        fprintf(stderr, "the daemon does not start: %s\n", why);
        abort();
    }
    tell(&is_up);
}

static void down(void *arg, tr_err reason) {
    (void)arg;
    (void)reason;
    tell(&is_down);
}

static void wait_for(const bool *flag) {
    pthread_mutex_lock(&state_mtx);
    while (!*flag) {
        pthread_cond_wait(&state_cond, &state_mtx);
    }
    pthread_mutex_unlock(&state_mtx);
}

static int free_port(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        abort();
    }
    close(fd);
    return ntohs(address.sin_port);
}

static void write_pem(char *path, size_t size, const char *name, const char *a, const char *b) {
    snprintf(path, size, "%s/%s", directory, name);
    FILE *file = fopen(path, "we");
    if (file == NULL || fputs(a, file) < 0 || fputs(b, file) < 0 || fclose(file) != 0) {
        abort();
    }
}

static int start(void) {
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_ERROR, STDERR_FILENO);
    if (mkdtemp(directory) == NULL) {
        return 1;
    }
    snprintf(ipc_url, sizeof ipc_url, "ipc://%s/troupe.sock", directory);
    snprintf(tcp_url, sizeof tcp_url, "tcp://127.0.0.1:%d", free_port());
    snprintf(tls_url, sizeof tls_url, "tls+tcp://localhost:%d", free_port());
    write_pem(ca_file, sizeof ca_file, "ca.pem", tr_test_cert, "");
    write_pem(cert_file, sizeof cert_file, "cert.pem", tr_test_cert, tr_test_key);
    static const char *const providers[] = {"echo"};
    tr_services_spec services_spec = {.version = "test"};
    tr_routes_spec routes_spec = {.providers = providers, .provider_count = 1};
    tr_routes *routes = NULL;
    if (tr_services_new(&services_spec, &services) != TR_OK ||
        tr_routes_new(&routes_spec, &routes) != TR_OK) {
        return 1;
    }
    tr_services_set_routes(services, routes);
    char tls_listen[64];
    snprintf(tls_listen, sizeof tls_listen, "tls+tcp://127.0.0.1:%s", strrchr(tls_url, ':') + 1);
    tr_door_spec doors[] = {
        {.url = ipc_url, .same_user = true, .takes_clients = true},
        {.url = tcp_url, .token = TOKEN, .token_size = sizeof TOKEN - 1, .takes_clients = true},
        {.url = tls_listen,
         .cert_file = cert_file,
         .token = TOKEN,
         .token_size = sizeof TOKEN - 1,
         .takes_clients = true},
        {.url = inproc_url, .takes_clients = true}};
    tr_node_spec node_spec = {.shards = 2, .platform = {.transport = tr_transport_nng()}};
    tr_company_spec spec = {.services = services,
                            .doors = doors,
                            .door_count = sizeof doors / sizeof doors[0],
                            .drain_ms = 200,
                            .up = up,
                            .down = down};
    if (tr_node_new(&node_spec, &node) != TR_OK ||
        tr_company_start(node, &spec, &company) != TR_OK || tr_node_start(node) != TR_OK) {
        return 1;
    }
    wait_for(&is_up);
    return 0;
}

static int stop(void) {
    if (!is_down) {
        tr_company_stop(company);
        wait_for(&is_down);
    }
    tr_node_stop(node);
    tr_transport_nng()->forget(tr_transport_nng(), node);
    tr_node_free(node);
    tr_company_free(company);
    tr_services_free(services);
    char lock[sizeof ipc_url + 8];
    snprintf(lock, sizeof lock, "%s.lock", ipc_url + strlen("ipc://"));
    unlink(lock); /* it outlives its daemon, by design */
    unlink(ca_file);
    unlink(cert_file);
    return rmdir(directory);
}

static tr_client *open_at(const char *url) {
    tr_client_options options = TR_CLIENT_OPTIONS_INIT;
    options.url = url;
    options.token = url == tcp_url || url == tls_url ? TOKEN : NULL;
    options.ca_file = url == tls_url ? ca_file : NULL;
    tr_client *opened = NULL;
    tr_err err = tr_client_open_with(&options, &opened);
    if (err != TR_OK) {
        fprintf(stderr, "%s: %s\n", tr_err_name(err), tr_client_error());
    }
    CU_ASSERT_EQUAL_FATAL(err, TR_OK);
    return opened;
}

static tr_request *echo_request(const char *extra, bool forget) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = "echo/any";
    options.extra_json = extra;
    options.forget = forget;
    tr_request *request = NULL;
    MUST(tr_request_new(&options, &request));
    MUST(tr_request_text(request, "user", "word by word, \xE2\x82\xAC and all"));
    return request;
}

static void answers_whole(tr_client *opened) {
    tr_request *request = echo_request(NULL, false);
    tr_result *result = NULL;
    MUST(tr_send_request(opened, request, &result));
    CU_ASSERT_EQUAL(tr_result_error(result), TR_OK);
    CU_ASSERT_STRING_EQUAL(tr_result_text(result), "word by word, \xE2\x82\xAC and all");
    CU_ASSERT_STRING_EQUAL(tr_result_finish(result), "stop");
    tr_result_free(result);
    tr_request_free(request);
}

static void streams_many(tr_client *opened, int count) {
    enum { STREAMS_max = 64 };
    tr_request *request = echo_request("{\"echo\":{\"chunks\":2000,\"bytes\":64}}", true);
    tr_stream *streams[STREAMS_max];
    for (int i = 0; i < count; i++) {
        MUST(tr_stream_open(opened, request, &streams[i]));
    }
    unsigned wrong = 0;
    for (int i = 0; i < count; i++) {
        size_t chunks = 0;
        tr_chunk chunk;
        tr_err err;
        while ((err = tr_stream_next(streams[i], 20000, &chunk)) == TR_OK) {
            chunks++;
            wrong += chunk.size != 64;
        }
        CU_ASSERT_EQUAL(err, TR_DONE);
        CU_ASSERT_EQUAL(chunks, 2000);
        tr_stream_close(streams[i]);
    }
    CU_ASSERT_EQUAL(wrong, 0);
    tr_request_free(request);
}

static void count_chunk(const tr_chunk *chunk, void *arg) {
    ((size_t *)arg)[0] += chunk->size;
}

static void count_done(const tr_result *result, void *arg) {
    ((size_t *)arg)[1] += tr_result_error(result) == TR_OK;
}

static void pushes(tr_client *opened) {
    tr_request *request = echo_request("{\"echo\":{\"chunks\":5000,\"bytes\":100}}", true);
    size_t seen[2] = {0};
    for (int i = 0; i < 8; i++) {
        MUST(tr_client_submit(opened, request, count_chunk, count_done, seen, NULL));
    }
    struct pollfd polled = {.fd = tr_client_fd(opened), .events = POLLIN};
    while (seen[1] < 8 && poll(&polled, 1, 20000) > 0) {
        MUST(tr_client_dispatch(opened));
    }
    CU_ASSERT_EQUAL(seen[0], 8 * 5000 * 100);
    CU_ASSERT_EQUAL(seen[1], 8);
    for (int i = 0; i < 3 && poll(&polled, 1, 20) > 0; i++) { /* what the last send left */
        MUST(tr_client_dispatch(opened));
    }
    CU_ASSERT_EQUAL(poll(&polled, 1, 20), 0); /* quiet at rest */
    tr_request_free(request);
}

static void cancels(tr_client *opened) {
    tr_request *request = echo_request("{\"echo\":{\"chunks\":100000000,\"bytes\":64}}", true);
    tr_stream *stream = NULL;
    MUST(tr_stream_open(opened, request, &stream));
    tr_chunk chunk;
    MUST(tr_stream_next(stream, 20000, &chunk));
    tr_stream_cancel(stream);
    CU_ASSERT_EQUAL(tr_stream_next(stream, 20000, &chunk), TR_ERR_CANCELLED);
    tr_stream_close(stream);
    MUST(tr_stream_open(opened, request, &stream));
    tr_stream_close(stream);
    tr_request_free(request);
}

static void controls(tr_client *opened) {
    char *json = NULL;
    MUST(tr_control_json(opened, "{\"do\":\"tree\"}", &json));
    SAYS(json, "gateway");
    tr_memory_free(json);
    MUST(tr_models_json(opened, &json));
    tr_memory_free(json);
    CU_ASSERT_EQUAL(tr_load(opened, "no-such-model"), TR_ERR_NOT_FOUND);
    SAYS(tr_client_error(), "no-such-model");
    CU_ASSERT_NOT_EQUAL(tr_control_json(opened, "{\"do\":\"nonsense\"}", &json), TR_OK);
    SAYS(tr_client_error(), "nonsense");
}

static void everything_at(const char *url) {
    tr_client *opened = open_at(url);
    answers_whole(opened);
    streams_many(opened, 16);
    pushes(opened);
    cancels(opened);
    controls(opened);
    tr_client_close(opened);
}

static void all_of_it_by_the_users_socket(void) {
    everything_at(ipc_url);
}

static void all_of_it_by_tcp(void) {
    everything_at(tcp_url);
}

static void all_of_it_by_tls(void) {
    everything_at(tls_url);
}

static void all_of_it_inside_the_process(void) {
    everything_at(inproc_url);
}

static void strangers_are_refused(void) {
    tr_client *none = NULL;
    CU_ASSERT_EQUAL(tr_client_open(tcp_url, &none), TR_ERR_AUTH);
    SAYS(tr_client_error(), "token");
    tr_client_options options = TR_CLIENT_OPTIONS_INIT;
    options.url = tcp_url;
    options.token = "another-token-of-length";
    CU_ASSERT_EQUAL(tr_client_open_with(&options, &none), TR_ERR_AUTH);
    char other[160];
    write_pem(other, sizeof other, "other.pem", tr_other_cert, "");
    options.url = tls_url;
    options.token = TOKEN;
    options.ca_file = other;
    CU_ASSERT_NOT_EQUAL(tr_client_open_with(&options, &none), TR_OK);
    unlink(other);
    CU_ASSERT_EQUAL(tr_client_open("inproc://another", &none), TR_ERR_NO_DAEMON);
}

static void unknown_targets_and_failures_are_results(void) {
    tr_client *opened = open_at(ipc_url);
    tr_options options = TR_OPTIONS_INIT;
    options.model = "ecko/any";
    tr_result *result = NULL;
    MUST(tr_ask(opened, &options, "x", &result));
    CU_ASSERT_EQUAL(tr_result_error(result), TR_ERR_NOT_FOUND);
    SAYS(tr_result_message(result), "echo");
    tr_result_free(result);
    options.model = "echo/any";
    options.retries = 0;
    options.extra_json = "{\"echo\":{\"chunks\":3,\"bytes\":4,\"fail\":true}}";
    MUST(tr_ask(opened, &options, "x", &result));
    CU_ASSERT_EQUAL(tr_result_error(result), TR_ERR_SERVER);
    CU_ASSERT_EQUAL(strlen(tr_result_text(result)), 12);
    tr_result_free(result);
    tr_client_close(opened);
}

/* Sixteen streams that nobody reads, beside them one that is read. */
static void unread_streams_slow_nobody(void) {
    tr_client *opened = open_at(ipc_url);
    tr_request *request = echo_request("{\"echo\":{\"chunks\":100000000,\"bytes\":1000}}", true);
    tr_stream *unread[16];
    for (int i = 0; i < 16; i++) {
        MUST(tr_stream_open(opened, request, &unread[i]));
    }
    streams_many(opened, 8);
    for (int i = 0; i < 16; i++) {
        tr_stream_close(unread[i]);
    }
    tr_request_free(request);
    tr_client_close(opened);
}

enum { DIALS = 200 };

static pthread_barrier_t barrier;

static void *dial(void *arg) {
    pthread_barrier_wait(&barrier);
    tr_client *opened = NULL;
    if (tr_client_open(ipc_url, &opened) == TR_OK) {
        tr_options options = TR_OPTIONS_INIT;
        options.model = "echo/any";
        tr_result *result = NULL;
        if (tr_ask(opened, &options, "hello", &result) == TR_OK) {
            *(bool *)arg = strcmp(tr_result_text(result), "hello") == 0;
        }
        tr_result_free(result);
    }
    tr_client_close(opened);
    return NULL;
}

static void two_hundred_dials_at_once_all_come_in(void) {
    static pthread_t threads[DIALS];
    static bool fine[DIALS];
    CU_ASSERT_EQUAL_FATAL(pthread_barrier_init(&barrier, NULL, DIALS), 0);
    for (int i = 0; i < DIALS; i++) {
        CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, dial, &fine[i]), 0);
    }
    unsigned count = 0;
    for (int i = 0; i < DIALS; i++) {
        pthread_join(threads[i], NULL);
        count += fine[i];
    }
    CU_ASSERT_EQUAL(count, DIALS);
    pthread_barrier_destroy(&barrier);
}

static void a_child_of_the_embedding_process_is_told(void) {
    tr_client *opened = open_at(inproc_url);
    answers_whole(opened); /* what came before has been dealt with: the daemon rests */
    pid_t child = fork();
    CU_ASSERT_TRUE_FATAL(child >= 0);
    if (child == 0) {
        tr_client *none = NULL;
        char *json = NULL;
        int wrong = tr_models_json(opened, &json) != TR_ERR_FORKED;
        wrong += tr_client_open(inproc_url, &none) != TR_ERR_FORKED;
        tr_client_close(opened);
        _exit(wrong);
    }
    int status = 0;
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    CU_ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    answers_whole(opened);
    tr_client_close(opened);
}

/* The last test: the daemon ends while streams are open. */
static void a_stopping_daemon_ends_every_stream(void) {
    static const char *const urls[] = {ipc_url, tcp_url, tls_url, inproc_url};
    tr_client *clients[4];
    tr_stream *streams[4];
    tr_request *request = echo_request("{\"echo\":{\"chunks\":100000000,\"bytes\":64}}", true);
    tr_chunk chunk;
    for (int i = 0; i < 4; i++) {
        clients[i] = open_at(urls[i]);
        MUST(tr_stream_open(clients[i], request, &streams[i]));
        MUST(tr_stream_next(streams[i], 20000, &chunk));
    }
    tr_company_stop(company);
    wait_for(&is_down);
    for (int i = 0; i < 4; i++) {
        tr_err err;
        while ((err = tr_stream_next(streams[i], 20000, &chunk)) == TR_OK) {
        }
        CU_ASSERT_TRUE(err == TR_ERR_SHUTDOWN || err == TR_ERR_CLOSED);
        if (err != TR_ERR_SHUTDOWN && err != TR_ERR_CLOSED) {
            fprintf(stderr, "%s: %s %s\n", urls[i], tr_err_name(err), tr_client_error());
        }
        CU_ASSERT_EQUAL(tr_stream_next(streams[i], 0, &chunk), err);
        tr_stream_close(streams[i]);
        tr_client_close(clients[i]);
    }
    tr_request_free(request);
}

int main(void) {
    CU_initialize_registry();
    CU_pSuite suite = CU_add_suite("daemon", start, stop);
    CU_ADD_TEST(suite, all_of_it_by_the_users_socket);
    CU_ADD_TEST(suite, all_of_it_by_tcp);
    CU_ADD_TEST(suite, all_of_it_by_tls);
    CU_ADD_TEST(suite, all_of_it_inside_the_process);
    CU_ADD_TEST(suite, strangers_are_refused);
    CU_ADD_TEST(suite, unknown_targets_and_failures_are_results);
    CU_ADD_TEST(suite, unread_streams_slow_nobody);
    CU_ADD_TEST(suite, two_hundred_dials_at_once_all_come_in);
    CU_ADD_TEST(suite, a_child_of_the_embedding_process_is_told);
    CU_ADD_TEST(suite, a_stopping_daemon_ends_every_stream);
    return finish_tests();
}
