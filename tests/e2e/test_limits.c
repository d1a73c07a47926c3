/*
 * A request's time limits, each apart from the others, through the daemon and troupe-mock: which
 * one ended it is told by its sentence. Each is set once by the configuration and once by the
 * request, and one that is short never ends what another one is for: a long prefill is no silence,
 * and a stream that its client does not read is stalled and not idle.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/e2e/upstream.h"

static tr_client *client;
static uint16_t port;

static tr_options options_of(const char *model) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = model;
    options.retries = 0;
    return options;
}

static void expect(const tr_options *options, tr_err err, const char *words) {
    tr_result *result = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, options, "hi", &result), TR_OK);
    if (tr_result_error(result) != err || strstr(tr_result_message(result), words) == NULL) {
        printf("\n    %s: %s: %s\n", options->model, tr_err_name(tr_result_error(result)),
               tr_result_message(result));
    }
    CU_ASSERT_EQUAL(tr_result_error(result), err);
    CU_ASSERT_PTR_NOT_NULL(strstr(tr_result_message(result), words));
    tr_result_free(result);
}

static void restart(const char *timeouts) {
    char text[1024];
    snprintf(text, sizeof text,
             "timeouts: {%s}\nproviders:\n"
             "  mock: {kind: openai-compatible, base_url: 'http://127.0.0.1:%u/v1'}\n",
             timeouts, (unsigned)port);
    tr_client_close(client);
    tr_stage_kill();
    tr_stage_configure(1, text);
    tr_stage_restart();
    client = tr_stage_client();
}

/* ---- claims ---- */

static void each_limit_of_a_request_has_its_sentence(void) {
    tr_options options = options_of("mock/mock:first=20s");
    options.first_token_ms = 150;
    expect(&options, TR_ERR_TIMEOUT, "no first token came within 150 ms");
    options = options_of("mock/mock:tokens=9,stall=600");
    options.idle_ms = 150;
    expect(&options, TR_ERR_TIMEOUT, "the stream fell silent for 150 ms");
    options = options_of("mock/mock:tokens=9999,interval=20ms");
    options.total_ms = 250;
    expect(&options, TR_ERR_TIMEOUT,
           "the answer was not complete within the total limit of 250 ms");
}

static bool is_listed_as_waiting(void *arg) {
    char *text = NULL;
    bool listed = tr_control_json(arg, "{\"do\":\"requests\"}", &text) == TR_OK &&
                  strstr(text, "\"waiting at limits of one target=one/mock ") != NULL;
    tr_memory_free(text);
    return listed;
}

static tr_stream *open_stream(const tr_options *options) {
    tr_request *request = NULL;
    tr_stream *stream = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_request_new(options, &request), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_request_text(request, "user", "hi"), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_stream_open(client, request, &stream), TR_OK);
    tr_request_free(request);
    return stream;
}

static void a_limiter_that_lets_nobody_in_is_named(void) {
    tr_options options = options_of("one/mock:tokens=9999,interval=20ms");
    tr_stream *first = open_stream(&options);
    tr_chunk chunk;
    CU_ASSERT_EQUAL_FATAL(tr_stream_next(first, 20000, &chunk), TR_OK);
    options = options_of("one/mock");
    tr_stream *second = open_stream(&options);
    CU_ASSERT_TRUE(tr_stage_until(is_listed_as_waiting, client, 20000));
    options.total_ms = 250;
    expect(&options, TR_ERR_TIMEOUT,
           " ms at the limits of provider one (troupe limit one): the answer was not complete "
           "within the total limit of 250 ms");
    tr_stream_close(second);
    tr_stream_close(first);
}

static void command_line_has_each_limit(void) {
    static const char *const limits[][3] = {
        {"mock/mock:first=20s", "--first-token-timeout", "no first token came within 200 ms"},
        {"mock/mock:tokens=9,stall=600", "--idle-timeout", "the stream fell silent for 200 ms"},
        {"mock/mock:tokens=9999,interval=20ms", "--timeout", "within the total limit of 200 ms"},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        char out[65536];
        const char *argv[] = {"troupe", "ask", "-m",         limits[i][0], "--retries",
                              "0",      "hi",  limits[i][1], "200ms",      NULL};
        CU_ASSERT_EQUAL(tr_stage_run(argv, out, sizeof out), 6);
        CU_ASSERT_TRUE(tr_stage_logged(limits[i][2]) > 0);
    }
}

static void short_idle_limit_ends_no_long_prefill(void) {
    tr_options options = options_of("mock/mock:first=900ms,tokens=2");
    options.idle_ms = 100;
    expect(&options, TR_OK, "");
}

static void short_first_token_limit_ends_no_slow_stream(void) {
    tr_options options = options_of("mock/mock:tokens=4,interval=400ms");
    options.first_token_ms = 300;
    expect(&options, TR_OK, "");
}

