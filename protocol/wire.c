/*
 * The messages' bytes: checked once where they enter, then read by casting. A writer and a size
 * function a kind; strings follow their structure in the order in which their sizes stand.
 */
#include "protocol/wire.h"

#include <string.h>

#include "protocol/assert.h"
#include "protocol/limits.h"

/* Walks over what follows a fixed part; a walk past the end stays invalid. */
typedef struct walk {
    const char *at;
    size_t left;
    bool ok;
} walk;

static tr_str step(walk *w, size_t size) {
    if (!w->ok || size > w->left) {
        w->ok = false;
        return (tr_str){NULL, 0};
    }
    tr_str piece = {w->at, size};
    w->at += size;
    w->left -= size;
    return piece;
}

static void text(walk *w, size_t size, size_t max) {
    tr_str piece = step(w, size);
    w->ok = w->ok && size <= max && tr_utf8_valid(piece.ptr, piece.size);
}

static tr_err end(const walk *w) {
    return w->ok && w->left == 0 ? TR_OK : TR_ERR_PROTOCOL;
}

static bool credit_fits(uint32_t messages, uint32_t bytes) {
    return messages <= TR_CREDIT_MESSAGES_max && bytes <= TR_CREDIT_BYTES_max;
}

static tr_err check_submit(const tr_submit *s, walk *w) {
    if (s->op < TR_OP_CHAT || s->op > TR_OP_CONTROL ||
        !credit_fits(s->credit_messages, s->credit_bytes) || s->connect_ms > TR_TIMEOUT_MS_max ||
        s->first_token_ms > TR_TIMEOUT_MS_max || s->idle_ms > TR_TIMEOUT_MS_max ||
        s->total_ms > TR_TIMEOUT_MS_max || s->attempts > TR_ATTEMPTS_max ||
        s->resume_count > TR_RESUME_TOKENS_max) {
        return TR_ERR_PROTOCOL;
    }
    step(w, s->resume_count * sizeof(int32_t));
    text(w, s->target_size, TR_NAME_max);
    text(w, s->provider_size, TR_NAME_max);
    text(w, s->base_url_size, TR_URL_max);
    return end(w);
}

static tr_err check_delta(const tr_delta *d, size_t size, walk *w) {
    if (d->kind < TR_DELTA_TEXT || d->kind > TR_DELTA_OPAQUE || size > TR_DELTA_max ||
        d->token_count > TR_DELTA_TOKENS_max || d->text_size > TR_DELTA_TEXT_max) {
        return TR_ERR_PROTOCOL;
    }
    step(w, d->token_count * sizeof(int32_t));
    text(w, d->id_size, TR_NAME_max);
    text(w, d->name_size, TR_NAME_max);
    if (d->kind == TR_DELTA_OPAQUE) {
        step(w, d->text_size);
    } else {
        text(w, d->text_size, TR_DELTA_TEXT_max);
    }
    return end(w);
}

static tr_err check_done(const tr_done *d, walk *w) {
    w->ok = d->finish >= TR_FINISH_STOP && d->finish <= TR_FINISH_OTHER;
    text(w, d->target_size, TR_NAME_max);
    text(w, d->request_id_size, TR_NAME_max);
    return end(w);
}

static tr_err check_fail(const tr_fail *f, walk *w) {
    w->ok = f->err != TR_OK && f->err != TR_DONE;
    text(w, f->message_size, TR_MESSAGE_max);
    text(w, f->target_size, TR_NAME_max);
    text(w, f->request_id_size, TR_NAME_max);
    return end(w);
}

static tr_err check_hello(const tr_hello *h, walk *w) {
    if (h->magic != TR_HELLO_MAGIC || h->version_min > h->version_max ||
        (h->role != TR_ROLE_CLIENT && h->role != TR_ROLE_WORKER)) {
        return TR_ERR_PROTOCOL;
    }
    step(w, h->token_size); /* a secret: any bytes */
    w->ok = w->ok && h->token_size <= TR_TOKEN_max;
    text(w, h->software_size, TR_NAME_max);
    text(w, h->model_size, TR_NAME_max);
    text(w, h->engine_size, TR_NAME_max);
    return end(w);
}

static tr_err check_welcome(const tr_welcome *h, walk *w) {
    text(w, h->software_size, TR_NAME_max);
    return end(w);
}

