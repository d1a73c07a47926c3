/*
 * Answers in JSON. A provider that holds answers to a schema itself gets the request as it is; what
 * it streams goes on at once, and is checked at the end, since one that ignores the schema must not
 * look like success. For a provider that cannot, the schema goes as an instruction, the answer is
 * held back until it is whole, and one that does not follow is sent back once with what is wrong,
 * for a second attempt. Local models are not checked: their grammar lets nothing else out. Whoever
 * was cut off by max_tokens, calls a tool or was filtered has another finish than "stop", which
 * says that there is no whole answer. While an answer is held back the client's credit is not
 * touched: the backend gets its own. call_shape_body.c writes the instruction.
 *
 * Called by the other parts of the call; on its shard.
 */
#include "actors/call_shape.h"

#include <stdio.h>
#include <string.h>

#include "actors/call_shape_internal.h"
#include "actors/hedge.h"
#include "protocol/assert.h"
#include "protocol/json.h"
#include "runtime/log.h"
#include "runtime/memory.h"

/* The room that a delta's fixed part takes, and the least that is worth a message. */
#define PIECE_min 512U

static bool is_checked(const tri_call *c) {
    return c->shape != NULL && tri_call_target(c)->structured != TR_STRUCTURED_GRAMMAR;
}

bool tri_shape_holds(const tri_call *c) {
    return c->shape != NULL && c->shape->holds;
}

bool tri_shape_waits(const tri_call *c) {
    return tri_shape_holds(c) && c->attempt_token_us == 0;
}

const char *tri_shape_refusal(const tri_call *c) {
    if (c->shape == NULL || !tri_shape_instructs(c)) {
        return NULL;
    }
    return c->shape->understood ? NULL : c->shape->why;
}

/* --- the answer so far --- */

void tri_shape_reset(struct tri_shape *s) {
    for (uint32_t i = 0; i < s->other_count; i++) {
        tr_msg_free(s->others[i]);
    }
    s->other_count = s->text_at = s->other_sent = 0;
    s->size = s->held = s->text_sent = 0;
    s->has_text = s->overflows = s->other_choices = false;
    s->owed_messages = s->owed_bytes = 0;
}

static bool keep_text(struct tri_shape *s, tr_str text) {
    if (text.size > TRI_SHAPE_max - s->size) {
        s->overflows = true;
        return true;
    }
    if (s->room - s->size < text.size) {
        size_t room = s->room * 2 + text.size + 1024;
        char *more = tr_realloc(s->text, room);
        if (more == NULL) {
            return false;
        }
        s->text = more;
        s->room = room;
    }
    memcpy(s->text + s->size, text.ptr, text.size);
    s->size += text.size;
    return true;
}

static bool keep_other(struct tri_shape *s, tr_msg **msg) {
    if (s->other_count == s->other_room) {
        uint32_t room = s->other_room * 2 + 16;
        tr_msg **more = tr_realloc(s->others, room * sizeof(tr_msg *));
        if (more == NULL) {
            return false;
        }
        s->others = more;
        s->other_room = room;
    }
    s->others[s->other_count++] = *msg;
    *msg = NULL;
    return true;
}

static bool is_text(const tr_delta *delta) {
    return delta->kind == TR_DELTA_TEXT && delta->choice == 0;
}

void tri_shape_note(tri_call *c, const tr_delta *delta) {
    if (is_checked(c) && is_text(delta)) {
        c->shape->overflows =
            !keep_text(c->shape, tr_delta_read(delta).text) || c->shape->overflows;
    }
}

/* The backend may send on as if a client had read what was held back. */
static tr_err give_back(tr_self *self, tri_call *c, uint32_t bytes) {
    struct tri_shape *s = c->shape;
    s->owed_messages++;
    s->owed_bytes += bytes;
    if (s->owed_messages < TR_CREDIT_MESSAGES_default / 2 &&
        s->owed_bytes < TR_CREDIT_BYTES_default / 2) {
        return TR_OK;
    }
    tr_msg *credit = tr_msg_credit(s->owed_messages, s->owed_bytes);
    if (credit == NULL) {
        return TR_ERR_NOMEM;
    }
    credit->ref = c->attempt;
    s->owed_messages = s->owed_bytes = 0;
    return tr_send_control(self, c->backend, credit);
}

/* A hedge hears that the answer has begun: no second one is needed. False: out of memory. */
static bool tell_hedge(tr_self *self, const tri_call *c) {
    if ((c->head.flags & TR_SUBMIT_HEDGE) == 0) {
        return true;
    }
    tr_msg *msg = tr_msg_new(TR_KIND_BEGUN, 0);
    if (msg == NULL) {
        return false;
    }
    msg->ref = c->ref;
    return tr_send_control(self, c->door, msg) == TR_OK;
}

