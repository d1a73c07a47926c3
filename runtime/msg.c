/*
 * Messages and bodies: allocation and reference counts. Any thread.
 *
 * Before each message lies the size class of its memory, so that the thread that frees it, often
 * another than the one that made it, can keep it for its next message of that class. A thread
 * keeps a bounded number; the rest goes back to the table of memory.h.
 */
#include "runtime/msg.h"

#include <string.h>

#include "protocol/assert.h"
#include "protocol/limits.h"
#include "runtime/memory.h"
#include "runtime/msg_cache.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KEEPS false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define KEEPS false
#endif
#endif
#ifndef KEEPS
#define KEEPS true
#endif

#define CLASSES 3U
#define KEPT_MAX 512U /* of each class, by each thread */

static const size_t class_sizes[CLASSES] = {16, 64, 256}; /* of data */

typedef struct block {
    struct block *next; /* in the list of kept ones */
    uint32_t class;     /* CLASSES = too large to keep */
    tr_msg msg;
} block;

static _Thread_local struct {
    bool open;
    uint32_t counts[CLASSES];
    block *kept[CLASSES];
} cache;

void tri_msg_cache_open(void) {
    cache.open = KEEPS && tri_memory_is_libc();
}

void tr_msg_forget_kept(void) {
    for (uint32_t i = 0; i < CLASSES; i++) {
        while (cache.kept[i] != NULL) {
            block *next = cache.kept[i]->next;
            tr_free(cache.kept[i]);
            cache.kept[i] = next;
        }
        cache.counts[i] = 0;
    }
}

void tri_msg_cache_close(void) {
    cache.open = false;
    tr_msg_forget_kept();
}

static inline uint32_t class_of(size_t size) {
    uint32_t class = 0;
    while (class < CLASSES && size > class_sizes[class]) {
        class ++;
    }
    return class;
}

tr_msg *tr_msg_new(uint16_t kind, size_t size) {
    TR_ASSERT(size <= (size_t)TR_FRAME_INLINE_max);
    uint32_t class = class_of(size);
    block *taken;
    if (class < CLASSES && cache.kept[class] != NULL) {
        taken = cache.kept[class];
        cache.kept[class] = taken->next;
        cache.counts[class]--;
    } else {
        taken = tr_alloc(sizeof(block) + (class < CLASSES ? class_sizes[class] : size));
        if (taken == NULL) {
            return NULL;
        }
        taken->class = class;
    }
    tr_msg *msg = &taken->msg;
    *msg = (tr_msg){.kind = kind, .size = (uint32_t)size};
    if (size > 0) {
        memset(msg->data, 0, size);
    }
    return msg;
}

void tr_msg_free(tr_msg *msg) {
    if (msg == NULL) {
        return;
    }
    if (msg->body != NULL) {
        tr_body_unref(msg->body);
    }
    block *freed = (block *)(void *)((char *)msg - offsetof(block, msg));
    uint32_t class = freed->class;
    if (cache.open && class < CLASSES && cache.counts[class] < KEPT_MAX) {
        freed->next = cache.kept[class];
        cache.kept[class] = freed;
        cache.counts[class]++;
    } else {
        tr_free(freed);
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
