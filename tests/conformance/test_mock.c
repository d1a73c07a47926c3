/*
 * Provider actor and HTTP door as they run in the daemon, against troupe-mock in one of its
 * dialects: streams, faults, cancelling, backpressure. The mock's own counts tell what the server
 * saw.
 */
#include <CUnit/Basic.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "providers/http.h"
#include "providers/provider.h"
#include "tests/lib/probe.h"

#define STREAMS 64
#define TEXT_max (256 * 1024)

extern char **environ;

/* One request as its caller sees it; guarded by the probe's mutex. */
typedef struct stream {
    char model[256];
    tr_op op;
    uint16_t flags;
    uint32_t credit_messages, credit_bytes, first_token_ms;
    bool grants; /* gives back what it got */
    char *text;
    size_t text_size, bytes;
    unsigned deltas, terminals, choices;
    tr_err err;
    tr_done done;
    tr_fail fail;
    char message[512];
} stream;

static stream streams[STREAMS];
static tr_node *node;
static tr_probe *probe;
static tr_id provider;
static pid_t mock = -1;
static uint16_t port;
/* On the command line: "inproc" for NNG's mailbox, and the kind of provider that the mock is. */
static tr_mailbox_mode mailbox = TR_MAILBOX_DIRECT;
static const char *kind = "openai-compatible";

static void take(tr_self *self, void *arg, tr_msg **msg) {
    (void)arg;
    if (*msg == NULL || (*msg)->ref >= STREAMS) {
        return;
    }
    stream *s = &streams[(*msg)->ref];
    tr_end_view end = {0};
    if ((*msg)->kind == TR_KIND_DELTA) {
        const tr_delta *delta = (const void *)(*msg)->data;
        tr_str text = tr_delta_read(delta).text;
        s->deltas++;
        s->bytes += (*msg)->size;
        s->choices |= 1U << delta->choice;
        if (s->text_size + text.size < TEXT_max) {
            memcpy(s->text + s->text_size, text.ptr, text.size);
            s->text_size += text.size;
        }
        if (s->grants) {
            tr_msg *credit = tr_msg_credit(1, (*msg)->size);
            credit->ref = (*msg)->ref;
            (void)!tr_send_control(self, (*msg)->from, credit);
        }
    } else if ((*msg)->kind == TR_KIND_DONE) {
        s->done = *(const tr_done *)(const void *)(*msg)->data;
        s->err = TR_OK;
        s->terminals++;
    } else if ((*msg)->kind == TR_KIND_FAIL) {
        s->fail = *(const tr_fail *)(const void *)(*msg)->data;
        end = tr_fail_read((const void *)(*msg)->data);
        snprintf(s->message, sizeof(s->message), "%.*s", (int)end.message.size, end.message.ptr);
        s->err = (tr_err)s->fail.err;
        s->terminals++;
    }
}

