/*
 * A call's life: its SUBMIT is built without the lock, started under it, and sent now or when there
 * is a connection again. DELTAs are kept as the bytes they came as, in `pending`, which the
 * consumer swaps for `taken` and reads without the lock; credit goes back as they are consumed,
 * half a window at a time. It ends exactly once: whatever comes first of the daemon's terminal, a
 * lost connection, a local deadline, a close. Called from all files of the library; mtx held where
 * the name says so, and never released here, tri_call_start_locked excepted: what calls have to say
 * to the daemon is queued.
 */
#include "protocol/client/call.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/assert.h"
#include "protocol/client/client_internal.h"
#include "protocol/limits.h"

#define TAKEN_KEEP (64 * 1024) /* of a buffer's memory, when it has been read */

static tr_err build_submit(tri_call *call, const tr_request *request, const tri_buffer *body) {
    tr_submit head = request->head;
    head.op = (uint8_t)call->op;
    tr_submit_view view = {.target = {request->target, strlen(request->target)},
                           .provider = {request->provider, strlen(request->provider)},
                           .base_url = {request->base_url, strlen(request->base_url)}};
    tr_frame frame = {.kind = TR_KIND_SUBMIT,
                      .inline_size = (uint32_t)tr_submit_size(&head, &view),
                      .body_size = (uint32_t)body->size};
    uint8_t *at = tri_buffer_grow(&call->frame, tr_frame_size(&frame));
    if (at == NULL) {
        return tri_say_nomem();
    }
    tr_frame_encode(&frame, at);
    tr_submit_write(at + TR_FRAME_HEADER_size, &head, &view);
    memcpy(at + TR_FRAME_HEADER_size + frame.inline_size, body->data, body->size);
    return TR_OK;
}

tr_err tri_call_new(tr_op op, tri_mode mode, const tr_request *request, const tri_buffer *body,
                    tri_call **ret) {
    tri_call *call = calloc(1, sizeof *call);
    tr_result *result = tri_result_new();
    if (call == NULL || result == NULL) {
        free(call);
        tr_result_free(result);
        return tri_say_nomem();
    }
    call->result = result;
    call->refs = 1;
    call->mode = mode;
    call->op = op;
    call->keep_text = mode == TRI_COLLECT || !request->forget;
    call->window_messages = call->credit_messages = request->head.credit_messages;
    call->window_bytes = call->credit_bytes = request->head.credit_bytes;
    call->deadline_ns = TRI_NEVER;
    call->made_ns = tri_now();
    if (request->head.total_ms != 0) {
        call->deadline_ns = call->made_ns + (request->head.total_ms + TRI_GRACE_MS) * TRI_MS;
    }
    tr_err err = build_submit(call, request, body);
    if (err != TR_OK) {
        tri_call_free(call);
        return err;
    }
    *ret = call;
    return TR_OK;
}

tr_err tri_call_chat(tr_op op, tri_mode mode, const tr_request *request, tri_call **ret) {
    tri_buffer body = {0};
    tr_err err = tri_request_body(request, &body);
    err = err == TR_OK ? tri_call_new(op, mode, request, &body, ret) : err;
    tri_buffer_fini(&body);
    return err;
}

void tri_call_free(tri_call *call) {
    tri_buffer_fini(&call->frame);
    tri_buffer_fini(&call->pending);
    tri_buffer_fini(&call->taken);
    tri_buffer_fini(&call->strings);
    tr_result_free(call->result);
    free(call);
}

void tri_call_unref_locked(tri_call *call) {
    TR_ASSERT(call->refs > 0);
    if (--call->refs == 0) {
        tri_call_free(call);
    }
}

tr_err tri_frame_locked(tr_client *client, uint16_t kind, uint64_t ref, const void *data,
                        size_t size) {
    tr_frame frame = {.kind = kind, .ref = ref, .inline_size = (uint32_t)size};
    uint8_t *at = tri_buffer_grow(&client->out, TR_FRAME_HEADER_size + size);
    if (at == NULL) {
        return TR_ERR_NOMEM;
    }
    tr_frame_encode(&frame, at);
    memcpy(at + TR_FRAME_HEADER_size, data, size);
    return TR_OK;
}

/* What the time limit says on the wire is what remains of it. */
static void age_submit(tri_call *call) {
    tr_submit *submit = (tr_submit *)(void *)(call->frame.data + TR_FRAME_HEADER_size);
    if (submit->total_ms != 0) {
        int64_t waited_ms = (tri_now() - call->made_ns) / TRI_MS;
        submit->total_ms =
            waited_ms < submit->total_ms ? submit->total_ms - (uint32_t)waited_ms : 1;
    }
}

