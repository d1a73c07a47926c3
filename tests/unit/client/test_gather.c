/* Many at once: each its own result, failures among them, progress, a bound; and many threads on
 * one client. */
#include "tests/unit/client/client_test.h"

#include <pthread.h>
#include <stdio.h>

typedef struct told {
    size_t calls, last_done, total;
    bool in_order, matching;
    tr_result **results;
} told;

static void on_progress(size_t done, size_t total, size_t i, const tr_result *result, void *arg) {
    told *t = arg;
    t->calls++;
    t->in_order = t->in_order && done == t->last_done + 1;
    t->last_done = done;
    t->total = total;
    size_t expected = i % 10 == 9 ? 0 : i % 50 + 1;
    t->matching = t->matching && strlen(tr_result_text(result)) == expected;
    (void)tr_client_state(client); /* the library may be called from here */
}

static void each_task_has_its_own_result(void) {
    enum { N = 300 };
    tr_request *requests[N];
    tr_result *results[N] = {NULL};
    for (int i = 0; i < N; i++) {
        char target[32];
        snprintf(target, sizeof target, i % 10 == 9 ? "fail:%d:0" : "count:%d:1",
                 i % 10 == 9 ? TR_ERR_QUOTA : i % 50 + 1);
        requests[i] = request_for(target);
    }
    told t = {.in_order = true, .matching = true};
    MUST(tr_gather(client, (const tr_request *const *)requests, N, 7, results, on_progress, &t));
    CU_ASSERT_EQUAL(t.calls, N);
    CU_ASSERT_EQUAL(t.total, N);
    CU_ASSERT_TRUE(t.in_order);
    CU_ASSERT_TRUE(t.matching);
    CU_ASSERT_TRUE(fake_server_counts(fake).most_open <= 7);
    for (int i = 0; i < N; i++) {
        CU_ASSERT_EQUAL(tr_result_error(results[i]), i % 10 == 9 ? TR_ERR_QUOTA : TR_OK);
        CU_ASSERT_EQUAL(strlen(tr_result_text(results[i])), (size_t)(i % 10 == 9 ? 0 : i % 50 + 1));
        tr_result_free(results[i]);
        tr_request_free(requests[i]);
    }
}

/* The fake's WELCOME allows 256 streams; one request may be sent many times. */
static void no_bound_means_the_daemons_bound(void) {
    enum { N = 1000 };
    tr_request *request = request_for("count:300:10");
    const tr_request *requests[N];
    static tr_result *results[N];
    for (int i = 0; i < N; i++) {
        requests[i] = request;
    }
    MUST(tr_gather(client, requests, N, 0, results, NULL, NULL));
    unsigned wrong = 0;
    for (int i = 0; i < N; i++) {
        wrong += strlen(tr_result_text(results[i])) != 3000;
        tr_result_free(results[i]);
    }
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_TRUE(fake_server_counts(fake).most_open <= 256);
    tr_request_free(request);
}

static void a_request_that_cannot_be_sent_stops_the_gathering(void) {
    tr_request *empty = NULL;
    MUST(tr_request_new(NULL, &empty));
    tr_request *fine = request_for("never");
    const tr_request *requests[] = {fine, empty, fine};
    tr_result *results[3] = {NULL};
    CU_ASSERT_EQUAL(tr_gather(client, requests, 3, 0, results, NULL, NULL), TR_ERR_INVALID);
    SAYS(tr_client_error(), "no turn");
    CU_ASSERT_PTR_NULL(results[0]);
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, 0));
    MUST(tr_gather(client, requests, 0, 0, results, NULL, NULL));
    tr_request_free(empty);
    tr_request_free(fine);
}

enum { THREADS = 8, STREAMS_EACH = 16, ROUNDS = 4 };