static void submit_now(tr_self *self, void *arg) {
    const stream *s = arg;
    static const char chat[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello big world\"}]}";
    static const char embed[] = "{\"input\":[\"a\",\"b\"]}";
    const char *text = s->op == TR_OP_EMBED ? embed : chat;
    tr_submit head = {.op = (uint8_t)s->op,
                      .flags = s->flags,
                      .credit_messages = s->credit_messages,
                      .credit_bytes = s->credit_bytes,
                      .first_token_ms = s->first_token_ms};
    tr_submit_view view = {.target = {s->model, strlen(s->model)}};
    tr_body *body = NULL;
    if (s->op == TR_OP_EMBED || s->op == TR_OP_CHAT) {
        body = tr_body_new(strlen(text));
        memcpy(body->bytes, text, strlen(text));
    }
    tr_msg *msg = tr_msg_submit(&head, &view, body);
    msg->ref = (uint64_t)(s - streams);
    if (tr_send(self, provider, &msg) != TR_OK) {
        tr_msg_free(msg);
        streams[s - streams].err = TR_ERR_FULL;
        streams[s - streams].terminals++;
    }
}

static void cancel_now(tr_self *self, void *arg) {
    const stream *s = arg;
    tr_msg *msg = tr_msg_cancel(TR_ERR_CANCELLED);
    msg->ref = (uint64_t)(s - streams);
    (void)!tr_send_control(self, provider, msg);
}

/* A stream with ample credit. */
static stream *prepare(size_t i, const char *model) {
    stream *s = &streams[i];
    free(s->text);
    *s = (stream){.op = TR_OP_CHAT,
                  .credit_messages = 256,
                  .credit_bytes = 256 * 1024,
                  .grants = true,
                  .text = malloc(TEXT_max)};
    CU_ASSERT_PTR_NOT_NULL_FATAL(s->text);
    snprintf(s->model, sizeof(s->model), "%s", model);
    return s;
}

static bool ended(void *arg) {
    return ((const stream *)arg)->terminals > 0;
}

static bool begun(void *arg) {
    return ((const stream *)arg)->deltas > 0;
}

static stream *run(const char *model) {
    stream *s = prepare(0, model);
    tr_probe_run(probe, submit_now, s);
    CU_ASSERT_FATAL(tr_probe_await(probe, ended, s));
    return s;
}

/* ---- the mock's counts ---- */

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static unsigned long long stat(const char *name) {
    char answer[1024] = "";
    char key[64];
    size_t used = 0;
    ssize_t got = 0;
    static const char request[] = "GET /stats HTTP/1.1\r\nConnection: close\r\n\r\n";
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    CU_ASSERT_EQUAL(write(fd, request, sizeof(request) - 1), (ssize_t)sizeof(request) - 1);
    while ((got = read(fd, answer + used, sizeof(answer) - 1 - used)) > 0) {
        used += (size_t)got;
    }
    close(fd);
    snprintf(key, sizeof(key), "\"%s\":", name);
    const char *at = strstr(answer, key);
    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    return strtoull(at + strlen(key), NULL, 10);
}

/* How long until the mock counts `want` aborted answers. */
static uint64_t ms_until_aborted(unsigned long long want) {
    uint64_t start = now_ms();
    while (stat("aborted") < want && now_ms() - start < 5000) {
    }
    CU_ASSERT_EQUAL(stat("aborted"), want);
    return now_ms() - start;
}

/* ---- claims ---- */

static void a_stream_and_a_whole_answer_say_the_same(void) {
    char expected[512] = "";
    for (int i = 0; i < 50; i++) {
        snprintf(expected + strlen(expected), sizeof(expected) - strlen(expected), "t%d ", i);
    }
    for (int whole = 0; whole < 2; whole++) {
        stream *s = prepare(0, "mock:tokens=50");
        s->flags = whole != 0 ? TR_SUBMIT_NO_STREAM : 0;
        tr_probe_run(probe, submit_now, s);
        CU_ASSERT_FATAL(tr_probe_await(probe, ended, s));
        CU_ASSERT_EQUAL(s->err, TR_OK);
        CU_ASSERT_EQUAL(s->text_size, strlen(expected));
        CU_ASSERT_NSTRING_EQUAL(s->text, expected, strlen(expected));
        CU_ASSERT_EQUAL(s->done.finish, TR_FINISH_STOP);
        CU_ASSERT_EQUAL(s->done.usage.out, 50);
    }
}

static void every_fault_has_its_end(void) {
    static const struct {
        const char *plan;
        tr_err err;
    } table[] = {
        {"mock:echo", TR_OK},
        {"mock:nousage", TR_OK},
        {"mock:crlf,split=7", TR_OK},
        {"mock:tools", TR_OK},
        {"mock:reasoning=3", TR_OK},
        {"mock:interval=2ms", TR_OK},
        {"mock:slow_read=20,tokens=1", TR_OK},
        {"mock:nofinish", TR_ERR_TRUNCATED},
        {"mock:cut=0", TR_ERR_TRUNCATED},
        {"mock:cut=300", TR_ERR_TRUNCATED},
        {"mock:cut=300,reset", TR_ERR_TRUNCATED},
        {"mock:error_mid=3", TR_ERR_SERVER},
        {"mock:garbage=1", TR_ERR_PROTOCOL},
        {"mock:html", TR_ERR_NOT_FOUND},
        {"mock:json_error", TR_ERR_SERVER},
        {"mock:status=400", TR_ERR_INVALID},
        {"mock:status=401", TR_ERR_AUTH},
        {"mock:status=402", TR_ERR_QUOTA},
        {"mock:status=404", TR_ERR_NOT_FOUND},
        {"mock:status=429", TR_ERR_RATE_LIMIT},
        {"mock:status=500", TR_ERR_SERVER},
        {"mock:status=503", TR_ERR_OVERLOADED},
        {"mock:status=504", TR_ERR_TIMEOUT},
        {"mock:status=529", TR_ERR_OVERLOADED},
        {"mock:what", TR_ERR_INVALID},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        stream *s = run(table[i].plan);
        if (s->err != table[i].err) {
            printf("\n%s: %s (%s)\n", table[i].plan, tr_err_name(s->err), s->message);
        }
        CU_ASSERT_EQUAL(s->err, table[i].err);
        CU_ASSERT(s->err == TR_OK || s->message[0] != '\0');
    }
    CU_ASSERT(tr_probe_stays(probe, 50, NULL, NULL));
    CU_ASSERT_EQUAL(streams[0].terminals, 1);
    CU_ASSERT_EQUAL(stat("active"), 0);
}

/* OpenAI's [DONE] follows what says the same; Ollama's last line is all there is. */
static void a_stream_without_its_last_event_is_complete_if_it_has_said_so(void) {
    CU_ASSERT_EQUAL(run("mock:nodone")->err,
                    strcmp(kind, "ollama") == 0 ? TR_ERR_TRUNCATED : TR_OK);
}

/* What the provider says to an operation without a prompt. */
static stream *inquire(tr_op op, const char *model) {
    stream *s = prepare(0, model);
    s->op = op;
    tr_probe_run(probe, submit_now, s);
    CU_ASSERT_FATAL(tr_probe_await(probe, ended, s));
    s->text[s->text_size] = '\0';
    return s;
}

static void models_are_listed(void) {
    stream *s = inquire(TR_OP_MODELS, "");
    CU_ASSERT_EQUAL(s->err, TR_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(s->text, "{\"name\":\"mock:echo\""));
}

static void models_are_loaded_and_let_go(void) {
    CU_ASSERT_EQUAL(inquire(TR_OP_UNLOAD, "mock:echo")->err,
                    strcmp(kind, "ollama") == 0 ? TR_OK : TR_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(inquire(TR_OP_LOAD, "mock:echo")->err, TR_OK);
    stream *s = inquire(TR_OP_LOADED, "");
    CU_ASSERT_EQUAL(s->err, TR_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(s->text, "{\"name\":\"mock:echo\""));
    CU_ASSERT_EQUAL(inquire(TR_OP_UNLOAD, "mock:echo")->err, TR_OK);
    s = inquire(TR_OP_LOADED, "");
    CU_ASSERT_EQUAL(s->err, TR_OK);
    CU_ASSERT_PTR_NULL(strstr(s->text, "mock:echo"));
    CU_ASSERT_EQUAL(stat("active"), 0);
}

static void nothing_is_loaded_where_the_provider_loads_by_itself(void) {
    static const tr_op ops[] = {TR_OP_LOADED, TR_OP_LOAD, TR_OP_UNLOAD};
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        stream *s = inquire(ops[i], "mock:echo");
        CU_ASSERT_EQUAL(s->err, TR_ERR_UNSUPPORTED);
        CU_ASSERT_PTR_NOT_NULL(strstr(s->message, "provider box cannot be"));
    }
}

static void advice_travels(void) {
    stream *s = run("mock:status=429,retry_after=2");
    CU_ASSERT_EQUAL(s->fail.status, 429);
    CU_ASSERT_EQUAL(s->fail.flags, TR_FAIL_RETRY_AFTER);
    CU_ASSERT_EQUAL(s->fail.retry_after_ms, 2000);
    s = run("mock:status=503,retry_after=9,retry_after_ms=0");
    CU_ASSERT_EQUAL(s->fail.flags, TR_FAIL_RETRY_AFTER);
    CU_ASSERT_EQUAL(s->fail.retry_after_ms, 0);
    s = run("mock:status=500");
    CU_ASSERT_EQUAL(s->fail.flags, 0);
    s = run("mock:status=500,should_retry=0"); /* x-should-retry */
    CU_ASSERT_EQUAL(s->fail.flags, TR_FAIL_RETRY_NO);
    s = run("mock:status=409,should_retry=1,retry_after=1");
    CU_ASSERT_EQUAL(s->fail.flags, TR_FAIL_RETRY_YES | TR_FAIL_RETRY_AFTER);
}

static void a_server_that_does_not_begin_is_a_time_out(void) {
    unsigned long long aborted = stat("aborted");
    stream *s = prepare(0, "mock:first=10s");
    s->first_token_ms = 50;
    tr_probe_run(probe, submit_now, s);
    CU_ASSERT_FATAL(tr_probe_await(probe, ended, s));
    CU_ASSERT_EQUAL(s->err, TR_ERR_TIMEOUT);
    ms_until_aborted(aborted + 1);
}

static void a_cancel_reaches_the_server_at_once(void) {
    unsigned long long aborted = stat("aborted");
    stream *s = prepare(0, "mock:stall=1500");
    tr_probe_run(probe, submit_now, s);
    CU_ASSERT_FATAL(tr_probe_await(probe, begun, s));
    tr_probe_run(probe, cancel_now, s);
    uint64_t ms = ms_until_aborted(aborted + 1);
    printf("(%llu ms) ", (unsigned long long)ms);
    CU_ASSERT(ms < 250);
    CU_ASSERT_FATAL(tr_probe_await(probe, ended, s));
    CU_ASSERT_EQUAL(s->err, TR_ERR_CANCELLED);
}

static void a_reader_without_credit_stops_the_server(void) {
    unsigned long long before = stat("bytes");
    unsigned long long last = 0, bytes = 1;
    unsigned long long aborted = stat("aborted");
    stream *s = prepare(0, "mock:tokens=1000000,bytes=1000");
    s->grants = false;
    s->credit_messages = 2;
    s->credit_bytes = 128 * 1024;
    tr_probe_run(probe, submit_now, s);
    while (bytes != last) {
        last = bytes;
        CU_ASSERT(tr_probe_stays(probe, 200, NULL, NULL));
        bytes = stat("bytes") - before;
    }
    /* Of a thousand megabytes: what the kernel's socket buffers hold, and one window. */
    CU_ASSERT(bytes < 16U * 1024 * 1024);
    CU_ASSERT(s->deltas <= 2);
    CU_ASSERT(s->bytes <= 128U * 1024);
    CU_ASSERT_EQUAL(s->terminals, 0);
    tr_probe_run(probe, cancel_now, s);
    ms_until_aborted(aborted + 1);
    CU_ASSERT_FATAL(tr_probe_await(probe, ended, s)); /* its last word is for no later stream */
}

static void streams_run_side_by_side(void) {
    for (size_t i = 0; i < STREAMS; i++) {
        stream *s = prepare(i, i % 8 == 7 ? "mock:cut=2000" : "mock:tokens=100,interval=1ms");
        tr_probe_run(probe, submit_now, s);
    }
    for (size_t i = 0; i < STREAMS; i++) {
        CU_ASSERT_FATAL(tr_probe_await(probe, ended, &streams[i]));
        CU_ASSERT_EQUAL(streams[i].err, i % 8 == 7 ? TR_ERR_TRUNCATED : TR_OK);
        CU_ASSERT(i % 8 == 7 || streams[i].text_size == 390);
        CU_ASSERT_EQUAL(streams[i].terminals, 1);
    }
    CU_ASSERT_EQUAL(stat("active"), 0);
}

static void vectors_come_for_each_input(void) {
    stream *s = prepare(0, "mock:dim=6");
    s->op = TR_OP_EMBED;
    tr_probe_run(probe, submit_now, s);
    CU_ASSERT_FATAL(tr_probe_await(probe, ended, s));
    CU_ASSERT_EQUAL(s->err, TR_OK);
    CU_ASSERT_EQUAL(s->choices, 3);
    CU_ASSERT_EQUAL(s->text_size, 2 * 6 * sizeof(float));
}

static void a_connection_serves_many_streams(void) {
    unsigned long long before = stat("accepted");
    for (int i = 0; i < 20; i++) {
        CU_ASSERT_EQUAL(run("mock:tokens=3")->err, TR_OK);
    }
    /* This question's own connection is one; an answer that ended late may have cost another. */
    CU_ASSERT(stat("accepted") - before <= 5);
}

static void messages_went_through_the_mailbox_of_this_run(void) {
    CU_ASSERT_EQUAL(tr_node_inproc_messages(node) > 0, mailbox == TR_MAILBOX_INPROC);
}

static void a_dead_caller_reaches_the_server_too(void) {
    unsigned long long aborted = stat("aborted");
    stream *s = prepare(0, "mock:stall=1500");
    tr_probe_run(probe, submit_now, s);
    CU_ASSERT_FATAL(tr_probe_await(probe, begun, s));
    tr_probe_end(probe);
    CU_ASSERT(ms_until_aborted(aborted + 1) < 250);
}

/* ---- the stage ---- */

static bool start_mock(void) {
    int out[2];
    char line[128] = "";
    char program[] = TROUPE_MOCK;
    char die[] = "--die-with-parent";
    char key[] = "--key=test-key";
    char *argv[] = {program, die, key, NULL};
    posix_spawn_file_actions_t actions;
    if (pipe(out) != 0) {
        return false;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_addclose(&actions, out[0]);
    int failed = posix_spawn(&mock, program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    FILE *file = fdopen(out[0], "r");
    bool up = failed == 0 && file != NULL && fgets(line, sizeof(line), file) != NULL;
    if (file != NULL) {
        fclose(file);
    }
    const char *colon = strrchr(line, ':');
    port = up && colon != NULL ? (uint16_t)strtoul(colon + 1, NULL, 10) : 0;
    return port != 0;
}

static int open_stage(void) {
    char why[200];
    char url[64];
    char door[TR_HTTP_NAME_size];
    char actor[TR_PROVIDER_ACTOR_size];
    tr_node_spec spec = {.shards = 1, .mailbox = mailbox};
    tr_provider_spec box;
    setenv("TROUPE_TEST_KEY", "test-key", 1);
    if (!start_mock()) {
        return 1;
    }
    snprintf(url, sizeof(url), "http://127.0.0.1:%u/v1", (unsigned)port);
    if (tr_node_new(&spec, &node) != TR_OK ||
        tr_provider_spec_init("box", kind, url, "TROUPE_TEST_KEY", &box, why, sizeof(why)) !=
            TR_OK) {
        return 1;
    }
    tr_child_spec children[2] = {tr_http_child(0, tr_http_name(0, door)),
                                 tr_provider_child(&box, 0, actor)};
    for (size_t i = 0; i < 2; i++) {
        tr_spawn_spec child = {.behaviour = children[i].behaviour,
                               .args = children[i].args,
                               .args_size = children[i].args_size,
                               .name = children[i].name,
                               .mailbox_max = children[i].mailbox_max,
                               .registers = true};
        if (tr_node_spawn(node, 0, &child) != TR_OK) {
            return 1;
        }
    }
    if (tr_node_start(node) != TR_OK) {
        return 1;
    }
    probe = tr_probe_new(node, 0, take, NULL); /* after the two, on the same shard */
    provider = tr_whereis(node, "provider:box:0");
    return provider == TR_ID_NONE ? 1 : 0;
}

static int close_stage(void) {
    tr_node_stop(node);
    tr_node_free(node);
    tr_probe_free(probe);
    for (size_t i = 0; i < STREAMS; i++) {
        free(streams[i].text);
    }
    int status = 1;
    kill(mock, SIGTERM);
    waitpid(mock, &status, 0);
    return status;
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "inproc") == 0) {
            mailbox = TR_MAILBOX_INPROC;
        } else {
            kind = argv[i];
        }
    }
    if (CU_initialize_registry() != CUE_SUCCESS) {
        return 1;
    }
    CU_pSuite suite = CU_add_suite("mock", open_stage, close_stage);
    CU_ADD_TEST(suite, a_stream_and_a_whole_answer_say_the_same);
    CU_ADD_TEST(suite, every_fault_has_its_end);
    CU_ADD_TEST(suite, a_stream_without_its_last_event_is_complete_if_it_has_said_so);
    CU_ADD_TEST(suite, models_are_listed);
    if (strcmp(kind, "ollama") == 0 || strcmp(kind, "lmstudio") == 0) {
        CU_ADD_TEST(suite, models_are_loaded_and_let_go);
    } else {
        CU_ADD_TEST(suite, nothing_is_loaded_where_the_provider_loads_by_itself);
    }
    CU_ADD_TEST(suite, advice_travels);
    CU_ADD_TEST(suite, a_server_that_does_not_begin_is_a_time_out);
    CU_ADD_TEST(suite, a_cancel_reaches_the_server_at_once);
    CU_ADD_TEST(suite, a_reader_without_credit_stops_the_server);
    CU_ADD_TEST(suite, streams_run_side_by_side);
    if (strcmp(kind, "anthropic") != 0) {
        CU_ADD_TEST(suite, vectors_come_for_each_input);
    }
    CU_ADD_TEST(suite, a_connection_serves_many_streams);
    CU_ADD_TEST(suite, messages_went_through_the_mailbox_of_this_run);
    CU_ADD_TEST(suite, a_dead_caller_reaches_the_server_too);
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    bool failed = CU_get_number_of_failures() > 0 || CU_get_number_of_suites_failed() > 0;
    CU_cleanup_registry();
    return failed ? 1 : 0;
}
