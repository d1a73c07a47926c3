/*
 * The provider actor. A request's life: SUBMIT becomes START at the HTTP door; DATA goes through
 * the decoder, whose pieces wait in a queue for credit; DELTAs leave in order. The door's window is
 * given back only when the queue is empty, so a reader without credit stops the server within one
 * window. The answer's end (the decoder's, the door's, a CANCEL) is kept until the queue is out,
 * then the one terminal is sent and the request forgotten. An answer that is complete before its
 * transfer is lets that run out gently, so that the connection serves again.
 *
 * Spoken to by calls (SUBMIT, CREDIT, CANCEL) and its shard's HTTP door; runs on its shard. No curl
 * here: tests and simulation put their own actor at the door's name.
 */
#include "providers/provider.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/assert.h"
#include "protocol/gate.h"
#include "providers/http.h"
#include "providers/key_commands.h"
#include "providers/provider_internal.h"
#include "providers/rates.h"
#include "runtime/answer.h"
#include "runtime/memory.h"

#define FIRST_BYTE_MS_default 120000U
#define WHOLE_MS_default 600000U
#define ROOM_kept 1024U /* slots, when none is taken */

static tr_err provider_init(tr_self *self, void *state, const void *args);
static tr_err provider_handle(tr_self *self, void *state, tr_msg **msg);
static void provider_stop(tr_self *self, void *state, tr_err reason);
static void provider_describe(const void *state, char *buf, size_t size);
static tr_err on_submit(tr_self *self, tri_provider *provider, tr_msg *msg);
static tr_err on_credit(tr_self *self, tri_provider *provider, const tr_msg *msg);
static tr_err on_cancel(tr_self *self, tri_provider *provider, const tr_msg *msg);
/* x-should-retry, as the official SDKs understand it: anything else says nothing. */
static uint16_t retry_flags(tr_str headers) {
    tr_str said = tr_http_header(headers, "x-should-retry");
    bool yes = said.size == 4 && memcmp(said.ptr, "true", 4) == 0;
    bool no = said.size == 5 && memcmp(said.ptr, "false", 5) == 0;
    return yes ? TR_FAIL_RETRY_YES : no ? TR_FAIL_RETRY_NO : 0;
}

static tr_err on_head(tr_self *self, tri_provider *provider, const tr_msg *msg);
static tr_err on_data(tr_self *self, tri_provider *provider, const tr_msg *msg);
static tr_err on_end(tr_self *self, tri_provider *provider, const tr_msg *msg);
static tr_err on_down(tr_self *self, tri_provider *provider, const tr_msg *msg);
static tr_err on_keys_came(tr_self *self, tri_provider *provider, const tr_msg *msg);
static tr_err on_status(tr_self *self, tri_provider *provider, const tr_msg *msg);
static tr_err hear(void *arg, const tr_piece *piece);
static tr_err flush(tr_self *self, tri_provider *provider, tri_request *request);
static tr_err give_up(tr_self *self, tri_provider *provider, tri_request *request);
static tr_err finish(tr_self *self, tri_provider *provider, tri_request *request);
static void close_transfer(tr_self *self, tri_provider *provider, tri_request *request,
                           bool gentle);
static void write_failure(const tri_provider *provider, const tri_request *request, tr_err err,
                          char text[TR_MESSAGE_max + 1]);

const tr_behaviour tr_provider = {
    .name = "provider",
    .state_size = sizeof(tri_provider),
    .init = provider_init,
    .handle = provider_handle,
    .stop = provider_stop,
    .describe = provider_describe,
};

tr_child_spec tr_provider_child(const tr_provider_spec *spec, uint32_t shard,
                                char actor[TR_PROVIDER_ACTOR_size]) {
    snprintf(actor, TR_PROVIDER_ACTOR_size, "provider:%s:%u", spec->name, (unsigned)shard);
    return (tr_child_spec){.name = actor,
                           .behaviour = &tr_provider,
                           .args = spec,
                           .args_size = sizeof(*spec),
                           .restart = TR_PERMANENT,
                           .shutdown_ms = 1000,
                           .shard = shard,
                           .mailbox_max = TR_HTTP_MAILBOX_max,
                           .registers = true};
}

