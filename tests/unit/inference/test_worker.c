/*
 * The worker against a pool that is a plain socket: what goes over the wire, and how the process
 * ends. The worker runs on a thread of this process; its link and engine have their own.
 */
#include <CUnit/Basic.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "inference/worker.h"
#include "protocol/frame.h"
#include "protocol/limits.h"
#include "runtime/log.h"
#include "tests/gguf/tiny_gguf.h"

enum { patience_ms = 20000 };

typedef struct stage {
    char folder[64], socket[96], url[110], model[96];
    int listener, peer;
    tr_worker_spec spec;
    pthread_t thread;
    int status; /* of tr_worker_run, after join */
    /* the last frame */
    tr_frame frame;
    uint8_t data[TR_FRAME_INLINE_max];
    /* what the frames of one request said */
    char text[8192];
    size_t text_size;
    uint32_t deltas;
} stage;

static void set_up(stage *s, bool with_model) {
    *s = (stage){.listener = -1, .peer = -1};
    snprintf(s->folder, sizeof s->folder, "/tmp/troupe-worker-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(s->folder));
    snprintf(s->socket, sizeof s->socket, "%s/pool", s->folder);
    snprintf(s->url, sizeof s->url, "ipc://%s", s->socket);
    snprintf(s->model, sizeof s->model, "%s/model.gguf", s->folder);
    if (with_model) {
        CU_ASSERT_TRUE_FATAL(tr_tiny_gguf_write(&(tr_tiny_spec){.kind = TR_TINY_CHAIN}, s->model));
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", s->socket);
    s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(s->listener, (struct sockaddr *)&address, sizeof address), 0);
    CU_ASSERT_EQUAL_FATAL(listen(s->listener, 4), 0);
    s->spec = (tr_worker_spec){
        .model_file = s->model,
        .model_name = "tiny",
        .sequences = 3,
        .context = 512,
        .threads = 1,
        .url = s->url,
        .token = "",
        .nonce = 0x1234,
    };
}

static void tear_down(stage *s) {
    if (s->peer >= 0) {
        close(s->peer);
    }
    close(s->listener);
    unlink(s->socket);
    unlink(s->model);
    rmdir(s->folder);
}

static void *run_worker(void *arg) {
    stage *s = arg;
    s->status = tr_worker_run(&s->spec);
    return NULL;
}

static bool readable(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, patience_ms) == 1;
}

static void accept_worker(stage *s) {
    CU_ASSERT_TRUE_FATAL(readable(s->listener));
    s->peer = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
    CU_ASSERT_TRUE_FATAL(s->peer >= 0);
}

static bool read_all(int fd, void *into, size_t size) {
    for (uint8_t *at = into; size > 0;) {
        ssize_t got = readable(fd) ? read(fd, at, size) : -1;
        if (got <= 0) {
            return false;
        }
        at += got;
        size -= (size_t)got;
    }
    return true;
}

/* The next frame; 0 = the worker closed. */
static uint16_t next_frame(stage *s) {
    uint8_t header[TR_FRAME_HEADER_size];
    if (!read_all(s->peer, header, sizeof header)) {
        return 0;
    }
    CU_ASSERT_EQUAL_FATAL(tr_frame_decode(header, sizeof header, 0, &s->frame), TR_OK);
    CU_ASSERT_TRUE_FATAL(read_all(s->peer, s->data, s->frame.inline_size));
    CU_ASSERT_EQUAL(tr_wire_check(s->frame.kind, s->data, s->frame.inline_size), TR_OK);
    if (s->frame.kind == TR_KIND_DELTA) {
        tr_str text = tr_delta_read((const tr_delta *)s->data).text;
        CU_ASSERT_TRUE_FATAL(s->text_size + text.size < sizeof s->text);
        memcpy(s->text + s->text_size, text.ptr, text.size);
        s->text_size += text.size;
        s->text[s->text_size] = '\0';
        s->deltas++;
    }
    return s->frame.kind;
}

/* Skips what else comes. */
static void wait_for(stage *s, uint16_t kind) {
    uint16_t got;
    do {
        got = next_frame(s);
        CU_ASSERT_NOT_EQUAL_FATAL(got, 0);
    } while (got != kind);
}

