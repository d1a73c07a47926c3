/*
 * One actor serves all echo streams of a shard. A stream is a row: its text and how far it is. Rows
 * that may send stand in a ring and take turns of BURST pieces, one turn a message to itself, so
 * that a long stream holds up neither the others nor CANCEL.
 */
#include "actors/echo.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "protocol/chat.h"
#include "protocol/gate.h"
#include "protocol/limits.h"
#include "runtime/memory.h"

#define BURST 32
#define CHUNKS_max 100000000
#define INTERVAL_MS_max 60000
enum { KIND_GO = 120 };

typedef struct row {
    struct row *next;
    tr_id call;
    uint64_t ref;
    uint64_t monitor;
    uint64_t credit_messages, credit_bytes;
    char *text; /* what is repeated or cut into words */
    size_t size, at;
    uint64_t chunks_left; /* of a generated stream */
    uint64_t sent;
    uint64_t break_left; /* pieces until it breaks off; UINT64_MAX = it does not */
    uint64_t interval_us, due_us;
    bool generated;
    tr_err fails; /* how it ends; TR_OK = well */
    uint32_t hint_ms;
    bool hinted;
    bool crashes; /* breaks off as a worker that dies: its DELTAs carry ids, another attempt goes on
                   */
} row;

typedef struct echo {
    row *rows; /* served from the head; a served one goes to the end */
    row **tail;
    uint32_t count;
    bool going;                   /* a GO is on its way */
    uint64_t timer, timer_due_us; /* of the first row that waits for its interval */
} echo;

static tr_err init(tr_self *self, void *state, const void *args) {
    (void)self;
    (void)args;
    echo *e = state;
    e->tail = &e->rows;
    return TR_OK;
}

static row **find(echo *e, tr_id call, uint64_t ref) {
    row **at = &e->rows;
    while (*at != NULL && ((*at)->call != call || (*at)->ref != ref)) {
        at = &(*at)->next;
    }
    return at;
}

static void unlink_row(echo *e, row **at) {
    row *gone = *at;
    *at = gone->next;
    if (e->tail == &gone->next) {
        e->tail = at;
    }
    gone->next = NULL;
}

static void append(echo *e, row *r) {
    *e->tail = r;
    e->tail = &r->next;
}

static void release(tr_self *self, echo *e, row **at) {
    row *gone = *at;
    unlink_row(e, at);
    tr_demonitor(self, gone->monitor);
    tr_free(gone->text);
    tr_free(gone);
    e->count--;
}

static tr_err send_to(tr_self *self, tr_id call, uint64_t ref, tr_msg *msg) {
    if (msg != NULL) {
        msg->ref = ref;
    }
    return tr_send_control(self, call, msg);
}

/* The next piece: a generated one, or a word with the blanks behind it. */
static size_t piece_size(const row *r) {
    if (r->generated) {
        return r->size;
    }
    size_t end = r->at;
    while (end < r->size && !isspace((unsigned char)r->text[end])) {
        end++;
    }
    while (end < r->size && isspace((unsigned char)r->text[end])) {
        end++;
    }
    return tr_utf8_cut(r->text + r->at, end - r->at, TR_DELTA_TEXT_max);
}

static bool is_complete(const row *r) {
    return r->generated ? r->chunks_left == 0 : r->at == r->size;
}

static bool is_over(const row *r) {
    return is_complete(r) || r->break_left == 0;
}

static void skip_piece(row *r) {
    r->at += r->generated ? 0 : piece_size(r);
    r->chunks_left -= r->generated ? 1 : 0;
    r->sent++;
}

static tr_err end(tr_self *self, const row *r) {
    if (r->crashes && !is_complete(r)) {
        tr_fail head = {.err = TR_ERR_CRASHED, .flags = TR_FAIL_RESUMABLE};
        return send_to(self, r->call, r->ref, tr_msg_fail(&head, &(tr_end_view){0}));
    }
    if (r->fails != TR_OK || !is_complete(r)) {
        tr_msg *fail = tr_msg_failf(r->fails != TR_OK ? r->fails : TR_ERR_SERVER,
                                    "the echo was asked to fail");
        if (fail != NULL && r->hinted) {
            ((tr_fail *)(void *)fail->data)->flags = TR_FAIL_RETRY_AFTER;
            ((tr_fail *)(void *)fail->data)->retry_after_ms = r->hint_ms;
        }
        return send_to(self, r->call, r->ref, fail);
    }
    tr_done head = {.finish = TR_FINISH_STOP, .attempts = 1, .usage = {.out = r->sent, .cost = 0}};
    return send_to(self, r->call, r->ref, tr_msg_done(&head, &(tr_end_view){0}));
}

/* Sends up to BURST pieces; true when more could be sent at once. Out of memory ends the stream:
 * the call hears of it when this actor does not answer within its limits. */
