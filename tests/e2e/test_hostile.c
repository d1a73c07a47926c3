/* Peers that break the protocol. After each, a normal request works and the daemon is at rest. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "protocol/frame.h"
#include "protocol/limits.h"
#include "tests/e2e/raw.h"
#include "tests/e2e/stage.h"

static tr_client *client;
static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz";
static const char body[] =
    "{\"messages\":[{\"role\":\"user\",\"content\":\"go\"}],\"temperature\":0}";

/* Somebody else's request works, and the daemon uses less than 1 % of a processor for 2 s. */
static void all_is_well(void) {
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result = NULL;
    options.model = "chain";
    options.temperature = 0;
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "say it", &result), TR_OK);
    CU_ASSERT_STRING_EQUAL(tr_result_text(result), alphabet);
    tr_result_free(result);
    long before = tr_stage_cpu_ms();
    poll(NULL, 0, 2000);
    long used = tr_stage_cpu_ms() - before;
    if (used >= 20) {
        printf("\n    %ld ms of CPU in 2 s\n", used);
    }
    CU_ASSERT_TRUE(used <= 20); /* the clock's tick is 10 ms */
}

/* A peer that has said HELLO and got WELCOME. */
static int greeted(void) {
    uint8_t bytes[512];
    raw_frame frame;
    int fd = raw_dial();
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CU_ASSERT_TRUE(raw_write(fd, bytes, raw_hello(bytes, TR_PROTOCOL_VERSION)));
    CU_ASSERT_TRUE_FATAL(raw_read(fd, &frame, 5000));
    CU_ASSERT_EQUAL(frame.kind, TR_KIND_WELCOME);
    return fd;
}

/* The next frame is FAIL `err` with ref 0, and the daemon closes; so does this. */
static void refused(int fd, tr_err err) {
    raw_frame frame;
    bool came = raw_read(fd, &frame, 5000);
    CU_ASSERT_TRUE(came);
    if (came) {
        CU_ASSERT_EQUAL(frame.kind, TR_KIND_FAIL);
        CU_ASSERT_EQUAL(frame.ref, 0);
        CU_ASSERT_EQUAL(((const tr_fail *)(const void *)frame.data)->err, err);
    }
    CU_ASSERT_TRUE(raw_closes(fd, 3000));
    close(fd);
}

static void connect_and_close(void) {
    for (int i = 0; i < 200; i++) {
        int fd = raw_dial();
        CU_ASSERT_TRUE(fd >= 0);
        close(fd);
    }
    all_is_well();
}

static void two_hundred_dials_at_once(void) {
    enum { N = 200 };
    int fds[N];
    for (int i = 0; i < N; i++) {
        fds[i] = raw_dial();
        CU_ASSERT_TRUE(fds[i] >= 0);
    }
    for (int i = 0; i < N; i++) {
        uint8_t bytes[512];
        raw_frame frame;
        CU_ASSERT_TRUE(raw_write(fds[i], bytes, raw_hello(bytes, TR_PROTOCOL_VERSION)));
        CU_ASSERT_TRUE(raw_read(fds[i], &frame, 5000) && frame.kind == TR_KIND_WELCOME);
    }
    for (int i = 0; i < N; i++) {
        close(fds[i]);
    }
    all_is_well();
}

static void a_silent_peer_is_closed_after_5_s(void) {
    int fd = raw_dial();
    long began = tr_stage_now_ms();
    CU_ASSERT_TRUE(raw_closes(fd, 8000));
    long took = tr_stage_now_ms() - began;
    CU_ASSERT_TRUE(took >= 4500 && took <= 7500);
    close(fd);
    all_is_well();
}

static void garbage(void) {
    uint8_t bytes[4096];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * 37 + 11);
    }
    int fd = raw_dial();
    (void)raw_write(fd, bytes, sizeof bytes);
    CU_ASSERT_TRUE(raw_closes(fd, 3000));
    close(fd);
    fd = greeted();
    (void)raw_write(fd, bytes, sizeof bytes);
    CU_ASSERT_TRUE(raw_closes(fd, 3000));
    close(fd);
    fd = raw_dial();
    CU_ASSERT_TRUE(raw_write(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27));
    CU_ASSERT_TRUE(raw_closes(fd, 3000));
    close(fd);
    all_is_well();
}

static void a_frame_that_claims_a_gibibyte(void) {
    uint8_t bytes[512];
    size_t size = raw_submit(bytes, 1, "chain", body, 8, 65536);
    uint32_t claim = 1U << 30;
    long rss = tr_stage_rss_kib();
    int fd = greeted();
    memcpy(bytes, &claim, sizeof claim);
    CU_ASSERT_TRUE(raw_write(fd, bytes, size));
    refused(fd, TR_ERR_TOO_LARGE);
    CU_ASSERT_TRUE(tr_stage_rss_kib() - rss < 4096);
    all_is_well();
}