static void send_frame(stage *s, uint16_t kind, uint64_t ref, const void *data, size_t size,
                       const char *body) {
    tr_frame frame = {.kind = kind,
                      .ref = ref,
                      .inline_size = (uint32_t)size,
                      .body_size = body != NULL ? (uint32_t)strlen(body) : 0};
    static uint8_t buf[1 << 20];
    CU_ASSERT_TRUE_FATAL(tr_frame_size(&frame) <= sizeof buf);
    tr_frame_encode(&frame, buf);
    if (size > 0) {
        memcpy(buf + TR_FRAME_HEADER_size, data, size);
    }
    if (body != NULL) {
        memcpy(buf + TR_FRAME_HEADER_size + size, body, frame.body_size);
    }
    CU_ASSERT_EQUAL_FATAL(send(s->peer, buf, tr_frame_size(&frame), MSG_NOSIGNAL),
                          (ssize_t)tr_frame_size(&frame));
}

static void send_welcome(stage *s) {
    _Alignas(8) uint8_t data[64];
    tr_str software = {"test", 4};
    tr_welcome head = {.version = TR_PROTOCOL_VERSION, .streams_max = 16};
    tr_welcome_write(data, &head, software);
    send_frame(s, TR_KIND_WELCOME, 0, data, tr_welcome_size(software), NULL);
}

static void send_request(stage *s, tr_op op, uint64_t ref, uint32_t messages, const char *body) {
    _Alignas(8) uint8_t data[256];
    tr_submit head = {.op = (uint8_t)op, .credit_messages = messages, .credit_bytes = 1 << 20};
    tr_submit_view view = {.target = {"tiny", 4}};
    tr_submit_write(data, &head, &view);
    send_frame(s, TR_KIND_SUBMIT, ref, data, tr_submit_size(&head, &view), body);
}

static void send_submit(stage *s, uint64_t ref, uint32_t messages, const char *body) {
    send_request(s, TR_OP_CHAT, ref, messages, body);
}

static void start(stage *s) {
    CU_ASSERT_EQUAL_FATAL(pthread_create(&s->thread, NULL, run_worker, s), 0);
    accept_worker(s);
    CU_ASSERT_EQUAL_FATAL(next_frame(s), TR_KIND_HELLO);
}

static int end(stage *s) {
    pthread_join(s->thread, NULL);
    return s->status;
}

static const char hi[] =
    "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"temperature\":0}";
static const char endless[] =
    "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"temperature\":0,"
    "\"grammar\":\"root ::= \\\"0\\\" [0-9]*\"}";

static void it_introduces_itself_and_says_when_it_is_loaded(void) {
    stage s;
    set_up(&s, true);
    start(&s);
    const tr_hello *hello = (const tr_hello *)s.data;
    tr_hello_view view = tr_hello_read(hello);
    uint8_t digest[32];
    CU_ASSERT_EQUAL(hello->role, TR_ROLE_WORKER);
    CU_ASSERT_EQUAL(hello->nonce, 0x1234);
    CU_ASSERT_EQUAL(hello->sequences, 3);
    CU_ASSERT_EQUAL(hello->context, 512);
    CU_ASSERT_NSTRING_EQUAL(view.model.ptr, "tiny", 4);
    CU_ASSERT_NSTRING_EQUAL(view.engine.ptr, "libllama ", 9);
    CU_ASSERT_EQUAL(tr_worker_digest(s.model, NULL, digest), TR_OK);
    CU_ASSERT_EQUAL(memcmp(digest, hello->digest, 32), 0);
    CU_ASSERT_EQUAL(tr_worker_digest(s.model, "chatml", digest), TR_OK);
    CU_ASSERT_NOT_EQUAL(memcmp(digest, hello->digest, 32), 0);
    send_welcome(&s);
    wait_for(&s, TR_KIND_PONG);
    CU_ASSERT_EQUAL(((const tr_ping *)s.data)->load_percent, 100);
    close(s.peer);
    s.peer = -1;
    CU_ASSERT_EQUAL(end(&s), 0);
    tear_down(&s);
}

static void it_answers_and_ends_with_its_link(void) {
    stage s;
    set_up(&s, true);
    start(&s);
    send_welcome(&s);
    send_submit(&s, 77, 1000, hi); /* perhaps before the model is loaded: it waits */
    wait_for(&s, TR_KIND_DONE);
    CU_ASSERT_EQUAL(s.frame.ref, 77);
    CU_ASSERT_STRING_EQUAL(s.text, "abcdefghijklmnopqrstuvwxyz");
    close(s.peer);
    s.peer = -1;
    CU_ASSERT_EQUAL(end(&s), 0);
    tear_down(&s);
}

