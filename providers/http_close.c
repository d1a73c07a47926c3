/*
 * Closing the idle connections to one server. curl has no call for that: its pool drops a
 * connection when the pool is full, when it is too old for the next transfer, or when a transfer
 * that uses it is broken off. So the last is done: a transfer that the pool serves as it would any
 * other is broken off by curl's pre-request callback, which comes when it has its connection and
 * before a byte of it is written. It may open no socket of its own, so that it fails once the pool
 * has none left. All of that happens within one call, and connections in use are never chosen.
 *
 * Called by http.c on its shard.
 */
#include "protocol/gate.h"
#include "providers/http_internal.h"
#include "runtime/answer.h"
#include "runtime/memory.h"

#define CLOSED_a_time                                                                              \
    TR_HTTP_TRANSFERS_max /* as many as there may be: the loop ends whatever curl does */

static int on_connection(void *arg, char *peer, char *own, int peer_port, int own_port) {
    (void)peer;
    (void)own;
    (void)peer_port;
    (void)own_port;
    *(bool *)arg = true;
    return CURL_PREREQFUNC_ABORT;
}

static curl_socket_t open_none(void *arg, curlsocktype purpose, struct curl_sockaddr *address) {
    (void)arg;
    (void)purpose;
    (void)address;
    return CURL_SOCKET_BAD;
}

/* Whether there was one. */
static bool close_one(CURLM *multi, const char *url) {
    bool found = false;
    int running = 0;
    CURL *easy = curl_easy_init();
    if (easy == NULL) {
        return false;
    }
    tri_transfer_set_place(easy, url);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_connection);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, &found);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_none);
    if (curl_multi_add_handle(multi, easy) == CURLM_OK) {
        curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
        curl_multi_remove_handle(multi, easy);
    }
    curl_easy_cleanup(easy);
    return found;
}

tr_err tri_http_close_idle(tri_http *http, const tr_msg *msg) {
    if (msg->size <= sizeof(tr_http_close)) {
        return TR_OK;
    }
    const tr_http_close *head = (const void *)msg->data;
    char *url = tr_strndup((const char *)(head + 1), msg->size - sizeof(*head));
    if (url == NULL) {
        return TR_ERR_NOMEM;
    }
    uint64_t closed = 0;
    while (closed < CLOSED_a_time && close_one(tri_http_multi(http), url)) {
        closed++;
    }
    tr_free(url);
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "closed");
    tr_jsonw_uint(&w, closed);
    tr_jsonw_close(&w, '}');
    tr_msg asked = {.from = head->to, .ref = head->ref};
    return tr_send_json(tri_http_self(http), &asked, TR_KIND_STATUSED, &w);
}
