/*
 * What the HTTP door is made of. Everything belongs to its shard's thread. Internal to
 * providers/http*.c.
 */
#ifndef TR_PROVIDERS_HTTP_INTERNAL_H
#define TR_PROVIDERS_HTTP_INTERNAL_H

#include <curl/curl.h>

#include "providers/http.h"
#include "providers/slots.h"

typedef struct tri_http tri_http;

typedef struct tri_transfer {
    tri_http *http;
    tr_id user;
    uint64_t ref;
    uint32_t slot;
    CURL *easy; /* NULL once curl is done with it */
    struct curl_slist *headers;
    tr_body *body;
    tr_msg *end; /* made beforehand, for when memory has run out */
    char *url;
    char *head; /* the headers of interest so far */
    size_t head_size;
    char *rest; /* what curl delivered and the window did not admit */
    size_t rest_at, rest_size;
    const char *refusal; /* why we broke it off ourselves */
    tr_err refusal_err;
    CURLcode result;
    uint64_t timer; /* first byte, or the end of a gentle abort */
    uint32_t connect_ms, first_byte_ms;
    uint32_t window;
    uint32_t outstanding; /* sent and not yet taken */
    uint32_t discarded;
    uint32_t header_bytes; /* of all that came, interim answers and trailers counted */
    uint32_t retry_after_ms;
    uint16_t status;
    uint8_t redirects;
    bool has_retry_after;
    bool head_done; /* HEAD was sent */
    bool paused;    /* curl waits for curl_easy_pause */
    bool finished;  /* curl is done; END follows the rest */
    bool discards;  /* aborted gently: what comes is dropped */
    bool orphaned;  /* its user ended */
    char error[CURL_ERROR_SIZE];
} tri_transfer;

/* http_curl.c: one transfer's dealings with curl. */
TR_MUST_USE tr_err tri_transfer_open(tri_transfer *transfer, const tr_http_start *start, tr_str url,
                                     tr_str headers);
/* Gives the window's new room to the rest, then to curl. */
TR_MUST_USE tr_err tri_transfer_push(tri_transfer *transfer);
/* After curl was done: whether the transfer was begun anew at a place it was redirected to. */
bool tri_transfer_redirect(tri_transfer *transfer);
/* What decides whether a transfer may go over a connection that another has opened. */
void tri_transfer_set_place(CURL *easy, const char *url);
/* http_close.c: CLOSE. TR_ERR_NOMEM: nobody was told. */
TR_MUST_USE tr_err tri_http_close_idle(tri_http *http, const tr_msg *msg);
/* http_verdict.c: how the transfer ended, and the sentence. */
tr_err tri_transfer_verdict(const tri_transfer *transfer, char *buf, size_t size);
/* Whether its certificate failed it: it will the next time. */
bool tri_transfer_lasting(const tri_transfer *transfer);
/* What may be shown of a URL: host and port, and the same behind its scheme. */
void tri_url_host(const char *url, char *buf, size_t size);
void tri_url_site(const char *url, char *buf, size_t size);

/* http.c */
tr_self *tri_http_self(const tri_http *http);
CURLM *tri_http_multi(const tri_http *http);
CURLSH *tri_http_share(const tri_http *http);

#endif
