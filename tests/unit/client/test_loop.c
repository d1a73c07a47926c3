/* Living in an event loop: the descriptor, the callbacks, and what they cost the loop. */
#include "tests/unit/client/client_test.h"

#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

typedef struct seen {
    size_t chunks, bytes;
    unsigned done, after_done;
    tr_err err;
    size_t text_size;
    uint64_t id;
    bool cancel_at_first, close_at_first;
} seen;

static void on_chunk(const tr_chunk *chunk, void *arg) {
    seen *s = arg;
    s->after_done += s->done > 0;
    s->chunks++;
    s->bytes += chunk->size;
    if (s->cancel_at_first) {
        s->cancel_at_first = false;
        s->err = tr_client_cancel(client, s->id);
    }
    if (s->close_at_first) {
        s->close_at_first = false;
        tr_client_close(client);
    }
}

static void on_done(const tr_result *result, void *arg) {
    seen *s = arg;
    s->done++;
    s->err = tr_result_error(result);
    s->text_size = strlen(tr_result_text(result));
}

static void submit(const char *target, seen *s) {
    tr_request *request = request_for(target);
    MUST(tr_client_submit(client, request, on_chunk, on_done, s, &s->id));
    tr_request_free(request);
}

/* Turns the loop until `n` of the requests are done; false after 10 s without anything. */
static bool turn_until_done(const seen *all, size_t count, unsigned n) {
    struct pollfd polled = {.fd = tr_client_fd(client), .events = POLLIN};
    for (;;) {
        unsigned done = 0;
        for (size_t i = 0; i < count; i++) {
            done += all[i].done > 0;
        }
        if (done >= n) {
            return true;
        }
        if (poll(&polled, 1, 10000) <= 0 || tr_client_dispatch(client) != TR_OK) {
            return false;
        }
    }
}

static void pushed_streams_end_once_each(void) {
    enum { STREAMS = 64 };
    seen all[STREAMS] = {{0}};
    for (int i = 0; i < STREAMS; i++) {
        submit(i % 8 == 7 ? "fail:11:0" : "count:1000:64", &all[i]);
    }
    CU_ASSERT_TRUE(turn_until_done(all, STREAMS, STREAMS));
    MUST(tr_client_dispatch(client));
    for (int i = 0; i < STREAMS; i++) {
        bool failed = i % 8 == 7;
        CU_ASSERT_EQUAL(all[i].done, 1);
        CU_ASSERT_EQUAL(all[i].after_done, 0);
        CU_ASSERT_EQUAL(all[i].err, failed ? TR_ERR_OVERLOADED : TR_OK);
        CU_ASSERT_EQUAL(all[i].bytes, failed ? 0 : 64000);
        CU_ASSERT_EQUAL(all[i].text_size, failed ? 0 : 64000);
    }
}

static void at_rest_the_descriptor_is_quiet(void) {
    seen s = {0};
    submit("count:10:10", &s);
    CU_ASSERT_TRUE(turn_until_done(&s, 1, 1));
    struct pollfd polled = {.fd = tr_client_fd(client), .events = POLLIN};
    for (int i = 0; i < 3 && poll(&polled, 1, 0) > 0; i++) {
        MUST(tr_client_dispatch(client));
    }
    CU_ASSERT_EQUAL(poll(&polled, 1, 50), 0);
    submit("never", &s);
    MUST(tr_client_dispatch(client));
    CU_ASSERT_EQUAL(poll(&polled, 1, 50), 0);
    s.done = 0;
    MUST(tr_client_cancel(client, s.id));
    CU_ASSERT_TRUE(turn_until_done(&s, 1, 1));
    CU_ASSERT_EQUAL(s.err, TR_ERR_CANCELLED);
    CU_ASSERT_EQUAL(tr_client_cancel(client, s.id), TR_ERR_NOT_FOUND);
}

static void a_callback_may_cancel(void) {
    seen s = {.cancel_at_first = true};
    submit("count:100000:64", &s);
    CU_ASSERT_TRUE(turn_until_done(&s, 1, 1));
    CU_ASSERT_EQUAL(s.chunks, 1);
    CU_ASSERT_EQUAL(s.done, 1);
    CU_ASSERT_EQUAL(s.err, TR_ERR_CANCELLED);
}

/* What one turn of the loop costs this thread: processor time, and waits. The machine's other work
 * does not count, so that the claim holds however busy it is. */
typedef struct cost {
    long cpu_us, waits;
} cost;

static cost cost_now(void) {
    struct timespec cpu;
    struct rusage usage;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    getrusage(RUSAGE_THREAD, &usage);
    return (cost){.cpu_us = cpu.tv_sec * 1000000 + cpu.tv_nsec / 1000, .waits = usage.ru_nvcsw};
}

