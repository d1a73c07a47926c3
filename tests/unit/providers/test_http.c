/* The real HTTP door, over libcurl and epoll, against a server of raw sockets that the test plays.
 */
#include "providers/http.h"

#include <CUnit/Basic.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "runtime/node.h"

#define WAIT_MS 5000

/* ---- the user of the door: writes down what it gets, takes nothing by itself ---- */

static struct {
    pthread_mutex_t mtx;
    pthread_cond_t changed;
    tr_id id; /* everything below is guarded by mtx */
    bool up;
    unsigned heads, ends;
    tr_http_head head;
    char headers[2048];
    char body[4096]; /* its beginning */
    size_t body_size;
    tr_err end;
    char message[1024];
} user = {.mtx = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static tr_node *node;
static tr_id door;

static tr_err user_init(tr_self *self, void *state, const void *args) {
    (void)state;
    (void)args;
    pthread_mutex_lock(&user.mtx);
    user.id = tr_self_id(self);
    user.up = true;
    pthread_cond_broadcast(&user.changed);
    pthread_mutex_unlock(&user.mtx);
    return TR_OK;
}

static tr_err user_handle(tr_self *self, void *state, tr_msg **msg) {
    (void)self;
    (void)state;
    tr_str text;
    pthread_mutex_lock(&user.mtx);
    switch ((*msg)->kind) {
    case TR_KIND_HTTP_HEAD:
        user.heads++;
        user.head = *tr_http_head_read(*msg, &text);
        snprintf(user.headers, sizeof(user.headers), "%.*s", (int)text.size, text.ptr);
        break;
    case TR_KIND_HTTP_DATA:
        for (size_t i = 0; i < (*msg)->size && user.body_size + i < sizeof(user.body) - 1; i++) {
            user.body[user.body_size + i] = (char)(*msg)->data[i];
        }
        user.body_size += (*msg)->size;
        break;
    case TR_KIND_HTTP_END:
        user.ends++;
        user.end = tr_http_end_read(*msg, &text);
        snprintf(user.message, sizeof(user.message), "%.*s", (int)text.size, text.ptr);
        break;
    case 200:
        /* The test speaks through the user, so that the door knows it as the sender. */
        pthread_mutex_unlock(&user.mtx);
        return TR_DONE;
    default:
        break;
    }
    pthread_cond_broadcast(&user.changed);
    pthread_mutex_unlock(&user.mtx);
    return TR_OK;
}

static const tr_behaviour user_behaviour = {
    .name = "user", .init = user_init, .handle = user_handle};

typedef bool until_fn(void);

/* Waits until `fn`, which looks at `user` under its mutex, is true. */
static bool until(until_fn *fn) {
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += WAIT_MS / 1000;
    pthread_mutex_lock(&user.mtx);
    bool met = fn();
    while (!met && pthread_cond_timedwait(&user.changed, &user.mtx, &limit) == 0) {
        met = fn();
    }
    met = fn();
    pthread_mutex_unlock(&user.mtx);
    return met;
}

static bool is_up(void) {
    return user.up;
}

static bool has_end(void) {
    return user.ends > 0;
}

static size_t wanted_body;

static bool has_body(void) {
    return user.body_size >= wanted_body;
}

static size_t body_size(void) {
    pthread_mutex_lock(&user.mtx);
    size_t size = user.body_size;
    pthread_mutex_unlock(&user.mtx);
    return size;
}

static void spawn_user(void) {
    pthread_mutex_lock(&user.mtx);
    user.up = false;
    pthread_mutex_unlock(&user.mtx);
    CU_ASSERT_EQUAL_FATAL(
        tr_node_spawn(node, 0, &(tr_spawn_spec){.behaviour = &user_behaviour, .name = "user"}),
        TR_OK);
    CU_ASSERT_FATAL(until(is_up));
}

static void clear(void) {
    pthread_mutex_lock(&user.mtx);
    user.heads = user.ends = 0;
    user.body_size = 0;
    memset(user.headers, 0, sizeof(user.headers));
    memset(user.body, 0, sizeof(user.body));
    memset(user.message, 0, sizeof(user.message));
    pthread_mutex_unlock(&user.mtx);
}

static void post(tr_msg *msg) {
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    msg->from = user.id;
    tr_post(node, door, msg);
}

/* ---- the server ---- */

static int listener = -1;
static uint16_t port;

static int make_listener(uint16_t *ret_port) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)&address, size), 0);
    CU_ASSERT_EQUAL_FATAL(listen(fd, 16), 0);
    CU_ASSERT_EQUAL_FATAL(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *ret_port = ntohs(address.sin_port);
    return fd;
}