/* Opens sixteen streams and reads them in turns; on every second round one is closed early. */
static void *read_many(void *arg) {
    unsigned *wrong = arg;
    tr_options options = TR_OPTIONS_INIT;
    options.model = "count:400:64";
    tr_request *request = NULL;
    if (tr_request_new(&options, &request) != TR_OK ||
        tr_request_text(request, "user", "x") != TR_OK) {
        (*wrong)++;
        return NULL;
    }
    for (int round = 0; round < ROUNDS; round++) {
        tr_stream *streams[STREAMS_EACH];
        size_t bytes[STREAMS_EACH] = {0};
        for (int i = 0; i < STREAMS_EACH; i++) {
            if (tr_stream_open(client, request, &streams[i]) != TR_OK) {
                abort();
            }
        }
        if (round % 2 == 1) {
            tr_stream_close(streams[0]);
        }
        for (int i = round % 2; i < STREAMS_EACH; i++) {
            tr_chunk chunk;
            tr_err err;
            while ((err = tr_stream_next(streams[i], 30000, &chunk)) == TR_OK) {
                bytes[i] += chunk.size;
            }
            *wrong += err != TR_DONE || bytes[i] != 25600;
            tr_stream_close(streams[i]);
        }
    }
    tr_request_free(request);
    return NULL;
}

static void threads_share_a_client(void) {
    pthread_t threads[THREADS];
    unsigned wrong[THREADS] = {0};
    for (int i = 0; i < THREADS; i++) {
        CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, read_many, &wrong[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        CU_ASSERT_EQUAL(wrong[i], 0);
    }
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, 0));
}

static void *wait_for_end(void *arg) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = "never";
    tr_result *result = NULL;
    if (tr_ask(client, &options, "x", &result) == TR_OK) {
        *(tr_err *)arg = tr_result_error(result);
    }
    tr_result_free(result);
    return NULL;
}

static void closing_wakes_the_threads_that_wait(void) {
    pthread_t threads[THREADS];
    tr_err ends[THREADS] = {TR_OK};
    unsigned submits = fake_server_counts(fake).submits;
    for (int i = 0; i < THREADS; i++) {
        CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, wait_for_end, &ends[i]), 0);
    }
    CU_ASSERT_TRUE(fake_server_until(fake, submits_are, submits + THREADS));
    tr_client_close(client);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        CU_ASSERT_EQUAL(ends[i], TR_ERR_CANCELLED);
    }
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, 0));
    MUST(tr_client_open(fake_server_url(fake), &client)); /* for the suite's end */
}

static void *die_and_return(void *arg) {
    (void)arg;
    for (int i = 0; i < 5; i++) {
        if (!fake_server_until(fake, submits_are, fake_server_counts(fake).submits + 40)) {
            break;
        }
        fake_server_die(fake);
        if (!fake_server_back(fake)) {
            abort();
        }
    }
    return NULL;
}

static void every_task_ends_while_the_daemon_dies_and_returns(void) {
    enum { N = 600 };
    tr_request *request = request_for("count:50:64");
    const tr_request *requests[N];
    static tr_result *results[N];
    for (int i = 0; i < N; i++) {
        requests[i] = request;
    }
    pthread_t thread;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, die_and_return, NULL), 0);
    MUST(tr_gather(client, requests, N, 8, results, NULL, NULL));
    pthread_join(thread, NULL);
    unsigned whole = 0, lost = 0;
    for (int i = 0; i < N; i++) {
        whole += tr_result_error(results[i]) == TR_OK && strlen(tr_result_text(results[i])) == 3200;
        lost += tr_result_error(results[i]) == TR_ERR_CLOSED;
        tr_result_free(results[i]);
    }
    CU_ASSERT_EQUAL(whole + lost, N);
    CU_ASSERT_TRUE(whole > 0);
    tr_request_free(request);
}

int main(void) {
    CU_initialize_registry();
    CU_pSuite suite = CU_add_suite("gather", pair_open, pair_close);
    CU_ADD_TEST(suite, each_task_has_its_own_result);
    CU_ADD_TEST(suite, no_bound_means_the_daemons_bound);
    CU_ADD_TEST(suite, a_request_that_cannot_be_sent_stops_the_gathering);
    CU_ADD_TEST(suite, threads_share_a_client);
    CU_ADD_TEST(suite, closing_wakes_the_threads_that_wait);
    CU_ADD_TEST(suite, every_task_ends_while_the_daemon_dies_and_returns);
    return finish_tests();
}
