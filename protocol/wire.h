/*
 * The messages of one request as bytes: a fixed little-endian structure a kind, then its strings in
 * the order in which their sizes stand. The same bytes go through every door (mailbox, inproc,
 * link), and tr_wire_check accepts or refuses them once, where they enter the process. PROTOCOL.md
 * is the specification of this file.
 *
 *     SUBMIT -> (DELTA* <-> CREDIT*) -> DONE | FAIL, and CANCEL at any time
 *
 * Every SUBMIT earns exactly one DONE or FAIL and nothing follows it. DELTAs never exceed the
 * credit granted: each uses one message and as many bytes as its whole inline part. Kinds that a
 * reader does not know are skipped.
 */
#ifndef TR_PROTOCOL_WIRE_H
#define TR_PROTOCOL_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/err.h"
#include "protocol/message.h"
#include "protocol/utf8.h"

/* A borrowed run of bytes, not NUL-terminated. */
typedef struct tr_str {
    const char *ptr;
    size_t size;
} tr_str;

/* Accepts or refuses the inline part of a message of `kind`: sizes add up, enums and limits hold,
 * strings are UTF-8 without NUL (a DELTA's text may be any bytes when opaque). TR_OK for kinds it
 * does not know. Pure; any thread. */
TR_MUST_USE tr_err tr_wire_check(uint16_t kind, const void *data, size_t size);

/* Borrowed views into a message that passed tr_wire_check. Any thread. */
typedef struct tr_submit_view {
    const int32_t *resume;
    tr_str target, provider, base_url;
} tr_submit_view;
typedef struct tr_delta_view {
    const int32_t *tokens;
    tr_str id, name, text;
} tr_delta_view;
typedef struct tr_end_view {
    tr_str message, target, request_id; /* DONE has no message */
} tr_end_view;
typedef struct tr_hello_view {
    tr_str token, software, model, engine;
} tr_hello_view;

tr_submit_view tr_submit_read(const tr_submit *submit);
tr_delta_view tr_delta_read(const tr_delta *delta);
tr_end_view tr_done_read(const tr_done *done);
tr_end_view tr_fail_read(const tr_fail *fail);
tr_hello_view tr_hello_read(const tr_hello *hello);
tr_str tr_welcome_read(const tr_welcome *welcome);

/* Sizes of whole inline parts, and writers that fill them (the sizes in `head` are set from the
 * strings; FAIL's message is cut at a character to TR_MESSAGE_max). `out` has room for what the
 * size function said, aligned to 8. Any thread. */
size_t tr_submit_size(const tr_submit *head, const tr_submit_view *view);
void tr_submit_write(void *out, const tr_submit *head, const tr_submit_view *view);
size_t tr_delta_size(const tr_delta *head, const tr_delta_view *view);
void tr_delta_write(void *out, const tr_delta *head, const tr_delta_view *view);
size_t tr_done_size(const tr_end_view *view);
void tr_done_write(void *out, const tr_done *head, const tr_end_view *view);
size_t tr_fail_size(const tr_end_view *view);
void tr_fail_write(void *out, const tr_fail *head, const tr_end_view *view);
size_t tr_hello_size(const tr_hello_view *view);
void tr_hello_write(void *out, const tr_hello *head, const tr_hello_view *view);
size_t tr_welcome_size(tr_str software);
void tr_welcome_write(void *out, const tr_welcome *head, tr_str software);

#endif