static tr_err provider_init(tr_self *self, void *state, const void *args) {
    (void)self;
    tri_provider *provider = state;
    memcpy(&provider->spec, args, sizeof(provider->spec));
    provider->row = tr_catalog_find(provider->spec.kind);
    provider->dialect = provider->row == NULL ? NULL : tr_dialect_find(provider->row->dialect);
    if (provider->dialect == NULL) {
        return TR_ERR_NOT_FOUND;
    }
    if (provider->spec.keychain != NULL) {
        return TR_OK;
    }
    char source[sizeof(provider->spec.key_env) + 4];
    snprintf(source, sizeof(source), "env:%s", provider->spec.key_env);
    const char *sources[] = {source};
    tr_keychain_spec chain = {.provider = provider->spec.name,
                              .kind = provider->spec.kind,
                              .sources = sources,
                              .source_count = provider->spec.key_env[0] != '\0' ? 1 : 0};
    tr_err err = tr_keychain_new(&chain, &provider->own_chain);
    provider->spec.keychain = provider->own_chain;
    return err;
}

static tr_err provider_handle(tr_self *self, void *state, tr_msg **msg) {
    tri_provider *provider = state;
    switch ((*msg)->kind) {
    case TR_KIND_SUBMIT:
        return on_submit(self, provider, *msg);
    case TR_KIND_CREDIT:
        return on_credit(self, provider, *msg);
    case TR_KIND_CANCEL:
        return on_cancel(self, provider, *msg);
    case TR_KIND_HTTP_HEAD:
        return on_head(self, provider, *msg);
    case TR_KIND_HTTP_DATA:
        return on_data(self, provider, *msg);
    case TR_KIND_HTTP_END:
        return on_end(self, provider, *msg);
    case TR_KIND_DOWN:
        return on_down(self, provider, *msg);
    case TR_KIND_KEY_CHECK:
        return tri_provider_check(self, provider, *msg);
    case TR_KIND_KEYS_CAME:
        return on_keys_came(self, provider, *msg);
    case TR_KIND_UNLOAD:
        return tri_provider_close_idle(self, provider, *msg);
    case TR_KIND_STATUS:
        return on_status(self, provider, *msg);
    default:
        return TR_OK; /* kinds that a reader does not know are skipped */
    }
}

static void provider_stop(tr_self *self, void *state, tr_err reason) {
    tri_provider *provider = state;
    (void)reason;
    /* Its callers monitor it: each answers its own client. */
    for (uint32_t i = 0; i < provider->room; i++) {
        if (provider->requests[i] != NULL) {
            tri_provider_forget(self, provider, provider->requests[i]);
        }
    }
    tr_free(provider->requests);
    tri_slots_fini(&provider->slots);
    tr_keychain_free(provider->own_chain);
    tri_slots_fini(&provider->monitored);
}

static void provider_describe(const void *state, char *buf, size_t size) {
    const tri_provider *provider = state;
    snprintf(buf, size, "%u open, %llu done, %llu failed", (unsigned)provider->open,
             (unsigned long long)provider->done, (unsigned long long)provider->failed);
}