static void credit_paces_it_and_cancel_ends_a_request(void) {
    stage s;
    set_up(&s, true);
    start(&s);
    send_welcome(&s);
    send_submit(&s, 5, 2, endless);
    send_submit(&s, 6, 1000, hi);
    wait_for(&s, TR_KIND_DONE);
    CU_ASSERT_EQUAL(s.frame.ref, 6);
    CU_ASSERT_EQUAL(s.deltas, 2 + 26);
    tr_credit more = {.messages = 3, .bytes = 0};
    send_frame(&s, TR_KIND_CREDIT, 5, &more, sizeof more, NULL);
    for (int i = 0; i < 3; i++) {
        wait_for(&s, TR_KIND_DELTA);
        CU_ASSERT_EQUAL(s.frame.ref, 5);
    }
    tr_cancel cancel = {.reason = TR_ERR_CANCELLED};
    send_frame(&s, TR_KIND_CANCEL, 5, &cancel, sizeof cancel, NULL);
    wait_for(&s, TR_KIND_FAIL);
    CU_ASSERT_EQUAL(s.frame.ref, 5);
    CU_ASSERT_EQUAL(((const tr_fail *)s.data)->err, TR_ERR_CANCELLED);
    CU_ASSERT_EQUAL(s.deltas, 2 + 26 + 3);
    close(s.peer);
    s.peer = -1;
    CU_ASSERT_EQUAL(end(&s), 0);
    tear_down(&s);
}

static void pong_tells_what_it_does(void) {
    stage s;
    set_up(&s, true);
    start(&s);
    send_welcome(&s);
    wait_for(&s, TR_KIND_PONG);
    send_submit(&s, 9, 2, endless);
    wait_for(&s, TR_KIND_DELTA);
    wait_for(&s, TR_KIND_DELTA);
    tr_ping ping = {.number = 4711};
    send_frame(&s, TR_KIND_PING, 0, &ping, sizeof ping, NULL);
    wait_for(&s, TR_KIND_PONG);
    const tr_ping *pong = (const tr_ping *)s.data;
    CU_ASSERT_EQUAL(pong->number, 4711);
    CU_ASSERT_EQUAL(pong->load_percent, 100);
    CU_ASSERT_TRUE(pong->ticks > 0);
    tr_log_level before = tr_log_level_now();
    ping.log_level = 1 + TR_LOG_DEBUG;
    send_frame(&s, TR_KIND_PING, 0, &ping, sizeof ping, NULL);
    wait_for(&s, TR_KIND_PONG);
    CU_ASSERT_EQUAL(tr_log_level_now(), TR_LOG_DEBUG);
    ping.log_level = 0; /* of a pool that does not say */
    send_frame(&s, TR_KIND_PING, 0, &ping, sizeof ping, NULL);
    wait_for(&s, TR_KIND_PONG);
    CU_ASSERT_EQUAL(tr_log_level_now(), TR_LOG_DEBUG);
    tr_log_set_level(before);
    close(s.peer); /* in the middle of a request */
    s.peer = -1;
    CU_ASSERT_EQUAL(end(&s), 0);
    tear_down(&s);
}

static void a_long_text_is_read_beside_the_streams(void) {
    enum { SIZE = 500 << 10 };
    stage s;
    set_up(&s, true);
    s.spec.context = 4096;
    start(&s);
    send_welcome(&s);
    char *text = malloc(SIZE + 1), *json = malloc(SIZE + 100);
    memset(text, 'x', SIZE);
    text[SIZE] = '\0';
    snprintf(json, SIZE + 100, "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}", text);
    send_submit(&s, 1, 60000, endless);
    wait_for(&s, TR_KIND_DELTA);
    send_request(&s, TR_OP_COUNT, 2, 10, json);
    send_request(&s, TR_OP_COUNT, 3, 10, json);
    tr_cancel cancel = {.reason = TR_ERR_CANCELLED};
    send_frame(&s, TR_KIND_CANCEL, 3, &cancel, sizeof cancel, NULL);
    uint32_t before = 0;
    bool cancelled = false;
    while (s.frame.kind != TR_KIND_DONE || s.frame.ref != 2) {
        CU_ASSERT_NOT_EQUAL_FATAL(next_frame(&s), 0);
        if (s.frame.kind == TR_KIND_FAIL && s.frame.ref == 3) {
            cancelled = true;
            before = s.deltas;
        }
    }
    CU_ASSERT_TRUE(s.deltas - before > 40);
    CU_ASSERT_TRUE(cancelled);
    send_frame(&s, TR_KIND_CANCEL, 1, &cancel, sizeof cancel, NULL);
    send_request(&s, TR_OP_COUNT, 4, 10, json);
    tr_ping ping = {.number = 1};
    do { /* nothing is decoded any more: it is busy because it reads */
        send_frame(&s, TR_KIND_PING, 0, &ping, sizeof ping, NULL);
        do {
            CU_ASSERT_NOT_EQUAL_FATAL(next_frame(&s), 0);
            CU_ASSERT_FALSE_FATAL(s.frame.kind == TR_KIND_DONE && s.frame.ref == 4);
        } while (s.frame.kind != TR_KIND_PONG);
    } while (((const tr_ping *)s.data)->busy != 1);
    close(s.peer); /* while it is read */
    s.peer = -1;
    CU_ASSERT_EQUAL(end(&s), 0);
    free(text);
    free(json);
    tear_down(&s);
}

