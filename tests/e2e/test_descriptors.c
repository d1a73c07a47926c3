/*
 * What comes and goes leaves no descriptor in the daemon: clients that break off in every way, and
 * requests that fail upstream in every way. Connections that curl keeps for the next request are a
 * bounded number, and gone when their provider is unloaded, or soon after a crowd; then there are
 * as many descriptors as at the start, exactly.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/e2e/raw.h"
#include "tests/e2e/upstream.h"

#define ROUNDS 20
#define KEPT_max 64 /* idle connections a shard: docs/architecture/providers.md */
#define SHARDS 2
#define CROWD 200

static uint16_t port;
static tr_client *client;
static long at_start;

/* Of the daemon; printed when `told`. */
static long descriptors(bool told) {
    char folder[64], path[320], what[256];
    long count = 0;
    snprintf(folder, sizeof folder, "/proc/%d/fd", (int)tr_stage_now.daemon);
    DIR *dir = opendir(folder);
    CU_ASSERT_PTR_NOT_NULL_FATAL(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        count++;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        ssize_t size = told ? readlink(path, what, sizeof what - 1) : -1;
        if (size >= 0) {
            printf("    %s %.*s\n", entry->d_name, (int)size, what);
        }
    }
    closedir(dir);
    return count;
}

static bool are_few(void *arg) {
    return descriptors(false) <= *(const long *)arg;
}

static void expect_at_most(long most) {
    bool few = tr_stage_until(are_few, &most, 10000);
    if (!few) {
        printf("\n    %ld descriptors, and not %ld:\n", descriptors(true), most);
    }
    CU_ASSERT_TRUE(few);
}

static void forget_connections(const char *provider) {
    char ask[128], *answer = NULL;
    snprintf(ask, sizeof ask, "{\"do\":\"unload\",\"model\":\"%s\"}", provider);
    CU_ASSERT_EQUAL_FATAL(tr_control_json(client, ask, &answer), TR_OK);
    tr_memory_free(answer);
}

static tr_err answer_of(const char *model, uint32_t patience_ms) {
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result = NULL;
    options.model = model;
    options.retries = 0;
    options.connect_ms = patience_ms;
    options.first_token_ms = patience_ms;
    options.idle_ms = patience_ms;
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "hi", &result), TR_OK);
    tr_err err = tr_result_error(result);
    tr_result_free(result);
    return err;
}

/* ---- claims ---- */

static void greet(int fd) {
    uint8_t bytes[512];
    raw_frame frame;
    CU_ASSERT_TRUE(raw_write(fd, bytes, raw_hello(bytes, TR_PROTOCOL_VERSION)));
    CU_ASSERT_TRUE(raw_read(fd, &frame, 5000) && frame.kind == TR_KIND_WELCOME);
}

/* The `how`th way to come and to go. */
static void come_and_go(int how) {
    static const char body[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"go\"}]}";
    uint8_t bytes[1024];
    raw_frame frame;
    int fd = raw_dial();
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    size_t hello = raw_hello(bytes, TR_PROTOCOL_VERSION);
    if (how == 1) { /* half a word */
        (void)raw_write(fd, bytes, hello / 2);
    } else if (how == 2) { /* a frame that nobody knows the end of */
        memset(bytes, 0xff, sizeof bytes);
        (void)raw_write(fd, bytes, sizeof bytes);
        CU_ASSERT_TRUE(raw_closes(fd, 5000));
    } else if (how == 3) { /* nothing of an answer is read that has begun */
        greet(fd);
        size_t size =
            raw_submit(bytes, 7, "mock/mock:tokens=1000000,interval=1ms", body, 100000, 1 << 24);
        CU_ASSERT_TRUE(raw_write(fd, bytes, size));
        CU_ASSERT_TRUE(raw_read(fd, &frame, 10000));
    } else if (how == 4) { /* the same, of a local model */
        greet(fd);
        CU_ASSERT_TRUE(raw_write(fd, bytes, raw_submit(bytes, 7, "random", body, 100000, 1 << 24)));
        CU_ASSERT_TRUE(raw_read(fd, &frame, 10000));
    }
    close(fd);
}

static void clients_that_break_off_leave_none(void) {
    int silent[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) { /* whom the daemon itself closes, in the end */
        silent[i] = raw_dial();
        CU_ASSERT_TRUE_FATAL(silent[i] >= 0);
    }
    for (int how = 0; how < 5; how++) {
        for (int i = 0; i < ROUNDS * 2; i++) {
            come_and_go(how);
        }
    }
    for (int i = 0; i < ROUNDS; i++) {
        CU_ASSERT_TRUE(raw_closes(silent[i], 10000));
        close(silent[i]);
    }
    CU_ASSERT_TRUE(tr_upstream_comes_to("active", 0, 10000));
    expect_at_most(at_start + KEPT_max * SHARDS);
    forget_connections("mock");
    expect_at_most(at_start);
}

static void requests_that_fail_upstream_leave_none(void) {
    /* "plain" is the mock behind https: it waits for the end of a request, and never hears it. */
    static const char *const models[] = {"mock/mock:tokens=%d,status=500",
                                         "mock/mock:tokens=%d,status=429",
                                         "mock/mock:tokens=%d,cut=300",
                                         "mock/mock:tokens=%d,cut=300,reset",
                                         "mock/mock:tokens=%d,cut=0",
                                         "mock/mock:tokens=%d,html",
                                         "mock/mock:tokens=%d,garbage=1",
                                         "mock/mock:tokens=%d,error_mid=1",
                                         "mock/mock:tokens=%d,stall=0",
                                         "dead/m%d",
                                         "plain/m%d",
                                         "nowhere/m%d"};
    char model[128];
    for (int i = 0; i < ROUNDS; i++) {
        for (size_t k = 0; k < sizeof models / sizeof models[0]; k++) {
            if (k == 11 && i >= 5) {
                continue; /* a resolver may take its time */
            }
            /* The number makes it another model, so that no breaker keeps it from being sent. */
            snprintf(model, sizeof model, models[k], i + 2);
            CU_ASSERT_NOT_EQUAL(answer_of(model, k == 8 || k == 10 ? 50 : 0), TR_OK);
        }
    }
    CU_ASSERT_TRUE(tr_upstream_comes_to("active", 0, 10000));
    CU_ASSERT_TRUE(tr_upstream_stat("requests") >= 9LL * ROUNDS);
    expect_at_most(at_start + KEPT_max * SHARDS);
    forget_connections("mock");
    expect_at_most(at_start);
}

/* More at once than are kept, each of which ends with `err`. */
static void come_as_a_crowd(const char *model, tr_err err) {
    static tr_stream *streams[CROWD];
    tr_options options = TR_OPTIONS_INIT;
    tr_request *request = NULL;
    tr_chunk chunk;
    options.model = model;
    options.retries = 0;
    tr_upstream_reset();
    CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &request), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_request_text(request, "user", "hi"), TR_OK);
    for (int i = 0; i < CROWD; i++) {
        CU_ASSERT_EQUAL_FATAL(tr_stream_open(client, request, &streams[i]), TR_OK);
    }
    for (int i = 0; i < CROWD; i++) {
        tr_err ended;
        while ((ended = tr_stream_next(streams[i], 20000, &chunk)) == TR_OK) {
        }
        CU_ASSERT_EQUAL(ended, err);
        tr_stream_close(streams[i]);
    }
    tr_request_free(request);
    CU_ASSERT_EQUAL(tr_upstream_stat("requests"), CROWD);
}