static bool readable(int fd, int timeout_ms) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, timeout_ms) == 1;
}

static int accept_one(void) {
    CU_ASSERT_FATAL(readable(listener, WAIT_MS));
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    CU_ASSERT_FATAL(fd >= 0);
    return fd;
}

/* One request: up to the blank line and the body that content-length announces. */
static void read_request(int fd, char *buf, size_t room) {
    size_t used = 0;
    buf[0] = '\0';
    while (used + 1 < room) {
        const char *blank = strstr(buf, "\r\n\r\n");
        const char *length = strcasestr(buf, "content-length: ");
        size_t body = length == NULL ? 0 : strtoul(length + 16, NULL, 10);
        if (blank != NULL && used >= (size_t)(blank + 4 - buf) + body) {
            return;
        }
        CU_ASSERT_FATAL(readable(fd, WAIT_MS));
        ssize_t got = read(fd, buf + used, room - 1 - used);
        CU_ASSERT_FATAL(got > 0);
        used += (size_t)got;
        buf[used] = '\0';
    }
}

static void say(int fd, const char *text) {
    CU_ASSERT_EQUAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* Whether the other side closed within `limit_ms`. */
static bool closed_within(int fd, int limit_ms) {
    char byte;
    return readable(fd, limit_ms) && read(fd, &byte, 1) <= 0;
}

static void start(uint64_t ref, const char *path, tr_http_start head, const char *body) {
    char url[256];
    static const char headers[] = "Content-Type: application/json\nX-Key: k1\n";
    snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", (unsigned)port, path);
    tr_body *taken = NULL;
    if (body != NULL) {
        taken = tr_body_new(strlen(body));
        CU_ASSERT_PTR_NOT_NULL_FATAL(taken);
        memcpy(taken->bytes, body, strlen(body));
    }
    head.method = body == NULL ? TR_HTTP_GET : TR_HTTP_POST;
    post(tr_http_start_msg(ref, &head, (tr_str){url, strlen(url)},
                           (tr_str){headers, sizeof(headers) - 1}, taken));
}

static const tr_http_start plain = {0};

/* ---- claims ---- */

static void a_request_goes_out_as_told_and_its_answer_comes_back(void) {
    char request[4096];
    clear();
    start(1, "/v1/x", plain, "{\"a\":1}");
    int fd = accept_one();
    read_request(fd, request, sizeof(request));
    CU_ASSERT_NSTRING_EQUAL(request, "POST /v1/x HTTP/1.1\r\n", 21);
    CU_ASSERT_PTR_NOT_NULL(strstr(request, "\r\nX-Key: k1\r\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(request, "\r\n\r\n{\"a\":1}"));
    CU_ASSERT_PTR_NULL(strcasestr(request, "accept-encoding"));
    CU_ASSERT_PTR_NULL(strcasestr(request, "expect:"));
    say(fd, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 Too Many\r\nX-Request-ID: r1\r\n"
            "Retry-After: 7\r\nretry-after-ms: 1500\r\nX-RateLimit-Remaining-Tokens: 3\r\n"
            "Set-Cookie: no\r\nContent-Length: 5\r\n\r\nhello");
    CU_ASSERT_FATAL(until(has_end));
    CU_ASSERT_EQUAL(user.heads, 1);
    CU_ASSERT_EQUAL(user.head.status, 429);
    CU_ASSERT_EQUAL(user.head.has_retry_after, 1);
    CU_ASSERT_EQUAL(user.head.retry_after_ms, 1500);
    tr_str headers = {user.headers, strlen(user.headers)};
    CU_ASSERT_NSTRING_EQUAL(tr_http_header(headers, "x-request-id").ptr, "r1\n", 3);
    CU_ASSERT_EQUAL(tr_http_header(headers, "x-ratelimit-remaining-tokens").size, 1);
    CU_ASSERT_EQUAL(tr_http_header(headers, "set-cookie").size, 0);
    CU_ASSERT_STRING_EQUAL(user.body, "hello");
    CU_ASSERT_EQUAL(user.end, TR_OK);
    /* The connection serves again. */
    clear();
    start(2, "/v1/y", plain, NULL);
    read_request(fd, request, sizeof(request));
    CU_ASSERT_NSTRING_EQUAL(request, "GET /v1/y", 9);
    say(fd, "HTTP/1.1 204 No\r\n\r\n");
    CU_ASSERT_FATAL(until(has_end));
    CU_ASSERT_EQUAL(user.head.status, 204);
    /* A hint of years is none of nothing. */
    clear();
    start(3, "/v1/z", plain, NULL);
    read_request(fd, request, sizeof(request));
    say(fd, "HTTP/1.1 503 No\r\nRetry-After: 999999999\r\nx-should-retry: false\r\n"
            "Content-Length: 0\r\n\r\n");
    CU_ASSERT_FATAL(until(has_end));
    CU_ASSERT_EQUAL(user.head.has_retry_after, 1);
    CU_ASSERT_EQUAL(user.head.retry_after_ms, TR_TIMEOUT_MS_max);
    headers = (tr_str){user.headers, strlen(user.headers)};
    CU_ASSERT_EQUAL(tr_http_header(headers, "x-should-retry").size, 5);
    close(fd);
}

static void an_untaken_transfer_holds_one_window_and_goes_on_where_it_was(void) {
    enum { TOTAL = 8 * 1024 * 1024, WINDOW = 40000 };
    char request[4096];
    char chunk[4096];
    size_t sent = 0;
    clear();
    memset(chunk, 'x', sizeof(chunk));
    start(3, "/big", (tr_http_start){.window = WINDOW}, NULL);
    int fd = accept_one();
    int small = 65536;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    read_request(fd, request, sizeof(request));
    snprintf(request, sizeof(request), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", TOTAL);
    say(fd, request);
    /* Writes until the socket has refused more for 300 ms: the door stopped reading. */
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    while (sent < TOTAL && poll(&p, 1, 300) == 1) {
        ssize_t n = write(fd, chunk, TOTAL - sent < sizeof(chunk) ? TOTAL - sent : sizeof(chunk));
        sent += n > 0 ? (size_t)n : 0;
    }
    CU_ASSERT(sent < TOTAL);
    CU_ASSERT_EQUAL(body_size(), WINDOW);
    size_t taken = 0;
    while (body_size() < TOTAL) {
        size_t here = body_size();
        CU_ASSERT_FATAL(here - taken <= WINDOW);
        post(tr_http_taken_msg(3, (uint32_t)(here - taken)));
        taken = here;
        while (sent < TOTAL && poll(&p, 1, 0) == 1) {
            ssize_t n =
                write(fd, chunk, TOTAL - sent < sizeof(chunk) ? TOTAL - sent : sizeof(chunk));
            if (n <= 0) {
                break;
            }
            sent += (size_t)n;
        }
        wanted_body = here + 1;
        CU_ASSERT_FATAL(until(has_body));
    }
    CU_ASSERT_FATAL(until(has_end));
    CU_ASSERT_EQUAL(user.end, TR_OK);
    CU_ASSERT_EQUAL(body_size(), TOTAL);
    close(fd);
}

static void the_end_waits_for_the_rest_to_be_taken(void) {
    char request[4096];
    clear();
    start(4, "/", (tr_http_start){.window = 4}, NULL);
    int fd = accept_one();
    read_request(fd, request, sizeof(request));
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789");
    wanted_body = 4;
    CU_ASSERT_FATAL(until(has_body));
    CU_ASSERT_EQUAL(body_size(), 4);
    CU_ASSERT_EQUAL(user.ends, 0);
    post(tr_http_taken_msg(4, 4));
    wanted_body = 8;
    CU_ASSERT_FATAL(until(has_body));
    CU_ASSERT_EQUAL(user.ends, 0);
    post(tr_http_taken_msg(4, 4));
    CU_ASSERT_FATAL(until(has_end));
    CU_ASSERT_STRING_EQUAL(user.body, "0123456789");
    close(fd);
}

static void abort_closes_the_socket_at_once(void) {
    char request[4096];
    clear();
    start(5, "/", plain, NULL);
    int fd = accept_one();
    read_request(fd, request, sizeof(request));
    say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    wanted_body = 1;
    CU_ASSERT_FATAL(until(has_body));
    post(tr_http_abort_msg(5, false));
    CU_ASSERT(closed_within(fd, 250));
    CU_ASSERT_EQUAL(user.ends, 0);
    close(fd);
}

static void a_gentle_abort_keeps_a_connection_that_ends_and_closes_one_that_does_not(void) {
    char request[4096];
    clear();
    start(6, "/", plain, NULL);
    int fd = accept_one();
    read_request(fd, request, sizeof(request));
    say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    wanted_body = 1;
    CU_ASSERT_FATAL(until(has_body));
    post(tr_http_abort_msg(6, true));
    /* The door handles the next request after the abort; it needs a connection of its own. */
    start(7, "/other", plain, NULL);
    int other = accept_one();
    say(fd, "1\r\nb\r\n0\r\n\r\n");
    read_request(other, request, sizeof(request));
    say(other, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nc\r\n");
    wanted_body = 2;
    CU_ASSERT_FATAL(until(has_body));
    CU_ASSERT_STRING_EQUAL(user.body, "ac");
    CU_ASSERT_EQUAL(user.ends, 0);
    start(8, "/again", plain, NULL);
    read_request(fd, request, sizeof(request));
    CU_ASSERT_NSTRING_EQUAL(request, "GET /again", 10);
    post(tr_http_abort_msg(8, false));
    post(tr_http_abort_msg(7, true));
    CU_ASSERT(closed_within(fd, 250));
    CU_ASSERT(closed_within(other, 1000));
    close(other);
    close(fd);
}

static void the_death_of_a_user_aborts_its_transfers(void) {
    char request[4096];
    clear();
    start(8, "/", plain, NULL);
    int fd = accept_one();
    read_request(fd, request, sizeof(request));
    tr_msg *end = tr_msg_new(200, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(end);
    tr_post(node, user.id, end);
    CU_ASSERT(closed_within(fd, 250));
    close(fd);
    spawn_user();
}

static void a_refused_connection_names_host_and_port(void) {
    uint16_t other;
    int fd = make_listener(&other);
    close(fd);
    uint16_t mine = port;
    char host[64];
    port = other;
    clear();
    start(9, "/secret-path?k=v", plain, NULL);
    port = mine;
    CU_ASSERT_FATAL(until(has_end));
    CU_ASSERT_EQUAL(user.end, TR_ERR_CONNECT);
    CU_ASSERT_EQUAL(user.heads, 0);
    snprintf(host, sizeof(host), "cannot reach http://127.0.0.1:%u: ", (unsigned)other);
    CU_ASSERT_PTR_NOT_NULL(strstr(user.message, host));
    CU_ASSERT_PTR_NULL(strstr(user.message, "secret"));
}

static void headers_that_do_not_come_in_time_end_the_transfer(void) {
    char request[4096];
    clear();
    start(10, "/", (tr_http_start){.first_byte_ms = 50}, NULL);
    int fd = accept_one();
    read_request(fd, request, sizeof(request));
    say(fd, "HTTP/1.1 200 OK\r\nX-");
    CU_ASSERT_FATAL(until(has_end));
    CU_ASSERT_EQUAL(user.end, TR_ERR_TIMEOUT);
    CU_ASSERT_EQUAL(user.heads, 0);
    CU_ASSERT(closed_within(fd, 250));
    close(fd);
}

static void a_broken_off_answer_is_truncated(void) {
    char request[4096];
    clear();
    start(11, "/", plain, NULL);
    int fd = accept_one();
    read_request(fd, request, sizeof(request));
    say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    close(fd);
    CU_ASSERT_FATAL(until(has_end));
    CU_ASSERT_EQUAL(user.heads, 1);
    CU_ASSERT_EQUAL(user.end, TR_ERR_TRUNCATED);
    CU_ASSERT_STRING_EQUAL(user.body, "abc");
}

static void a_redirect_is_followed_at_home_and_refused_abroad(void) {
    char request[4096];
    clear();
    start(12, "/a", plain, "{}");
    int fd = accept_one();
    read_request(fd, request, sizeof(request));
    say(fd, "HTTP/1.1 308 Moved\r\nLocation: /b\r\nContent-Length: 3\r\n\r\nxyz");
    read_request(fd, request, sizeof(request));
    CU_ASSERT_NSTRING_EQUAL(request, "POST /b", 7);
    CU_ASSERT_PTR_NOT_NULL(strstr(request, "X-Key: k1"));
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    CU_ASSERT_FATAL(until(has_end));
    CU_ASSERT_EQUAL(user.end, TR_OK);
    CU_ASSERT_STRING_EQUAL(user.body, "ok");
    clear();
    start(13, "/a", plain, "{}");
    read_request(fd, request, sizeof(request));
    say(fd, "HTTP/1.1 307 Moved\r\nLocation: http://localhost:1/b?secret\r\nContent-Length: 0\r\n"
            "\r\n");
    CU_ASSERT_FATAL(until(has_end));
    CU_ASSERT_EQUAL(user.end, TR_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(user.message, "redirects to http://localhost:1: a key goes to no other"));
    CU_ASSERT_EQUAL(user.heads, 0);
    close(fd);
}

static void a_compressed_answer_is_refused(void) {
    char request[4096];
    clear();
    start(14, "/", plain, NULL);
    int fd = accept_one();
    read_request(fd, request, sizeof(request));
    say(fd, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx");
    CU_ASSERT_FATAL(until(has_end));
    CU_ASSERT_EQUAL(user.end, TR_ERR_PROTOCOL);
    CU_ASSERT_EQUAL(user.heads, 0);
    close(fd);
}

static void many_transfers_run_at_once(void) {
    enum { MANY = 64 };
    int fds[MANY];
    char request[4096];
    clear();
    for (uint64_t i = 0; i < MANY; i++) {
        start(100 + i, "/", plain, NULL);
    }
    for (int i = 0; i < MANY; i++) {
        fds[i] = accept_one();
        read_request(fds[i], request, sizeof(request));
    }
    for (int i = 0; i < MANY; i++) {
        say(fds[i], "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    }
    wanted_body = 2 * MANY;
    CU_ASSERT(until(has_body));
    for (int i = 0; i < MANY; i++) {
        close(fds[i]);
    }
}

/* The first claim, since the others need it. */
static void the_door_starts_under_its_name(void) {
    char name[TR_HTTP_NAME_size];
    tr_node_spec spec = {.shards = 1};
    tr_child_spec child = tr_http_child(0, tr_http_name(0, name));
    CU_ASSERT_EQUAL_FATAL(tr_node_new(&spec, &node), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_node_spawn(node, 0,
                                        &(tr_spawn_spec){.behaviour = child.behaviour,
                                                         .name = child.name,
                                                         .registers = child.registers}),
                          TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_node_start(node), TR_OK);
    spawn_user(); /* on the same shard, so the door is up too */
    door = tr_whereis(node, "http:0");
    CU_ASSERT_NOT_EQUAL_FATAL(door, TR_ID_NONE);
    listener = make_listener(&port);
}

static int close_all(void) {
    tr_node_stop(node);
    tr_node_free(node);
    close(listener);
    return 0;
}

/* A proxy of the machine that runs the tests has no part in them. */
static int forget_proxies(void) {
    return unsetenv("http_proxy") | unsetenv("all_proxy") | unsetenv("ALL_PROXY");
}

int main(void) {
    if (CU_initialize_registry() != CUE_SUCCESS) {
        return 1;
    }
    CU_pSuite suite = CU_add_suite("http", forget_proxies, close_all);
    CU_ADD_TEST(suite, the_door_starts_under_its_name);
    CU_ADD_TEST(suite, a_request_goes_out_as_told_and_its_answer_comes_back);
    CU_ADD_TEST(suite, an_untaken_transfer_holds_one_window_and_goes_on_where_it_was);
    CU_ADD_TEST(suite, the_end_waits_for_the_rest_to_be_taken);
    CU_ADD_TEST(suite, abort_closes_the_socket_at_once);
    CU_ADD_TEST(suite, a_gentle_abort_keeps_a_connection_that_ends_and_closes_one_that_does_not);
    CU_ADD_TEST(suite, the_death_of_a_user_aborts_its_transfers);
    CU_ADD_TEST(suite, a_refused_connection_names_host_and_port);
    CU_ADD_TEST(suite, headers_that_do_not_come_in_time_end_the_transfer);
    CU_ADD_TEST(suite, a_broken_off_answer_is_truncated);
    CU_ADD_TEST(suite, a_redirect_is_followed_at_home_and_refused_abroad);
    CU_ADD_TEST(suite, a_compressed_answer_is_refused);
    CU_ADD_TEST(suite, many_transfers_run_at_once);
    CU_basic_set_mode(CU_BRM_NORMAL);
    CU_basic_run_tests();
    bool failed = CU_get_number_of_failures() > 0 || CU_get_number_of_suites_failed() > 0;
    CU_cleanup_registry();
    return failed ? 1 : 0;
}
