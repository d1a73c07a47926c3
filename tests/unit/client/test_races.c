/*
 * Two threads in one client at the worst moment. The client's mutex is released while bytes are
 * sent and received, so a gate in the door stops a thread exactly there while another ends, closes
 * or begins what the first was working on. What a freed call costs is seen by AddressSanitizer and
 * ThreadSanitizer; what is lost or told twice is asserted here.
 */
#include "tests/unit/client/client_test.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "protocol/client/client_internal.h"

static sem_t entered, leave;
static _Atomic bool gate_send, gate_recv; /* the next one stops there, once */
static const tri_door_ops *real_ops;
static tri_door_ops gated_ops;

static void stop_at(_Atomic bool *gate) {
    bool armed = true;
    if (atomic_compare_exchange_strong(gate, &armed, false)) {
        sem_post(&entered);
        while (sem_wait(&leave) != 0) {
        }
    }
}

static ssize_t gated_send(tri_door *door, const void *data, size_t size) {
    stop_at(&gate_send);
    return real_ops->send(door, data, size);
}

static ssize_t gated_recv(tri_door *door, void *data, size_t size) {
    stop_at(&gate_recv);
    return real_ops->recv(door, data, size);
}

static void until_entered(void) {
    while (sem_wait(&entered) != 0) {
    }
}

/* A fresh client, whose door has the gates. */
static int begin(void) {
    if (pair_open() != 0 || sem_init(&entered, 0, 0) != 0 || sem_init(&leave, 0, 0) != 0) {
        return 1;
    }
    real_ops = client->door->ops;
    gated_ops = *real_ops;
    gated_ops.send = gated_send;
    gated_ops.recv = gated_recv;
    client->door->ops = &gated_ops;
    return 0;
}

static void end(void) {
    pair_close();
    sem_destroy(&entered);
    sem_destroy(&leave);
}

/* As if its time limit had passed; the pumping thread sees it next. */
static void expire(uint64_t ref) {
    pthread_mutex_lock(&client->mtx);
    tri_call *call = tri_table_find(&client->calls, ref);
    if (call != NULL) {
        call->deadline_ns = client->deadline_ns = 1;
        tri_kick_locked(client);
    }
    pthread_mutex_unlock(&client->mtx);
}

static uint64_t last_ref(void) {
    pthread_mutex_lock(&client->mtx);
    uint64_t ref = client->last_ref;
    pthread_mutex_unlock(&client->mtx);
    return ref;
}

static tr_stream *open_stream(const char *target) {
    tr_request *request = request_for(target);
    tr_stream *stream = NULL;
    MUST(tr_stream_open(client, request, &stream));
    tr_request_free(request);
    return stream;
}

static void *read_to_end(void *arg) {
    tr_chunk chunk;
    while (tr_stream_next(arg, -1, &chunk) == TR_OK) {
    }
    return NULL;
}

static pthread_t begin_thread(void *(*fn)(void *), void *arg) {
    pthread_t thread;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, fn, arg), 0);
    return thread;
}

static void a_stream_may_be_closed_while_its_deadline_is_dealt_with(void) {
    CU_ASSERT_EQUAL_FATAL(begin(), 0);
    tr_stream *late = open_stream("deaf");
    uint64_t ref = last_ref();
    tr_stream *other = open_stream("never");
    pthread_t pump = begin_thread(read_to_end, other);
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, 2));
    gate_send = true;
    expire(ref);
    until_entered();
    tr_stream_close(late);
    sem_post(&leave);
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, 1));
    tr_stream_cancel(other);
    pthread_join(pump, NULL);
    tr_stream_close(other);
    end();
}

static void a_deadline_that_comes_up_meanwhile_is_kept(void) {
    CU_ASSERT_EQUAL_FATAL(begin(), 0);
    pthread_mutex_lock(&client->mtx);
    client->last_ref = 29; /* the third is in slot 0 of 32, which has been passed by then */
    pthread_mutex_unlock(&client->mtx);
    tr_stream *other = open_stream("never");
    uint64_t other_ref = last_ref();
    tr_stream *late = open_stream("deaf");
    uint64_t ref = last_ref();
    pthread_t pump = begin_thread(read_to_end, other);
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, 2));
    gate_send = true;
    expire(ref);
    until_entered();
    tr_options options = TR_OPTIONS_INIT;
    options.model = "never";
    options.total_ms = 600000;
    tr_request *request = NULL;
    tr_stream *limited = NULL;
    MUST(tr_request_new(&options, &request));
    MUST(tr_request_text(request, "user", "hello"));
    MUST(tr_stream_open(client, request, &limited));
    sem_post(&leave);
    pthread_mutex_lock(&client->mtx);
    /* Not by a cancel, which has a deadline of its own. */
    tri_call_fail_locked(tri_table_find(&client->calls, other_ref), TR_ERR_CANCELLED, "");
    pthread_mutex_unlock(&client->mtx);
    pthread_join(pump, NULL); /* it has been through all deadlines then */
    pthread_mutex_lock(&client->mtx);
    const tri_call *call = tri_table_find(&client->calls, client->last_ref);
    CU_ASSERT_PTR_NOT_NULL_FATAL(call);
    CU_ASSERT_TRUE(client->deadline_ns <= call->deadline_ns);
    pthread_mutex_unlock(&client->mtx);
    tr_stream_close(late);
    tr_stream_close(limited);
    tr_stream_close(other);
    tr_request_free(request);
    end();
}

