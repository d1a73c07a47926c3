/*
 * Four threads do at random whatever any thread may do with one client, while a fifth turns its
 * loop: open, read, cancel (also each other's), close, submit, ask, run into deadlines, lose the
 * daemon. The seeds are fixed, the order is the scheduler's. At the end nothing is left over: each
 * submit has had its one end, nothing is in the table, and the daemon has no open stream. Then the
 * client is closed while the threads read. Faults show in the sanitizers.
 */
#include "tests/unit/client/client_test.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "protocol/client/client_internal.h"

enum { THREADS = 4, OPERATIONS = 500, PUSHED = THREADS * OPERATIONS, OUTAGE_EVERY = 160 };

static const char *const targets[] = {"count:40:64", "count:400:64", "never",    "deaf",
                                      "slow:3:1",    "tools",        "fail:11:0"};

typedef struct pushed {
    _Atomic uint64_t id;
    _Atomic unsigned done, late;
} pushed;

static pushed all[PUSHED];
static _Atomic unsigned submitted, ended;
static _Atomic bool enough;

/* The streams that the threads read now, for the others to cancel. */
static struct {
    pthread_mutex_t mtx;
    tr_stream *stream;
} reading[THREADS];

typedef struct worker {
    pthread_t thread;
    unsigned number;
    uint64_t random;
    unsigned wrong; /* answers that must not be */
    tr_stream *stream;
} worker;

static unsigned draw(worker *w, unsigned below) {
    w->random ^= w->random << 13; /* xorshift64, Marsaglia 2003 */
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return (unsigned)((w->random >> 33) % below);
}

static tr_request *draw_request(worker *w) {
    return request_for(targets[draw(w, sizeof targets / sizeof targets[0])]);
}

static void on_chunk(const tr_chunk *chunk, void *arg) {
    (void)chunk;
    pushed *p = arg;
    p->late += p->done;
}

static void on_done(const tr_result *result, void *arg) {
    (void)result;
    pushed *p = arg;
    p->done++;
    ended++;
}

static void submit(worker *w) {
    pushed *p = &all[submitted++];
    tr_request *request = draw_request(w);
    uint64_t id = 0;
    w->wrong += tr_client_submit(client, request, on_chunk, on_done, p, &id) != TR_OK;
    p->id = id;
    tr_request_free(request);
}

static void cancel_pushed(worker *w) {
    unsigned count = submitted;
    uint64_t id = count > 0 ? all[draw(w, count)].id : 0;
    tr_err err = tr_client_cancel(client, id);
    w->wrong += err != TR_OK && err != TR_ERR_NOT_FOUND;
}

static void publish(const worker *w, tr_stream *stream) {
    pthread_mutex_lock(&reading[w->number].mtx);
    reading[w->number].stream = stream;
    pthread_mutex_unlock(&reading[w->number].mtx);
}

static void cancel_stream(worker *w) {
    unsigned whose = draw(w, THREADS);
    pthread_mutex_lock(&reading[whose].mtx);
    if (reading[whose].stream != NULL) {
        tr_stream_cancel(reading[whose].stream);
    }
    pthread_mutex_unlock(&reading[whose].mtx);
}

static void read_some(worker *w, tr_stream *stream) {
    tr_chunk chunk;
    tr_err err = TR_OK;
    for (unsigned left = draw(w, 60); left > 0 && err == TR_OK; left--) {
        err = tr_stream_next(stream, (int)draw(w, 3), &chunk);
    }
    w->wrong += err == TR_ERR_PROTOCOL || err == TR_ERR_INVALID;
}

static void stream(worker *w) {
    tr_request *request = draw_request(w);
    tr_stream *stream = NULL;
    if (tr_stream_open(client, request, &stream) == TR_OK) {
        publish(w, stream);
        read_some(w, stream);
        if (draw(w, 4) == 0) {
            tr_stream_cancel(stream);
            read_some(w, stream);
        }
        publish(w, NULL);
        tr_stream_close(stream);
    } else {
        w->wrong++;
    }
    tr_request_free(request);
}

static void ask(worker *w) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = draw(w, 2) == 0 ? "count:5:8" : "fail:10:0";
    tr_result *result = NULL;
    w->wrong += tr_ask(client, &options, "hello", &result) != TR_OK;
    tr_result_free(result);
}

/* A limit of the client's own takes seconds, so that its coming is brought forward. */
static void run_into_deadline(worker *w) {
    pthread_mutex_lock(&client->mtx);
    size_t room = client->calls.room;
    tri_call *call = room > 0 ? client->calls.slots[draw(w, (unsigned)room)] : NULL;
    if (call != NULL) {
        call->deadline_ns = client->deadline_ns = 1;
        tri_kick_locked(client);
    }
    pthread_mutex_unlock(&client->mtx);
}

static void operate(worker *w) {
    switch (draw(w, 8)) {
    case 0:
    case 1:
        submit(w);
        break;
    case 2:
        cancel_pushed(w);
        break;
    case 3:
        cancel_stream(w);
        break;
    case 4:
        run_into_deadline(w);
        break;
    case 5:
        ask(w);
        break;
    default:
        stream(w);
    }
}

