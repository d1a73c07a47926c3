/*
 * The HTTP door: one actor a shard, registered as "http:<shard>", which does requests for others.
 * A transfer is named by (its user's id, ref). No pointers travel, so the messages pass any door,
 * and a test or the simulator may put an actor of its own under the name.
 *
 *     user -> http   START{ref}        opens a transfer; body = the request's body
 *     http -> user   HEAD{ref}         status and the headers of interest, once
 *     http -> user   DATA{ref}*        the body's bytes as they come
 *     user -> http   TAKEN{ref}        so many bytes were used: the window opens again
 *     http -> user   END{ref}          the last message of a transfer, once
 *     user -> http   ABORT{ref}        closes it; no END follows (one may be under way)
 *     user -> http   CLOSE             closes a server's idle connections, and tells a third
 *
 * At most `window` bytes are sent and not yet taken; beyond it the transfer is paused and the
 * server feels it. HTTP/1.1 only (over HTTP/2 one paused stream stalls its siblings) and without
 * compression. A user's transfers are aborted when it ends. Keys are in START's headers and appear
 * nowhere else.
 */
#ifndef TR_PROVIDERS_HTTP_H
#define TR_PROVIDERS_HTTP_H

#include "protocol/limits.h"
#include "runtime/actor.h"
#include "runtime/supervisor.h"

enum {
    TR_KIND_HTTP_START = 96, /* TR_MSG_OPENING */
    TR_KIND_HTTP_HEAD = 97,
    TR_KIND_HTTP_DATA = 98, /* data = the bytes */
    TR_KIND_HTTP_TAKEN = 99,
    TR_KIND_HTTP_END = 100,
    TR_KIND_HTTP_ABORT = 101,
    TR_KIND_HTTP_CLOSE = 102,
};

#define TR_HTTP_WINDOW_default (64 * 1024)
#define TR_HTTP_TRANSFERS_max 16384 /* of one shard */
/* Of door and providers: CREDIT, DATA and TAKEN of thousands of streams wait there in one turn, and
 * must not turn new requests away (which have limits of their own). */
#define TR_HTTP_MAILBOX_max 65536
#define TR_HTTP_HEADERS_max 8192 /* of a request, and those of interest of an answer */
#define TR_HTTP_ANSWER_HEADERS_max (256 * 1024) /* all that an answer may send */
#define TR_HTTP_REDIRECTS_max 3                 /* within one origin; others are refused */

typedef enum tr_http_method { TR_HTTP_GET = 1, TR_HTTP_POST = 2 } tr_http_method;

/* START's data, followed by url and headers ("Name: value\n" each). */
typedef struct tr_http_start {
    uint32_t method;        /* tr_http_method */
    uint32_t connect_ms;    /* name look-up, connection and TLS; 0 = 5000 */
    uint32_t first_byte_ms; /* from START to HEAD; 0 = no limit */
    uint32_t window;        /* bytes; 0 = the default */
    uint32_t url_size;
    uint32_t headers_size;
} tr_http_start;

/* HEAD's data, followed by headers in lower case ("name: value\n" each). */
typedef struct tr_http_head {
    uint16_t status;
    uint16_t has_retry_after; /* 1 = retry_after_ms was said, and may be 0 */
    uint32_t retry_after_ms;
    uint32_t headers_size;
    uint32_t wall_s; /* the time of day when it came, seconds since 1970; 0 = not known */
} tr_http_head;

typedef struct tr_http_taken {
    uint32_t bytes;
    uint32_t reserved;
} tr_http_taken;

/* END's data, followed by a sentence (when err is not TR_OK). TR_ERR_CONNECT and TR_ERR_TIMEOUT:
 * no HEAD came. TR_ERR_TRUNCATED: broken off after HEAD. */
typedef struct tr_http_end {
    uint32_t err; /* tr_err */
    uint32_t message_size;
    uint32_t lasting; /* 1 = another attempt will end alike: no trusted certificate, or no TLS */
    uint32_t reserved;
} tr_http_end;

/* ABORT's data. A gentle one lets a transfer whose answer is complete reach its end for a moment,
 * so that its connection can be used again. */
typedef struct tr_http_abort {
    uint32_t gentle;
    uint32_t reserved;
} tr_http_abort;

/* CLOSE's data, followed by a URL: connections to its server that no transfer uses are closed. `to`
 * gets STATUSED with `ref` and the JSON {"closed": how many}. */
typedef struct tr_http_close {
    tr_id to;
    uint64_t ref;
} tr_http_close;

/* Builders; NULL when out of memory. `take_body` may be NULL and is taken in any case. */
tr_msg *tr_http_start_msg(uint64_t ref, const tr_http_start *head, tr_str url, tr_str headers,
                          tr_body *take_body);
tr_msg *tr_http_head_msg(uint64_t ref, const tr_http_head *head, tr_str headers);
tr_msg *tr_http_data_msg(uint64_t ref, const void *bytes, size_t size);
tr_msg *tr_http_taken_msg(uint64_t ref, uint32_t bytes);
tr_msg *tr_http_end_msg(uint64_t ref, tr_err err, const char *message);
tr_msg *tr_http_abort_msg(uint64_t ref, bool gentle);
tr_msg *tr_http_close_msg(const tr_http_close *head, tr_str url);

/* Borrowed views; NULL or size 0 when the message is too short to be one. */
const tr_http_start *tr_http_start_read(const tr_msg *msg, tr_str *ret_url, tr_str *ret_headers);
const tr_http_head *tr_http_head_read(const tr_msg *msg, tr_str *ret_headers);
tr_err tr_http_end_read(const tr_msg *msg, tr_str *ret_message);
bool tr_http_end_lasting(const tr_msg *msg);
/* A header of HEAD's, by lower-case name; size 0 when it is not there. */
tr_str tr_http_header(tr_str headers, const char *name);

/* Writes "http:<shard>". */
#define TR_HTTP_NAME_size 16
const char *tr_http_name(uint32_t shard, char buf[TR_HTTP_NAME_size]);

/* The actor over libcurl, and its child spec; `name` is tr_http_name's and must outlive the
 * supervisor's start. */
extern const tr_behaviour tr_http;
tr_child_spec tr_http_child(uint32_t shard, const char *name);

#endif
