/*
 * Whatever ends a request ends its transfer at the provider: the client cancels, dies, the deadline
 * passes, the daemon stops. troupe-mock sees its socket close and says when, on the clock that this
 * test reads as well. The goal is 50 ms, for one stream and for a thousand at once; each figure is
 * printed, and the least of three rounds is held to a few times the goal, since the machine may be
 * busy with other work. Afterwards nothing is held: no slot, no reserved token, no request. And a
 * client that reads a chunk now and then makes the provider wait.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "protocol/json.h"
#include "tests/e2e/upstream.h"

#define MANY 1000
#define GOAL_MS 50.0
/* One stream needs a few turns of three processes, a thousand the work of closing them. */
#define NOISE_ONE 4
#ifdef __SANITIZE_ADDRESS__
#define NOISE_MANY 60
#else
#define NOISE_MANY 10
#endif

static uint16_t port;
static tr_client *watcher;

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static const char *extra(void) {
    static char text[512];
    snprintf(text, sizeof text,
             "drain: 0s\nproviders:\n"
             "  mock: {kind: openai-compatible, base_url: 'http://127.0.0.1:%u/v1', at_once: "
             "2000, tpm: 1000000000}\n",
             (unsigned)port);
    return text;
}

static tr_request *request_new(const char *model, uint32_t total_ms, uint32_t window) {
    tr_options options = TR_OPTIONS_INIT;
    tr_request *request = NULL;
    options.model = model;
    options.total_ms = total_ms;
    options.window_messages = window;
    options.window_bytes = window > 0 ? 40 * 1024 : 0;
    if (tr_request_new(&options, &request) != TR_OK ||
        tr_request_text(request, "user", "go") != TR_OK) {
        tr_request_free(request);
        return NULL;
    }
    return request;
}

static long long number_of(const tr_json_value *object, const char *name) {
    return (long long)tr_json_int(tr_json_get(object, name), -1);
}

/* The limiter's slots and reservations, and the daemon's requests: all zero. */
static bool nothing_held(void *arg) {
    (void)arg;
    char *text = NULL;
    tr_json *json = NULL;
    bool none =
        tr_stage_running(watcher) == 0 &&
        tr_control_json(watcher, "{\"do\":\"limit\",\"provider\":\"mock\"}", &text) == TR_OK &&
        tr_json_parse(text, strlen(text), &json, NULL) == TR_OK;
    if (none) {
        const tr_json_value *root = tr_json_root(json);
        none = number_of(root, "used") == 0 && number_of(root, "waiting") == 0 &&
               number_of(root, "tokens_reserved") == 0;
        const tr_json_value *target = tr_json_first(tr_json_get(root, "targets"));
        for (; target != NULL; target = tr_json_next(target)) {
            none = none && number_of(target, "running") == 0;
        }
    }
    tr_json_free(json);
    tr_memory_free(text);
    return none;
}

/* --- the client, a process of its own --- */

typedef enum way { CLIENT_CANCELS, CLIENT_DIES, DEADLINE_PASSES, DAEMON_STOPS } way;
#define DEADLINE_MS_max 6000

/* Opens the streams, reads a chunk of each, says when the last one was sent, and waits for a word
 * to cancel them all; it says at what time it began that. Never returns. */
static void run_client(way how, int count, uint32_t deadline_ms, int told, int asked) {
    static tr_stream *streams[MANY];
    tr_client *client = NULL;
    char word;
    tr_request *request = request_new("mock/mock:tokens=1000000,interval=200ms", deadline_ms, 0);
    if (request == NULL || tr_client_open(tr_stage_now.url, &client) != TR_OK) {
        _exit(1);
    }
    for (int i = 0; i < count; i++) {
        if (tr_stream_open(client, request, &streams[i]) != TR_OK) {
            _exit(2);
        }
    }
    double sent = now_ms();
    tr_chunk chunk;
    for (int i = 0; i < count; i++) {
        (void)!tr_stream_next(streams[i], 60000, &chunk);
    }
    if (write(told, &sent, sizeof sent) != sizeof sent) {
        _exit(3);
    }
    if (how != CLIENT_CANCELS) {
        while (tr_stream_next(streams[count - 1], 60000, &chunk) == TR_OK) {
        }
        _exit(0);
    }
    if (read(asked, &word, 1) != 1) {
        _exit(4);
    }
    double began = now_ms();
    for (int i = 0; i < count; i++) {
        tr_stream_cancel(streams[i]);
    }
    if (write(told, &began, sizeof began) != sizeof began) {
        _exit(5);
    }
    while (tr_stream_next(streams[count - 1], 60000, &chunk) == TR_OK) { /* moves what is queued */
    }
    (void)!read(asked, &word, 1); /* until the test has seen enough */
    _exit(0);
}

