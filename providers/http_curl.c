/*
 * One transfer of the HTTP door: its curl handle, its callbacks, its window. A write callback takes
 * all or nothing, so what the window does not admit is kept as the rest (at most one piece of
 * curl's, 16 KiB) and the next call pauses the transfer; TAKEN sends the rest and resumes.
 * Redirects are followed by ourselves and only within one origin, since curl would carry a key in a
 * header of its own choosing to another host. The headers hold keys: they go to curl and nowhere
 * else.
 *
 * Called by http.c on its shard; callbacks run inside curl's functions there.
 */
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "protocol/assert.h"
#include "providers/catalog.h"
#include "providers/http_internal.h"
#include "runtime/memory.h"

static size_t on_header(char *bytes, size_t one, size_t size, void *arg);
static size_t on_body(char *bytes, size_t one, size_t size, void *arg);
static int on_socket_made(void *arg, curl_socket_t fd, curlsocktype purpose);
static bool header_line(tri_transfer *transfer, const char *line, size_t size);
static bool headers_end(tri_transfer *transfer);
static void retry_after(tri_transfer *transfer, tr_str name, tr_str value);
static tr_err send_data(tri_transfer *transfer, const char *bytes, size_t size);
static tr_err add_header(tri_transfer *transfer, const char *text, size_t size);
static bool is_loopback(const char *host);
static bool header_bytes(tri_transfer *transfer, size_t size);

#define REDIRECT_ABROAD "a key goes to no other server: set the base URL to where it should go"
#define REDIRECT_METHOD "that is for web browsers: is the base URL right?"
#define REDIRECT_ROUND "and so on, round and round: is the base URL right?"

static const char *const interesting[] = {"content-type",   "x-request-id", "request-id",
                                          "x-should-retry", "x-ratelimit-", "anthropic-ratelimit-",
                                          "openai-model",   "retry-after"};

tr_err tri_transfer_open(tri_transfer *transfer, const tr_http_start *start, tr_str url,
                         tr_str headers) {
    transfer->connect_ms = start->connect_ms == 0 ? 5000 : start->connect_ms;
    transfer->first_byte_ms = start->first_byte_ms;
    transfer->window = start->window == 0 ? TR_HTTP_WINDOW_default : start->window;
    transfer->url = tr_strndup(url.ptr, url.size);
    transfer->easy = curl_easy_init();
    if (transfer->url == NULL || transfer->easy == NULL) {
        return TR_ERR_NOMEM;
    }
    const char *at = headers.ptr;
    const char *end = headers.ptr + headers.size;
    while (at < end) {
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        const char *stop = lf == NULL ? end : lf;
        if (add_header(transfer, at, (size_t)(stop - at)) != TR_OK) {
            return TR_ERR_NOMEM;
        }
        at = lf == NULL ? end : lf + 1;
    }
    /* Without this curl waits a second for a 100 that most servers never send. */
    if (add_header(transfer, "Expect:", 7) != TR_OK) {
        return TR_ERR_NOMEM;
    }
    CURL *easy = transfer->easy;
    tri_transfer_set_place(easy, transfer->url);
    curl_easy_setopt(easy, CURLOPT_SHARE, tri_http_share(transfer->http));
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "troupe/" TROUPE_VERSION);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)transfer->connect_ms);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_socket_made);
    if (start->method == TR_HTTP_POST) {
        size_t size = transfer->body == NULL ? 0 : transfer->body->size;
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
                         transfer->body == NULL ? "" : transfer->body->bytes);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)size);
    }
    return curl_multi_add_handle(tri_http_multi(transfer->http), easy) == CURLM_OK ? TR_OK
                                                                                   : TR_ERR_NOMEM;
}

void tri_transfer_set_place(CURL *easy, const char *url) {
    char host[256];
    tri_url_host(url, host, sizeof(host));
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* Else a handle that is given up while its name is looked up waits for the resolver's thread.
     */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    const char *trusted = getenv("SSL_CERT_FILE"); /* OpenSSL's variable, which curl overrides */
    if (trusted != NULL && *trusted != '\0') {
        curl_easy_setopt(easy, CURLOPT_CAINFO, trusted);
    }
    if (is_loopback(host)) {
        /* A proxy for the world cannot reach this machine's servers. */
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    }
}

tr_err tri_transfer_push(tri_transfer *transfer) {
    size_t room = transfer->window - transfer->outstanding;
    size_t size = transfer->rest_size - transfer->rest_at;
    size = size < room ? size : room;
    if (size > 0) {
        tr_err err = send_data(transfer, transfer->rest + transfer->rest_at, size);
        if (err != TR_OK) {
            return err;
        }
        transfer->rest_at += size;
    }
    if (transfer->rest_at == transfer->rest_size) {
        tr_free(transfer->rest);
        transfer->rest = NULL;
        transfer->rest_at = transfer->rest_size = 0;
        /* Half a window's room, or a resumed transfer would pause again at once. */
        if (transfer->paused && transfer->outstanding <= transfer->window / 2) {
            transfer->paused = false;
            curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
        }
    }
    return TR_OK;
}

