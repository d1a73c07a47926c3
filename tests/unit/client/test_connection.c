/* Opening, losing and finding the daemon again. Every way in which a daemon can be absent, strange
 * or dying has its own error and a sentence that says what to do. */
#include "tests/unit/client/client_test.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Opens a client of a fake that greets so; expects an error. */
static tr_err open_at(fake_greeting greeting, bool tcp) {
    fake = fake_server_start(tcp, greeting);
    CU_ASSERT_PTR_NOT_NULL_FATAL(fake);
    tr_client_options options = TR_CLIENT_OPTIONS_INIT;
    options.url = fake_server_url(fake);
    options.connect_ms = 150;
    client = NULL;
    tr_err err = tr_client_open_with(&options, &client);
    CU_ASSERT_PTR_NULL(client);
    fake_server_stop(fake);
    return err;
}

static void an_absent_daemon_is_named_with_the_command(void) {
    double before = seconds();
    CU_ASSERT_EQUAL(tr_client_open("ipc:///tmp/troupe-none/troupe.sock", &client),
                    TR_ERR_NO_DAEMON);
    CU_ASSERT_TRUE(seconds() - before < 1);
    CU_ASSERT_STRING_EQUAL(tr_client_error(),
                           "No daemon answers at ipc:///tmp/troupe-none/troupe.sock (there is no "
                           "socket): start one with `troupe start`.");
    CU_ASSERT_EQUAL(tr_client_open("tcp://127.0.0.1:1", &client), TR_ERR_NO_DAEMON);
    SAYS(tr_client_error(), "`troupe start`");
    fake = fake_server_start(false, FAKE_WELCOME);
    CU_ASSERT_PTR_NOT_NULL_FATAL(fake);
    char url[128];
    snprintf(url, sizeof url, "%s", fake_server_url(fake));
    fake_server_stop(fake);
    CU_ASSERT_EQUAL(tr_client_open(url, &client), TR_ERR_NO_DAEMON);
    CU_ASSERT_EQUAL(tr_client_open("inproc://nobody", &client), TR_ERR_NO_DAEMON);
    SAYS(tr_client_error(), "tr_daemon_start");
}

static void the_users_socket_is_the_default(void) {
    char directory[] = "/tmp/troupe-test-XXXXXX";
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(directory));
    setenv("XDG_RUNTIME_DIR", directory, 1);
    CU_ASSERT_EQUAL(tr_client_open(NULL, &client), TR_ERR_NO_DAEMON);
    SAYS(tr_client_error(), directory);
    SAYS(tr_client_error(), "/troupe/troupe.sock");
    SAYS(tr_client_error(), "`troupe start`");
    unsetenv("XDG_RUNTIME_DIR");
    rmdir(directory);
}

static void bad_addresses_are_refused(void) {
    static const char *const urls[] = {"",           "ipc://",          "http://x",
                                       "tcp://host", "tcp://:80",       "tcp://127.0.0.1:",
                                       "ipc:/x",     "tcp://[::1]:nix", "tls+tcp://127.0.0.1:9"};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        CU_ASSERT_EQUAL(tr_client_open(urls[i], &client), TR_ERR_INVALID);
        SAYS(tr_client_error(), "\"");
    }
    char path[200] = "ipc://";
    memset(path + 6, 'p', 150);
    path[156] = '\0';
    CU_ASSERT_EQUAL(tr_client_open(path, &client), TR_ERR_INVALID);
    SAYS(tr_client_error(), "107");
}

static void another_version_is_said(void) {
    CU_ASSERT_EQUAL(open_at(FAKE_WRONG_VERSION, false), TR_ERR_VERSION);
    SAYS(tr_client_error(), "version");
    SAYS(tr_client_error(), "`troupe stop`");
    SAYS(tr_client_error(), "`troupe start`");
    CU_ASSERT_EQUAL(open_at(FAKE_NEW_VERSION, false), TR_ERR_VERSION);
    SAYS(tr_client_error(), "99");
}

static void a_refused_token_is_said(void) {
    CU_ASSERT_EQUAL(open_at(FAKE_REFUSE, true), TR_ERR_AUTH);
    SAYS(tr_client_error(), "token");
    SAYS(tr_client_error(), "the fake does not want you");
}

static void who_is_no_daemon_is_told_apart(void) {
    CU_ASSERT_EQUAL(open_at(FAKE_GARBAGE, true), TR_ERR_PROTOCOL);
    SAYS(tr_client_error(), "not a trouped");
    CU_ASSERT_EQUAL(open_at(FAKE_HANG_UP, false), TR_ERR_NO_DAEMON);
    double before = seconds();
    CU_ASSERT_EQUAL(open_at(FAKE_MUTE, false), TR_ERR_TIMEOUT);
    CU_ASSERT_TRUE(seconds() - before >= 0.15 && seconds() - before < 3);
    SAYS(tr_client_error(), "150 ms");
}