static void another_version(void) {
    uint8_t bytes[512];
    int fd = raw_dial();
    CU_ASSERT_TRUE(raw_write(fd, bytes, raw_hello(bytes, 99)));
    refused(fd, TR_ERR_VERSION);
    all_is_well();
}

static void hello_twice_and_submit_before_it(void) {
    uint8_t bytes[512];
    int fd = greeted();
    CU_ASSERT_TRUE(raw_write(fd, bytes, raw_hello(bytes, TR_PROTOCOL_VERSION)));
    refused(fd, TR_ERR_PROTOCOL);
    fd = raw_dial();
    /* Without a body: before HELLO none is taken. */
    CU_ASSERT_TRUE(raw_write(fd, bytes, raw_submit(bytes, 1, "chain", "", 8, 65536)));
    refused(fd, TR_ERR_PROTOCOL);
    all_is_well();
}

static bool none_running(void *arg) {
    (void)arg;
    return tr_stage_running(client) == 0;
}

static void a_ref_that_is_in_use(void) {
    uint8_t bytes[512];
    int fd = greeted();
    size_t size = raw_submit(bytes, 7, "random", body, 0, 0);
    CU_ASSERT_TRUE(raw_write(fd, bytes, size) && raw_write(fd, bytes, size));
    refused(fd, TR_ERR_PROTOCOL);
    CU_ASSERT_TRUE(tr_stage_until(none_running, NULL, 2000));
    all_is_well();
}

/* The flag of a hedge's second call would skip the first target, for which there is none here. */
static void flags_that_are_no_clients_change_nothing(void) {
    uint8_t bytes[512];
    raw_frame frame;
    const uint16_t flags = (uint16_t) ~(TR_SUBMIT_NO_STREAM | TR_SUBMIT_HEDGE | TR_SUBMIT_SHOW);
    int fd = greeted();
    size_t size = raw_submit(bytes, 7, "pair",
                             "{\"messages\":[{\"role\":\"user\","
                             "\"content\":\"hi\"}]}",
                             256, 262144);
    memcpy(bytes + TR_FRAME_HEADER_size + offsetof(tr_submit, flags), &flags, sizeof flags);
    CU_ASSERT_TRUE(raw_write(fd, bytes, size));
    do {
        CU_ASSERT_TRUE_FATAL(raw_read(fd, &frame, 10000));
    } while (frame.kind == TR_KIND_DELTA);
    CU_ASSERT_EQUAL_FATAL(frame.kind, TR_KIND_DONE);
    CU_ASSERT_EQUAL(((const tr_done *)frame.data)->attempts, 1);
    CU_ASSERT_EQUAL(((const tr_done *)frame.data)->flags, 0);
    close(fd);
    all_is_well();
}

static void credit_that_never_comes(void) {
    uint8_t bytes[512];
    raw_frame frame;
    int fd = greeted();
    CU_ASSERT_TRUE(raw_write(fd, bytes, raw_submit(bytes, 7, "random", body, 0, 0)));
    CU_ASSERT_FALSE(raw_read(fd, &frame, 300)); /* no DELTA without credit */
    all_is_well();
    CU_ASSERT_EQUAL(tr_stage_running(client), 1);
    close(fd);
    CU_ASSERT_TRUE(tr_stage_until(none_running, NULL, 2000));
}

static void half_a_frame(void) {
    uint8_t bytes[512];
    size_t size = raw_hello(bytes, TR_PROTOCOL_VERSION);
    for (size_t part = 1; part < size; part += 7) {
        int fd = raw_dial();
        CU_ASSERT_TRUE(raw_write(fd, bytes, part));
        close(fd);
    }
    size = raw_submit(bytes, 7, "chain", body, 8, 65536);
    for (size_t part = 1; part < size; part += 17) {
        int fd = greeted();
        CU_ASSERT_TRUE(raw_write(fd, bytes, part));
        close(fd);
    }
    all_is_well();
}