static void each_limit_of_the_configuration_has_its_sentence(void) {
    tr_options options = options_of("mock/mock:first=20s");
    restart("first_token: 200ms, idle: 30s");
    expect(&options, TR_ERR_TIMEOUT, "no first token came within 200 ms");
    options.first_token_ms = 100; /* the request's goes before */
    expect(&options, TR_ERR_TIMEOUT, "no first token came within 100 ms");
    options = options_of("mock/mock:tokens=9,stall=600");
    restart("first_token: 30s, idle: 200ms");
    expect(&options, TR_ERR_TIMEOUT, "the stream fell silent for 200 ms");
    options = options_of("mock/mock:first=20s");
    restart("first_token: 30s, idle: 30s, total: 300ms");
    expect(&options, TR_ERR_TIMEOUT,
           "the answer was not complete within the total limit of 300 ms");
}

/* The client has room for two chunks and takes none. */
static tr_err unread(uint32_t idle_ms, int wait_ms, const char *words) {
    tr_options options = options_of("mock/mock:tokens=400,bytes=200,interval=1ms");
    tr_request *request = NULL;
    tr_stream *stream = NULL;
    tr_chunk chunk;
    tr_err err = TR_OK;
    options.idle_ms = idle_ms;
    options.window_messages = 2;
    CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &request), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_request_text(request, "user", "hi"), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_stream_open(client, request, &stream), TR_OK);
    CU_ASSERT_FALSE(tr_upstream_comes_to("active", 99, wait_ms)); /* time goes by */
    while ((err = tr_stream_next(stream, 20000, &chunk)) == TR_OK) {
    }
    const tr_result *result = tr_stream_result(stream);
    CU_ASSERT_PTR_NOT_NULL_FATAL(result);
    if (strstr(tr_result_message(result), words) == NULL) {
        printf("\n    %s: %s\n", tr_err_name(err), tr_result_message(result));
        CU_FAIL("another sentence");
    }
    tr_stream_close(stream);
    tr_request_free(request);
    return err;
}

static void unread_stream_is_ended_by_the_stalled_limit_alone(void) {
    restart("stalled: 30s");
    CU_ASSERT_EQUAL(unread(100, 1000, ""), TR_DONE);
    restart("stalled: 300ms, idle: 30s");
    CU_ASSERT_EQUAL(unread(0, 1500, "the client has not read its stream for 300 ms"),
                    TR_ERR_STALLED);
}

/* A listener whose queue is full answers no SYN. */
static void connect_limit_is_its_own(void) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int fill[4];
    char text[512];
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(listener, (struct sockaddr *)&address, size), 0);
    CU_ASSERT_EQUAL_FATAL(listen(listener, 0), 0);
    CU_ASSERT_EQUAL(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    for (size_t i = 0; i < sizeof fill / sizeof *fill; i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(fill[i], (struct sockaddr *)&address, size);
    }
    snprintf(text, sizeof text,
             "timeouts: {connect: 300ms}\nproviders:\n"
             "  full: {kind: openai-compatible, base_url: 'http://127.0.0.1:%u/v1'}\n",
             (unsigned)ntohs(address.sin_port));
    tr_client_close(client);
    tr_stage_kill();
    tr_stage_configure(1, text);
    tr_stage_restart();
    client = tr_stage_client();
    tr_options options = options_of("full/m");
    expect(&options, TR_ERR_TIMEOUT, "cannot connect to http://127.0.0.1:");
    expect(&options, TR_ERR_TIMEOUT, "300 ms");
    options.connect_ms = 150;
    expect(&options, TR_ERR_TIMEOUT, "cannot connect to http://127.0.0.1:");
    expect(&options, TR_ERR_TIMEOUT, "150 ms");
    for (size_t i = 0; i < sizeof fill / sizeof *fill; i++) {
        close(fill[i]);
    }
    close(listener);
}

static void open_stage(void) {
    char text[512];
    port = tr_upstream_open(NULL);
    snprintf(text, sizeof text,
             "providers:\n"
             "  mock: {kind: openai-compatible, base_url: 'http://127.0.0.1:%u/v1'}\n"
             "  one: {kind: openai-compatible, base_url: 'http://127.0.0.1:%u/v1', at_once: 1}\n",
             (unsigned)port, (unsigned)port);
    tr_stage_open(1, text);
    client = tr_stage_client();
}

static void close_stage(void) {
    tr_client_close(client);
    tr_stage_close();
    tr_upstream_close();
}

int main(void) {
    CU_TestInfo tests[] = {
        {"(the daemon and the mock start)", open_stage},
        {"each_limit_of_a_request_has_its_sentence", each_limit_of_a_request_has_its_sentence},
        {"a_limiter_that_lets_nobody_in_is_named", a_limiter_that_lets_nobody_in_is_named},
        {"command_line_has_each_limit", command_line_has_each_limit},
        {"short_idle_limit_ends_no_long_prefill", short_idle_limit_ends_no_long_prefill},
        {"short_first_token_limit_ends_no_slow_stream",
         short_first_token_limit_ends_no_slow_stream},
        {"each_limit_of_the_configuration_has_its_sentence",
         each_limit_of_the_configuration_has_its_sentence},
        {"unread_stream_is_ended_by_the_stalled_limit_alone",
         unread_stream_is_ended_by_the_stalled_limit_alone},
        {"connect_limit_is_its_own", connect_limit_is_its_own},
        {"(they end)", close_stage},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("limits", tests);
}