static void tcp_carries_the_token(void) {
    fake = fake_server_start(true, FAKE_WELCOME);
    CU_ASSERT_PTR_NOT_NULL_FATAL(fake);
    tr_client_options options = TR_CLIENT_OPTIONS_INIT;
    options.url = fake_server_url(fake);
    options.token = "short";
    CU_ASSERT_EQUAL(tr_client_open_with(&options, &client), TR_ERR_INVALID);
    char path[] = "/tmp/troupe-token-XXXXXX";
    int fd = mkstemp(path);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, "0123456789abcdef\n", 17), 17);
    close(fd);
    options.token = NULL;
    options.token_file = path;
    MUST(tr_client_open_with(&options, &client));
    CU_ASSERT_STRING_EQUAL(fake_server_counts(fake).token, "0123456789abcdef");
    tr_client_close(client);
    unlink(path);
    CU_ASSERT_EQUAL(tr_client_open_with(&options, &client), TR_ERR_INVALID);
    SAYS(tr_client_error(), path);
    fake_server_stop(fake);
}

/* A host of several addresses, of which only the last listens: "localhost" when it has ::1 too. */
static void a_name_is_resolved(void) {
    fake = fake_server_start(true, FAKE_WELCOME);
    CU_ASSERT_PTR_NOT_NULL_FATAL(fake);
    char url[64];
    snprintf(url, sizeof url, "tcp://localhost:%s", strrchr(fake_server_url(fake), ':') + 1);
    MUST(tr_client_open(url, &client));
    CU_ASSERT_EQUAL(tr_client_state(client), TR_OK);
    tr_client_close(client);
    fake_server_stop(fake);
}

/* Each open stream fails once, with a sentence, whatever ends the connection. */
static void breaks_all_streams(const char *poison, tr_err expected) {
    enum { STREAMS = 16 };
    CU_ASSERT_EQUAL_FATAL(pair_open(), 0);
    tr_stream *streams[STREAMS];
    tr_request *never = request_for("never");
    for (int i = 0; i < STREAMS; i++) {
        MUST(tr_stream_open(client, never, &streams[i]));
    }
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, STREAMS));
    tr_request *poisonous = request_for(poison);
    tr_stream *poisoned = NULL;
    MUST(tr_stream_open(client, poisonous, &poisoned));
    tr_chunk last;
    tr_err err;
    while ((err = tr_stream_next(poisoned, 5000, &last)) == TR_OK) {
    }
    CU_ASSERT_EQUAL(err, expected);
    SAYS(tr_client_error(), fake_server_url(fake));
    tr_stream_close(poisoned);
    tr_request_free(poisonous);
    for (int i = 0; i < STREAMS; i++) {
        tr_chunk chunk;
        CU_ASSERT_EQUAL(tr_stream_next(streams[i], 5000, &chunk), expected);
        CU_ASSERT_EQUAL(tr_stream_next(streams[i], 5000, &chunk), expected);
        CU_ASSERT_EQUAL(tr_result_error(tr_stream_result(streams[i])), expected);
        tr_stream_close(streams[i]);
    }
    tr_request_free(never);
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result = NULL;
    options.model = "count:1:1";
    MUST(tr_ask(client, &options, "on a new connection", &result));
    CU_ASSERT_EQUAL(tr_result_error(result), TR_OK);
    tr_result_free(result);
    pair_close();
}

static void a_dying_daemon_fails_each_stream_once(void) {
    breaks_all_streams("die:3", TR_ERR_CLOSED);
}

static void a_daemon_that_breaks_the_protocol_is_left(void) {
    breaks_all_streams("garbage:3", TR_ERR_TOO_LARGE);
    breaks_all_streams("huge", TR_ERR_TOO_LARGE);
    breaks_all_streams("greedy", TR_ERR_PROTOCOL);
    breaks_all_streams("skip", TR_ERR_PROTOCOL);
}