static void a_model_that_cannot_be_loaded_is_told_to_the_pool(void) {
    stage s;
    set_up(&s, false);
    start(&s);
    send_welcome(&s);
    wait_for(&s, TR_KIND_FAIL);
    CU_ASSERT_EQUAL(s.frame.ref, 0);
    CU_ASSERT_EQUAL(((const tr_fail *)s.data)->err, TR_ERR_NOT_FOUND);
    tr_str why = tr_fail_read((const tr_fail *)s.data).message;
    CU_ASSERT_PTR_NOT_NULL(memmem(why.ptr, why.size, s.model, strlen(s.model)));
    CU_ASSERT_EQUAL(next_frame(&s), 0);
    CU_ASSERT_EQUAL(end(&s), 1);
    tear_down(&s);
}

static void nobody_there_ends_a_local_worker(void) {
    stage s;
    set_up(&s, true);
    unlink(s.socket);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&s.thread, NULL, run_worker, &s), 0);
    CU_ASSERT_EQUAL(end(&s), 1);
    tear_down(&s);
}

static void a_joined_worker_comes_back_without_its_old_requests(void) {
    stage s;
    set_up(&s, true);
    s.spec.joins = true;
    s.spec.nonce = 0;
    s.spec.token = "secret";
    start(&s);
    tr_hello_view view = tr_hello_read((const tr_hello *)s.data);
    CU_ASSERT_EQUAL(view.token.size, 6);
    send_welcome(&s);
    send_submit(&s, 1, 60000, endless);
    wait_for(&s, TR_KIND_DELTA);
    close(s.peer);
    accept_worker(&s);
    CU_ASSERT_EQUAL_FATAL(next_frame(&s), TR_KIND_HELLO);
    send_welcome(&s);
    s.text_size = 0;
    send_submit(&s, 1, 1000, hi);
    wait_for(&s, TR_KIND_DONE);
    CU_ASSERT_STRING_EQUAL(s.text, "abcdefghijklmnopqrstuvwxyz");
    close(s.peer);
    accept_worker(&s);
    CU_ASSERT_EQUAL_FATAL(next_frame(&s), TR_KIND_HELLO);
    _Alignas(8) uint8_t data[128];
    tr_fail fail = {.err = TR_ERR_AUTH};
    tr_end_view why = {.message = {"no", 2}};
    tr_fail_write(data, &fail, &why);
    send_frame(&s, TR_KIND_FAIL, 0, data, tr_fail_size(&why), NULL);
    CU_ASSERT_EQUAL(end(&s), 1); /* a token does not become right by waiting */
    tear_down(&s);
}

int main(void) {
    CU_TestInfo tests[] = {
#define T(name) {#name, name}
        T(it_introduces_itself_and_says_when_it_is_loaded),
        T(it_answers_and_ends_with_its_link),
        T(credit_paces_it_and_cancel_ends_a_request),
        T(pong_tells_what_it_does),
        T(a_long_text_is_read_beside_the_streams),
        T(a_model_that_cannot_be_loaded_is_told_to_the_pool),
        T(nobody_there_ends_a_local_worker),
        T(a_joined_worker_comes_back_without_its_old_requests),
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"worker", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    tr_log_set_level(TR_LOG_ERROR);
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
