/*
 * tr_stream: one answer, read chunk by chunk. What was received is read without the lock, buffer by
 * buffer, so that a million small chunks a second cost little; the lock is taken when a buffer is
 * used up, and when half a window of credit goes back. The handle keeps its client's memory, so
 * that streams may be closed after it. One thread reads; any thread may cancel.
 */
#include "protocol/client/client_internal.h"

#include <stdlib.h>

#include "protocol/limits.h"

struct tr_stream {
    tr_client *client;
    tri_call *call;
    tri_waiter waiter;
    bool finished; /* the end has been told; `result` may be read */
};

tr_err tr_stream_open(tr_client *client, const tr_request *request, tr_stream **ret) {
    tri_call *call = NULL;
    tr_err err = tri_call_chat(TR_OP_CHAT, TRI_PULL, request, &call);
    if (err != TR_OK) {
        return err;
    }
    tr_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        tri_call_free(call);
        return tri_say_nomem();
    }
    err = tri_enter(client);
    if (err != TR_OK) {
        tri_call_free(call);
        free(stream);
        return err;
    }
    tri_waiter_init(&stream->waiter);
    stream->client = client;
    stream->call = call;
    client->handles++;
    (void)!tri_call_start_locked(client, call, &stream->waiter); /* its end says what failed */
    tri_flush_locked(client);
    tri_leave_locked(client);
    *ret = stream;
    return TR_OK;
}

static bool something(void *arg) {
    const tri_call *call = arg;
    return call->ended || call->pending.size > 0;
}

static tr_err finish(tr_stream *stream) {
    stream->finished = true;
    tr_err err = stream->call->result->err;
    return err == TR_OK ? TR_DONE : tri_say(err, "%s", tr_result_message(stream->call->result));
}

/* Takes what has arrived, waits if nothing has. TR_OK: tri_call_next has something. */
static tr_err refill(tr_stream *stream, int timeout_ms) {
    tr_client *client = stream->client;
    tri_call *call = stream->call;
    int64_t until_ns = timeout_ms < 0 ? TRI_NEVER : tri_now() + timeout_ms * TRI_MS;
    pthread_mutex_lock(&client->mtx); /* the handle keeps the client, also a closed one */
    tr_err err = TR_OK;
    if (call->cancelled) {
        call->taken_at = call->taken.size;
    }
    if (!something(call)) {
        tri_call_credit_locked(call, true);
        tri_flush_locked(client);
        if (timeout_ms == 0 && !client->pumping) { /* what is there already counts */
            client->pumping = true;
            client->pumper = &stream->waiter;
            (void)tri_work_locked(client);
            tri_pump_end_locked(client);
        }
        err = tri_wait_locked(client, &stream->waiter, until_ns, something, call);
    }
    if (err == TR_ERR_TIMEOUT) {
        tri_say_text("Nothing came within %d ms; the stream is still open.", timeout_ms);
    } else if (!tri_call_take_locked(call)) {
        err = finish(stream);
    }
    pthread_mutex_unlock(&client->mtx);
    return err;
}

static void give_credit(tr_stream *stream) {
    tri_call *call = stream->call;
    if (call->used_messages < (call->window_messages + 1) / 2 &&
        call->used_bytes < call->window_bytes / 2) {
        return;
    }
    pthread_mutex_lock(&stream->client->mtx);
    tri_call_credit_locked(call, false);
    tri_flush_locked(stream->client);
    pthread_mutex_unlock(&stream->client->mtx);
}

tr_err tr_stream_next(tr_stream *stream, int timeout_ms, tr_chunk *ret) {
    tri_call *call = stream->call;
    if (stream->client->process != tri_process()) {
        return tri_say_forked();
    }
    while (!stream->finished) {
        const tr_delta *delta = call->cancelled ? NULL : tri_call_next(call);
        if (delta == NULL) {
            tr_err err = refill(stream, timeout_ms);
            if (err != TR_OK) {
                return err;
            }
            continue;
        }
        give_credit(stream);
        tr_err err = tri_call_chunk(call, delta, ret);
        if (err != TR_OK) {
            pthread_mutex_lock(&stream->client->mtx);
            tri_call_overflow_locked(call, err);
            tri_flush_locked(stream->client);
            pthread_mutex_unlock(&stream->client->mtx);
        } else if (ret->kind != 0) {
            return TR_OK;
        }
    }
    return finish(stream);
}

const tr_result *tr_stream_result(const tr_stream *stream) {
    return stream->finished ? stream->call->result : NULL;
}

void tr_stream_cancel(tr_stream *stream) {
    if (stream->client->process != tri_process()) {
        return;
    }
    pthread_mutex_lock(&stream->client->mtx);
    tri_call_cancel_locked(stream->call);
    tri_flush_locked(stream->client);
    pthread_mutex_unlock(&stream->client->mtx);
}

void tr_stream_close(tr_stream *stream) {
    if (stream == NULL) {
        return;
    }
    tr_client *client = stream->client;
    if (client->process != tri_process()) {
        if (--stream->call->refs == 0) {
            tri_call_free(stream->call);
        }
        tri_unref_forked(client);
        free(stream);
        return;
    }
    pthread_mutex_lock(&client->mtx);
    stream->call->waiter = NULL;
    tri_call_drop_locked(stream->call, TR_ERR_CANCELLED, tr_err_text(TR_ERR_CANCELLED));
    tri_call_unref_locked(stream->call);
    tri_flush_locked(client);
    client->handles--;
    client->inside++; /* what tri_leave_locked gives back; a closed client cannot be entered */
    tri_leave_locked(client);
    tri_waiter_fini(&stream->waiter);
    free(stream);
}