static tr_err on_submit(tr_self *self, tri_provider *provider, tr_msg *msg) {
    char why[512] = "";
    tri_outgoing out = {0};
    tri_request *request = NULL;
    tr_err err = tri_provider_find_http(self, provider);
    if (err != TR_OK) {
        snprintf(why, sizeof(why), "the HTTP door is not there");
    } else if (provider->open == TR_PROVIDER_REQUESTS_max) {
        err = TR_ERR_OVERLOADED;
        snprintf(why, sizeof(why), "provider %s has too many open requests", provider->spec.name);
    } else {
        err = tri_provider_prepare(provider, msg, &out, why, sizeof(why));
    }
    if (err == TR_OK) {
        err = tri_provider_begin(self, provider, msg, &out, &request);
    }
    if (err == TR_OK && out.answer != NULL) {
        request->ended = true;
        err = tri_pieces_add(&request->pieces, &(tr_piece){.kind = TR_DELTA_TEXT,
                                                           .text = {out.answer, out.answer_size}});
    } else if (err == TR_OK) {
        err = tri_provider_send(self, provider, request, why, sizeof(why));
    }
    free(out.answer);
    tr_body_unref(out.body);
    if (err == TR_OK) {
        return request->ended ? flush(self, provider, request) : TR_OK;
    }
    if (request != NULL) {
        tri_provider_forget(self, provider, request);
    }
    provider->failed++;
    tr_msg *fail = tr_msg_failf(err, "%s", why[0] == '\0' ? tr_err_text(err) : why);
    if (fail == NULL) {
        return TR_ERR_NOMEM;
    }
    ((tr_fail *)(void *)fail->data)->attempts = 1;
    fail->ref = msg->ref;
    return tr_send_control(self, msg->from, fail);
}

static tr_err take_slot(tri_provider *provider, uint32_t *ret) {
    for (uint32_t i = provider->free_from; i < provider->room; i++) {
        if (provider->requests[i] == NULL) {
            *ret = provider->free_from = i;
            return TR_OK;
        }
    }
    uint32_t room = provider->room == 0 ? 16 : provider->room * 2;
    tri_request **grown = tr_realloc(provider->requests, room * sizeof(*grown));
    if (grown == NULL) {
        return TR_ERR_NOMEM;
    }
    memset(grown + provider->room, 0, (room - provider->room) * sizeof(*grown));
    *ret = provider->free_from = provider->room;
    provider->requests = grown;
    provider->room = room;
    return TR_OK;
}

/* "provider/model" as far as a name may go: either side may name a model as long as that alone. */
static void set_target(const tri_provider *provider, char to[TR_NAME_max + 1], tr_str model) {
    size_t used = (size_t)snprintf(to, TR_NAME_max + 1, "%s/", provider->spec.name);
    size_t size = tr_utf8_cut(model.ptr, model.size, TR_NAME_max - used);
    memcpy(to + used, model.ptr, size);
    to[used + size] = '\0';
}

tr_err tri_provider_begin(tr_self *self, tri_provider *provider, const tr_msg *msg,
                          tri_outgoing *out, tri_request **ret) {
    const tr_submit *head = (const void *)msg->data;
    tr_submit_view view = tr_submit_read(head);
    uint32_t slot = 0;
    tr_err err = take_slot(provider, &slot);
    tri_request *request = err == TR_OK ? tr_zalloc(sizeof(*request)) : NULL;
    if (request == NULL) {
        return TR_ERR_NOMEM;
    }
    err = tri_slots_add(&provider->slots, msg->from, msg->ref, slot);
    if (err != TR_OK) {
        tr_free(request);
        return err;
    }
    provider->requests[slot] = request;
    provider->open++;
    *ret = request;
    request->caller = msg->from;
    request->ref = msg->ref;
    request->http_ref = slot;
    request->credit_messages = head->credit_messages;
    request->credit_bytes = head->credit_bytes;
    request->started_us = tr_now_us(self);
    set_target(provider, request->target, view.target);
    snprintf(request->site, sizeof(request->site), "%.*s", (int)strcspn(out->url, "?"), out->url);
    err = tr_monitor(self, msg->from, &request->monitor);
    if (err == TR_OK) {
        err = tri_slots_add(&provider->monitored, msg->from, request->monitor, slot);
    }
    if (err == TR_OK) {
        request->op = (tr_op)head->op;
        err = tri_provider_renew(provider, request);
    }
    if (err != TR_OK) {
        return err;
    }
    uint32_t whole_ms = head->total_ms == 0 ? WHOLE_MS_default : head->total_ms;
    uint32_t first_ms = head->first_token_ms == 0 ? FIRST_BYTE_MS_default : head->first_token_ms;
    tr_http_start start = {.method = out->get ? TR_HTTP_GET : TR_HTTP_POST,
                           .connect_ms = head->connect_ms,
                           .first_byte_ms = out->stream ? first_ms : whole_ms};
    request->shown = (head->flags & TR_SUBMIT_SHOW) != 0;
    return tri_again_keep(request, out, &start);
}

