/*
 * The request protocol's messages as wholes: allocation in the size that the wire's writers ask
 * for, and one write. Any thread.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "protocol/limits.h"
#include "runtime/msg.h"

tr_msg *tr_msg_submit(const tr_submit *head, const tr_submit_view *view, tr_body *take_body) {
    tr_msg *msg = tr_msg_new(TR_KIND_SUBMIT, tr_submit_size(head, view));
    if (msg == NULL) {
        tr_body_unref(take_body);
        return NULL;
    }
    tr_submit_write(msg->data, head, view);
    msg->flags = TR_MSG_OPENING;
    msg->body = take_body;
    return msg;
}

tr_msg *tr_msg_delta(const tr_delta *head, const tr_delta_view *view) {
    tr_msg *msg = tr_msg_new(TR_KIND_DELTA, tr_delta_size(head, view));
    if (msg != NULL) {
        tr_delta_write(msg->data, head, view);
    }
    return msg;
}

tr_msg *tr_msg_done(const tr_done *head, const tr_end_view *view) {
    tr_msg *msg = tr_msg_new(TR_KIND_DONE, tr_done_size(view));
    if (msg != NULL) {
        tr_done_write(msg->data, head, view);
    }
    return msg;
}

tr_msg *tr_msg_fail(const tr_fail *head, const tr_end_view *view) {
    tr_msg *msg = tr_msg_new(TR_KIND_FAIL, tr_fail_size(view));
    if (msg != NULL) {
        tr_fail_write(msg->data, head, view);
    }
    return msg;
}

tr_msg *tr_msg_failf(tr_err err, const char *format, ...) {
    char text[TR_MESSAGE_max + 1];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tr_fail head = {.err = (uint16_t)err, .usage.cost = __builtin_nan("")};
    tr_end_view view = {.message = {text, tr_utf8_plain(text, strlen(text))}};
    return tr_msg_fail(&head, &view);
}

tr_msg *tr_msg_credit(uint32_t messages, uint32_t bytes) {
    tr_msg *msg = tr_msg_new(TR_KIND_CREDIT, sizeof(tr_credit));
    if (msg != NULL) {
        *(tr_credit *)msg->data = (tr_credit){.messages = messages, .bytes = bytes};
    }
    return msg;
}

tr_msg *tr_msg_cancel(tr_err reason) {
    tr_msg *msg = tr_msg_new(TR_KIND_CANCEL, sizeof(tr_cancel));
    if (msg != NULL) {
        *(tr_cancel *)msg->data = (tr_cancel){.reason = (uint32_t)reason};
    }
    return msg;
}