void tri_call_send_locked(tri_call *call) {
    tr_client *client = call->client;
    TR_ASSERT(!call->sent && client->state == TRI_UP);
    age_submit(call);
    tr_err err = tri_buffer_add(&client->out, call->frame.data, call->frame.size);
    if (err != TR_OK) {
        tri_call_fail_locked(call, TR_ERR_NOMEM, "There is not enough memory for this request.");
        return;
    }
    tri_buffer_fini(&call->frame);
    call->sent = true;
    client->unsent--;
    if (client->heard_ns == 0 || client->calls.count == 1) {
        client->heard_ns = tri_now(); /* silence counts from the first request on */
        client->pinged_ns = 0;
    }
}

tr_err tri_call_start_locked(tr_client *client, tri_call *call, tri_waiter *waiter) {
    call->client = client;
    call->waiter = waiter;
    tri_look_locked(client);
    if (client->closed) { /* by another thread, meanwhile */
        if (call->mode == TRI_PUSH) {
            return TR_ERR_CLOSED; /* nobody would tell its end */
        }
        tri_result_fail_here(call->result, TR_ERR_CANCELLED, tr_err_text(TR_ERR_CANCELLED));
        call->ended = true;
        tri_call_tell_locked(call);
        return TR_OK;
    }
    call->ref = ++client->last_ref;
    tr_frame frame;
    tr_err err = tr_frame_decode(call->frame.data, call->frame.size, TR_FRAME_BODY_max, &frame);
    TR_ASSERT(err == TR_OK);
    frame.ref = call->ref;
    tr_frame_encode(&frame, call->frame.data);
    if (tri_table_add(&client->calls, call) != TR_OK) {
        tri_result_fail_here(call->result, TR_ERR_NOMEM, "There is not enough memory.");
        call->ended = true;
        tri_call_tell_locked(call);
        return TR_OK;
    }
    call->in_table = true;
    call->refs++;
    client->unsent++;
    if (call->deadline_ns < client->deadline_ns) {
        client->deadline_ns = call->deadline_ns;
    }
    if (client->state == TRI_UP) {
        tri_call_send_locked(call);
    } else {
        tri_unsent_step_locked(client, tri_now());
    }
    tri_kick_locked(client); /* for its deadline, or to connect */
    return TR_OK;
}

void tri_call_tell_locked(tri_call *call) {
    tr_client *client = call->client;
    if (call->mode == TRI_PUSH) {
        if (!call->ready && !call->done_called) {
            call->ready = true;
            call->refs++;
            call->ready_next = NULL;
            if (client->ready_last != NULL) {
                client->ready_last->ready_next = call;
            } else {
                client->ready_first = call;
            }
            client->ready_last = call;
            if (!client->dispatching) {
                tri_wake_loop_locked(client);
            }
        }
        return;
    }
    tri_waiter *waiter = call->waiter;
    if (waiter == NULL) {
        return;
    }
    if (call->mode == TRI_COLLECT) {
        call->ready_next = waiter->ended;
        waiter->ended = call;
    }
    pthread_cond_signal(&waiter->cond);
    if (client->pumper == waiter) {
        tri_kick_locked(client);
    }
}

void tri_call_end_locked(tri_call *call) {
    TR_ASSERT(!call->ended);
    call->ended = true;
    if (call->cancelled) {
        tri_buffer_clear(&call->pending, 0);
    }
    tri_call_tell_locked(call);
    if (call->in_table) {
        call->in_table = false;
        call->client->unsent -= call->sent ? 0 : 1;
        tri_table_remove(&call->client->calls, call->ref);
        tri_call_unref_locked(call);
    }
}

void tri_call_fail_locked(tri_call *call, tr_err err, const char *why) {
    if (!call->ended) {
        tri_result_fail_here(call->result, err, why);
        tri_call_end_locked(call);
    }
}

/* Only queued: a flush unlocks, and this runs in the midst of the table and of calls that only the
 * table holds. Whoever called flushes when nothing of this is needed any more. */
static void queue_cancel_locked(const tri_call *call, tr_err reason) {
    if (call->in_table && call->sent && call->client->state == TRI_UP) {
        tr_cancel cancel = {.reason = (uint32_t)reason};
        /* Without memory the daemon goes on until the connection ends; its words are dropped. */
        (void)!tri_frame_locked(call->client, TR_KIND_CANCEL, call->ref, &cancel, sizeof cancel);
    }
}