static size_t fixed_size(uint16_t kind) {
    switch ((tr_kind)kind) {
    case TR_KIND_SUBMIT:
        return sizeof(tr_submit);
    case TR_KIND_DELTA:
        return sizeof(tr_delta);
    case TR_KIND_CREDIT:
        return sizeof(tr_credit);
    case TR_KIND_DONE:
        return sizeof(tr_done);
    case TR_KIND_FAIL:
        return sizeof(tr_fail);
    case TR_KIND_CANCEL:
        return sizeof(tr_cancel);
    case TR_KIND_HELLO:
        return sizeof(tr_hello);
    case TR_KIND_WELCOME:
        return sizeof(tr_welcome);
    case TR_KIND_PING:
    case TR_KIND_PONG:
        return sizeof(tr_ping);
    }
    return 0;
}

tr_err tr_wire_check(uint16_t kind, const void *data, size_t size) {
    size_t fixed = fixed_size(kind);
    if (size < fixed || size > TR_FRAME_INLINE_max) {
        return TR_ERR_PROTOCOL;
    }
    walk w = {.at = (const char *)data + fixed, .left = size - fixed, .ok = true};
    switch ((tr_kind)kind) {
    case TR_KIND_SUBMIT:
        return check_submit(data, &w);
    case TR_KIND_DELTA:
        return check_delta(data, size, &w);
    case TR_KIND_CREDIT: {
        const tr_credit *credit = data;
        w.ok = credit_fits(credit->messages, credit->bytes);
        return end(&w);
    }
    case TR_KIND_DONE:
        return check_done(data, &w);
    case TR_KIND_FAIL:
        return check_fail(data, &w);
    case TR_KIND_HELLO:
        return check_hello(data, &w);
    case TR_KIND_WELCOME:
        return check_welcome(data, &w);
    case TR_KIND_CANCEL:
    case TR_KIND_PING:
    case TR_KIND_PONG:
        return end(&w);
    }
    return TR_OK;
}

/* --- reading --- */

tr_submit_view tr_submit_read(const tr_submit *submit) {
    const char *at = (const char *)(submit + 1);
    tr_submit_view view = {.resume = (const int32_t *)(const void *)at};
    at += submit->resume_count * sizeof(int32_t);
    view.target = (tr_str){at, submit->target_size};
    at += submit->target_size;
    view.provider = (tr_str){at, submit->provider_size};
    at += submit->provider_size;
    view.base_url = (tr_str){at, submit->base_url_size};
    return view;
}

tr_delta_view tr_delta_read(const tr_delta *delta) {
    const char *at = (const char *)(delta + 1);
    tr_delta_view view = {.tokens = (const int32_t *)(const void *)at};
    at += delta->token_count * sizeof(int32_t);
    view.id = (tr_str){at, delta->id_size};
    at += delta->id_size;
    view.name = (tr_str){at, delta->name_size};
    at += delta->name_size;
    view.text = (tr_str){at, delta->text_size};
    return view;
}

tr_end_view tr_done_read(const tr_done *done) {
    const char *at = (const char *)(done + 1);
    return (tr_end_view){.message = {NULL, 0},
                         .target = {at, done->target_size},
                         .request_id = {at + done->target_size, done->request_id_size}};
}

tr_end_view tr_fail_read(const tr_fail *fail) {
    const char *at = (const char *)(fail + 1);
    const char *target = at + fail->message_size;
    return (tr_end_view){.message = {at, fail->message_size},
                         .target = {target, fail->target_size},
                         .request_id = {target + fail->target_size, fail->request_id_size}};
}

tr_hello_view tr_hello_read(const tr_hello *hello) {
    const char *at = (const char *)(hello + 1);
    tr_hello_view view = {.token = {at, hello->token_size}};
    at += hello->token_size;
    view.software = (tr_str){at, hello->software_size};
    at += hello->software_size;
    view.model = (tr_str){at, hello->model_size};
    at += hello->model_size;
    view.engine = (tr_str){at, hello->engine_size};
    return view;
}

tr_str tr_welcome_read(const tr_welcome *welcome) {
    return (tr_str){(const char *)(welcome + 1), welcome->software_size};
}

/* --- writing --- */

static char *put(char *out, const void *bytes, size_t size) {
    if (size > 0) {
        memcpy(out, bytes, size);
    }
    return out + size;
}

static char *put_str(char *out, tr_str str) {
    return put(out, str.ptr, str.size);
}

static size_t message_size(tr_str message) {
    return tr_utf8_cut(message.ptr, message.size, TR_MESSAGE_max);
}

size_t tr_submit_size(const tr_submit *head, const tr_submit_view *view) {
    return sizeof *head + head->resume_count * sizeof(int32_t) + view->target.size +
           view->provider.size + view->base_url.size;
}