/* Nobody has to say that those of a crowd may go. */
static void a_crowd_that_fails_leaves_none_after_a_moment(void) {
    come_as_a_crowd("mock/mock:status=500,first=1500ms", TR_ERR_SERVER);
    printf("\n    %ld descriptors at the start, %ld after a crowd of %d\n", at_start,
           descriptors(false), CROWD);
    expect_at_most(at_start);
}

/* The moment begins anew with each request. */
static void connections_of_a_crowd_stay_while_they_are_in_use(void) {
    come_as_a_crowd("mock/mock:first=1500ms,tokens=1", TR_DONE);
    for (int i = 0; i < 8; i++) {
        CU_ASSERT_EQUAL(answer_of("mock/mock:tokens=1", 0), TR_OK);
        CU_ASSERT_FALSE(tr_upstream_comes_to("active", 99, 400)); /* time goes by */
        CU_ASSERT_TRUE(descriptors(false) >= at_start + CROWD);
    }
    expect_at_most(at_start);
}

/* ---- the stage ---- */

static void open_stage(void) {
    static char extra[1024];
    port = tr_upstream_open(NULL);
    /* Port 1 of loopback refuses; ".invalid" is nobody's (RFC 6761). */
    snprintf(extra, sizeof extra,
             "shards: 2\nproviders:\n"
             "  mock: {kind: openai-compatible, base_url: 'http://127.0.0.1:%u/v1', at_once: 500}\n"
             "  plain: {kind: openai-compatible, base_url: 'https://127.0.0.1:%u/v1'}\n"
             "  dead: {kind: openai-compatible, base_url: 'http://127.0.0.1:1/v1'}\n"
             "  nowhere: {kind: openai-compatible, base_url: 'http://nowhere.invalid/v1'}\n",
             (unsigned)port, (unsigned)port);
    tr_stage_open(1, extra);
    client = tr_stage_client();
    /* What is made once, when it is needed first. */
    CU_ASSERT_EQUAL(answer_of("mock/mock:", 0), TR_OK);
    CU_ASSERT_EQUAL(answer_of("chain", 0), TR_OK);
    CU_ASSERT_NOT_EQUAL(answer_of("plain/m", 50), TR_OK);
    CU_ASSERT_NOT_EQUAL(answer_of("nowhere/m", 0), TR_OK);
    forget_connections("mock");
    at_start = descriptors(false);
}

static void close_stage(void) {
    tr_client_close(client);
    tr_stage_close();
    tr_upstream_close();
}

int main(void) {
    CU_TestInfo tests[] = {
        {"(the mock and the daemon start)", open_stage},
        {"clients_that_break_off_leave_none", clients_that_break_off_leave_none},
        {"requests_that_fail_upstream_leave_none", requests_that_fail_upstream_leave_none},
        {"a_crowd_that_fails_leaves_none_after_a_moment",
         a_crowd_that_fails_leaves_none_after_a_moment},
        {"connections_of_a_crowd_stay_while_they_are_in_use",
         connections_of_a_crowd_stay_while_they_are_in_use},
        {"(they stop)", close_stage},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("descriptors", tests);
}