tr_err tri_provider_renew(tri_provider *provider, tri_request *request) {
    uint64_t http_ref = (++provider->serial << 16) | (request->http_ref & 0xffffU);
    tr_decoder *decoder = NULL;
    tr_msg *stop = tr_http_abort_msg(http_ref, false);
    if (stop == NULL) {
        return TR_ERR_NOMEM;
    }
    tr_err err = tr_decoder_new(provider->dialect, request->op, hear, request, &decoder);
    if (err != TR_OK) {
        tr_msg_free(stop);
        return err;
    }
    tr_msg_free(request->abort);
    tr_decoder_free(request->decoder);
    request->abort = stop;
    request->decoder = decoder;
    request->http_ref = http_ref;
    return TR_OK;
}

static tri_request *find(const tri_provider *provider, const tr_msg *msg) {
    uint32_t slot = 0;
    return tri_slots_find(&provider->slots, msg->from, msg->ref, &slot) ? provider->requests[slot]
                                                                        : NULL;
}

/* The request of a transfer: the door names it by http_ref. */
static tri_request *find_transfer(const tri_provider *provider, const tr_msg *msg) {
    uint32_t slot = (uint32_t)(msg->ref & 0xffffU);
    tri_request *request = slot < provider->room ? provider->requests[slot] : NULL;
    return request != NULL && request->http_ref == msg->ref && request->transfer_open ? request
                                                                                      : NULL;
}

static uint32_t grown(uint32_t credit, uint32_t by, uint32_t max) {
    uint64_t sum = (uint64_t)credit + by;
    return sum < max ? (uint32_t)sum : max;
}

static tr_err on_credit(tr_self *self, tri_provider *provider, const tr_msg *msg) {
    tri_request *request = find(provider, msg);
    if (request == NULL || msg->size < sizeof(tr_credit)) {
        return TR_OK; /* it ended while the credit was under way */
    }
    const tr_credit *credit = (const void *)msg->data;
    request->credit_messages =
        grown(request->credit_messages, credit->messages, TR_CREDIT_MESSAGES_max);
    request->credit_bytes = grown(request->credit_bytes, credit->bytes, TR_CREDIT_BYTES_max);
    return flush(self, provider, request);
}

static tr_err on_cancel(tr_self *self, tri_provider *provider, const tr_msg *msg) {
    tri_request *request = find(provider, msg);
    if (request == NULL) {
        return TR_OK;
    }
    const tr_cancel *cancel = (const void *)msg->data;
    uint32_t reason = msg->size >= sizeof(*cancel) ? cancel->reason : TR_ERR_CANCELLED;
    bool named = reason > TR_DONE && reason < TR_ERR_N;
    close_transfer(self, provider, request, false);
    tri_pieces_fini(&request->pieces);
    request->ended = true;
    request->err = named ? (tr_err)reason : TR_ERR_CANCELLED;
    snprintf(request->message, sizeof(request->message), "%s", tr_err_text(request->err));
    return flush(self, provider, request);
}

/* What the other side wrote, if it is text; cut at a character. */
static void keep_text(char *to, size_t room, tr_str text) {
    if (text.size > 0 && tr_utf8_valid(text.ptr, text.size)) {
        size_t size = tr_utf8_cut(text.ptr, text.size, room - 1);
        memcpy(to, text.ptr, size);
        to[size] = '\0';
    }
}