void tr_submit_write(void *out, const tr_submit *head, const tr_submit_view *view) {
    TR_ASSERT(view->target.size <= TR_NAME_max && view->provider.size <= TR_NAME_max);
    TR_ASSERT(view->base_url.size <= TR_URL_max && head->resume_count <= TR_RESUME_TOKENS_max);
    tr_submit fixed = *head;
    fixed.target_size = (uint16_t)view->target.size;
    fixed.provider_size = (uint16_t)view->provider.size;
    fixed.base_url_size = (uint16_t)view->base_url.size;
    char *at = put(out, &fixed, sizeof fixed);
    at = put(at, view->resume, fixed.resume_count * sizeof(int32_t));
    at = put_str(at, view->target);
    at = put_str(at, view->provider);
    put_str(at, view->base_url);
}

size_t tr_delta_size(const tr_delta *head, const tr_delta_view *view) {
    return sizeof *head + head->token_count * sizeof(int32_t) + view->id.size + view->name.size +
           view->text.size;
}

void tr_delta_write(void *out, const tr_delta *head, const tr_delta_view *view) {
    TR_ASSERT(view->id.size <= TR_NAME_max && view->name.size <= TR_NAME_max);
    TR_ASSERT(view->text.size <= TR_DELTA_TEXT_max && head->token_count <= TR_DELTA_TOKENS_max);
    tr_delta fixed = *head;
    fixed.id_size = (uint16_t)view->id.size;
    fixed.name_size = (uint16_t)view->name.size;
    fixed.text_size = (uint32_t)view->text.size;
    char *at = put(out, &fixed, sizeof fixed);
    at = put(at, view->tokens, fixed.token_count * sizeof(int32_t));
    at = put_str(at, view->id);
    at = put_str(at, view->name);
    put_str(at, view->text);
}

size_t tr_done_size(const tr_end_view *view) {
    return sizeof(tr_done) + view->target.size + view->request_id.size;
}

void tr_done_write(void *out, const tr_done *head, const tr_end_view *view) {
    TR_ASSERT(view->target.size <= TR_NAME_max && view->request_id.size <= TR_NAME_max);
    tr_done fixed = *head;
    fixed.target_size = (uint16_t)view->target.size;
    fixed.request_id_size = (uint16_t)view->request_id.size;
    put_str(put_str(put(out, &fixed, sizeof fixed), view->target), view->request_id);
}

size_t tr_fail_size(const tr_end_view *view) {
    return sizeof(tr_fail) + message_size(view->message) + view->target.size +
           view->request_id.size;
}

void tr_fail_write(void *out, const tr_fail *head, const tr_end_view *view) {
    TR_ASSERT(view->target.size <= TR_NAME_max && view->request_id.size <= TR_NAME_max);
    tr_fail fixed = *head;
    fixed.message_size = (uint16_t)message_size(view->message);
    fixed.target_size = (uint16_t)view->target.size;
    fixed.request_id_size = (uint16_t)view->request_id.size;
    char *at = put(out, &fixed, sizeof fixed);
    at = put(at, view->message.ptr, fixed.message_size);
    put_str(put_str(at, view->target), view->request_id);
}

size_t tr_hello_size(const tr_hello_view *view) {
    return sizeof(tr_hello) + view->token.size + view->software.size + view->model.size +
           view->engine.size;
}

void tr_hello_write(void *out, const tr_hello *head, const tr_hello_view *view) {
    TR_ASSERT(view->token.size <= TR_TOKEN_max && view->software.size <= TR_NAME_max);
    TR_ASSERT(view->model.size <= TR_NAME_max && view->engine.size <= TR_NAME_max);
    tr_hello fixed = *head;
    fixed.token_size = (uint16_t)view->token.size;
    fixed.software_size = (uint16_t)view->software.size;
    fixed.model_size = (uint16_t)view->model.size;
    fixed.engine_size = (uint16_t)view->engine.size;
    char *at = put(out, &fixed, sizeof fixed);
    at = put_str(put_str(at, view->token), view->software);
    put_str(put_str(at, view->model), view->engine);
}

size_t tr_welcome_size(tr_str software) {
    return sizeof(tr_welcome) + software.size;
}

void tr_welcome_write(void *out, const tr_welcome *head, tr_str software) {
    TR_ASSERT(software.size <= TR_NAME_max);
    tr_welcome fixed = *head;
    fixed.software_size = (uint16_t)software.size;
    put_str(put(out, &fixed, sizeof fixed), software);
}
