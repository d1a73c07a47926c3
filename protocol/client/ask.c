/*
 * The calls that wait for whole answers: one, and many at once. Their DELTAs go into the results as
 * they arrive, with the credit given back at once; the waiter's list tells which have ended, so
 * that gathering n costs n, not n². Runs on the caller's thread; progress is told there, without
 * the lock.
 */
#include "protocol/client/client_internal.h"

#include <stdlib.h>

static bool some_ended(void *arg) {
    const tri_waiter *waiter = arg;
    return waiter->ended != NULL;
}

static tri_call *pop_ended(tri_waiter *waiter) {
    tri_call *call = waiter->ended;
    waiter->ended = call->ready_next;
    return call;
}

static tr_result *take_result_locked(tri_call *call) {
    tr_result *result = call->result;
    call->result = NULL;
    tri_call_unref_locked(call);
    return result;
}

tr_err tri_run(tr_client *client, tri_call *call, tr_result **ret) {
    tr_err err = tri_enter(client);
    if (err != TR_OK) {
        tri_call_free(call);
        return err;
    }
    tri_waiter waiter;
    tri_waiter_init(&waiter);
    (void)!tri_call_start_locked(client, call, &waiter); /* its end says what failed */
    tri_flush_locked(client);
    err = tri_wait_locked(client, &waiter, TRI_NEVER, some_ended, &waiter);
    if (err == TR_OK) {
        *ret = take_result_locked(call);
    }
    tri_leave_locked(client);
    tri_waiter_fini(&waiter);
    return err;
}

tr_err tr_send_request(tr_client *client, const tr_request *request, tr_result **ret) {
    tri_call *call = NULL;
    tr_err err = tri_call_chat(TR_OP_CHAT, TRI_COLLECT, request, &call);
    return err == TR_OK ? tri_run(client, call, ret) : err;
}

tr_err tr_ask(tr_client *client, const tr_options *options, const char *prompt, tr_result **ret) {
    tr_request *request = NULL;
    tr_err err = tr_request_new(options, &request);
    err = err == TR_OK ? tr_request_text(request, "user", prompt) : err;
    err = err == TR_OK ? tr_send_request(client, request, ret) : err;
    tr_request_free(request);
    return err;
}

typedef struct gathering {
    tr_client *client;
    const tr_request *const *requests;
    size_t n, at_once;
    tr_result **results;
    tri_call **running; /* by index; NULL = not begun, or over */
    size_t begun, done;
    tri_waiter waiter;
    tr_progress_fn *fn;
    void *arg;
} gathering;

/* Builds without the lock: a body may be megabytes. */
static tr_err begin_some_locked(gathering *g) {
    tr_err err = TR_OK;
    while (err == TR_OK && g->begun < g->n && g->begun - g->done < g->at_once &&
           !g->client->closed) {
        tri_call *call = NULL;
        pthread_mutex_unlock(&g->client->mtx);
        err = tri_call_chat(TR_OP_CHAT, TRI_COLLECT, g->requests[g->begun], &call);
        pthread_mutex_lock(&g->client->mtx);
        if (err == TR_OK) {
            call->index = g->begun;
            g->running[g->begun++] = call;
            (void)!tri_call_start_locked(g->client, call, &g->waiter);
        }
    }
    tri_flush_locked(g->client);
    return err;
}

static void finish_one_locked(gathering *g) {
    tri_call *call = pop_ended(&g->waiter);
    size_t i = call->index;
    g->running[i] = NULL;
    g->results[i] = take_result_locked(call);
    g->done++;
    if (g->fn != NULL) {
        pthread_mutex_unlock(&g->client->mtx);
        g->fn(g->done, g->n, i, g->results[i], g->arg);
        pthread_mutex_lock(&g->client->mtx);
    }
}

static tr_err gather_locked(gathering *g) {
    while (g->done < g->n) {
        tr_err err = begin_some_locked(g);
        if (err != TR_OK) {
            return err;
        }
        if (g->begun == g->done) {
            return tri_say(TR_ERR_CLOSED, "The client was closed while it gathered.");
        }
        err = tri_wait_locked(g->client, &g->waiter, TRI_NEVER, some_ended, &g->waiter);
        if (err != TR_OK) {
            return err;
        }
        while (g->waiter.ended != NULL) {
            finish_one_locked(g);
        }
    }
    return TR_OK;
}

/* Nothing is given back when the gathering itself failed. */
static void abandon_locked(gathering *g) {
    for (size_t i = 0; i < g->begun; i++) {
        tri_call *call = g->running[i];
        if (call != NULL) {
            call->waiter = NULL;
            tri_call_drop_locked(call, TR_ERR_CANCELLED, "");
            tri_call_unref_locked(call);
        }
        tr_result_free(g->results[i]);
        g->results[i] = NULL;
    }
}

tr_err tr_gather(tr_client *client, const tr_request *const *requests, size_t n, size_t at_once,
                 tr_result **ret_n, tr_progress_fn *fn, void *arg) {
    if (n == 0) {
        return TR_OK;
    }
    gathering g = {.client = client, .requests = requests, .n = n, .fn = fn, .arg = arg};
    g.running = calloc(n, sizeof(tri_call *));
    g.results = calloc(n, sizeof(tr_result *));
    tr_err err = g.running == NULL || g.results == NULL ? tri_say_nomem() : tri_enter(client);
    if (err != TR_OK) {
        free(g.running);
        free(g.results);
        return err;
    }
    g.at_once = at_once == 0 || at_once > client->streams_max ? client->streams_max : at_once;
    g.at_once = g.at_once > 0 ? g.at_once : 1;
    tri_waiter_init(&g.waiter);
    err = gather_locked(&g);
    for (size_t i = 0; i < n && err == TR_OK; i++) {
        ret_n[i] = g.results[i];
    }
    if (err != TR_OK) {
        abandon_locked(&g);
        tri_flush_locked(client);
    }
    tri_leave_locked(client);
    tri_waiter_fini(&g.waiter);
    free(g.running);
    free(g.results);
    return err;
}
