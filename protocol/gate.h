/*
 * The gate protocol: how a call gets at a backend. A gate is whoever grants the right to use
 * one: a limiter (slots of a provider) or a pool (sequences of a local model's workers). The call
 * does not know which: it asks with RESERVE, submits to the backend that GRANTED names, and gives
 * the grant back with SETTLE. These messages stay inside one process.
 *
 *     call -> gate     RESERVE{ref}            one open reservation a (call, ref)
 *     gate -> call     GRANTED{ref, backend}   or FAIL{ref}, after waiting in the gate's queue
 *     call -> backend  SUBMIT{ref} ...         the call monitors the backend
 *     call -> gate     FLOWS{ref}              once, when GRANTED asked for it: the answer has
 * begun call -> gate     SETTLE{ref}             also withdraws a RESERVE that still waits
 *
 * A gate monitors the call: its DOWN releases what SETTLE did not (both may come: one release).
 */
#ifndef TR_PROTOCOL_GATE_H
#define TR_PROTOCOL_GATE_H

#include "protocol/id.h"
#include "protocol/wire.h"

/* Kinds of the actors' own range (64 on). */
enum {
    TR_KIND_RESERVE =
        64, /* TR_MSG_OPENING, but mid-answer: a gate's bounded mailbox may refuse it */
    TR_KIND_GRANTED = 65,
    TR_KIND_SETTLE = 66,
    TR_KIND_STATUS = 67,    /* asks an actor for its status as JSON: ref */
    TR_KIND_STATUSED = 68,  /* the answer: ref, body = one JSON object */
    TR_KIND_LOAD = 69,      /* to a pool: load the model now; answered DONE or FAIL with ref */
    TR_KIND_UNLOAD = 70,    /* to a pool: running streams finish, workers stop; DONE or FAIL. To a
                             * provider: idle connections are closed; STATUSED {"closed": N} */
    TR_KIND_RATES = 71,     /* provider to limiter: what the server said about its limits */
    TR_KIND_SERVED = 74,    /* provider to call: ref, data = the provider's id of the request, for a
                               call that ends it before its terminal comes */
    TR_KIND_FLOWS = 76,     /* call to gate: the first delta of a granted attempt has come */
    TR_KIND_KEY_CHECK = 79, /* to a provider: asks its server with each key; STATUSED with ref */
    TR_KIND_LIMIT = 72,     /* to a limiter: tr_limit; answered STATUSED with ref */
};

/* RESERVE's flags. */
enum {
    TR_RESERVE_RETRY = 1, /* this request has failed at this target before: counts against the
                             target's retry budget, and is refused at once when that is used up */
};

/* RESERVE's data, followed by the model's name as the backend knows it (a limiter's target). */
typedef struct tr_reserve {
    uint32_t remaining_ms; /* until the call's deadline: a waiter is dropped after it */
    uint32_t tokens;       /* an estimate, for token budgets; 0 = none */
    int8_t priority;
    uint8_t resumes; /* attempts before this one that ended because a worker died */
    uint8_t
        mid_answer; /* 1 = a part of the answer is out: ahead of newcomers, bound by no length */
    uint8_t flags;
    uint16_t model_size; /* 0 = it matters to nobody */
    uint16_t reserved;
    uint64_t client; /* the door that the call serves, for fairness */
    uint64_t avoid;  /* a backend that just failed this call; TR_ID_NONE = none */
} tr_reserve;

/* GRANTED's data. */
typedef struct tr_granted {
    tr_id backend;
    uint32_t queue_ms;    /* how long it waited */
    uint32_t model;       /* tells one model from another: tokens of one go on in the same only */
    uint32_t wants_flows; /* 1 = FLOWS as soon as a delta comes: an answer may last for minutes */
    uint32_t reserved;
} tr_granted;

/* SETTLE's flags. */
enum {
    TR_SETTLE_UNUSED = 1, /* the backend was sent nothing: the grant is as if it had not been */
    TR_SETTLE_OWES = 2,   /* the backend got a CANCEL and has not ended the request yet */
};

/* SETTLE's data, followed by the sentence of the FAIL that ended the attempt. */
typedef struct tr_settle {
    uint64_t tokens_in; /* as far as is known; 0 and 0: unknown */
    uint64_t tokens_out;
    uint32_t err;            /* tr_err: how the attempt ended; TR_OK */
    uint32_t progressed;     /* 1 = at least one new token or delta came */
    uint32_t first_token_ms; /* from SUBMIT to the attempt's first delta; 0 = none came */
    uint16_t why_size;
    uint16_t flags;
} tr_settle;

/* RATES' data: what is left, and when it is all there again; -1 = not said. The model's name
 * follows where the provider counts by model. */
typedef struct tr_rates {
    int64_t requests_left;
    int64_t requests_reset_ms;
    int64_t tokens_left;
    int64_t tokens_reset_ms;
} tr_rates;

/* LIMIT's data: changes what it has a flag for. No flag: only asks. */
enum {
    TR_LIMIT_AT_ONCE = 1,
    TR_LIMIT_RPM = 2,
    TR_LIMIT_TPM = 4,
    TR_LIMIT_BURST = 8,
    TR_LIMIT_ADAPTIVE = 16,
};
typedef struct tr_limit {
    uint32_t flags;
    uint32_t at_once;  /* >= 1 */
    uint32_t rpm;      /* requests a minute; 0 = no limit, here and below */
    uint32_t tpm;      /* tokens a minute */
    uint32_t burst;    /* requests at once; 0 = what a second brings */
    uint32_t adaptive; /* 1 = fewer than at_once while the provider shows that they are too many */
} tr_limit;

_Static_assert(sizeof(tr_reserve) == 32, "gate");
_Static_assert(sizeof(tr_granted) == 24, "gate");
_Static_assert(sizeof(tr_settle) == 32, "gate");
_Static_assert(sizeof(tr_rates) == 32, "gate");
_Static_assert(sizeof(tr_limit) == 24, "gate");

#endif