static void a_turn_neither_waits_nor_takes_long(void) {
    enum { STREAMS = 9 };
    seen all[STREAMS] = {{0}};
    for (int i = 0; i < STREAMS; i++) {
        submit(i == 0 ? "slow:40:5" : "count:20000:64", &all[i]);
    }
    struct pollfd polled = {.fd = tr_client_fd(client), .events = POLLIN};
    unsigned done = 0;
    long longest_us = 0, waits = 0;
    while (done < STREAMS && poll(&polled, 1, 10000) > 0) {
        cost before = cost_now();
        MUST(tr_client_dispatch(client));
        cost after = cost_now();
        long took_us = after.cpu_us - before.cpu_us;
        longest_us = took_us > longest_us ? took_us : longest_us;
        waits += after.waits - before.waits;
        done = 0;
        for (int i = 0; i < STREAMS; i++) {
            done += all[i].done;
        }
    }
    CU_ASSERT_EQUAL(done, STREAMS);
    CU_ASSERT_EQUAL(waits, 0);
    CU_ASSERT_TRUE(longest_us < 20000);
}

static void a_dying_daemon_ends_all_once_and_is_found_again(void) {
    seen all[8] = {{0}};
    for (int i = 0; i < 8; i++) {
        submit("never", &all[i]);
    }
    MUST(tr_client_dispatch(client));
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, 8));
    fake_server_die(fake);
    CU_ASSERT_TRUE(turn_until_done(all, 8, 8));
    for (int i = 0; i < 8; i++) {
        CU_ASSERT_EQUAL(all[i].done, 1);
        CU_ASSERT_EQUAL(all[i].err, TR_ERR_CLOSED);
    }
    seen later = {0};
    submit("count:4:4", &later); /* waits, by the loop alone */
    struct pollfd polled = {.fd = tr_client_fd(client), .events = POLLIN};
    for (int i = 0; i < 3 && poll(&polled, 1, 5000) > 0; i++) {
        MUST(tr_client_dispatch(client));
    }
    CU_ASSERT_EQUAL(later.done, 0);
    CU_ASSERT_TRUE_FATAL(fake_server_back(fake));
    CU_ASSERT_TRUE(turn_until_done(&later, 1, 1));
    CU_ASSERT_EQUAL(later.err, TR_OK);
}

static void *ask_from_another_thread(void *arg) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = "count:2000:64";
    for (int i = 0; i < 20; i++) {
        tr_result *result = NULL;
        if (tr_ask(client, &options, "x", &result) != TR_OK || tr_result_error(result) != TR_OK ||
            strlen(tr_result_text(result)) != 128000) {
            *(bool *)arg = true;
        }
        tr_result_free(result);
    }
    return NULL;
}

static void threads_that_wait_and_a_loop_share_a_client(void) {
    pthread_t thread;
    bool failed = false;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, ask_from_another_thread, &failed), 0);
    for (int round = 0; round < 20; round++) {
        seen all[8] = {{0}};
        for (int i = 0; i < 8; i++) {
            submit("count:500:64", &all[i]);
        }
        CU_ASSERT_TRUE(turn_until_done(all, 8, 8));
        for (int i = 0; i < 8; i++) {
            CU_ASSERT_EQUAL(all[i].bytes, 32000);
        }
    }
    pthread_join(thread, NULL);
    CU_ASSERT_FALSE(failed);
}

static void dispatch_alone_needs_no_descriptor(void) {
    seen s = {0};
    submit("count:10:10", &s);
    for (int i = 0; i < 1000000 && s.done == 0; i++) {
        MUST(tr_client_dispatch(client));
    }
    CU_ASSERT_EQUAL(s.done, 1);
}

static void closing_in_a_callback_ends_everything_once(void) {
    seen all[3] = {{.close_at_first = true}, {0}, {0}};
    submit("count:100000:64", &all[0]);
    submit("never", &all[1]);
    submit("count:10:10", &all[2]);
    struct pollfd polled = {.fd = tr_client_fd(client), .events = POLLIN};
    tr_err err = TR_OK;
    while (err == TR_OK && poll(&polled, 1, 10000) > 0) {
        err = tr_client_dispatch(client);
    }
    CU_ASSERT_EQUAL(err, TR_ERR_CLOSED);
    CU_ASSERT_EQUAL(all[0].chunks, 1);
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(all[i].done, 1);
        CU_ASSERT_EQUAL(all[i].after_done, 0);
    }
    CU_ASSERT_EQUAL(all[1].err, TR_ERR_CANCELLED);
    MUST(tr_client_open(fake_server_url(fake), &client)); /* for the suite's end */
}

int main(void) {
    CU_initialize_registry();
    CU_pSuite suite = CU_add_suite("loop", pair_open, pair_close);
    CU_ADD_TEST(suite, dispatch_alone_needs_no_descriptor);
    CU_ADD_TEST(suite, pushed_streams_end_once_each);
    CU_ADD_TEST(suite, at_rest_the_descriptor_is_quiet);
    CU_ADD_TEST(suite, a_callback_may_cancel);
    CU_ADD_TEST(suite, a_turn_neither_waits_nor_takes_long);
    CU_ADD_TEST(suite, a_dying_daemon_ends_all_once_and_is_found_again);
    CU_ADD_TEST(suite, threads_that_wait_and_a_loop_share_a_client);
    CU_ADD_TEST(suite, closing_in_a_callback_ends_everything_once);
    return finish_tests();
}