static double read_time(int fd) {
    double ms = 0;
    CU_ASSERT_EQUAL_FATAL(read(fd, &ms, sizeof ms), (ssize_t)sizeof ms);
    return ms;
}

/* What it took in the last round until the mock had all the streams. */
static double opening_ms;

/* The deadline must not pass while streams are still opened; twice what that took before is enough
 * as a rule, and where it was not, the round is made again with the longest one. */
static uint32_t deadline_of(way how) {
    double ms = 500 + 2 * opening_ms;
    return how != DEADLINE_PASSES ? 0 : (uint32_t)(ms < DEADLINE_MS_max ? ms : DEADLINE_MS_max);
}

/* Milliseconds from the cause to the moment at which the mock saw its last socket close; -1: the
 * deadline had passed before all streams were open. */
static double round_of(way how, int count, uint32_t deadline_ms) {
    int told[2], asked[2];
    CU_ASSERT_EQUAL_FATAL(pipe2(told, O_CLOEXEC), 0);
    CU_ASSERT_EQUAL_FATAL(pipe2(asked, O_CLOEXEC), 0);
    tr_upstream_reset();
    fflush(NULL);
    double start = now_ms();
    pid_t pid = fork();
    if (pid == 0) {
        close(asked[1]);
        run_client(how, count, deadline_ms, told[1], asked[0]);
    }
    close(told[1]);
    close(asked[0]);
    double began = read_time(told[0]) + deadline_ms;
    bool shortened = how == DEADLINE_PASSES && deadline_ms < DEADLINE_MS_max;
    bool open = tr_upstream_comes_to("active", count, shortened ? (long)deadline_ms : 20000);
    CU_ASSERT_TRUE_FATAL(open || shortened);
    opening_ms = now_ms() - start;
    switch (how) {
    case CLIENT_CANCELS:
        CU_ASSERT_EQUAL(write(asked[1], "x", 1), 1);
        began = read_time(told[0]);
        break;
    case CLIENT_DIES:
        began = now_ms();
        kill(pid, SIGKILL);
        break;
    case DEADLINE_PASSES:
        break;
    case DAEMON_STOPS:
        began = now_ms();
        kill(tr_stage_now.daemon, SIGTERM);
        break;
    }
    CU_ASSERT_TRUE(tr_upstream_comes_to("active", 0, 20000));
    CU_ASSERT_EQUAL(open ? tr_upstream_stat("aborted") : count, count);
    double took = (double)tr_upstream_stat("last_abort_us") / 1e3 - began;
    if (how == DAEMON_STOPS) {
        CU_ASSERT_EQUAL(tr_stage_wait(tr_stage_now.daemon, 20000), 0);
        tr_stage_restart();
    }
    CU_ASSERT_TRUE(tr_stage_until(nothing_held, NULL, 5000));
    close(asked[1]);
    close(told[0]);
    CU_ASSERT_NOT_EQUAL(tr_stage_wait(pid, 20000), -1);
    return open ? took : -1;
}

static void hold_to_goal(const char *what, way how, int count) {
    double least = 1e9;
    for (int i = 0; i < 3 && least > GOAL_MS; i++) {
        double took = round_of(how, count, deadline_of(how));
        took = took >= 0 ? took : round_of(how, count, DEADLINE_MS_max);
        least = took < least ? took : least;
    }
    printf("\n    %s, %d stream%s: %.1f ms (goal %.0f)\n", what, count, count > 1 ? "s" : "", least,
           GOAL_MS);
    CU_ASSERT_TRUE(least <= GOAL_MS * (count > 1 ? NOISE_MANY : NOISE_ONE));
}

static void each_end_of_one_stream_closes_its_transfer(void) {
    hold_to_goal("the client cancels", CLIENT_CANCELS, 1);
    hold_to_goal("the client is killed", CLIENT_DIES, 1);
    hold_to_goal("the deadline passes", DEADLINE_PASSES, 1);
    hold_to_goal("the daemon stops", DAEMON_STOPS, 1);
}