tr_err tri_shape_hold(tr_self *self, tri_call *c, tr_msg **msg) {
    struct tri_shape *s = c->shape;
    const tr_delta *delta = (const tr_delta *)(*msg)->data;
    uint32_t bytes = (*msg)->size;
    c->progress_us = tr_now_us(self);
    c->first_token_us = c->first_token_us != 0 ? c->first_token_us : c->progress_us;
    c->attempt_token_us = c->attempt_token_us != 0 ? c->attempt_token_us : c->progress_us;
    if (s->held == 0 && !tell_hedge(self, c)) {
        return TR_ERR_NOMEM;
    }
    s->held += bytes;
    s->other_choices = s->other_choices || delta->choice > 0;
    bool kept = true;
    if (is_text(delta)) {
        s->text_at = s->has_text ? s->text_at : s->other_count;
        s->has_text = true;
        kept = keep_text(s, tr_delta_read(delta).text);
    } else {
        kept = keep_other(s, msg);
    }
    if (!kept) {
        return tri_call_failf(self, c, TR_ERR_NOMEM, "out of memory");
    }
    /* Small deltas of others cost more memory than they have bytes. */
    if (s->overflows || s->size + s->other_count * 256ULL > TRI_SHAPE_max ||
        s->held > 4ULL * TRI_SHAPE_max) {
        return tri_call_failf(
            self, c, TR_ERR_TOO_LARGE,
            "an answer that is checked against a schema may have at most %d bytes", TRI_SHAPE_max);
    }
    tr_err err = give_back(self, c, bytes);
    return err == TR_OK ? tri_call_arm(self, c) : err;
}

/* --- its end --- */

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static tr_str trim(tr_str text) {
    while (text.size > 0 && is_blank(text.ptr[0])) {
        text.ptr++;
        text.size--;
    }
    while (text.size > 0 && is_blank(text.ptr[text.size - 1])) {
        text.size--;
    }
    return text;
}

/* Without the fence that models like to put around code: ```json … ``` */
static tr_str unfenced(tr_str text) {
    text = trim(text);
    const char *line =
        text.size > 6 && memcmp(text.ptr, "```", 3) == 0 ? memchr(text.ptr, '\n', text.size) : NULL;
    if (line == NULL || memcmp(text.ptr + text.size - 3, "```", 3) != 0) {
        return text;
    }
    size_t begin = (size_t)(line - text.ptr) + 1;
    return begin + 3 <= text.size ? trim((tr_str){line + 1, text.size - begin - 3}) : text;
}

static tr_err check(struct tri_shape *s, tr_str text) {
    return tr_schema_validate(s->schema, text.ptr, text.size, s->fault, sizeof s->fault);
}

static tr_err verdict(struct tri_shape *s) {
    if (s->overflows) {
        snprintf(s->fault, sizeof s->fault, "it has more than %d bytes, too many to be checked",
                 TRI_SHAPE_max);
        return TR_ERR_TOO_LARGE;
    }
    if (s->holds && s->other_choices) {
        snprintf(s->fault, sizeof s->fault, "only one answer at once can be checked: leave n out");
        return TR_ERR_UNSUPPORTED;
    }
    tr_str text = {s->text != NULL ? s->text : "", s->size};
    if (!s->holds) {
        return check(s, trim(text));
    }
    s->good = unfenced(text);
    return check(s, s->good);
}

static void add(tr_usage_wire *sum, const tr_usage_wire *more) {
    sum->in += more->in;
    sum->out += more->out;
    sum->cached += more->cached;
    sum->reasoning += more->reasoning;
    sum->cost += more->cost; /* unknown stays unknown */
}

void tri_shape_add_used(const tri_call *c, tr_usage_wire *usage) {
    if (c->shape != NULL && c->shape->corrected) {
        add(usage, &c->shape->used);
    }
}

static tr_err correct(tr_self *self, tri_call *c) {
    struct tri_shape *s = c->shape;
    char id[TR_ID_FMT_size], why[256];
    if (tr_log_on(TR_LOG_INFO)) {
        tr_log(TR_LOG_INFO, self, "an answer does not follow its schema; it may be corrected once",
               "request=%s target=%s why=%s", tr_id_format(tr_self_id(self), id), tri_call_label(c),
               tr_log_quote(s->fault, strlen(s->fault), why, sizeof why));
    }
    s->wrong = tr_strndup(s->good.ptr, s->good.size);
    if (s->wrong == NULL) {
        return tri_call_failf(self, c, TR_ERR_NOMEM, "out of memory");
    }
    s->wrong_size = s->good.size;
    s->corrected = true;
    c->cause = TRI_CALL_CORRECT;
    c->avoid = TR_ID_NONE;
    return tri_call_ask_gate(self, c);
}