static void byte_by_byte_is_a_valid_session(void) {
    uint8_t bytes[512];
    char text[64] = "";
    raw_frame frame = {.kind = 0};
    int fd = raw_dial();
    size_t size = raw_hello(bytes, TR_PROTOCOL_VERSION);
    for (size_t i = 0; i < size; i++) {
        CU_ASSERT_TRUE(raw_write(fd, bytes + i, 1));
    }
    CU_ASSERT_TRUE(raw_read(fd, &frame, 5000) && frame.kind == TR_KIND_WELCOME);
    size = raw_submit(bytes, 9, "chain", body, 256, 262144);
    for (size_t i = 0; i < size; i++) {
        CU_ASSERT_TRUE(raw_write(fd, bytes + i, 1));
    }
    uint32_t seq = 0;
    while (raw_read(fd, &frame, 10000) && frame.kind == TR_KIND_DELTA) {
        const tr_delta *delta = (const tr_delta *)(const void *)frame.data;
        tr_str piece = tr_delta_read(delta).text;
        CU_ASSERT_EQUAL(frame.ref, 9);
        CU_ASSERT_EQUAL(delta->seq, seq++);
        CU_ASSERT_EQUAL(delta->token_count, 0);
        CU_ASSERT_TRUE_FATAL(strlen(text) + piece.size < sizeof text);
        strncat(text, piece.ptr, piece.size);
    }
    CU_ASSERT_EQUAL(frame.kind, TR_KIND_DONE);
    CU_ASSERT_STRING_EQUAL(text, alphabet);
    close(fd);
    all_is_well();
}

/* Whoever serves it is killed before a token could come; three of them, and no more. */
static void a_poisonous_prompt_fails_and_the_pool_lives(void) {
    static uint8_t bytes[8192];
    static char slow[4096]; /* reading it takes long enough for the killer */
    raw_frame frame = {.kind = 0};
    bool came = false;
    int killed = 0;
    int fd = greeted();
    int used = snprintf(slow, sizeof slow, "{\"messages\":[{\"role\":\"user\",\"content\":\"");
    memset(slow + used, 'a', 3700);
    snprintf(slow + used + 3700, sizeof slow - (size_t)used - 3700, "\"}]}");
    CU_ASSERT_TRUE(raw_write(fd, bytes, raw_submit(bytes, 7, "random", slow, 256, 262144)));
    long until = tr_stage_now_ms() + 20000;
    while (!came && killed < 10 && tr_stage_now_ms() < until) {
        pid_t pid =
            tr_stage_active(client, "random") > 0 ? tr_stage_worker(client, "random", 0) : 0;
        killed += pid > 0 && kill(pid, SIGKILL) == 0;
        came = raw_read(fd, &frame, 20);
        for (int i = 0; pid > 0 && !came && i < 200 && tr_stage_worker(client, "random", 0) == pid;
             i++) {
            came = raw_read(fd, &frame, 5); /* until the daemon has seen that death */
        }
    }
    CU_ASSERT_TRUE_FATAL(came);
    CU_ASSERT_EQUAL(frame.kind, TR_KIND_FAIL);
    CU_ASSERT_EQUAL(frame.ref, 7);
    CU_ASSERT_EQUAL(((const tr_fail *)(const void *)frame.data)->err, TR_ERR_CRASHED);
    CU_ASSERT_EQUAL(killed, 3);
    close(fd);
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result = NULL;
    options.model = "random";
    options.max_tokens = 5;
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, "harmless", &result), TR_OK);
    CU_ASSERT_EQUAL(tr_result_error(result), TR_OK);
    tr_result_free(result);
    all_is_well();
}

static void open_stage(void) {
    tr_stage_open(
        1, "providers:\n  dead: {kind: openai-compatible, base_url: \"http://127.0.0.1:1/v1\"}\n"
           "aliases:\n  pair: [echo/x, dead/x]\n");
    client = tr_stage_client();
}

static void close_stage(void) {
    tr_client_close(client);
    tr_stage_close();
}

int main(void) {
    CU_TestInfo tests[] = {
        {"(the daemon starts)", open_stage},
        {"connect_and_close", connect_and_close},
        {"two_hundred_dials_at_once", two_hundred_dials_at_once},
        {"a_silent_peer_is_closed_after_5_s", a_silent_peer_is_closed_after_5_s},
        {"garbage", garbage},
        {"a_frame_that_claims_a_gibibyte", a_frame_that_claims_a_gibibyte},
        {"another_version", another_version},
        {"hello_twice_and_submit_before_it", hello_twice_and_submit_before_it},
        {"a_ref_that_is_in_use", a_ref_that_is_in_use},
        {"flags_that_are_no_clients_change_nothing", flags_that_are_no_clients_change_nothing},
        {"credit_that_never_comes", credit_that_never_comes},
        {"half_a_frame", half_a_frame},
        {"byte_by_byte_is_a_valid_session", byte_by_byte_is_a_valid_session},
        {"a_poisonous_prompt_fails_and_the_pool_lives",
         a_poisonous_prompt_fails_and_the_pool_lives},
        {"(the daemon stops)", close_stage},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("hostile", tests);
}
