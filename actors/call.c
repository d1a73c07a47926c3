/*
 * The state of one request and its few transitions. Each attempt has a number, the `ref` of its
 * RESERVE and SUBMIT, so that whatever an earlier attempt still sends is told apart and dropped.
 * Credit is counted twice: what the client may still get (its DELTAs carry no token ids), and what
 * the backend may still send; the difference, the ids' bytes, goes back to the backend. One timer
 * serves all limits: it looks at what is due and sets itself again. Runs on its shard only.
 */
#include "actors/call.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "protocol/assert.h"
#include "protocol/gate.h"
#include "runtime/log.h"
#include "runtime/memory.h"

typedef enum call_state {
    NEW,       /* no SUBMIT yet */
    RESERVING, /* a gate has been asked */
    STREAMING, /* a backend has the request */
    PAUSED,    /* the client takes nothing: no gate and no backend is held */
    ENDED,     /* the terminal has been sent */
    STATE_N
} call_state;

static const bool may[STATE_N][STATE_N] = {
    [NEW] = {[RESERVING] = true, [PAUSED] = true, [ENDED] = true},
    [RESERVING] = {[STREAMING] = true, [ENDED] = true},
    [STREAMING] = {[RESERVING] = true, [PAUSED] = true, [ENDED] = true},
    [PAUSED] = {[RESERVING] = true, [ENDED] = true},
};

/* A gate that ended is looked for so often, and given up after so long: its supervisor stops what
 * it had, which may take seconds, before it starts the next. */
#define KNOCK_MS 100U
#define GATE_MS 10000U
/* Less room than this counts as none. */
#define ROOM_min 512U

/* Deaths of workers that one request may write into the log. */
#define RESUMES_LOGGED 5U

/* The token ids of an owed refund gather up to this many bytes. */
#define REFUND_BYTES 4096U

/* For the reservation of tokens, before anybody has counted them. */
#define BYTES_PER_TOKEN 4U

typedef struct call {
    /* set at the SUBMIT */
    tr_services *services;
    tr_routes *routes;
    tr_id door;
    uint64_t ref;
    tr_body *body;
    tr_submit head; /* limits are resolved: no zero stands for a default */
    uint32_t stalled_ms;
    uint32_t pause_ms; /* a stream that can be resumed gives its sequence back then */
    tr_target target;
    tr_str base_url; /* in its own memory */
    uint64_t began_us;
    /* now */
    call_state state;
    uint64_t attempt;
    tr_id gate, backend;
    tr_id avoid; /* the backend that the last attempt lost; none after a pause */
    uint64_t gate_monitor, backend_monitor;
    uint64_t lost_us, knock_us; /* without a gate: since when, and when it is looked for again */
    bool reserved;              /* the gate holds something for us */
    bool backend_owes;          /* a terminal of this attempt */
    uint64_t timer;
    uint64_t timer_due_us;
    /* the stream */
    uint64_t credit_messages, credit_bytes; /* the client's, not used yet */
    uint32_t refund_bytes;                  /* owed to the backend */
    uint32_t seq;
    int32_t *tokens;
    uint32_t token_count, token_room;
    uint32_t seq_at_attempt; /* `seq` when the attempt began */
    uint32_t barren;         /* workers that died in a row without a new token */
    uint32_t resumes;
    uint32_t pauses; /* attempts that ended for a pause alone */
    uint32_t model;  /* whose tokens these are: tr_granted */
    bool untracked;  /* something went out that no other worker could go on from */
    uint64_t submitted_us, progress_us, starved_us, first_token_us;
    uint32_t queue_ms;
    /* how the attempt ended, for its gate */
    tr_settle outcome;
    uint64_t attempt_token_us; /* when its first delta came; 0 = none has */
    char why[256];
} call;

static void set_state(call *c, call_state next) {
    TR_ASSERT(may[c->state][next]);
    c->state = next;
}

static tr_err init(tr_self *self, void *state, const void *args) {
    (void)self;
    call *c = state;
    c->services = ((const tr_call_args *)args)->services;
    return TR_OK;
}