/* Whatever bytes come, each request ends once, and the client goes on. */
static void noise_breaks_nothing(void) {
    CU_ASSERT_EQUAL_FATAL(pair_open(), 0);
    unsigned whole = 0, broken = 0;
    for (int seed = 0; seed < 400; seed++) {
        char target[32];
        snprintf(target, sizeof target, "noise:%d:%d", seed, seed % 4);
        tr_request *request = request_for(target);
        tr_stream *pulled = NULL;
        tr_result *asked = NULL;
        MUST(tr_stream_open(client, request, &pulled));
        tr_chunk chunk;
        tr_err err;
        while ((err = tr_stream_next(pulled, 10000, &chunk)) == TR_OK) {
        }
        CU_ASSERT_PTR_NOT_NULL(tr_stream_result(pulled));
        whole += err == TR_DONE;
        broken += err != TR_DONE;
        MUST(tr_send_request(client, request, &asked));
        tr_result_free(asked);
        tr_stream_close(pulled);
        tr_request_free(request);
    }
    CU_ASSERT_TRUE(whole >= 100); /* those of which no byte was changed */
    CU_ASSERT_TRUE(broken >= 100);
    pair_close();
}

static void what_arrived_before_the_break_is_in_the_result(void) {
    CU_ASSERT_EQUAL_FATAL(pair_open(), 0);
    tr_request *request = request_for("die:3");
    tr_stream *stream = NULL;
    MUST(tr_stream_open(client, request, &stream));
    tr_chunk chunk;
    for (int i = 0; i < 3; i++) {
        MUST(tr_stream_next(stream, 5000, &chunk));
    }
    CU_ASSERT_EQUAL(tr_stream_next(stream, 5000, &chunk), TR_ERR_CLOSED);
    SAYS(tr_client_error(), "`troupe start`");
    CU_ASSERT_EQUAL(strlen(tr_result_text(tr_stream_result(stream))), 24);
    tr_stream_close(stream);
    tr_request_free(request);
    pair_close();
}

static void a_request_finds_the_restarted_daemon(void) {
    CU_ASSERT_EQUAL_FATAL(pair_open(), 0);
    tr_options options = TR_OPTIONS_INIT;
    options.model = "count:5:5";
    tr_result *result = NULL;
    for (unsigned i = 0; i < 3; i++) {
        fake_server_die(fake);
        CU_ASSERT_TRUE_FATAL(fake_server_back(fake));
        MUST(tr_ask(client, &options, "x", &result));
        if (tr_result_error(result) == TR_ERR_CLOSED) { /* NNG closed after it was sent */
            tr_result_free(result);
            MUST(tr_ask(client, &options, "x", &result));
        }
        CU_ASSERT_EQUAL(tr_result_error(result), TR_OK);
        CU_ASSERT_EQUAL(fake_server_counts(fake).connections, i + 2);
        tr_result_free(result);
    }
    pair_close();
}

/* While the daemon is away, a request waits for it, and comes through when it is back. */
static void a_request_waits_for_the_daemon(void) {
    CU_ASSERT_EQUAL_FATAL(pair_open(), 0);
    fake_server_die(fake);
    tr_request *request = request_for("count:5:5");
    tr_stream *stream = NULL;
    tr_chunk chunk;
    MUST(tr_stream_open(client, request, &stream));
    tr_err err = tr_stream_next(stream, 100, &chunk);
    if (err == TR_ERR_CLOSED) { /* NNG closed after it was sent */
        tr_stream_close(stream);
        MUST(tr_stream_open(client, request, &stream));
        err = tr_stream_next(stream, 100, &chunk);
    }
    CU_ASSERT_EQUAL(err, TR_ERR_TIMEOUT);
    CU_ASSERT_NOT_EQUAL(tr_client_state(client), TR_OK);
    SAYS(tr_client_error(), "`troupe start`");
    CU_ASSERT_TRUE_FATAL(fake_server_back(fake));
    CU_ASSERT_EQUAL(tr_stream_next(stream, 5000, &chunk), TR_OK);
    CU_ASSERT_EQUAL(tr_client_state(client), TR_OK);
    tr_stream_close(stream);
    tr_request_free(request);
    pair_close();
}

static void a_daemon_that_stays_away_is_given_up(void) {
    fake = fake_server_start(false, FAKE_WELCOME);
    CU_ASSERT_PTR_NOT_NULL_FATAL(fake);
    tr_client_options client_options = TR_CLIENT_OPTIONS_INIT;
    client_options.url = fake_server_url(fake);
    client_options.reconnect_ms = 100;
    MUST(tr_client_open_with(&client_options, &client));
    fake_server_die(fake);
    tr_result *result = NULL;
    MUST(tr_ask(client, NULL, "x", &result));
    tr_err first = tr_result_error(result); /* seen gone before or after it was sent */
    CU_ASSERT_TRUE(first == TR_ERR_CLOSED || first == TR_ERR_NO_DAEMON);
    tr_result_free(result);
    double before = seconds();
    MUST(tr_ask(client, NULL, "x", &result));
    CU_ASSERT_EQUAL(tr_result_error(result), TR_ERR_NO_DAEMON);
    SAYS(tr_result_message(result), "`troupe start`");
    CU_ASSERT_TRUE(seconds() - before < 3);
    tr_result_free(result);
    before = seconds();
    tr_request *requests[500];
    tr_result *results[500];
    for (size_t i = 0; i < 500; i++) {
        requests[i] = request_for("x");
    }
    /* None of them waits anew. */
    MUST(tr_gather(client, (const tr_request *const *)requests, 500, 4, results, NULL, NULL));
    CU_ASSERT_TRUE(seconds() - before < 3);
    for (size_t i = 0; i < 500; i++) {
        CU_ASSERT_EQUAL(tr_result_error(results[i]), TR_ERR_NO_DAEMON);
        tr_result_free(results[i]);
        tr_request_free(requests[i]);
    }
    pair_close();
}