typedef struct pushed {
    uint64_t id;
    tr_err status; /* of the call that another thread makes */
    _Atomic unsigned done;
    unsigned chunks, done_inside;
    tr_err err;
    size_t text_size;
    bool gate;
} pushed;

static void on_chunk(const tr_chunk *chunk, void *arg) {
    (void)chunk;
    pushed *p = arg;
    p->chunks++;
    if (p->gate) {
        p->gate = false;
        sem_post(&entered);
        while (sem_wait(&leave) != 0) {
        }
        p->done_inside = p->done;
    }
}

static void on_done(const tr_result *result, void *arg) {
    pushed *p = arg;
    p->done++;
    p->err = tr_result_error(result);
    p->text_size = strlen(tr_result_text(result));
}

static tr_err submit(const char *target, pushed *p) {
    tr_request *request = request_for(target);
    tr_err err = tr_client_submit(client, request, on_chunk, on_done, p, &p->id);
    tr_request_free(request);
    return err;
}

static void *cancel_it(void *arg) {
    pushed *p = arg;
    p->status = tr_client_cancel(client, p->id);
    return NULL;
}

static void a_request_may_end_while_another_thread_cancels_it(void) {
    CU_ASSERT_EQUAL_FATAL(begin(), 0);
    pushed p = {0};
    MUST(submit("deaf", &p));
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, 1));
    gate_send = true;
    pthread_t canceller = begin_thread(cancel_it, &p);
    until_entered();
    expire(p.id);
    for (int i = 0; i < 1000000 && p.done == 0; i++) {
        MUST(tr_client_dispatch(client));
    }
    sem_post(&leave);
    pthread_join(canceller, NULL);
    CU_ASSERT_EQUAL(p.status, TR_OK);
    CU_ASSERT_EQUAL(p.done, 1);
    CU_ASSERT_EQUAL(p.err, TR_ERR_CANCELLED);
    end();
}

static void *dispatch_until_closed(void *arg) {
    pushed *p = arg;
    while ((p->status = tr_client_dispatch(client)) == TR_OK) {
    }
    return NULL;
}

/* A callback is never overtaken: its thread tells the end when it has returned. */
static void closing_waits_with_done_for_a_running_callback(void) {
    CU_ASSERT_EQUAL_FATAL(begin(), 0);
    pushed p = {.gate = true}, q = {0};
    MUST(submit("count:1000:64", &p));
    MUST(submit("never", &q));
    pthread_t loop = begin_thread(dispatch_until_closed, &p);
    until_entered();
    tr_client_close(client);
    client = NULL;
    CU_ASSERT_EQUAL(q.done, 0);
    sem_post(&leave);
    pthread_join(loop, NULL);
    CU_ASSERT_EQUAL(p.status, TR_ERR_CLOSED);
    CU_ASSERT_EQUAL(p.done_inside, 0);
    CU_ASSERT_EQUAL(p.chunks, 1);
    CU_ASSERT_EQUAL(p.done, 1);
    CU_ASSERT_EQUAL(p.err, TR_ERR_CANCELLED);
    CU_ASSERT_EQUAL(q.done, 1);
    CU_ASSERT_EQUAL(q.err, TR_ERR_CANCELLED);
    end();
}

/* An answer that has come, and whose chunks have not been delivered, is not whole. */
static void closing_never_calls_an_undelivered_answer_whole(void) {
    CU_ASSERT_EQUAL_FATAL(begin(), 0);
    pushed p = {0};
    MUST(submit("count:10:10", &p));
    tr_result *result = NULL;
    MUST(tr_ask(client, NULL, "hello", &result)); /* what was sent before it has come, too */
    tr_result_free(result);
    tr_client_close(client);
    client = NULL;
    CU_ASSERT_EQUAL(p.done, 1);
    CU_ASSERT_EQUAL(p.chunks, 0);
    CU_ASSERT_EQUAL(p.text_size, 0);
    CU_ASSERT_EQUAL(p.err, TR_ERR_CANCELLED);
    end();
}

static void *submit_it(void *arg) {
    pushed *p = arg;
    p->status = submit("count:3:5", p);
    return NULL;
}

static void a_submit_that_a_close_overtakes_fails_without_callbacks(void) {
    CU_ASSERT_EQUAL_FATAL(begin(), 0);
    pushed p = {0};
    gate_recv = true; /* the look at a connection that has rested */
    pthread_t submitter = begin_thread(submit_it, &p);
    until_entered();
    tr_client_close(client);
    client = NULL;
    sem_post(&leave);
    pthread_join(submitter, NULL);
    CU_ASSERT_EQUAL(p.status, TR_ERR_CLOSED);
    CU_ASSERT_EQUAL(p.done, 0);
    end();
}

int main(void) {
    CU_initialize_registry();
    CU_pSuite suite = CU_add_suite("races", NULL, NULL);
    CU_ADD_TEST(suite, a_stream_may_be_closed_while_its_deadline_is_dealt_with);
    CU_ADD_TEST(suite, a_deadline_that_comes_up_meanwhile_is_kept);
    CU_ADD_TEST(suite, a_request_may_end_while_another_thread_cancels_it);
    CU_ADD_TEST(suite, closing_waits_with_done_for_a_running_callback);
    CU_ADD_TEST(suite, closing_never_calls_an_undelivered_answer_whole);
    CU_ADD_TEST(suite, a_submit_that_a_close_overtakes_fails_without_callbacks);
    return finish_tests();
}
