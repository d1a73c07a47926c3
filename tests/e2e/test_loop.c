/*
 * A program's event loop with a 10 ms timer, while local models generate beside it: no tick is late
 * by more than 20 ms. Time for which the kernel had no processor for this thread (the second number
 * of /proc/thread-self/schedstat) is taken off, so that other work on the machine is not blamed on
 * the library; what it makes the loop wait for is not.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "tests/e2e/stage.h"

enum { STREAMS = 4, LATE_max_MS = 20, TICK_MS = 10 };

static unsigned done, failed;
static size_t chunks;

static void on_chunk(const tr_chunk *chunk, void *arg) {
    (void)chunk;
    (void)arg;
    chunks++;
}

static void on_done(const tr_result *result, void *arg) {
    (void)arg;
    done++;
    failed += tr_result_error(result) != TR_OK;
}

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* For how long this thread has waited for a processor, in all. */
static double starved_ms(void) {
    char text[128] = "";
    int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0) {
        close(fd);
    }
    unsigned long long ran = 0, waited = 0;
    return size > 0 && sscanf(text, "%llu %llu", &ran, &waited) == 2 ? (double)waited / 1e6 : 0;
}

static void submit(tr_client *client) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = "random";
    options.max_tokens = 400;
    tr_request *request = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &request), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_request_text(request, "user", "go on"), TR_OK);
    for (int i = 0; i < STREAMS; i++) {
        CU_ASSERT_EQUAL(tr_client_submit(client, request, on_chunk, on_done, NULL, NULL), TR_OK);
    }
    tr_request_free(request);
}

static void a_timer_misses_no_tick_during_local_generation(void) {
    tr_client *client = tr_stage_client();
    submit(client);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct itimerspec every = {.it_interval = {.tv_nsec = TICK_MS * 1000000},
                               .it_value = {.tv_nsec = TICK_MS * 1000000}};
    CU_ASSERT_EQUAL(timerfd_settime(timer, 0, &every, NULL), 0);
    struct pollfd polled[2] = {{.fd = tr_client_fd(client), .events = POLLIN},
                               {.fd = timer, .events = POLLIN}};
    unsigned ticks = 0, late = 0;
    double last = now_ms(), starved = starved_ms(), latest = 0;
    while (done < STREAMS && poll(polled, 2, 60000) > 0) {
        unsigned long long expired;
        if (read(timer, &expired, sizeof expired) == (ssize_t)sizeof expired) {
            double now = now_ms(), starved_now = starved_ms();
            double lateness = now - last - TICK_MS - (starved_now - starved);
            latest = lateness > latest ? lateness : latest;
            late += lateness > LATE_max_MS;
            last = now;
            starved = starved_now;
            ticks++;
        }
        if (polled[0].revents != 0) {
            CU_ASSERT_EQUAL(tr_client_dispatch(client), TR_OK);
        }
    }
    close(timer);
    CU_ASSERT_EQUAL(done, STREAMS);
    CU_ASSERT_EQUAL(failed, 0);
    CU_ASSERT_TRUE(chunks > STREAMS);
    CU_ASSERT_TRUE(ticks > 0);
    CU_ASSERT_EQUAL(late, 0);
    if (late > 0) {
        fprintf(stderr, "%u of %u ticks were late, the latest by %.1f ms\n", late, ticks, latest);
    }
    tr_client_close(client);
}

static void open_stage(void) {
    tr_stage_open(1, "");
}

static void close_stage(void) {
    tr_stage_close();
}

int main(void) {
    CU_TestInfo tests[] = {
        {"(the daemon starts)", open_stage},
        {"a_timer_misses_no_tick_during_local_generation",
         a_timer_misses_no_tick_during_local_generation},
        {"(the daemon stops)", close_stage},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("loop", tests);
}