static void a_silent_daemon_is_asked_and_given_up(void) {
    fake = fake_server_start(false, FAKE_WELCOME);
    CU_ASSERT_PTR_NOT_NULL_FATAL(fake);
    tr_client_options client_options = TR_CLIENT_OPTIONS_INIT;
    client_options.url = fake_server_url(fake);
    client_options.silence_ms = 200;
    MUST(tr_client_open_with(&client_options, &client));
    tr_request *request = request_for("never");
    tr_stream *stream = NULL;
    MUST(tr_stream_open(client, request, &stream));
    tr_chunk chunk;
    /* It answers PING, so that a slow answer is no silence. */
    CU_ASSERT_EQUAL(tr_stream_next(stream, 700, &chunk), TR_ERR_TIMEOUT);
    CU_ASSERT_PTR_NULL(tr_stream_result(stream));
    CU_ASSERT_TRUE(fake_server_counts(fake).pings >= 2);
    fake_server_hang(fake, true);
    CU_ASSERT_EQUAL(tr_stream_next(stream, 5000, &chunk), TR_ERR_TIMEOUT);
    CU_ASSERT_PTR_NOT_NULL(tr_stream_result(stream));
    SAYS(tr_client_error(), "does not answer any more");
    fake_server_hang(fake, false);
    tr_stream_close(stream);
    tr_request_free(request);
    pair_close();
}

static void streams_outlive_their_client(void) {
    CU_ASSERT_EQUAL_FATAL(pair_open(), 0);
    tr_request *request = request_for("count:3:4");
    tr_stream *done = NULL, *open = NULL;
    MUST(tr_stream_open(client, request, &done));
    tr_chunk chunk;
    while (tr_stream_next(done, 5000, &chunk) == TR_OK) {
    }
    tr_request_free(request);
    request = request_for("never");
    MUST(tr_stream_open(client, request, &open));
    tr_client_close(client);
    CU_ASSERT_STRING_EQUAL(tr_result_finish(tr_stream_result(done)), "stop");
    CU_ASSERT_EQUAL(tr_stream_next(open, -1, &chunk), TR_ERR_CANCELLED);
    tr_stream_close(done);
    tr_stream_close(open);
    tr_request_free(request);
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, 0));
    fake_server_stop(fake);
}

int main(void) {
    CU_initialize_registry();
    CU_pSuite suite = CU_add_suite("connection", NULL, NULL);
    CU_ADD_TEST(suite, an_absent_daemon_is_named_with_the_command);
    CU_ADD_TEST(suite, the_users_socket_is_the_default);
    CU_ADD_TEST(suite, bad_addresses_are_refused);
    CU_ADD_TEST(suite, another_version_is_said);
    CU_ADD_TEST(suite, a_refused_token_is_said);
    CU_ADD_TEST(suite, who_is_no_daemon_is_told_apart);
    CU_ADD_TEST(suite, tcp_carries_the_token);
    CU_ADD_TEST(suite, a_name_is_resolved);
    CU_ADD_TEST(suite, a_dying_daemon_fails_each_stream_once);
    CU_ADD_TEST(suite, a_daemon_that_breaks_the_protocol_is_left);
    CU_ADD_TEST(suite, noise_breaks_nothing);
    CU_ADD_TEST(suite, what_arrived_before_the_break_is_in_the_result);
    CU_ADD_TEST(suite, a_request_finds_the_restarted_daemon);
    CU_ADD_TEST(suite, a_request_waits_for_the_daemon);
    CU_ADD_TEST(suite, a_daemon_that_stays_away_is_given_up);
    CU_ADD_TEST(suite, a_silent_daemon_is_asked_and_given_up);
    CU_ADD_TEST(suite, streams_outlive_their_client);
    return finish_tests();
}