static void *work(void *arg) {
    worker *w = arg;
    for (int i = 1; i <= OPERATIONS; i++) {
        operate(w);
        if (w->number == 0 && i % OUTAGE_EVERY == 0) {
            fake_server_die(fake);
            submit(w); /* waits for its return */
            cancel_pushed(w);
            w->wrong += !fake_server_back(fake);
        }
    }
    return NULL;
}

/* Until all threads are through and every submit has had its end; 10 s without anything is a fault
 * that the counts then show. */
static void *turn(void *arg) {
    (void)arg;
    struct pollfd polled = {.fd = tr_client_fd(client), .events = POLLIN};
    while ((!enough || ended < submitted) && poll(&polled, 1, 10000) > 0 &&
           tr_client_dispatch(client) == TR_OK) {
    }
    return NULL;
}

static void begin_workers(worker *workers) {
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_mutex_init(&reading[i].mtx, NULL);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (worker){.number = i, .random = 0x9e3779b97f4a7c15U * (i + 1)};
        CU_ASSERT_EQUAL_FATAL(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
}

static void end_workers(worker *workers) {
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        CU_ASSERT_EQUAL(workers[i].wrong, 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_mutex_destroy(&reading[i].mtx);
    }
}

static void threads_that_do_anything_at_once_leave_nothing_over(void) {
    worker workers[THREADS];
    pthread_t loop;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&loop, NULL, turn, NULL), 0);
    begin_workers(workers);
    end_workers(workers);
    enough = true;
    for (unsigned i = 0; i < submitted; i++) {
        tr_err err = tr_client_cancel(client, all[i].id);
        CU_ASSERT_TRUE(err == TR_OK || err == TR_ERR_NOT_FOUND);
    }
    pthread_mutex_lock(&client->mtx);
    for (size_t i = 0; i < client->calls.room; i++) { /* the deaf would take their two seconds */
        if (client->calls.slots[i] != NULL) {
            client->calls.slots[i]->deadline_ns = client->deadline_ns = 1;
        }
    }
    tri_wake_loop_locked(client);
    tri_kick_locked(client);
    pthread_mutex_unlock(&client->mtx);
    pthread_join(loop, NULL);
    CU_ASSERT_TRUE(submitted > OPERATIONS / 2);
    CU_ASSERT_EQUAL(ended, submitted);
    for (unsigned i = 0; i < submitted; i++) {
        CU_ASSERT_EQUAL(all[i].done, 1);
        CU_ASSERT_EQUAL(all[i].late, 0);
    }
    CU_ASSERT_EQUAL(client->calls.count, 0);
    CU_ASSERT_EQUAL(client->unsent, 0);
    CU_ASSERT_PTR_NULL(client->waiters);
    tr_result *result = NULL;
    MUST(tr_ask(client, NULL, "hello", &result)); /* the CANCELs before it have arrived */
    tr_result_free(result);
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, 0));
}

static void *read_until_closed(void *arg) {
    worker *w = arg;
    tr_chunk chunk;
    tr_err err;
    do {
        err = tr_stream_next(w->stream, (int)draw(w, 3) - 1, &chunk);
        if (draw(w, 200) == 0) {
            tr_stream_cancel(w->stream);
        }
    } while (err == TR_OK || (err == TR_ERR_TIMEOUT && tr_stream_result(w->stream) == NULL));
    w->wrong += tr_stream_result(w->stream) == NULL;
    tr_stream_close(w->stream);
    return NULL;
}

static void a_client_may_be_closed_while_its_streams_are_read(void) {
    for (unsigned round = 0; round < 20; round++) {
        worker workers[THREADS];
        unsigned submits = fake_server_counts(fake).submits;
        for (unsigned i = 0; i < THREADS; i++) {
            tr_request *request = request_for(i % 2 == 0 ? "never" : "count:100000:64");
            workers[i] = (worker){.number = i, .random = 0x9e3779b97f4a7c15U * (round + i + 1)};
            MUST(tr_stream_open(client, request, &workers[i].stream));
            tr_request_free(request);
        }
        for (unsigned i = 0; i < THREADS; i++) {
            CU_ASSERT_EQUAL_FATAL(
                pthread_create(&workers[i].thread, NULL, read_until_closed, &workers[i]), 0);
        }
        if (round % 2 == 0) { /* then they are in the midst of it */
            CU_ASSERT_TRUE(fake_server_until(fake, submits_are, submits + THREADS));
        }
        tr_client_close(client);
        for (unsigned i = 0; i < THREADS; i++) {
            pthread_join(workers[i].thread, NULL);
            CU_ASSERT_EQUAL(workers[i].wrong, 0);
        }
        MUST(tr_client_open(fake_server_url(fake), &client));
    }
}

int main(void) {
    CU_initialize_registry();
    CU_pSuite suite = CU_add_suite("threads", pair_open, pair_close);
    CU_ADD_TEST(suite, threads_that_do_anything_at_once_leave_nothing_over);
    CU_ADD_TEST(suite, a_client_may_be_closed_while_its_streams_are_read);
    return finish_tests();
}
