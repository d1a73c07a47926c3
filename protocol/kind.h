/*
 * The names of the wire: kinds of messages, operations, kinds of DELTAs, ways to finish, flags. The
 * numbers travel (PROTOCOL.md): append, never renumber.
 */
#ifndef TR_PROTOCOL_KIND_H
#define TR_PROTOCOL_KIND_H

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
    /* Asked of a provider by a control actor only; no link carries them. The first two answer text
     * DELTAs: a JSON array of {name, …} (providers/inventory.h); the others nothing. */
    TR_OP_MODELS = 5, /* which models the provider has */
    TR_OP_LOADED = 6, /* which of them are in its memory */
    TR_OP_LOAD = 7,   /* target = the model */
    TR_OP_UNLOAD = 8, /* target = the model */
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
    TR_SUBMIT_HEDGE = 2,     /* make it a second time when its first token is late */
    TR_SUBMIT_SECOND = 4,    /* inside the daemon: it is that second time */
    TR_SUBMIT_SHOW = 8,      /* send nothing: the answer's text is what would have been sent */
    TR_FAIL_RESUMABLE = 1,   /* a worker died: the same tokens may go on elsewhere */
    TR_FAIL_RETRY_AFTER = 2, /* retry_after_ms was given by the provider */
    TR_FAIL_RETRY_YES = 4,   /* the provider says that another attempt may help ... */
    TR_FAIL_RETRY_NO = 8,    /* ... or will not (x-should-retry) */
    TR_DONE_FALLBACK = 1,    /* not the target that was asked first */
    TR_DONE_HEDGED = 2,      /* the second of two that were asked answered first */
    TR_DONE_ESTIMATED = 4,   /* the backend did not say what was used: tokens are estimated */
};

#endif