bool tri_transfer_redirect(tri_transfer *transfer) {
    char *location = NULL;
    if (transfer->result != CURLE_OK || transfer->head_done || transfer->status < 300 ||
        transfer->status > 399) {
        return false;
    }
    curl_easy_getinfo(transfer->easy, CURLINFO_REDIRECT_URL, &location);
    tr_str from = {transfer->url, strlen(transfer->url)};
    tr_str to = {location, location == NULL ? 0 : strlen(location)};
    bool keeps_method = transfer->status == 307 || transfer->status == 308;
    if (!keeps_method || !tr_base_url_same_origin(from, to) ||
        transfer->redirects == TR_HTTP_REDIRECTS_max) {
        transfer->refusal = !keeps_method                                  ? REDIRECT_METHOD
                            : transfer->redirects == TR_HTTP_REDIRECTS_max ? REDIRECT_ROUND
                                                                           : REDIRECT_ABROAD;
        transfer->refusal_err = TR_ERR_NOT_FOUND;
        tri_url_site(location == NULL ? "nowhere" : location, transfer->error,
                     sizeof(transfer->error));
        return false;
    }
    char *url = tr_strndup(to.ptr, to.size);
    if (url == NULL) {
        return false;
    }
    tr_free(transfer->url);
    transfer->url = url;
    transfer->redirects++;
    transfer->head_size = 0;
    transfer->discarded = 0;
    curl_easy_setopt(transfer->easy, CURLOPT_URL, url);
    return curl_multi_add_handle(tri_http_multi(transfer->http), transfer->easy) == CURLM_OK;
}

static tr_err add_header(tri_transfer *transfer, const char *text, size_t size) {
    char *line = tr_strndup(text, size);
    if (line == NULL) {
        return TR_ERR_NOMEM;
    }
    struct curl_slist *grown = curl_slist_append(transfer->headers, line);
    explicit_bzero(line, size);
    tr_free(line);
    if (grown == NULL) {
        return TR_ERR_NOMEM;
    }
    transfer->headers = grown;
    return TR_OK;
}

/* Children of the daemon must not keep upstream connections open. */
static int on_socket_made(void *arg, curl_socket_t fd, curlsocktype purpose) {
    (void)arg;
    (void)purpose;
    return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 ? CURL_SOCKOPT_OK : CURL_SOCKOPT_ERROR;
}

static size_t on_header(char *bytes, size_t one, size_t size, void *arg) {
    tri_transfer *transfer = arg;
    size_t length = size * one;
    if (!header_bytes(transfer, length)) {
        return 0;
    }
    while (length > 0 && (bytes[length - 1] == '\n' || bytes[length - 1] == '\r')) {
        length--;
    }
    if (transfer->head_done) {
        return size * one; /* a trailer */
    }
    if (length > 5 && memcmp(bytes, "HTTP/", 5) == 0) {
        const char *space = memchr(bytes, ' ', length);
        long status = space == NULL ? 0 : strtol(space, NULL, 10);
        transfer->status = status > 0 && status < 1000 ? (uint16_t)status : 0;
        transfer->head_size = 0;
        return size * one;
    }
    bool fine = length == 0 ? headers_end(transfer) : header_line(transfer, bytes, length);
    return fine ? size * one : 0;
}

static bool refuse(tri_transfer *transfer, tr_err err, const char *why) {
    transfer->refusal = why;
    transfer->refusal_err = err;
    return false;
}

/* Interim answers and trailers count as well: a server may send any number of either. */
static bool header_bytes(tri_transfer *transfer, size_t size) {
    transfer->header_bytes += (uint32_t)size;
    return transfer->header_bytes <= TR_HTTP_ANSWER_HEADERS_max ||
           refuse(transfer, TR_ERR_PROTOCOL, "its headers are larger than any server needs");
}

/* Keeps a header of interest, its name in lower case. */
static bool header_line(tri_transfer *transfer, const char *line, size_t size) {
    const char *colon = memchr(line, ':', size);
    if (colon == NULL) {
        return true;
    }
    tr_str name = {line, (size_t)(colon - line)};
    tr_str value = {colon + 1, size - name.size - 1};
    while (value.size > 0 && *value.ptr == ' ') {
        value.ptr++;
        value.size--;
    }
    bool plain = value.size == 8 && strncasecmp(value.ptr, "identity", 8) == 0;
    bool chunked = value.size == 7 && strncasecmp(value.ptr, "chunked", 7) == 0;
    /* curl would unpack the latter whether it was asked for or not. */
    if ((name.size == 16 && strncasecmp(name.ptr, "content-encoding", 16) == 0 && !plain) ||
        (name.size == 17 && strncasecmp(name.ptr, "transfer-encoding", 17) == 0 && !plain &&
         !chunked)) {
        return refuse(transfer, TR_ERR_PROTOCOL, "it compresses its answer without being asked to");
    }
    bool wanted = false;
    for (size_t i = 0; i < sizeof(interesting) / sizeof(interesting[0]) && !wanted; i++) {
        size_t prefix = strlen(interesting[i]);
        wanted = name.size >= prefix && strncasecmp(name.ptr, interesting[i], prefix) == 0;
    }
    if (!wanted || transfer->head_size + size + 3 > TR_HTTP_HEADERS_max) {
        return true;
    }
    retry_after(transfer, name, value);
    if (transfer->head == NULL) {
        transfer->head = tr_alloc(TR_HTTP_HEADERS_max);
        if (transfer->head == NULL) {
            return refuse(transfer, TR_ERR_NOMEM, tr_err_text(TR_ERR_NOMEM));
        }
    }
    char *to = transfer->head + transfer->head_size;
    for (size_t i = 0; i < name.size; i++) {
        *to++ = (char)tolower((unsigned char)name.ptr[i]);
    }
    *to++ = ':';
    *to++ = ' ';
    memcpy(to, value.ptr, value.size);
    to[value.size] = '\n';
    transfer->head_size = (size_t)(to + value.size + 1 - transfer->head);
    return true;
}

