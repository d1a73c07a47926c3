/* Messages and bodies: allocation and reference counts. Any thread. */
#include "runtime/msg.h"

#include <string.h>

#include "protocol/assert.h"
#include "protocol/limits.h"
#include "runtime/memory.h"

tr_msg *tr_msg_new(uint16_t kind, size_t size) {
    TR_ASSERT(size <= (size_t)TR_FRAME_INLINE_max);
    tr_msg *msg = tr_alloc(sizeof(tr_msg) + size);
    if (msg == NULL) {
        return NULL;
    }
    memset(msg, 0, sizeof(tr_msg) + size);
    msg->kind = kind;
    msg->size = (uint32_t)size;
    return msg;
}

void tr_msg_free(tr_msg *msg) {
    if (msg != NULL) {
        tr_body_unref(msg->body);
        tr_free(msg);
    }
}

tr_body *tr_body_new(size_t size) {
    tr_body *body = tr_alloc(sizeof(tr_body) + size + 1);
    if (body == NULL) {
        return NULL;
    }
    atomic_init(&body->refs, 1);
    body->size = size;
    body->fini = NULL;
    body->bytes[size] = '\0';
    return body;
}

tr_body *tr_body_ref(tr_body *body) {
    /* Relaxed: whoever holds a reference already keeps the body alive; nothing is read through the
     * count. */
    atomic_fetch_add_explicit(&body->refs, 1, memory_order_relaxed);
    return body;
}

void tr_body_unref(tr_body *body) {
    /* Release orders this holder's reads before the free; acquire lets the last one see them:
     * partner is this line. */
    if (body == NULL || atomic_fetch_sub_explicit(&body->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    if (body->fini != NULL) {
        body->fini(body);
    }
    tr_free(body);
}