static uint32_t ms_since(tr_self *self, uint64_t then_us) {
    uint64_t ms = (tr_now_us(self) - then_us) / 1000;
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

/* --- ending --- */

static void set_usage(tr_self *self, const call *c, tr_usage_wire *usage) {
    usage->queue_ms = c->queue_ms;
    usage->first_token_ms =
        c->first_token_us > 0 ? (uint32_t)((c->first_token_us - c->began_us) / 1000) : 0;
    if (c->first_token_us > 0 && usage->first_token_ms == 0) {
        usage->first_token_ms = 1; /* 0 says that there was none */
    }
    usage->total_ms = ms_since(self, c->began_us);
}

static tr_str label_of(const call *c) {
    const char *label = c->target.label;
    return (tr_str){label, tr_utf8_cut(label, strlen(label), TR_NAME_max)};
}

static uint16_t attempts_of(const call *c) {
    uint64_t attempts = c->attempt - c->pauses; /* a pause is not the attempt's end */
    return (uint16_t)(attempts < UINT16_MAX ? attempts : UINT16_MAX);
}

/* Sends the one terminal; the actor's end (stop) gives everything back. */
static tr_err finish(tr_self *self, call *c, tr_msg *terminal) {
    set_state(c, ENDED);
    if (terminal == NULL) {
        return TR_ERR_NOMEM; /* the door sees a crash and answers for us */
    }
    terminal->ref = c->ref;
    tr_err err = tr_send_control(self, c->door, terminal);
    return err == TR_OK ? TR_DONE : err;
}

static void set_outcome(call *c, tr_err err, const tr_usage_wire *usage, tr_str why) {
    c->outcome =
        (tr_settle){.err = (uint32_t)err, .tokens_in = usage->in, .tokens_out = usage->out};
    size_t size = tr_utf8_cut(why.ptr, why.size, sizeof c->why - 1);
    memcpy(c->why, why.ptr, size);
    c->why[size] = '\0';
}

static tr_err fail(tr_self *self, call *c, tr_fail head, tr_str message) {
    set_outcome(c, (tr_err)head.err, &head.usage, message);
    set_usage(self, c, &head.usage);
    head.attempts = attempts_of(c);
    head.flags &= (uint16_t)~TR_FAIL_RESUMABLE;
    tr_end_view view = {.message = message, .target = label_of(c)};
    if (tr_log_on(TR_LOG_INFO)) {
        char quoted[256];
        char id[TR_ID_FMT_size];
        tr_log(TR_LOG_INFO, self, "request failed",
               "request=%s target=%s err=%s ms=%u resumes=%u why=%s",
               tr_id_format(tr_self_id(self), id), c->target.label, tr_err_name((tr_err)head.err),
               head.usage.total_ms, c->resumes,
               tr_log_quote(message.ptr, message.size, quoted, sizeof quoted));
    }
    return finish(self, c, tr_msg_fail(&head, &view));
}

__attribute__((format(printf, 4, 5))) static tr_err failf(tr_self *self, call *c, tr_err err,
                                                          const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    /* clang 14 loses sight of va_start here. NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized) */
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tr_fail head = {.err = (uint16_t)err, .usage.cost = __builtin_nan("")};
    return fail(self, c, head, (tr_str){text, tr_utf8_mend(text, strlen(text))});
}

/* What the attempt used, and how it ended, as far as the call knows. */
static tr_msg *settle_message(const call *c, uint16_t flags, tr_err err) {
    size_t why_size = strlen(c->why);
    tr_msg *msg = tr_msg_new(TR_KIND_SETTLE, sizeof(tr_settle) + why_size);
    if (msg == NULL) {
        return NULL; /* the gate also monitors us */
    }
    tr_settle *settle = (tr_settle *)msg->data;
    *settle = c->outcome;
    settle->err = (uint32_t)err;
    settle->progressed = c->seq > c->seq_at_attempt;
    settle->flags = flags;
    settle->why_size = (uint16_t)why_size;
    if (settle->tokens_in == 0 && settle->tokens_out == 0) {
        settle->tokens_out = c->seq - c->seq_at_attempt; /* at least one token a delta */
    }
    if (c->attempt_token_us > 0) {
        uint64_t ms = (c->attempt_token_us - c->submitted_us) / 1000;
        settle->first_token_ms = ms > 0 ? (uint32_t)ms : 1;
    }
    memcpy(settle + 1, c->why, why_size);
    msg->ref = c->attempt;
    return msg;
}

/* Leaves backend and gate: the one place where an attempt's holdings are given back. */
static void leave_attempt(tr_self *self, call *c, tr_err err) {
    uint16_t flags = c->backend == TR_ID_NONE ? TR_SETTLE_UNUSED
                     : c->backend_owes        ? TR_SETTLE_OWES
                                              : 0;
    if (c->backend != TR_ID_NONE) {
        tr_demonitor(self, c->backend_monitor);
        if (c->backend_owes) {
            tr_msg *cancel = tr_msg_cancel(err);
            if (cancel != NULL) {
                cancel->ref = c->attempt;
            }
            (void)tr_send_control(self, c->backend, cancel);
        }
        c->backend = TR_ID_NONE;
        c->backend_owes = false;
    }
    if (c->gate != TR_ID_NONE) {
        tr_demonitor(self, c->gate_monitor);
        if (c->reserved) {
            tr_msg *settle = settle_message(c, flags, err);
            (void)tr_send_control(self, c->gate, settle); /* the gate also monitors us */
        }
        c->gate = TR_ID_NONE;
        c->reserved = false;
    }
}

static void stop(tr_self *self, void *state, tr_err reason) {
    call *c = state;
    leave_attempt(self, c, reason == TR_OK ? (tr_err)c->outcome.err : reason);
    tr_body_unref(c->body);
    tr_routes_unref(c->routes);
    tr_free((void *)c->base_url.ptr);
    tr_free(c->tokens);
    if (tr_services_leave(c->services)) {
        (void)tr_send_control(self, tr_services_company(c->services),
                              tr_msg_new(TR_KIND_DRAINED, 0));
    }
}

/* Whether the client lets nothing more come at the moment. */
static bool is_starved(const call *c) {
    return c->credit_messages == 0 || c->credit_bytes < TR_DELTA_max;
}

/* Whether not even a token's DELTA may come. */
static bool is_shut(const call *c) {
    return c->credit_messages == 0 || c->credit_bytes < ROOM_min;
}

/* Whether the present backend has to read all that was before its first own token. */
static bool is_replaying(const call *c) {
    return c->seq > 0 && c->seq == c->seq_at_attempt;
}

/* --- limits in time --- */

typedef struct limit {
    uint64_t due_us;
    tr_err err; /* TR_OK: not the end; the call pauses, or knocks again */
    const char *text;
    uint32_t ms;
} limit;

static limit next_limit(const call *c) {
    limit total = {c->began_us + (uint64_t)c->head.total_ms * 1000, TR_ERR_TIMEOUT,
                   "the answer was not complete within the total limit of", c->head.total_ms};
    limit phase;
    if (c->state == RESERVING && c->gate == TR_ID_NONE) {
        phase = (limit){c->knock_us, TR_OK, "", KNOCK_MS};
    } else if (c->state != STREAMING && c->state != PAUSED) {
        phase = total;
    } else if (c->state == STREAMING && is_shut(c) && c->token_count > 0 && !c->untracked &&
               c->pause_ms < c->stalled_ms) {
        phase = (limit){c->starved_us + c->pause_ms * 1000ULL, TR_OK, "", c->pause_ms};
    } else if (is_starved(c) || c->state == PAUSED) {
        phase = (limit){c->starved_us + (uint64_t)c->stalled_ms * 1000, TR_ERR_STALLED,
                        "the client has not read its stream for", c->stalled_ms};
    } else if (c->first_token_us == 0 || is_replaying(c)) {
        phase = (limit){c->submitted_us + (uint64_t)c->head.first_token_ms * 1000, TR_ERR_TIMEOUT,
                        "no first token came within", c->head.first_token_ms};
    } else {
        phase = (limit){c->progress_us + (uint64_t)c->head.idle_ms * 1000, TR_ERR_TIMEOUT,
                        "the stream fell silent for", c->head.idle_ms};
    }
    return phase.due_us < total.due_us ? phase : total;
}

/* The timer may only come too early: then it sets itself again. */
static tr_err arm(tr_self *self, call *c) {
    uint64_t due = next_limit(c).due_us;
    if (c->timer != 0 && due >= c->timer_due_us) {
        return TR_OK;
    }
    tr_timer_cancel(self, &c->timer);
    uint64_t now = tr_now_us(self);
    c->timer_due_us = due;
    return tr_timer_start(self, due > now ? due - now : 0, 0, &c->timer);
}

static tr_err pause(tr_self *self, call *c) {
    set_state(c, PAUSED);
    return arm(self, c);
}

/* --- an attempt --- */

static uint32_t clamp(uint64_t number, uint32_t max) {
    return number < max ? (uint32_t)number : max;
}

/* There is no gate. Who was let in once waits for its replacement; others may come back. */
static tr_err without_gate(tr_self *self, call *c) {
    uint64_t now = tr_now_us(self);
    c->lost_us = c->lost_us != 0 ? c->lost_us : now;
    if (c->attempt == 1 || now - c->lost_us >= GATE_MS * 1000ULL) {
        return failf(self, c, TR_ERR_SERVER, "%s is being restarted: try again",
                     c->target.provider);
    }
    c->knock_us = now + KNOCK_MS * 1000ULL;
    return arm(self, c);
}

static tr_err knock(tr_self *self, call *c) {
    c->gate = tr_whereis(tr_self_node(self), c->target.gate);
    if (c->gate == TR_ID_NONE) {
        return without_gate(self, c);
    }
    c->lost_us = 0;
    tr_err err = tr_monitor(self, c->gate, &c->gate_monitor);
    size_t model_size = strlen(c->target.model);
    tr_msg *msg =
        err == TR_OK ? tr_msg_new(TR_KIND_RESERVE, sizeof(tr_reserve) + model_size) : NULL;
    if (msg == NULL) {
        c->gate = err == TR_OK ? c->gate : TR_ID_NONE;
        return failf(self, c, TR_ERR_NOMEM, "out of memory");
    }
    uint32_t gone = ms_since(self, c->began_us);
    *(tr_reserve *)msg->data = (tr_reserve){
        .remaining_ms = gone < c->head.total_ms ? c->head.total_ms - gone : 0,
        .tokens = clamp(c->body->size / BYTES_PER_TOKEN + 1, UINT32_MAX),
        .priority = c->head.priority,
        .resumes = (uint8_t)(c->resumes < UINT8_MAX ? c->resumes : UINT8_MAX),
        .mid_answer = c->token_count > 0,
        .model_size = (uint16_t)model_size,
        .client = c->door,
        .avoid = c->avoid,
    };
    memcpy(msg->data + sizeof(tr_reserve), c->target.model, model_size);
    msg->ref = c->attempt;
    msg->flags = c->token_count > 0 ? 0 : TR_MSG_OPENING; /* mid-answer nothing is opened */
    c->reserved = true;
    err = tr_send(self, c->gate, &msg);
    if (err != TR_OK) {
        tr_msg_free(msg);
        c->reserved = false;
        return failf(self, c, TR_ERR_OVERLOADED, "too many requests wait for %s",
                     c->target.provider);
    }
    return arm(self, c);
}

static tr_err ask_gate(tr_self *self, call *c) {
    set_state(c, RESERVING);
    c->attempt++;
    c->seq_at_attempt = c->seq;
    c->attempt_token_us = 0;
    c->outcome = (tr_settle){0};
    c->why[0] = '\0';
    return knock(self, c);
}

static tr_err time_came(tr_self *self, call *c, uint64_t id) {
    if (id != c->timer) {
        return TR_OK;
    }
    c->timer = 0;
    limit now = next_limit(c);
    if (now.due_us > tr_now_us(self)) {
        return arm(self, c);
    }
    if (now.err == TR_OK && c->state == RESERVING) {
        return knock(self, c);
    }
    if (now.err == TR_OK) {
        c->avoid = TR_ID_NONE;
        leave_attempt(self, c, TR_OK);
        return pause(self, c);
    }
    return failf(self, c, now.err, "%s %u ms", now.text, now.ms);
}

static tr_err granted(tr_self *self, call *c, const tr_granted *grant) {
    set_state(c, STREAMING);
    c->queue_ms += grant->queue_ms;
    if (c->token_count > 0 && grant->model != c->model) {
        return failf(self, c, TR_ERR_CRASHED,
                     "the model of %s was replaced in the middle of the answer", c->target.label);
    }
    c->model = grant->model;
    c->backend = grant->backend;
    c->submitted_us = c->progress_us = tr_now_us(self);
    c->refund_bytes = 0;
    uint32_t gone = ms_since(self, c->began_us);
    tr_submit head = c->head;
    head.total_ms = gone < head.total_ms ? head.total_ms - gone : 1;
    head.credit_messages = clamp(c->credit_messages, TR_CREDIT_MESSAGES_max);
    head.credit_bytes = clamp(c->credit_bytes, TR_CREDIT_BYTES_max);
    head.resume_count = c->token_count;
    tr_submit_view view = {
        .resume = c->tokens,
        .target = {c->target.model, strlen(c->target.model)},
        .provider = {c->target.provider, strlen(c->target.provider)},
        .base_url = c->base_url,
    };
    tr_err err = tr_monitor(self, c->backend, &c->backend_monitor);
    tr_msg *msg = err == TR_OK ? tr_msg_submit(&head, &view, tr_body_ref(c->body)) : NULL;
    if (msg == NULL) {
        c->backend = err == TR_OK ? c->backend : TR_ID_NONE;
        return failf(self, c, TR_ERR_NOMEM, "out of memory");
    }
    msg->ref = c->attempt;
    err = tr_send(self, c->backend, &msg);
    if (err != TR_OK) {
        tr_msg_free(msg);
        return failf(self, c, TR_ERR_OVERLOADED, "%s has too much to do", c->target.label);
    }
    c->backend_owes = true;
    return arm(self, c);
}

/* The backend died or gave the request up with the word that another may go on. */
static tr_err resume(tr_self *self, call *c) {
    c->avoid = c->backend;
    c->backend_owes = false;
    if (c->seq > c->seq_at_attempt) {
        c->barren = 0;
    } else if (!is_shut(c)) {
        c->barren++; /* without credit for a token it had no chance to show one */
    }
    c->resumes++;
    leave_attempt(self, c, TR_ERR_CRASHED);
    if (c->untracked) {
        return failf(self, c, TR_ERR_CRASHED,
                     "what served %s died in the middle of the answer, and nothing else can go on "
                     "from there",
                     c->target.label);
    }
    if (c->barren >= TR_RESUMES_WITHOUT_TOKEN_max) {
        return failf(
            self, c, TR_ERR_CRASHED,
            "%u workers in a row died at this request without a new token: it is not tried "
            "again",
            c->barren);
    }
    if (c->resumes <= RESUMES_LOGGED && tr_log_on(TR_LOG_WARN)) {
        char id[TR_ID_FMT_size];
        tr_log(TR_LOG_WARN, self,
               c->resumes < RESUMES_LOGGED ? "a worker died; another goes on"
                                           : "a worker died; another goes on; more of this are "
                                             "only counted, in the request's last line",
               "request=%s target=%s tokens=%u resumes=%u", tr_id_format(tr_self_id(self), id),
               c->target.label, c->token_count, c->resumes);
    }
    return is_shut(c) ? pause(self, c) : ask_gate(self, c);
}

/* --- messages of the door --- */

static uint32_t or_default(uint32_t value, uint32_t otherwise) {
    uint32_t ms = value != 0 ? value : otherwise;
    return ms != 0 && ms < TR_TIMEOUT_MS_max ? ms : TR_TIMEOUT_MS_max;
}

static tr_err submitted(tr_self *self, call *c, tr_msg *msg) {
    TR_ASSERT(c->state == NEW);
    const tr_submit *submit = (const tr_submit *)msg->data;
    tr_submit_view view = tr_submit_read(submit);
    c->door = msg->from;
    c->ref = msg->ref;
    c->head = *submit;
    c->began_us = tr_now_us(self);
    c->credit_messages = submit->credit_messages;
    c->credit_bytes = submit->credit_bytes;
    c->starved_us = c->began_us;
    c->head.seed = (uint32_t)tr_random(self);
    c->routes = tr_services_routes(c->services);
    if (c->routes == NULL || msg->body == NULL) {
        return failf(self, c, TR_ERR_INVALID, "the request has no body");
    }
    c->body = tr_body_ref(msg->body);
    const tr_time_limits *limits = &tr_routes_of(c->routes)->limits;
    c->head.connect_ms = or_default(submit->connect_ms, limits->connect_ms);
    c->head.first_token_ms = or_default(submit->first_token_ms, limits->first_token_ms);
    c->head.idle_ms = or_default(submit->idle_ms, limits->idle_ms);
    c->head.total_ms = or_default(submit->total_ms, limits->total_ms);
    c->stalled_ms = or_default(0, limits->stalled_ms);
    c->pause_ms = limits->pause_ms != 0 ? limits->pause_ms : TR_PAUSE_MS_default;
    if (view.base_url.size > 0) {
        char *copy = tr_strndup(view.base_url.ptr, view.base_url.size);
        if (copy == NULL) {
            return failf(self, c, TR_ERR_NOMEM, "out of memory");
        }
        c->base_url = (tr_str){copy, view.base_url.size};
    }
    char why[512];
    tr_err err = tr_route(c->routes, view.target, view.provider, &c->target, why, sizeof why);
    if (err != TR_OK) {
        return failf(self, c, err, "%s", why);
    }
    if (submit->resume_count > 0) {
        return failf(self, c, TR_ERR_INVALID, "only the daemon resumes streams");
    }
    return is_shut(c) ? pause(self, c) : ask_gate(self, c);
}

/* Grants on what the client granted, and what is owed for ids, as far as one CREDIT may carry. */
static tr_err send_credit(tr_self *self, call *c, const tr_credit *granted) {
    uint32_t room = TR_CREDIT_BYTES_max - granted->bytes;
    uint32_t owed = c->refund_bytes < room ? c->refund_bytes : room;
    tr_msg *msg = tr_msg_credit(granted->messages, granted->bytes + owed);
    if (msg == NULL) {
        return TR_ERR_NOMEM;
    }
    msg->ref = c->attempt;
    c->refund_bytes -= owed;
    return tr_send_control(self, c->backend, msg);
}

static tr_err credit_came(tr_self *self, call *c, const tr_credit *credit) {
    uint64_t messages = c->credit_messages + credit->messages;
    uint64_t bytes = c->credit_bytes + credit->bytes;
    if (messages > TR_CREDIT_MESSAGES_max || bytes > TR_CREDIT_BYTES_max) {
        return failf(self, c, TR_ERR_PROTOCOL,
                     "the client granted more credit than %d messages "
                     "and %d bytes",
                     TR_CREDIT_MESSAGES_max, TR_CREDIT_BYTES_max);
    }
    c->credit_messages = messages;
    c->credit_bytes = bytes;
    c->progress_us = tr_now_us(self); /* the idle limit did not run while there was no credit */
    if (!is_shut(c)) {
        c->starved_us = c->progress_us; /* it reads */
    }
    if (c->state == PAUSED && !is_shut(c)) {
        c->pauses += c->attempt > 0 && c->avoid == TR_ID_NONE;
        return ask_gate(self, c);
    }
    if (c->state != STREAMING) {
        return TR_OK;
    }
    tr_err err = send_credit(self, c, credit);
    return err == TR_OK ? arm(self, c) : err;
}

/* --- messages of the backend --- */

/* Of an embed request, whose DELTAs say how far it has come, only the last place is kept. */
static tr_err keep_tokens(call *c, const int32_t *tokens, uint32_t count) {
    if (c->head.op == TR_OP_EMBED) {
        c->token_count = 0;
    }
    if (count > TR_RESUME_TOKENS_max - c->token_count) {
        c->untracked = true; /* too long to be replayed */
        return TR_OK;
    }
    if (c->token_room - c->token_count < count) {
        uint32_t room = c->token_room * 2 + count + 64;
        int32_t *more = tr_realloc(c->tokens, room * sizeof *more);
        if (more == NULL) {
            return TR_ERR_NOMEM;
        }
        c->tokens = more;
        c->token_room = room;
    }
    memcpy(c->tokens + c->token_count, tokens, count * sizeof *tokens);
    c->token_count += count;
    return TR_OK;
}

/* Takes the token ids out of the message: the client does not need them. */
static uint32_t strip_tokens(tr_msg *msg) {
    tr_delta *delta = (tr_delta *)msg->data;
    uint32_t bytes = delta->token_count * (uint32_t)sizeof(int32_t);
    char *strings = (char *)(delta + 1);
    memmove(strings, strings + bytes, msg->size - sizeof *delta - bytes);
    delta->token_count = 0;
    msg->size -= bytes;
    return bytes;
}

static tr_err delta_came(tr_self *self, call *c, tr_msg **msg) {
    tr_delta *delta = (tr_delta *)(*msg)->data;
    tr_err err = TR_OK;
    /* The backend's credit is the client's without what is owed for ids. */
    TR_ASSERT(c->refund_bytes <= c->credit_bytes);
    if (c->credit_messages == 0 || c->credit_bytes - c->refund_bytes < (*msg)->size) {
        return failf(self, c, TR_ERR_BUG, "%s sent more than its credit", c->target.label);
    }
    if (delta->token_count > 0) {
        err = keep_tokens(c, tr_delta_read(delta).tokens, delta->token_count);
        if (err != TR_OK) {
            return failf(self, c, err, "out of memory");
        }
        c->refund_bytes += strip_tokens(*msg);
    } else {
        c->untracked = true;
    }
    c->credit_messages--;
    c->credit_bytes -= (*msg)->size;
    c->progress_us = tr_now_us(self);
    if (is_starved(c)) {
        c->starved_us = c->progress_us;
    }
    if (c->first_token_us == 0) {
        c->first_token_us = c->progress_us;
    }
    if (c->attempt_token_us == 0) {
        c->attempt_token_us = c->progress_us;
    }
    delta->seq = c->seq++;
    (*msg)->ref = c->ref;
    err = tr_send(self, c->door, msg);
    bool short_of_room = c->credit_bytes - c->refund_bytes < TR_DELTA_max;
    if (err == TR_OK && c->refund_bytes > 0 && (short_of_room || c->refund_bytes >= REFUND_BYTES)) {
        err = send_credit(self, c, &(tr_credit){0, 0});
    }
    return err == TR_OK ? arm(self, c) : err;
}

static tr_err done_came(tr_self *self, call *c, const tr_msg *msg) {
    tr_done head = *(const tr_done *)msg->data;
    tr_end_view view = tr_done_read((const tr_done *)msg->data);
    c->backend_owes = false;
    set_outcome(c, TR_OK, &head.usage, (tr_str){"", 0});
    set_usage(self, c, &head.usage);
    head.attempts = attempts_of(c);
    view.target = label_of(c);
    if (tr_log_on(TR_LOG_INFO)) {
        char id[TR_ID_FMT_size];
        tr_log(TR_LOG_INFO, self, "request done",
               "request=%s target=%s in=%llu out=%llu first_token_ms=%u ms=%u resumes=%u",
               tr_id_format(tr_self_id(self), id), c->target.label,
               (unsigned long long)head.usage.in, (unsigned long long)head.usage.out,
               head.usage.first_token_ms, head.usage.total_ms, c->resumes);
    }
    return finish(self, c, tr_msg_done(&head, &view));
}

static tr_err fail_came(tr_self *self, call *c, const tr_msg *msg) {
    const tr_fail *head = (const tr_fail *)msg->data;
    tr_end_view view = tr_fail_read(head);
    if (c->state == RESERVING) {
        c->reserved = false; /* a gate that refuses holds nothing */
    } else {
        c->backend_owes = false;
        if ((head->flags & TR_FAIL_RESUMABLE) != 0) {
            return resume(self, c);
        }
    }
    return fail(self, c, *head, view.message);
}

static tr_err down_came(tr_self *self, call *c, const tr_msg *msg) {
    if (c->backend != TR_ID_NONE && msg->ref == c->backend_monitor) {
        return resume(self, c);
    }
    if (c->gate != TR_ID_NONE && msg->ref == c->gate_monitor) {
        c->gate = TR_ID_NONE; /* what it held died with it; a running stream does not need it */
        c->reserved = false;
        if (c->state == RESERVING) {
            return without_gate(self, c);
        }
    }
    return TR_OK;
}

static tr_err cancelled(tr_self *self, call *c) {
    return failf(self, c, TR_ERR_CANCELLED, "the request was cancelled");
}

/* Whether a message belongs to the attempt that runs. */
static bool current(const call *c, const tr_msg *msg, call_state state) {
    return c->state == state && msg->ref == c->attempt;
}

/* A full mailbox on another shard sent RESERVE or SUBMIT back: nobody holds anything by it. */
static tr_err bounced(tr_self *self, call *c, const tr_msg *msg) {
    if (msg->ref != c->attempt) {
        return TR_OK;
    }
    if (c->state == RESERVING) {
        c->reserved = false;
    }
    c->backend_owes = false;
    return failf(self, c, TR_ERR_OVERLOADED, "%s has too much to do", c->target.label);
}

static tr_err handle(tr_self *self, void *state, tr_msg **msg) {
    call *c = state;
    switch ((*msg)->kind) {
    case TR_KIND_SUBMIT:
        return submitted(self, c, *msg);
    case TR_KIND_GRANTED:
        return current(c, *msg, RESERVING) ? granted(self, c, (const tr_granted *)(*msg)->data)
                                           : TR_OK;
    case TR_KIND_DELTA:
        return current(c, *msg, STREAMING) ? delta_came(self, c, msg) : TR_OK;
    case TR_KIND_DONE:
        return current(c, *msg, STREAMING) ? done_came(self, c, *msg) : TR_OK;
    case TR_KIND_FAIL:
        return current(c, *msg, STREAMING) || current(c, *msg, RESERVING) ? fail_came(self, c, *msg)
                                                                          : TR_OK;
    case TR_KIND_CREDIT:
        return credit_came(self, c, (const tr_credit *)(*msg)->data);
    case TR_KIND_CANCEL:
        return cancelled(self, c);
    case TR_KIND_DOWN:
        return down_came(self, c, *msg);
    case TR_KIND_BOUNCED:
        return bounced(self, c, *msg);
    case TR_KIND_TIMER:
        return time_came(self, c, (*msg)->ref);
    default:
        return TR_OK;
    }
}

static void describe(const void *state, char *buf, size_t size) {
    static const char *const names[STATE_N] = {"new", "waiting", "streaming", "paused", "ended"};
    const call *c = state;
    snprintf(buf, size, "%s target=%s deltas=%u%s", names[c->state], c->target.label, c->seq,
             c->credit_messages == 0 ? " client behind" : "");
}

const tr_behaviour tr_call = {
    .name = "call",
    .state_size = sizeof(call),
    .init = init,
    .handle = handle,
    .stop = stop,
    .describe = describe,
};
