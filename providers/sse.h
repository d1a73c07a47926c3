/*
 * Server-sent events (WHATWG HTML, section 9.2.6) as language-model servers really send them:
 * pieces of any size, CR, LF or CRLF, a BOM, comments, `data:` with or without a space, no blank
 * line at the end. Two things beyond the specification: a field named `error` (old llama.cpp
 * servers) is an event of type "error", and a line that is a bare JSON object is handed on as an
 * event of type
 * "" with `bare` set, since some servers report errors that way.
 */
#ifndef TR_PROVIDERS_SSE_H
#define TR_PROVIDERS_SSE_H

#include <stdbool.h>

#include "protocol/wire.h"

#define TR_SSE_EVENT_max (16U * 1024U * 1024U) /* an event's data, and a line */

typedef struct tr_sse_event {
    tr_str type; /* of an `event:` field, else size 0 */
    tr_str data; /* data lines joined by \n; borrowed until the callback returns */
    bool bare;   /* a line of JSON that was no field */
} tr_sse_event;

/* TR_OK: go on. Anything else ends tr_sse_feed with that value. */
typedef tr_err tr_sse_fn(void *arg, const tr_sse_event *event);

typedef struct tr_sse_buffer {
    char *bytes;
    size_t size;
    size_t room;
} tr_sse_buffer;

typedef struct tr_sse {
    tr_sse_buffer line; /* a line whose end has not come yet */
    tr_sse_buffer data;
    char type[64];
    size_t type_size;
    bool has_data;
    bool skip_lf; /* a CR ended the last line: an LF that follows belongs to it */
    bool begun;   /* the first line was seen: no BOM can follow */
} tr_sse;

void tr_sse_init(tr_sse *sse);
void tr_sse_fini(tr_sse *sse);
/* Takes the next bytes of the stream and calls `fn` for each event they complete. TR_ERR_TOO_LARGE
 * beyond TR_SSE_EVENT_max, TR_ERR_NOMEM, or what `fn` returned; after an error or TR_DONE only
 * tr_sse_fini may follow. Pure. */
TR_MUST_USE tr_err tr_sse_feed(tr_sse *sse, const char *bytes, size_t size, tr_sse_fn *fn,
                               void *arg);
/* The stream has ended: hands out an event that lacks its final blank line (whose data may be cut:
 * `fn` must be able to tell). */
TR_MUST_USE tr_err tr_sse_end(tr_sse *sse, tr_sse_fn *fn, void *arg);

#endif
