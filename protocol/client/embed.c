/*
 * tr_embed: any number of texts, in parts that a provider takes. How much that is, is a fact of its
 * catalog row in the daemon, where an alias leads to who knows whom; so a part that is too large is
 * refused there (TR_ERR_TOO_LARGE, before anything is sent on), and this side halves what it sends.
 * Until one part has gone well they go one at a time, afterwards side by side, within the limits
 * that the daemon has anyway. Each writes its own rows, so order needs no sorting. The first part
 * that fails ends all. Runs on the caller's thread.
 */
#include "protocol/client/client_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/limits.h"

#define DIMENSION_max 65536
#define PARTS_max 8
/* Parts that were refused: all that run, at each of the sizes that halving passes. */
#define BACK_max (PARTS_max * 12)
/* Of one part's texts: about 200,000 tokens. One text alone may be longer. */
#define PART_BYTES_max (768 * 1024)

typedef struct part {
    tri_call *call; /* NULL = free */
    size_t first, count;
    struct embedding *whole;
} part;

typedef struct embedding {
    tr_client *client;
    const tr_request *request;
    const char *const *texts;
    size_t n;
    tri_buffer *rows; /* of each text, bytes as they come */
    part parts[PARTS_max];
    size_t back_first[BACK_max], back_count[BACK_max]; /* refused, to be sent in smaller parts */
    size_t back;
    size_t begun; /* texts from here on have not been sent */
    size_t running;
    size_t texts_max; /* of a part, as far as is known */
    bool proven;      /* one has gone well */
    tri_waiter waiter;
} embedding;

static tr_err add_vector(tri_call *call, const tr_delta *delta) {
    const part *p = call->delta_arg;
    tr_str bytes = tr_delta_read(delta).text;
    if (delta->kind != TR_DELTA_OPAQUE || delta->choice >= p->count) {
        return TR_OK; /* something of a later version */
    }
    tri_buffer *row = &p->whole->rows[p->first + delta->choice];
    if (bytes.size > DIMENSION_max * sizeof(float) - row->size) {
        return TR_ERR_TOO_LARGE;
    }
    return tri_buffer_add(row, bytes.ptr, bytes.size);
}

/* The next texts to be sent; 0 = none is left. */
static size_t next_texts(embedding *e, size_t *ret_first) {
    size_t first = e->back > 0 ? e->back_first[e->back - 1] : e->begun;
    size_t left = e->back > 0 ? e->back_count[e->back - 1] : e->n - e->begun;
    size_t count = 0, bytes = 0;
    while (count < left && count < e->texts_max) {
        bytes += strlen(e->texts[first + count]);
        if (count > 0 && bytes > PART_BYTES_max) {
            break;
        }
        count++;
    }
    if (e->back == 0) {
        e->begun += count;
    } else if (count == left) {
        e->back--;
    } else {
        e->back_first[e->back - 1] += count;
        e->back_count[e->back - 1] -= count;
    }
    *ret_first = first;
    return count;
}

/* Without the lock: a body may be megabytes. */
static tr_err make_call(const embedding *e, part *p) {
    tri_buffer body = {0};
    tr_err err = tri_request_inputs(e->request, e->texts + p->first, p->count, &body);
    err = err == TR_OK ? tri_call_new(TR_OP_EMBED, TRI_COLLECT, e->request, &body, &p->call) : err;
    tri_buffer_fini(&body);
    if (err == TR_OK) {
        p->call->on_delta = add_vector;
        p->call->delta_arg = p;
    }
    return err;
}

static tr_err begin_some_locked(embedding *e) {
    tr_err err = TR_OK;
    for (size_t i = 0; i < PARTS_max && err == TR_OK && e->running < (e->proven ? PARTS_max : 1);
         i++) {
        part *p = &e->parts[i];
        if (p->call != NULL) {
            continue;
        }
        p->whole = e;
        p->count = next_texts(e, &p->first);
        if (p->count == 0) {
            break;
        }
        pthread_mutex_unlock(&e->client->mtx);
        err = make_call(e, p);
        pthread_mutex_lock(&e->client->mtx);
        if (err == TR_OK) {
            p->call->index = i;
            e->running++;
            (void)!tri_call_start_locked(e->client, p->call, &e->waiter);
        }
    }
    tri_flush_locked(e->client);
    return err;
}