/* The limiter learns what the server says of its limits; without memory it learns it next time. */
static void tell_rates(tr_self *self, const tri_provider *provider, const tri_request *request,
                       const tr_http_head *head, tr_str headers) {
    tr_rates rates;
    if (head->wall_s == 0 || !tr_rates_read(headers, (int64_t)head->wall_s * 1000, &rates)) {
        return;
    }
    char name[TR_ACTOR_NAME_max + 1];
    snprintf(name, sizeof(name), "limiter:%s", provider->spec.name);
    tr_id limiter = tr_whereis(tr_self_node(self), name);
    const char *model = request->target + strlen(provider->spec.name) + 1; /* behind the slash */
    size_t size = provider->row->limits_by_model ? strlen(model) : 0;
    tr_msg *msg = limiter != TR_ID_NONE ? tr_msg_new(TR_KIND_RATES, sizeof(rates) + size) : NULL;
    if (msg != NULL) {
        memcpy(msg->data, &rates, sizeof(rates));
        memcpy(msg->data + sizeof(rates), model, size);
        (void)!tr_send_control(self, limiter, msg);
    }
}

/* For whoever ends the request before this actor does; without memory its FAIL names no id. */
static void tell_id(tr_self *self, const tri_request *request) {
    size_t size = strlen(request->request_id);
    tr_msg *msg = size > 0 ? tr_msg_new(TR_KIND_SERVED, size) : NULL;
    if (msg != NULL) {
        memcpy(msg->data, request->request_id, size);
        msg->ref = request->ref;
        (void)!tr_send_control(self, request->caller, msg);
    }
}

static tr_err on_head(tr_self *self, tri_provider *provider, const tr_msg *msg) {
    tr_str headers;
    const tr_http_head *head = tr_http_head_read(msg, &headers);
    tri_request *request = find_transfer(provider, msg);
    if (request == NULL || head == NULL) {
        return TR_OK;
    }
    request->status = head->status;
    request->has_retry_after = head->has_retry_after != 0;
    request->retry_after_ms = head->retry_after_ms;
    request->retry_flags = retry_flags(headers);
    tr_str id = tr_http_header(headers, "x-request-id");
    id = id.size > 0 ? id : tr_http_header(headers, "request-id");
    keep_text(request->request_id, sizeof(request->request_id), id);
    tell_id(self, request);
    tr_decoder_head(request->decoder, head->status);
    if (head->status < 400) {
        tri_provider_taken(provider, request);
    }
    tell_rates(self, provider, request, head, headers);
    return TR_OK;
}

static tr_err on_data(tr_self *self, tri_provider *provider, const tr_msg *msg) {
    tri_request *request = find_transfer(provider, msg);
    if (request == NULL) {
        return TR_OK;
    }
    request->owed += msg->size;
    tr_err err = tr_decoder_feed(request->decoder, (const char *)msg->data, msg->size);
    if (err != TR_OK) {
        request->ended = true;
        close_transfer(self, provider, request, err == TR_DONE);
    }
    return flush(self, provider, request);
}

static tr_err on_end(tr_self *self, tri_provider *provider, const tr_msg *msg) {
    tri_request *request = find_transfer(provider, msg);
    if (request == NULL) {
        return TR_OK;
    }
    tr_str why;
    tr_err err = tr_http_end_read(msg, &why);
    request->transfer_open = false;
    request->ended = true;
    if (request->status == 0) {
        request->err = err == TR_OK ? TR_ERR_SERVER : err;
        request->retry_flags = tr_http_end_lasting(msg) ? TR_FAIL_RETRY_NO : 0;
        keep_text(request->message, sizeof(request->message), why);
    } else if (err != TR_OK && err != TR_ERR_TRUNCATED) {
        request->err = err;
        keep_text(request->message, sizeof(request->message), why);
    } else {
        tr_err ended = tr_decoder_end(request->decoder, err != TR_OK);
        TR_ASSERT(ended != TR_OK);
    }
    return flush(self, provider, request);
}

/* The last word on a request that could not be sent. */
static tr_err refuse(tr_self *self, tri_provider *provider, tri_request *request, tr_err err,
                     const char *why) {
    request->waits = false;
    request->ended = true;
    request->err = err;
    snprintf(request->message, sizeof(request->message), "%s", why);
    return flush(self, provider, request);
}

