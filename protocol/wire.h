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

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Troupe's messages are little-endian in memory"
#endif

/* Kinds 1 to 31 travel over any link; 32 to 63 are the runtime's signals, 64 to 127 the actors'
 * own, 128 on are free. */
typedef enum tr_kind {
    TR_KIND_SUBMIT = 1,
    TR_KIND_DELTA = 2,
    TR_KIND_CREDIT = 3,
    TR_KIND_DONE = 4,
    TR_KIND_FAIL = 5,
    TR_KIND_CANCEL = 6,
    TR_KIND_HELLO = 16,
    TR_KIND_WELCOME = 17,
    TR_KIND_PING = 18,
    TR_KIND_PONG = 19,
} tr_kind;

typedef enum tr_op {
    TR_OP_CHAT = 1,
    TR_OP_EMBED =
        2, /* answers: opaque DELTAs of little-endian float32, choice = index of the input */
    TR_OP_COUNT = 3,   /* answers: one text DELTA of JSON */
    TR_OP_CONTROL = 4, /* answers: text DELTAs of JSON */
} tr_op;

typedef enum tr_delta_kind {
    TR_DELTA_TEXT = 1,
    TR_DELTA_REASONING = 2,
    TR_DELTA_TOOL_START = 3, /* `tool`, id and name; no text */
    TR_DELTA_TOOL_ARGS = 4,  /* `tool` and a fragment of the arguments' JSON */
    TR_DELTA_OPAQUE =
        5, /* a provider's own field: name says which, text is its raw JSON or bytes */
} tr_delta_kind;

typedef enum tr_finish {
    TR_FINISH_STOP = 1,
    TR_FINISH_LENGTH = 2,
    TR_FINISH_TOOL_CALLS = 3,
    TR_FINISH_FILTERED = 4,
    TR_FINISH_OTHER = 5,
} tr_finish;

enum {
    TR_SUBMIT_NO_STREAM = 1, /* ask the provider for one whole answer instead of a stream */
    TR_FAIL_RESUMABLE = 1,   /* a worker died: the same tokens may go on elsewhere */
    TR_FAIL_RETRY_AFTER = 2, /* retry_after_ms was given by the provider */
};

/* Followed by resume_count int32 token ids, then target, provider, base_url. The chat JSON is the
 * message's body. */
typedef struct tr_submit {
    uint8_t op; /* tr_op */
    int8_t priority;
    uint16_t flags;
    uint32_t credit_messages; /* the first grant */
    uint32_t credit_bytes;
    uint32_t connect_ms; /* 0 = the daemon's default, here and in the three below */
    uint32_t first_token_ms;
    uint32_t idle_ms;
    uint32_t total_ms; /* what remains of it, at each hop */
    uint16_t attempts; /* 0 = the default */
    uint16_t target_size;
    uint16_t provider_size;
    uint16_t base_url_size;
    uint32_t resume_count; /* only a pool's worker takes it */
    uint32_t seed; /* for a backend that must choose one: set by the call, the same in each attempt */
} tr_submit;

/* Followed by token_count int32 token ids, then id, name, text. */
typedef struct tr_delta {
    uint32_t seq; /* 0, 1, 2 … in one stream */
    uint16_t choice;
    uint8_t kind; /* tr_delta_kind */
    uint8_t reserved;
    uint32_t token_count;
    uint32_t tool; /* index of the tool call in its answer */
    uint16_t id_size;
    uint16_t name_size;
    uint32_t text_size;
} tr_delta;

typedef struct tr_credit {
    uint32_t messages;
    uint32_t bytes;
} tr_credit;

/* What was used; both terminal messages carry it, since a failed stream costs money too. */
typedef struct tr_usage_wire {
    uint64_t in;
    uint64_t out;
    uint64_t cached;
    uint64_t reasoning;
    double cost; /* in the price table's currency; NaN = unknown */
    uint32_t queue_ms;
    uint32_t first_token_ms; /* 0 when there was none */
    uint32_t total_ms;
    uint32_t reserved;
} tr_usage_wire;

/* Followed by target (the one that served) and request_id (the provider's). */
typedef struct tr_done {
    tr_usage_wire usage;
    uint8_t finish; /* tr_finish */
    uint8_t reserved;
    uint16_t attempts;
    uint16_t target_size;
    uint16_t request_id_size;
} tr_done;

/* Followed by message, target, request_id. */
typedef struct tr_fail {
    tr_usage_wire usage;
    uint16_t err; /* tr_err */
    uint16_t flags;
    uint32_t retry_after_ms;
    uint16_t status; /* HTTP status, or 0 */
    uint16_t attempts;
    uint16_t message_size;
    uint16_t target_size;
    uint16_t request_id_size;
    uint16_t reserved[3];
} tr_fail;

typedef struct tr_cancel {
    uint32_t reason; /* tr_err: why, for the log */
    uint32_t reserved;
} tr_cancel;

#define TR_HELLO_MAGIC 0x31505254U /* "TRP1" */
#define TR_PROTOCOL_VERSION 1

typedef enum tr_role { TR_ROLE_CLIENT = 1, TR_ROLE_WORKER = 2 } tr_role;

/* The dialer's first frame. Followed by token, software (name/version), model, engine (libllama's
 * version). */
typedef struct tr_hello {
    uint32_t magic;
    uint16_t version_min;
    uint16_t version_max;
    uint8_t role; /* tr_role */
    uint8_t reserved;
    uint16_t token_size;
    uint16_t software_size;
    uint16_t model_size;
    uint16_t engine_size;
    uint16_t sequences; /* a worker's parallel sequences */
    uint32_t context;   /* a worker's context length, tokens */
    uint64_t nonce;     /* a local worker: the number its pool gave it at start */
    uint8_t digest[32]; /* a worker's model: only equal digests serve one stream */
} tr_hello;

/* The listener's answer when it accepts; otherwise it answers FAIL with ref 0 and closes. Followed
 * by software. */
typedef struct tr_welcome {
    uint16_t version;
    uint16_t software_size;
    uint32_t streams_max;
    uint32_t frame_max;
    uint32_t reserved;
} tr_welcome;

/* PING asks, PONG answers with the same number; a worker's PONG says what it is doing. */
typedef struct tr_ping {
    uint64_t number;
    uint64_t ticks; /* decodes finished since start: a busy worker whose ticks stand still hangs */
    uint32_t busy;  /* 1 while a decode or a load runs */
    uint32_t active;
    uint32_t load_percent; /* 100 = the model is loaded */
    uint32_t reserved;
} tr_ping;

_Static_assert(sizeof(tr_submit) == 44, "wire");
_Static_assert(sizeof(tr_delta) == 24, "wire");
_Static_assert(sizeof(tr_credit) == 8, "wire");
_Static_assert(sizeof(tr_usage_wire) == 56, "wire");
_Static_assert(sizeof(tr_done) == 64, "wire");
_Static_assert(sizeof(tr_fail) == 80, "wire");
_Static_assert(sizeof(tr_hello) == 64, "wire");
_Static_assert(sizeof(tr_welcome) == 16, "wire");
_Static_assert(sizeof(tr_ping) == 32, "wire");

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

/* The longest prefix of `text`, at most `max` bytes, that splits no UTF-8 character. Any thread. */
size_t tr_utf8_cut(const char *text, size_t size, size_t max);
/* Whether `text` is valid UTF-8 (RFC 3629); a NUL byte is not accepted. Any thread. */
bool tr_utf8_valid(const char *text, size_t size);

#endif