static void each_end_of_1000_streams_closes_their_transfers(void) {
    hold_to_goal("the client cancels", CLIENT_CANCELS, MANY);
    hold_to_goal("the client is killed", CLIENT_DIES, MANY);
    hold_to_goal("the deadline passes", DEADLINE_PASSES, MANY);
    hold_to_goal("the daemon stops", DAEMON_STOPS, MANY);
}

/* --- backpressure --- */

/* Bytes that the mock has made, once that has stood still for half a second. */
static long long settled_bytes(void) {
    long long before = -1, now = 0;
    double until = now_ms() + 20000;
    while (before != now && now_ms() < until) {
        double next = now_ms() + 500;
        before = tr_upstream_stat("bytes");
        while (now_ms() < next) {
            tr_stage_running(watcher); /* the daemon's turns go by */
        }
        now = tr_upstream_stat("bytes");
    }
    CU_ASSERT_EQUAL(before, now);
    return now;
}

/* What kernel buffers of two sockets on loopback take at most (tcp_rmem and tcp_wmem), and what
 * stands between: a window at the HTTP door, the mock's own buffer, the client's window. */
#define PIPE_max (16 * 1024 * 1024)

static void client_that_reads_slowly_makes_the_provider_wait(void) {
    enum { WINDOW = 8 };
    tr_client *client = tr_stage_client();
    tr_request *request = request_new("mock/mock:tokens=100000000", 0, WINDOW);
    tr_stream *stream = NULL;
    tr_chunk chunk;
    tr_upstream_reset();
    long rss = tr_stage_rss_kib();
    CU_ASSERT_EQUAL_FATAL(tr_stream_open(client, request, &stream), TR_OK);
    CU_ASSERT_EQUAL(tr_stream_next(stream, 10000, &chunk), TR_OK);
    long long full = settled_bytes(); /* the socket's buffers are full: it waits */
    long cpu = tr_stage_cpu_ms();
    size_t read = chunk.size;
    for (int i = 0; i < 5; i++) { /* a chunk a second, or as slow as one has patience for */
        double next = now_ms() + 200;
        CU_ASSERT_EQUAL(tr_stream_next(stream, 10000, &chunk), TR_OK);
        read += chunk.size;
        while (now_ms() < next) {
            tr_stage_running(watcher);
        }
    }
    long long after = settled_bytes();
    long grown = tr_stage_rss_kib() - rss;
    printf("\n    read %zu bytes of text; the provider sent %lld KiB, then %lld KiB more; the "
           "daemon grew by %ld KiB, CPU %ld ms\n",
           read, full / 1024, (after - full) / 1024, grown, tr_stage_cpu_ms() - cpu);
    CU_ASSERT_TRUE(full <= PIPE_max);
    CU_ASSERT_TRUE(after - full <= 4 * 1024 * 1024); /* what was read, in a kernel's steps */
    CU_ASSERT_TRUE(tr_upstream_stat("active") == 1);
#ifndef __SANITIZE_ADDRESS__
    CU_ASSERT_TRUE(grown <= 8 * 1024);
#endif
    tr_stream_close(stream);
    tr_request_free(request);
    CU_ASSERT_TRUE(tr_upstream_comes_to("active", 0, 5000));
    CU_ASSERT_TRUE(tr_stage_until(nothing_held, NULL, 5000));
    tr_client_close(client);
}

/* --- the stage --- */

static void open_stage(void) {
    port = tr_upstream_open(NULL);
    tr_stage_open(1, extra());
    watcher = tr_stage_client();
}

static void close_stage(void) {
    tr_client_close(watcher);
    tr_stage_close();
    tr_upstream_close();
}

int main(void) {
    CU_TestInfo tests[] = {
        {"(the mock and the daemon start)", open_stage},
        {"each_end_of_one_stream_closes_its_transfer", each_end_of_one_stream_closes_its_transfer},
        {"each_end_of_1000_streams_closes_their_transfers",
         each_end_of_1000_streams_closes_their_transfers},
        {"client_that_reads_slowly_makes_the_provider_wait",
         client_that_reads_slowly_makes_the_provider_wait},
        {"(they stop)", close_stage},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("cancel", tests);
}