static tr_err on_keys_came(tr_self *self, tri_provider *provider, const tr_msg *msg) {
    tri_request *request = tri_provider_waiting(provider, msg->ref);
    char why[512] = "";
    if (request == NULL) {
        return TR_OK; /* it was cancelled */
    }
    request->waits = false;
    tr_err err = tri_provider_find_http(self, provider); /* it may have gone down meanwhile */
    if (err != TR_OK) {
        snprintf(why, sizeof(why), "the HTTP door is not there");
    } else {
        err = tri_provider_send(self, provider, request, why, sizeof(why));
    }
    if (err != TR_OK) {
        return refuse(self, provider, request, err, why);
    }
    return request->ended ? flush(self, provider, request) : TR_OK;
}

static tr_err on_runner_down(tr_self *self, tri_provider *provider) {
    provider->runner_monitor = 0;
    for (uint32_t i = 0; i < provider->room; i++) {
        tri_request *request = provider->requests[i];
        if (request != NULL && request->waits) {
            tr_err err = refuse(self, provider, request, TR_ERR_SERVER,
                                "who runs the commands for keys crashed: try again");
            if (err != TR_OK) {
                return err;
            }
        }
    }
    return TR_OK;
}

/* Whoever waits for an answer of the door that went down. */
static tr_err door_down(tr_self *self, tri_provider *provider) {
    provider->http = TR_ID_NONE;
    for (uint32_t i = 0; i < provider->room; i++) {
        tri_request *request = provider->requests[i];
        if (request == NULL || !request->transfer_open) {
            continue;
        }
        request->transfer_open = false;
        request->ended = true;
        request->err = request->status == 0 ? TR_ERR_CONNECT : TR_ERR_TRUNCATED;
        snprintf(request->message, sizeof(request->message), "the HTTP door went down");
        tr_err err = flush(self, provider, request);
        if (err != TR_OK) {
            return err;
        }
    }
    return TR_OK;
}

static tr_err on_down(tr_self *self, tri_provider *provider, const tr_msg *msg) {
    uint32_t slot = 0;
    if (provider->runner_monitor != 0 && msg->ref == provider->runner_monitor) {
        return on_runner_down(self, provider);
    }
    if (provider->http != TR_ID_NONE && msg->ref == provider->http_monitor) {
        return door_down(self, provider);
    }
    if (tri_slots_find(&provider->monitored, msg->from, msg->ref, &slot)) {
        tri_provider_forget(self, provider, provider->requests[slot]);
    }
    return TR_OK;
}

/* The decoder's sink. */
static tr_err hear(void *arg, const tr_piece *piece) {
    tri_request *request = arg;
    return request->check != NULL ? TR_OK : tri_pieces_add(&request->pieces, piece);
}

/* Sends what credit allows; then, when nothing waits, gives the window back or ends. */
static tr_err flush(tr_self *self, tri_provider *provider, tri_request *request) {
    while (!tri_pieces_empty(&request->pieces)) {
        size_t size = tri_pieces_next_size(&request->pieces);
        if (request->credit_messages == 0 || request->credit_bytes < size) {
            return TR_OK;
        }
        tr_msg *msg = tri_pieces_take(&request->pieces);
        if (msg == NULL) {
            return give_up(self, provider, request);
        }
        TR_ASSERT(msg->size == size);
        request->credit_messages--;
        request->credit_bytes -= (uint32_t)size;
        if (request->first_us == 0) {
            request->first_us = tr_now_us(self);
        }
        msg->ref = request->ref;
        tr_err err = tr_send_control(self, request->caller, msg);
        if (err != TR_OK) {
            return err;
        }
    }
    if (request->ended) {
        return finish(self, provider, request);
    }
    if (request->owed > 0) {
        tr_msg *taken = tr_http_taken_msg(request->http_ref, request->owed);
        if (taken == NULL) {
            return give_up(self, provider, request);
        }
        request->owed = 0;
        return tr_send_control(self, provider->http, taken);
    }
    return TR_OK;
}

/* Out of memory: this request fails. When there is none for the FAIL either, the actor crashes, and
 * its callers learn of it by DOWN. */