void tri_call_cancel_locked(tri_call *call) {
    if (call->ended || call->cancelled) {
        return;
    }
    call->cancelled = true;
    tri_buffer_clear(&call->pending, 0);
    if (!call->sent || call->client->state != TRI_UP) {
        tri_call_fail_locked(call, TR_ERR_CANCELLED, tr_err_text(TR_ERR_CANCELLED));
        return;
    }
    queue_cancel_locked(call, TR_ERR_CANCELLED);
    int64_t by_ns = tri_now() + TRI_GRACE_MS * TRI_MS;
    call->deadline_ns = by_ns < call->deadline_ns ? by_ns : call->deadline_ns;
    if (call->deadline_ns < call->client->deadline_ns) {
        call->client->deadline_ns = call->deadline_ns;
    }
    tri_kick_locked(call->client);
}

void tri_call_drop_locked(tri_call *call, tr_err err, const char *why) {
    if (!call->ended) {
        queue_cancel_locked(call, err);
        tri_call_fail_locked(call, err, why);
    }
}

void tri_call_overflow_locked(tri_call *call, tr_err err) {
    const char *why = err == TR_ERR_TOO_LARGE
                          ? "The answer is larger than 64 MiB (the option forget lifts the limit)."
                          : tr_err_text(err);
    call->cancelled = true;
    tri_buffer_clear(&call->pending, 0);
    if (call->ended) {
        tri_result_fail_here(call->result, err, why);
    } else {
        tri_call_drop_locked(call, err, why);
    }
}

void tri_call_credit_locked(tri_call *call, bool dry) {
    if (call->ended || call->cancelled) {
        call->used_messages = call->used_bytes = 0;
        return;
    }
    bool half = call->used_messages >= (call->window_messages + 1) / 2 ||
                call->used_bytes >= call->window_bytes / 2;
    /* A stream that has been read to its end must be able to get the largest DELTA. */
    bool needed = dry && call->used_messages > 0 &&
                  (call->credit_messages == 0 || call->credit_bytes < TR_DELTA_max);
    if (!half && !needed) {
        return;
    }
    tr_credit credit = {.messages = call->used_messages, .bytes = call->used_bytes};
    if (call->client->state == TRI_UP && tri_frame_locked(call->client, TR_KIND_CREDIT, call->ref,
                                                          &credit, sizeof credit) == TR_OK) {
        call->credit_messages += credit.messages;
        call->credit_bytes += credit.bytes;
        call->used_messages = call->used_bytes = 0;
    }
}

bool tri_call_take_locked(tri_call *call) {
    if (call->pending.size == 0) {
        return false;
    }
    tri_buffer read = call->taken;
    call->taken = call->pending;
    tri_buffer_clear(&read, TAKEN_KEEP);
    call->pending = read;
    call->taken_at = 0;
    return true;
}

const tr_delta *tri_call_next(tri_call *call) {
    if (call->taken_at >= call->taken.size) {
        return NULL;
    }
    uint64_t size;
    memcpy(&size, call->taken.data + call->taken_at, sizeof size);
    const tr_delta *delta =
        (const tr_delta *)(const void *)(call->taken.data + call->taken_at + sizeof size);
    call->taken_at += sizeof size + (((size_t)size + 7) & ~(size_t)7);
    call->used_messages++;
    call->used_bytes += (uint32_t)size;
    return delta;
}

static tr_chunk_kind chunk_kind_of(uint8_t kind) {
    switch ((tr_delta_kind)kind) {
    case TR_DELTA_TEXT:
        return TR_CHUNK_TEXT;
    case TR_DELTA_REASONING:
        return TR_CHUNK_REASONING;
    case TR_DELTA_TOOL_START:
        return TR_CHUNK_TOOL_START;
    case TR_DELTA_TOOL_ARGS:
        return TR_CHUNK_TOOL_ARGS;
    case TR_DELTA_OPAQUE:
        return TR_CHUNK_OPAQUE;
    }
    return (tr_chunk_kind)0;
}

tr_err tri_call_chunk(tri_call *call, const tr_delta *delta, tr_chunk *ret) {
    tr_delta_view view = tr_delta_read(delta);
    *ret = (tr_chunk){.kind = chunk_kind_of(delta->kind),
                      .choice = delta->choice,
                      .tool = delta->tool,
                      .text = view.text.size > 0 ? view.text.ptr : "",
                      .size = view.text.size,
                      .id = "",
                      .name = ""};
    tr_err err = TR_OK;
    if (view.id.size + view.name.size > 0) {
        tri_buffer_clear(&call->strings, TAKEN_KEEP);
        err = tri_buffer_add(&call->strings, view.id.ptr, view.id.size);
        err = err == TR_OK ? tri_buffer_add(&call->strings, "", 1) : err;
        err = err == TR_OK ? tri_buffer_add(&call->strings, view.name.ptr, view.name.size) : err;
        if (err == TR_OK) {
            ret->id = tri_buffer_text(&call->strings);
            ret->name = ret->id + view.id.size + 1;
        }
    }
    return err == TR_OK ? tri_result_add(call->result, delta, call->keep_text) : err;
}