static bool serve(tr_self *self, row *r) {
    for (int i = 0; i < BURST && !is_over(r); i++) {
        size_t size = piece_size(r);
        int32_t token = (int32_t)r->sent;
        tr_delta head = {
            .seq = (uint32_t)r->sent, .kind = TR_DELTA_TEXT, .token_count = r->crashes};
        tr_delta_view view = {.tokens = &token,
                              .text = {r->generated ? r->text : r->text + r->at, size}};
        if (r->credit_messages == 0 || r->credit_bytes < tr_delta_size(&head, &view) ||
            tr_now_us(self) < r->due_us) {
            return false;
        }
        tr_msg *msg = tr_msg_delta(&head, &view);
        if (msg == NULL) {
            return true; /* again at the next turn */
        }
        r->credit_messages--;
        r->credit_bytes -= msg->size;
        skip_piece(r);
        r->break_left -= r->break_left != UINT64_MAX;
        r->due_us = r->interval_us > 0 ? tr_now_us(self) + r->interval_us : 0;
        (void)send_to(self, r->call, r->ref, msg);
    }
    return true;
}

static tr_err go_on(tr_self *self, echo *e) {
    if (e->going) {
        return TR_OK;
    }
    e->going = true;
    return tr_send_control(self, tr_self_id(self), tr_msg_new(KIND_GO, 0));
}

/* Sets the timer to the first row that is not due yet. */
static tr_err await_due(tr_self *self, echo *e) {
    uint64_t now = tr_now_us(self);
    uint64_t first = UINT64_MAX;
    for (const row *r = e->rows; r != NULL; r = r->next) {
        first = r->due_us > now && r->due_us < first ? r->due_us : first;
    }
    if (first == UINT64_MAX || (e->timer != 0 && e->timer_due_us <= first)) {
        return TR_OK;
    }
    tr_timer_cancel(self, &e->timer);
    e->timer_due_us = first;
    return tr_timer_start(self, first - now, 0, &e->timer);
}

/* One turn for each row. */
static tr_err turn(tr_self *self, echo *e) {
    e->going = false;
    bool more = false;
    for (uint32_t i = e->count; i > 0; i--) {
        row *r = e->rows;
        bool ready = serve(self, r);
        if (is_over(r) && end(self, r) == TR_OK) {
            release(self, e, &e->rows);
            continue;
        }
        more = more || ready;
        unlink_row(e, &e->rows);
        append(e, r);
    }
    tr_err err = await_due(self, e);
    return err == TR_OK && more ? go_on(self, e) : err;
}

static tr_err refuse(tr_self *self, const tr_msg *msg, tr_err err, const char *why) {
    return send_to(self, msg->from, msg->ref, tr_msg_failf(err, "%s", why));
}

static tr_str last_user_text(const tr_chat *chat) {
    tr_str text = {"", 0};
    for (size_t i = 0; i < chat->turn_count; i++) {
        for (size_t k = 0; k < chat->turns[i].part_count; k++) {
            const tr_part *part = &chat->turns[i].parts[k];
            if (chat->turns[i].role == TR_CHAT_USER && part->kind == TR_PART_TEXT) {
                text = part->text;
            }
        }
    }
    return text;
}

/* "fail" is true or an error's number, "odds" in how many of a hundred attempts, "retry_after_ms"
 * the hint. */
static void set_failure(row *r, const tr_json_value *asked, uint64_t random) {
    const tr_json_value *fail = tr_json_get(asked, "fail");
    int64_t number = tr_json_int(fail, tr_json_bool(fail, false) ? TR_ERR_SERVER : TR_OK);
    int64_t hint_ms = tr_json_int(tr_json_get(asked, "retry_after_ms"), -1);
    bool now = (int64_t)((random >> 16) % 100) < tr_json_int(tr_json_get(asked, "odds"), 100);
    r->fails = now && number > TR_DONE && number < TR_ERR_N ? (tr_err)number : TR_OK;
    r->hinted = hint_ms >= 0 && hint_ms <= TR_TIMEOUT_MS_max;
    r->hint_ms = r->hinted ? (uint32_t)hint_ms : 0;
}