static tr_err not_good(tr_self *self, tri_call *c, tr_err err, tr_usage_wire used) {
    struct tri_shape *s = c->shape;
    const tr_usage_wire *usage = &used;
    c->backend_owes = false;
    tri_call_estimate_used(c, &used);
    tri_call_set_outcome(c, TR_OK, usage, (tr_str){"", 0});
    tri_call_leave(self, c, TR_OK); /* who answered did so without fault */
    bool again = s->holds && !s->corrected && err == TR_ERR_INVALID;
    if (s->corrected) {
        add(&s->used, usage);
    } else {
        s->used = *usage;
    }
    if (again) {
        return correct(self, c);
    }
    bool twice = s->corrected;
    s->corrected = true; /* `used` has all of it */
    if (err == TR_ERR_NOMEM) {
        return tri_call_failf(self, c, TR_ERR_NOMEM, "out of memory");
    }
    return tri_call_failf(
        self, c, err == TR_ERR_INVALID ? TR_ERR_SCHEMA : err,
        "the answer does not follow the schema%s: %s%s", twice ? ", also after a correction" : "",
        s->fault,
        s->holds ? ""
                 : "; the server may not hold answers to schemas: with structured: instruct in the "
                   "provider's configuration, Troupe does");
}

tr_err tri_shape_done(tr_self *self, tri_call *c, const tr_msg *msg) {
    if (!is_checked(c) || (c->head.flags & TR_SUBMIT_SHOW) != 0) { /* what is shown is no answer */
        return tri_call_done(self, c, msg);
    }
    const tr_done *head = (const tr_done *)msg->data;
    struct tri_shape *s = c->shape;
    s->good = (tr_str){s->text != NULL ? s->text : "", s->size};
    bool whole = head->finish == TR_FINISH_STOP || head->finish == TR_FINISH_OTHER;
    tr_err err = whole ? verdict(s) : TR_OK;
    return err == TR_OK ? tri_call_done(self, c, msg) : not_good(self, c, err, head->usage);
}

/* --- what was held back goes out --- */

/* The next message, or NULL: out of memory, or *ret_wait: there is no credit for it. */
static tr_msg *next_message(tri_call *c, bool *ret_wait) {
    struct tri_shape *s = c->shape;
    bool text = s->other_sent == s->text_at && s->text_sent < s->good.size;
    size_t least = text ? PIECE_min : s->others[s->other_sent]->size;
    *ret_wait = c->credit_messages == 0 || c->credit_bytes < least;
    if (*ret_wait) {
        return NULL;
    }
    if (!text) {
        tr_msg *msg = s->others[s->other_sent];
        s->others[s->other_sent++] = NULL;
        return msg;
    }
    size_t room = c->credit_bytes - sizeof(tr_delta);
    size_t size = tr_utf8_cut(s->good.ptr + s->text_sent, s->good.size - s->text_sent,
                              room < TR_DELTA_TEXT_max ? room : TR_DELTA_TEXT_max);
    tr_msg *msg = tr_msg_delta(&(tr_delta){.kind = TR_DELTA_TEXT},
                               &(tr_delta_view){.text = {s->good.ptr + s->text_sent, size}});
    s->text_sent += size;
    return msg;
}

tr_err tri_shape_go_on(tr_self *self, tri_call *c) {
    struct tri_shape *s = c->shape;
    while (s->other_sent < s->other_count || s->text_sent < s->good.size) {
        bool wait = false;
        tr_msg *msg = next_message(c, &wait);
        if (wait) {
            return tri_call_arm(self, c);
        }
        if (msg == NULL) {
            return tri_call_failf(self, c, TR_ERR_NOMEM, "out of memory");
        }
        c->credit_messages--;
        c->credit_bytes -= msg->size;
        c->progress_us = tr_now_us(self);
        if (tri_call_is_starved(c)) {
            c->starved_us = c->progress_us;
        }
        ((tr_delta *)msg->data)->seq = c->seq++;
        msg->ref = c->ref;
        tr_err err = tr_send(self, c->door, &msg);
        if (err != TR_OK) {
            tr_msg_free(msg);
            return err;
        }
    }
    tr_msg *terminal = s->terminal;
    s->terminal = NULL;
    return tri_call_finish(self, c, terminal);
}

tr_err tri_shape_deliver(tr_self *self, tri_call *c, tr_msg *terminal) {
    struct tri_shape *s = c->shape;
    TR_ASSERT(s->holds && s->terminal == NULL);
    tri_call_leave(self, c, TR_OK);
    tri_call_set_state(c, TRI_CALL_DELIVERING);
    if (terminal == NULL) {
        return tri_call_finish(self, c, NULL);
    }
    s->terminal = terminal;
    c->starved_us = tr_now_us(self);
    return tri_shape_go_on(self, c);
}
