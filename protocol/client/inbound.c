/*
 * Frames from the daemon, sorted into the calls. Each inline part is checked once, by
 * protocol/wire, and against what was agreed: known request, credit, running number. A daemon that
 * breaks the protocol loses the connection, since nothing after it can be trusted; frames of
 * requests that have ended here already are late, not wrong, and skipped like unknown kinds. Runs
 * on the pumping thread, with mtx.
 */
#include "protocol/client/client_internal.h"

#include <stdio.h>
#include <string.h>

#include "protocol/limits.h"

static tr_err collect(tri_call *call, const tr_delta *delta, size_t size) {
    tr_err err = call->on_delta != NULL ? call->on_delta(call, delta)
                                        : tri_result_add(call->result, delta, true);
    if (err != TR_OK) {
        tri_call_drop_locked(call, err,
                             err == TR_ERR_TOO_LARGE ? "The answer is larger than 64 MiB."
                                                     : tr_err_text(err));
        return TR_OK;
    }
    call->used_messages++;
    call->used_bytes += (uint32_t)size;
    tri_call_credit_locked(call, true);
    return TR_OK;
}

/* Keeps it where it will be read from; `data` may lie at any address. */
static tr_err keep(tri_call *call, const uint8_t *data, size_t size) {
    uint64_t size64 = size;
    size_t before = call->pending.size;
    uint8_t *at = tri_buffer_grow(&call->pending, sizeof size64 + ((size + 7) & ~(size_t)7));
    if (at == NULL) {
        tri_call_drop_locked(call, TR_ERR_NOMEM, "There is not enough memory for the answer.");
        return TR_OK;
    }
    memcpy(at, &size64, sizeof size64);
    memcpy(at + sizeof size64, data, size);
    const tr_delta *delta = (const tr_delta *)(const void *)(at + sizeof size64);
    if (tr_wire_check(TR_KIND_DELTA, delta, size) != TR_OK || delta->seq != call->seq) {
        call->pending.size = before;
        return TR_ERR_PROTOCOL;
    }
    call->seq++;
    if (before == 0) {
        tri_call_tell_locked(call);
    }
    return TR_OK;
}

static tr_err on_delta(tr_client *client, const tr_frame *frame, const uint8_t *data) {
    tri_call *call = tri_table_find(&client->calls, frame->ref);
    if (call == NULL || call->cancelled) {
        return TR_OK;
    }
    size_t size = frame->inline_size;
    if (call->credit_messages == 0 || call->credit_bytes < size) {
        return TR_ERR_PROTOCOL;
    }
    call->credit_messages--;
    call->credit_bytes -= (uint32_t)size;
    if (call->mode != TRI_COLLECT) {
        return keep(call, data, size);
    }
    _Alignas(8) uint8_t aligned[TR_DELTA_max];
    if (size > sizeof aligned) {
        return TR_ERR_PROTOCOL;
    }
    memcpy(aligned, data, size);
    const tr_delta *delta = (const tr_delta *)(const void *)aligned;
    if (tr_wire_check(TR_KIND_DELTA, delta, size) != TR_OK || delta->seq != call->seq) {
        return TR_ERR_PROTOCOL;
    }
    call->seq++;
    return collect(call, delta, size);
}

/* The other kinds are rare and small, except that a FAIL carries sentences. */
static tr_err on_other(tr_client *client, const tr_frame *frame, const uint8_t *data) {
    _Alignas(8) uint8_t aligned[8192];
    if (frame->inline_size > sizeof aligned) {
        return TR_ERR_PROTOCOL;
    }
    memcpy(aligned, data, frame->inline_size);
    if (tr_wire_check(frame->kind, aligned, frame->inline_size) != TR_OK) {
        return TR_ERR_PROTOCOL;
    }
    if (client->state == TRI_GREETING) {
        return tri_greeted_locked(client, frame, aligned);
    }
    tri_call *call = tri_table_find(&client->calls, frame->ref);
    const void *at = aligned;
    switch ((tr_kind)frame->kind) {
    case TR_KIND_DONE:
        if (call != NULL) {
            tri_result_done(call->result, at);
            if (call->cancelled) { /* it was quicker than the CANCEL, but its text was dropped */
                tri_result_fail_here(call->result, TR_ERR_CANCELLED, tr_err_text(TR_ERR_CANCELLED));
            }
            tri_call_end_locked(call);
        }
        return TR_OK;
    case TR_KIND_FAIL:
        if (call != NULL) {
            tri_result_fail(call->result, at);
            tri_call_end_locked(call);
        } else if (frame->ref == 0) {
            tr_str why = tr_fail_read(at).message;
            char text[TRI_WHY_size / 2];
            snprintf(text, sizeof text, "%.*s", (int)why.size, why.ptr);
            tri_lost_locked(client, TR_ERR_CLOSED, text);
            return TR_ERR_CLOSED;
        }
        return TR_OK;
    case TR_KIND_PING:
        /* Without memory there is no answer; the daemon will ask again. */
        (void)!tri_frame_locked(client, TR_KIND_PONG, 0, at, frame->inline_size);
        return TR_OK;
    case TR_KIND_SUBMIT:
    case TR_KIND_DELTA:
    case TR_KIND_CREDIT:
    case TR_KIND_CANCEL:
    case TR_KIND_HELLO:
    case TR_KIND_WELCOME:
    case TR_KIND_PONG:
        break;
    }
    return TR_OK;
}

void tri_parse_locked(tr_client *client) {
    size_t at = 0;
    for (;;) {
        tr_frame frame;
        tr_err err = tr_frame_decode(client->in + at, client->in_size - at, 0, &frame);
        if (err == TR_ERR_FULL) {
            break;
        }
        if (err != TR_OK) {
            tri_lost_locked(client, err == TR_ERR_TOO_LARGE ? err : TR_ERR_PROTOCOL,
                            err == TR_ERR_TOO_LARGE ? "a frame is larger than its limit"
                                                    : "it sends what is not a frame");
            return;
        }
        size_t size = tr_frame_size(&frame);
        if (client->in_size - at < size) {
            break;
        }
        const uint8_t *data = client->in + at + TR_FRAME_HEADER_size;
        err = frame.kind == TR_KIND_DELTA && client->state == TRI_UP
                  ? on_delta(client, &frame, data)
                  : on_other(client, &frame, data);
        if (err == TR_ERR_CLOSED) {
            return; /* the connection is gone, and `in` with it */
        }
        if (err != TR_OK) {
            char why[64];
            snprintf(why, sizeof why, "a message of kind %u is not valid", frame.kind);
            tri_lost_locked(client, TR_ERR_PROTOCOL, why);
            return;
        }
        at += size;
    }
    client->in_size -= at;
    memmove(client->in, client->in + at, client->in_size);
}