/* Fills what the row sends from the request; false: what was asked makes no sense. */
static bool set_text(row *r, const tr_chat *chat, uint64_t random) {
    tr_json *extra = NULL;
    if (chat->extra.ptr != NULL &&
        tr_json_parse(chat->extra.ptr, chat->extra.size, &extra, NULL) != TR_OK) {
        return false;
    }
    const tr_json_value *asked = extra != NULL ? tr_json_get(tr_json_root(extra), "echo") : NULL;
    set_failure(r, asked, random);
    int64_t chunks = tr_json_int(tr_json_get(asked, "chunks"), -1);
    int64_t bytes = tr_json_int(tr_json_get(asked, "bytes"), 64);
    int64_t fail_after = tr_json_int(tr_json_get(asked, "fail_after"), -1);
    int64_t crash_after = tr_json_int(tr_json_get(asked, "crash_after"), -1);
    int64_t interval_ms = tr_json_int(tr_json_get(asked, "interval_ms"), 0);
    bool spared = tr_json_get(asked, "fail") != NULL && r->fails == TR_OK; /* this time */
    tr_json_free(extra);
    if (chunks > CHUNKS_max || bytes < 1 || bytes > TR_DELTA_TEXT_max || interval_ms < 0 ||
        interval_ms > INTERVAL_MS_max) {
        return false;
    }
    r->crashes = crash_after >= 0;
    int64_t break_after = r->crashes ? crash_after : spared ? -1 : fail_after;
    r->break_left = break_after >= 0 ? (uint64_t)break_after : UINT64_MAX;
    r->interval_us = (uint64_t)interval_ms * 1000;
    r->generated = chunks >= 0;
    if (r->generated) {
        r->chunks_left = (uint64_t)chunks;
        r->size = (size_t)bytes;
        r->text = tr_alloc(r->size);
        if (r->text != NULL) {
            memset(r->text, 'x', r->size);
        }
    } else {
        tr_str text = last_user_text(chat);
        r->size = text.size;
        r->text = tr_strndup(text.ptr, text.size);
    }
    return r->text != NULL;
}

static tr_err submitted(tr_self *self, echo *e, const tr_msg *msg) {
    const tr_submit *submit = (const tr_submit *)msg->data;
    if (submit->op != TR_OP_CHAT || msg->body == NULL) {
        return refuse(self, msg, TR_ERR_UNSUPPORTED, "the echo provider only chats");
    }
    if ((submit->flags & TR_SUBMIT_SHOW) != 0) {
        return refuse(self, msg, TR_ERR_UNSUPPORTED, "the echo provider sends nothing to anybody");
    }
    char why[256];
    tr_chat *chat;
    tr_err err =
        tr_chat_parse(TR_OP_CHAT, msg->body->bytes, msg->body->size, &chat, why, sizeof why);
    if (err != TR_OK) {
        return refuse(self, msg, err, why);
    }
    row *r = tr_zalloc(sizeof *r);
    bool fine = r != NULL && set_text(r, chat, tr_random(self));
    tr_chat_free(chat);
    if (!fine || tr_monitor(self, msg->from, &r->monitor) != TR_OK) {
        if (r != NULL) {
            tr_free(r->text);
        }
        tr_free(r);
        return refuse(self, msg, TR_ERR_INVALID,
                      "echo: expected {\"chunks\": 0 to 100000000, \"bytes\": 1 to 32768, "
                      "\"interval_ms\": 0 to 60000, \"fail_after\": N, \"crash_after\": N}");
    }
    for (uint32_t i = 0; i < submit->resume_count && !is_complete(r); i++) {
        skip_piece(r); /* each id is a piece that another attempt has sent */
    }
    r->call = msg->from;
    r->ref = msg->ref;
    r->credit_messages = submit->credit_messages;
    r->credit_bytes = submit->credit_bytes;
    append(e, r);
    e->count++;
    return go_on(self, e);
}

static tr_err handle(tr_self *self, void *state, tr_msg **msg) {
    echo *e = state;
    row **at;
    switch ((*msg)->kind) {
    case TR_KIND_SUBMIT:
        return submitted(self, e, *msg);
    case TR_KIND_CREDIT:
        at = find(e, (*msg)->from, (*msg)->ref);
        if (*at == NULL) {
            return TR_OK;
        }
        (*at)->credit_messages += ((const tr_credit *)(*msg)->data)->messages;
        (*at)->credit_bytes += ((const tr_credit *)(*msg)->data)->bytes;
        return go_on(self, e);
    case TR_KIND_CANCEL:
        at = find(e, (*msg)->from, (*msg)->ref);
        if (*at != NULL) {
            (void)send_to(self, (*msg)->from, (*msg)->ref,
                          tr_msg_failf(TR_ERR_CANCELLED, "the request was cancelled"));
            release(self, e, at);
        }
        return TR_OK;
    case TR_KIND_DOWN:
        for (at = &e->rows; *at != NULL;) {
            if ((*at)->call == (*msg)->from) {
                release(self, e, at);
            } else {
                at = &(*at)->next;
            }
        }
        return TR_OK;
    case TR_KIND_TIMER:
        e->timer = (*msg)->ref == e->timer ? 0 : e->timer;
        return go_on(self, e);
    case KIND_GO:
        return turn(self, e);
    default:
        return TR_OK;
    }
}

static void stop(tr_self *self, void *state, tr_err reason) {
    (void)reason;
    echo *e = state;
    while (e->rows != NULL) {
        release(self, e, &e->rows);
    }
}

static void describe(const void *state, char *buf, size_t size) {
    snprintf(buf, size, "%u streams", ((const echo *)state)->count);
}

const tr_behaviour tr_echo = {
    .name = "echo",
    .state_size = sizeof(echo),
    .init = init,
    .handle = handle,
    .stop = stop,
    .describe = describe,
};