static tr_err give_up(tr_self *self, tri_provider *provider, tri_request *request) {
    close_transfer(self, provider, request, false);
    tri_pieces_fini(&request->pieces);
    request->err = TR_ERR_NOMEM;
    snprintf(request->message, sizeof(request->message), "%s", tr_err_text(TR_ERR_NOMEM));
    return finish(self, provider, request);
}

static void fill_usage(tr_self *self, const tri_request *request, tr_usage_wire *usage) {
    uint64_t now = tr_now_us(self);
    *usage = tr_decoder_outcome(request->decoder)->usage;
    usage->total_ms = (uint32_t)((now - request->started_us) / 1000);
    if (request->first_us != 0) {
        uint32_t first_ms = (uint32_t)((request->first_us - request->started_us) / 1000);
        usage->first_token_ms = first_ms == 0 ? 1 : first_ms; /* 0 means that there was none */
    }
}

/* Whose words these are, and at which status: a client may have asked an alias. */
static void write_failure(const tri_provider *provider, const tri_request *request, tr_err err,
                          char text[TR_MESSAGE_max + 1]) {
    const tr_outcome *outcome = tr_decoder_outcome(request->decoder);
    const char *words = request->message[0] != '\0' ? request->message : outcome->message;
    char status[24] = "";
    if (request->message[0] == '\0' && request->status >= 300) {
        snprintf(status, sizeof(status), " answered %u", (unsigned)request->status);
    }
    words = words[0] != '\0' ? words : tr_err_text(err);
    bool elsewhere = err == TR_ERR_NOT_FOUND || strcmp(words, TR_DECODER_EMPTY) == 0;
    if (request->message[0] == '\0' && request->status < 300 && elsewhere) {
        snprintf(text, TR_MESSAGE_max + 1, "%s: %.*s (asked at %s)", provider->spec.name,
                 TR_MESSAGE_max - 400, words, request->site); /* a web page, most often */
    } else if (err == TR_ERR_CANCELLED) {                     /* not the provider's doing */
        snprintf(text, TR_MESSAGE_max + 1, "%s", words);
    } else {
        snprintf(text, TR_MESSAGE_max + 1, "%s%s: %.*s", provider->spec.name, status,
                 TR_MESSAGE_max - 100, words);
    }
    tri_provider_hide(provider, request, text);
    text[tr_utf8_plain(text, strlen(text))] = '\0'; /* a server's words, on people's terminals */
}

/* The one terminal, and the request's end. */
static tr_err finish(tr_self *self, tri_provider *provider, tri_request *request) {
    const tr_outcome *outcome = tr_decoder_outcome(request->decoder);
    tr_err err = request->err != TR_OK ? request->err : outcome->err;
    if (err != TR_OK && request->again != NULL) {
        if (tri_provider_goes_on(self, provider, request, err)) {
            return TR_OK;
        }
        outcome = tr_decoder_outcome(request->decoder); /* it may have a new one */
        err = request->err != TR_OK ? request->err : outcome->err;
    }
    if (request->check != NULL) {
        char said[TR_MESSAGE_max + 1] = "";
        if (err != TR_OK) {
            write_failure(provider, request, err, said);
        }
        return tri_check_ended(self, provider, request, err, said);
    }
    const char *id = request->request_id[0] != '\0' ? request->request_id : outcome->id;
    if (outcome->model[0] != '\0') {
        set_target(provider, request->target, (tr_str){outcome->model, strlen(outcome->model)});
    }
    tr_end_view view = {.target = {request->target, strlen(request->target)},
                        .request_id = {id, strlen(id)}};
    tr_msg *msg = NULL;
    if (err == TR_OK) {
        tr_done done = {.finish = outcome->finish == 0 ? TR_FINISH_OTHER : outcome->finish,
                        .attempts = 1};
        fill_usage(self, request, &done.usage);
        msg = tr_msg_done(&done, &view);
        provider->done++;
    } else {
        char text[TR_MESSAGE_max + 1];
        write_failure(provider, request, err, text);
        if (err == TR_ERR_AUTH) {
            tri_provider_tell_key(self, provider, request, text);
        }
        view.message = (tr_str){text, strlen(text)};
        bool advised = request->has_retry_after || outcome->retry_after_ms > 0;
        uint32_t after_ms =
            request->has_retry_after ? request->retry_after_ms : outcome->retry_after_ms;
        tr_fail fail = {.err = (uint16_t)err,
                        .flags =
                            (uint16_t)(request->retry_flags | (advised ? TR_FAIL_RETRY_AFTER : 0)),
                        .retry_after_ms = after_ms,
                        .status = request->status,
                        .attempts = 1};
        fill_usage(self, request, &fail.usage);
        msg = tr_msg_fail(&fail, &view);
        provider->failed++;
    }
    tr_id caller = request->caller;
    uint64_t ref = request->ref;
    tri_provider_forget(self, provider, request);
    if (msg == NULL) {
        return TR_ERR_NOMEM;
    }
    msg->ref = ref;
    return tr_send_control(self, caller, msg);
}