static tr_err fail_of(const embedding *e, const part *p, const tr_result *result) {
    char texts[64] = "";
    if (p->count < e->n) {
        snprintf(texts, sizeof texts, "texts %zu to %zu: ", p->first, p->first + p->count - 1);
    }
    tri_say_text("%s%s", texts, tr_result_message(result));
    return tr_result_error(result);
}

static tr_err end_one_locked(embedding *e) {
    tri_call *call = e->waiter.ended;
    part *p = &e->parts[call->index];
    e->waiter.ended = call->ready_next;
    e->running--;
    p->call = NULL;
    tr_err err = tr_result_error(call->result);
    if (err == TR_ERR_TOO_LARGE && p->count > 1 && e->back < BACK_max) {
        size_t half = p->count / 2;
        e->texts_max = half < e->texts_max ? half : e->texts_max;
        for (size_t i = 0; i < p->count; i++) {
            tri_buffer_clear(&e->rows[p->first + i], 0);
        }
        e->back_first[e->back] = p->first;
        e->back_count[e->back++] = p->count;
        err = TR_OK;
    } else if (err == TR_OK) {
        e->proven = true;
    } else {
        err = fail_of(e, p, call->result);
    }
    tri_call_unref_locked(call);
    return err;
}

static bool some_ended(void *arg) {
    return ((const tri_waiter *)arg)->ended != NULL;
}

static tr_err run_locked(embedding *e) {
    tr_err err = TR_OK;
    while (err == TR_OK && (err = begin_some_locked(e)) == TR_OK && e->running > 0) {
        err = tri_wait_locked(e->client, &e->waiter, TRI_NEVER, some_ended, &e->waiter);
        while (err == TR_OK && e->waiter.ended != NULL) {
            err = end_one_locked(e);
        }
    }
    for (size_t i = 0; i < PARTS_max; i++) {
        tri_call *call = e->parts[i].call;
        if (call != NULL) { /* after a failure */
            if (call->client != NULL) {
                call->waiter = NULL;
                tri_call_drop_locked(call, TR_ERR_CANCELLED, "");
            }
            tri_call_unref_locked(call);
        }
    }
    tri_flush_locked(e->client);
    return err;
}

static tr_err join(const embedding *e, float **ret, size_t *ret_dim) {
    size_t size = e->rows[0].size;
    bool fine = e->n > 0 && size > 0 && size % sizeof(float) == 0 && e->n <= SIZE_MAX / size;
    for (size_t i = 0; i < e->n; i++) {
        fine = fine && e->rows[i].size == size;
    }
    if (!fine) {
        return tri_say(TR_ERR_PROTOCOL, "The daemon sent vectors of different or no length.");
    }
    float *all = malloc(e->n * size);
    if (all == NULL) {
        return tri_say_nomem();
    }
    for (size_t i = 0; i < e->n; i++) {
        memcpy((uint8_t *)all + i * size, e->rows[i].data, size);
    }
    *ret = all;
    *ret_dim = size / sizeof(float);
    return TR_OK;
}

tr_err tr_embed(tr_client *client, const tr_options *options, const char *const *texts, size_t n,
                float **ret, size_t *ret_dim) {
    if (n == 0) {
        return tri_say(TR_ERR_INVALID, "tr_embed takes at least one text.");
    }
    tr_request *request = NULL;
    tr_err err = tr_request_new(options, &request);
    if (err != TR_OK) {
        return err;
    }
    embedding e = {.client = client, .request = request, .texts = texts, .n = n};
    e.texts_max = TR_INPUTS_max;
    e.rows = calloc(n, sizeof(tri_buffer));
    err = e.rows == NULL ? tri_say_nomem() : tri_enter(client);
    if (err == TR_OK) {
        tri_waiter_init(&e.waiter);
        err = run_locked(&e);
        tri_leave_locked(client);
        tri_waiter_fini(&e.waiter);
    }
    err = err == TR_OK ? join(&e, ret, ret_dim) : err;
    for (size_t i = 0; e.rows != NULL && i < n; i++) {
        tri_buffer_fini(&e.rows[i]);
    }
    free(e.rows);
    tr_request_free(request);
    return err;
}