/* retry-after-ms (milliseconds) is finer than retry-after (seconds or a date), as the official SDKs
 * have it. */
static void retry_after(tri_transfer *transfer, tr_str name, tr_str value) {
    bool ms = name.size == 14 && strncasecmp(name.ptr, "retry-after-ms", 14) == 0;
    bool seconds = name.size == 11 && strncasecmp(name.ptr, "retry-after", 11) == 0;
    char text[64];
    if ((!ms && !seconds) || value.size >= sizeof(text) || (seconds && transfer->has_retry_after)) {
        return;
    }
    memcpy(text, value.ptr, value.size);
    text[value.size] = '\0';
    char *end = text;
    double number = strtod(text, &end);
    if (end == text || *end != '\0') {
        time_t then = curl_getdate(text, NULL);
        if (!seconds || then == (time_t)-1) {
            return;
        }
        number = difftime(then, time(NULL));
        number = number < 0 ? 0 : number;
    }
    number = seconds ? number * 1000 : number;
    if (number >= 0) { /* a very long one is long all the same */
        double most = (double)TR_TIMEOUT_MS_max;
        transfer->retry_after_ms = (uint32_t)(number < most ? number : most);
        transfer->has_retry_after = true;
    }
}

static bool headers_end(tri_transfer *transfer) {
    if (transfer->status < 200) {
        return true; /* 100 and 103: the real ones follow */
    }
    if (transfer->status >= 300 && transfer->status < 400) {
        return true; /* see tri_transfer_redirect */
    }
    transfer->head_done = true;
    tr_self *self = tri_http_self(transfer->http);
    tr_timer_cancel(self, &transfer->timer);
    tr_http_head head = {.status = transfer->status,
                         .has_retry_after = transfer->has_retry_after ? 1 : 0,
                         .retry_after_ms = transfer->retry_after_ms,
                         .wall_s = (uint32_t)time(NULL)};
    tr_msg *msg =
        tr_http_head_msg(transfer->ref, &head, (tr_str){transfer->head, transfer->head_size});
    if (transfer->discards) {
        tr_msg_free(msg);
        return true;
    }
    if (msg == NULL || tr_send_control(self, transfer->user, msg) != TR_OK) {
        return refuse(transfer, TR_ERR_NOMEM, tr_err_text(TR_ERR_NOMEM));
    }
    return true;
}

static tr_err send_data(tri_transfer *transfer, const char *bytes, size_t size) {
    tr_msg *msg = tr_http_data_msg(transfer->ref, bytes, size);
    if (msg == NULL) {
        return TR_ERR_NOMEM;
    }
    transfer->outstanding += (uint32_t)size;
    return tr_send_control(tri_http_self(transfer->http), transfer->user, msg);
}

static size_t on_body(char *bytes, size_t one, size_t size, void *arg) {
    tri_transfer *transfer = arg;
    size_t length = size * one;
    if (transfer->discards) {
        transfer->discarded += (uint32_t)length;
        return transfer->discarded > TR_HTTP_WINDOW_default ? 0 : length;
    }
    if (!transfer->head_done) {
        transfer->discarded += (uint32_t)length; /* a redirect's page */
        if (transfer->discarded > TR_HTTP_WINDOW_default) {
            refuse(transfer, TR_ERR_PROTOCOL, "it sends more with a redirect than anybody reads");
            return 0;
        }
        return length;
    }
    size_t room = transfer->window - transfer->outstanding;
    if (transfer->rest != NULL || room == 0) {
        transfer->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    size_t now = length < room ? length : room;
    tr_err err = send_data(transfer, bytes, now);
    if (err == TR_OK && now < length) {
        transfer->rest = tr_alloc(length - now);
        if (transfer->rest == NULL) {
            err = TR_ERR_NOMEM;
        } else {
            memcpy(transfer->rest, bytes + now, length - now);
            transfer->rest_size = length - now;
            transfer->rest_at = 0;
        }
    }
    if (err != TR_OK) {
        refuse(transfer, err, tr_err_text(err));
        return 0;
    }
    return length;
}

static bool is_loopback(const char *host) {
    size_t size = strcspn(host, ":");
    return (size == 9 && strncasecmp(host, "localhost", 9) == 0) || strncmp(host, "127.", 4) == 0 ||
           strncmp(host, "[::1]", 5) == 0;
}