static void close_transfer(tr_self *self, tri_provider *provider, tri_request *request,
                           bool gentle) {
    if (!request->transfer_open) {
        return;
    }
    request->transfer_open = false;
    ((tr_http_abort *)(void *)request->abort->data)->gentle = gentle ? 1 : 0;
    (void)!tr_send_control(self, provider->http, request->abort);
    request->abort = NULL;
}

void tri_provider_forget(tr_self *self, tri_provider *provider, tri_request *request) {
    tri_check_lost(request);
    close_transfer(self, provider, request, false);
    uint32_t slot = (uint32_t)(request->http_ref & 0xffffU);
    if (request->monitor != 0) {
        tr_demonitor(self, request->monitor);
        tri_slots_remove(&provider->monitored, request->caller, request->monitor);
    }
    tri_slots_remove(&provider->slots, request->caller, request->ref);
    provider->requests[slot] = NULL;
    provider->free_from = slot < provider->free_from ? slot : provider->free_from;
    if (--provider->open == 0 && provider->room > ROOM_kept) {
        tr_free(provider->requests);
        provider->requests = NULL;
        provider->room = provider->free_from = 0;
    }
    tr_msg_free(request->abort);
    tr_decoder_free(request->decoder);
    tri_pieces_fini(&request->pieces);
    tri_again_free(request);
    tr_free(request);
}

tr_err tri_provider_find_http(tr_self *self, tri_provider *provider) {
    if (provider->http != TR_ID_NONE) {
        return TR_OK;
    }
    char name[TR_HTTP_NAME_size];
    tr_id door = tr_whereis(tr_self_node(self), tr_http_name(tr_self_shard(self), name));
    if (door == TR_ID_NONE) {
        return TR_ERR_CONNECT;
    }
    tr_err err = tr_monitor(self, door, &provider->http_monitor);
    if (err == TR_OK) {
        provider->http = door;
    }
    return err;
}

static tr_err on_status(tr_self *self, tri_provider *provider, const tr_msg *msg) {
    char url[TR_URL_max + 1];
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "provider");
    tr_jsonw_text(&w, provider->spec.name);
    tr_jsonw_name(&w, "kind");
    tr_jsonw_text(&w, provider->spec.kind);
    tr_jsonw_name(&w, "dialect");
    tr_jsonw_text(&w, provider->dialect->name);
    tr_jsonw_name(&w, "base_url");
    tr_jsonw_text(&w, tri_provider_base_url(provider, url));
    tr_jsonw_name(&w, "open");
    tr_jsonw_uint(&w, provider->open);
    tr_jsonw_name(&w, "done");
    tr_jsonw_uint(&w, provider->done);
    tr_jsonw_name(&w, "failed");
    tr_jsonw_uint(&w, provider->failed);
    tr_keychain_write(provider->spec.keychain, tr_now_us(self),
                      !tr_provider_needs_key(&provider->spec), &w);
    tr_jsonw_close(&w, '}');
    return tr_send_json(self, msg, TR_KIND_STATUSED, &w);
}
