/*
 * The fixed part of each message, the same in memory and on the wire; wire.h reads and writes what
 * follows it. PROTOCOL.md gives the offsets.
 */
#ifndef TR_PROTOCOL_MESSAGE_H
#define TR_PROTOCOL_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "protocol/kind.h"
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Troupe's messages are little-endian in memory"
#endif

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
    uint32_t
        seed; /* for a backend that must choose one: set by the call, the same in each attempt */
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
    uint32_t surcharge; /* what writing a prompt cache costs, as tokens that went in */
} tr_usage_wire;

/* Followed by target (the one that served) and request_id (the provider's). */
typedef struct tr_done {
    tr_usage_wire usage;
    uint8_t finish; /* tr_finish */
    uint8_t flags;
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
    uint64_t ticks; /* steps of its work so far: a busy worker whose ticks stand still hangs */
    uint32_t busy;  /* 1 while a decode or a load runs */
    uint32_t active;
    uint32_t load_percent; /* 100 = the model is loaded */
    uint32_t log_level; /* in a PING to a worker: 1 error, 2 warn, 3 info, 4 debug; 0 = as it is */
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

#endif
