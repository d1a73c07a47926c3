/*
 * KEY_CHECK: whether the server takes each of the provider's keys. One question a key that costs
 * nothing, the list of models (or what the catalog's row has in its place where that is open to
 * everybody), all at once, as requests like any other whose end is written down here. The answer
 * names a key by its place and never shows it. What is learned of a key counts for other requests
 * too. Without any key the one question says what is missing.
 *
 * Called by provider.c on its shard.
 */
#include <stdio.h>
#include <string.h>

#include "protocol/gate.h"
#include "providers/provider_internal.h"
#include "runtime/answer.h"
#include "runtime/memory.h"

#define CHECK_MS 20000U

typedef struct outcome {
    tr_err err;
    uint16_t status;
    char place[160];
    char message[400];
} outcome;

struct tri_check {
    tr_id asker;
    uint64_t ref;
    uint32_t open; /* requests */
    uint32_t count;
    outcome outcomes[TR_KEYS_max];
};

void tri_check_lost(tri_request *request) {
    tri_check *check = request->check;
    request->check = NULL;
    if (check != NULL && --check->open == 0) {
        tr_free(check);
    }
}

static tr_err answer(tr_self *self, const tri_provider *provider, const tri_check *check) {
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "provider");
    tr_jsonw_text(&w, provider->spec.name);
    tr_jsonw_name(&w, "checks");
    tr_jsonw_open(&w, '[');
    for (uint32_t i = 0; i < check->count; i++) {
        const outcome *o = &check->outcomes[i];
        tr_jsonw_open(&w, '{');
        tr_jsonw_name(&w, "key");
        tr_jsonw_text(&w, o->place);
        tr_jsonw_name(&w, "error");
        tr_jsonw_text(&w, o->err == TR_OK ? NULL : tr_err_name(o->err));
        tr_jsonw_name(&w, "code");
        tr_jsonw_uint(&w, (uint64_t)o->err);
        tr_jsonw_name(&w, "status");
        tr_jsonw_uint(&w, o->status);
        tr_jsonw_name(&w, "message");
        tr_jsonw_text(&w, o->message);
        tr_jsonw_close(&w, '}');
    }
    tr_jsonw_close(&w, ']');
    tr_jsonw_close(&w, '}');
    tr_msg asked = {.from = check->asker, .ref = check->ref};
    return tr_send_json(self, &asked, TR_KIND_STATUSED, &w);
}

static void note(const tri_provider *provider, tri_check *check, uint32_t key, uint16_t status,
                 tr_err err, const char *message) {
    outcome *o = &check->outcomes[check->count++];
    o->err = err;
    o->status = status;
    if (key != 0) {
        tr_keychain_place(provider->spec.keychain, key, o->place, sizeof(o->place));
    }
    size_t size = tr_utf8_cut(message, strlen(message), sizeof(o->message) - 1);
    memcpy(o->message, message, size);
}

tr_err tri_check_ended(tr_self *self, tri_provider *provider, tri_request *request, tr_err err,
                       const char *message) {
    tri_check *check = request->check;
    tr_err sent = TR_OK;
    if (request->status >= 200 && request->status < 300) {
        err = TR_OK; /* it let us in; what it said is of no interest */
        message = "";
    }
    note(provider, check, request->key, request->status, err, message);
    if (check->open == 1) {
        sent = answer(self, provider, check);
    }
    tri_provider_forget(self, provider, request);
    return sent;
}

/* The question, as if it had been submitted under a number of its own. */
static tr_msg *question(const tri_check *check, uint64_t serial) {
    tr_submit head = {.op = TR_OP_MODELS,
                      .credit_messages = 1,
                      .credit_bytes = TR_CREDIT_BYTES_min,
                      .total_ms = CHECK_MS};
    tr_submit_view view = {0};
    tr_msg *msg = tr_msg_submit(&head, &view, NULL);
    if (msg != NULL) {
        msg->from = check->asker;
        msg->ref = UINT64_MAX - serial;
    }
    return msg;
}

static void instead_of_models(const tri_provider *provider, tri_outgoing *out) {
    static const char models[] = "/models";
    size_t size = strlen(out->url);
    const char *path = provider->row->check_path;
    if (path != NULL && size >= sizeof(models) - 1 &&
        strcmp(out->url + size - (sizeof(models) - 1), models) == 0) {
        size -= sizeof(models) - 1;
        snprintf(out->url + size, sizeof(out->url) - size, "%s", path);
    }
}

static void ask(tr_self *self, tri_provider *provider, tri_check *check, uint32_t key) {
    tri_outgoing out = {0};
    tri_request *request = NULL;
    char why[512] = "";
    tr_msg *msg = question(check, provider->serial);
    tr_err err = msg != NULL ? tri_provider_find_http(self, provider) : TR_ERR_NOMEM;
    if (err == TR_OK) {
        err = provider->open < TR_PROVIDER_REQUESTS_max
                  ? tri_provider_prepare(provider, msg, &out, why, sizeof(why))
                  : TR_ERR_OVERLOADED;
    }
    if (err == TR_OK) {
        instead_of_models(provider, &out);
        err = tri_provider_begin(self, provider, msg, &out, &request);
    }
    tr_msg_free(msg);
    if (request != NULL) {
        request->check = check;
        check->open++;
    }
    if (err == TR_OK && request != NULL) {
        request->again->pinned = key;
        err = tri_provider_send(self, provider, request, why, sizeof(why));
    }
    if (err != TR_OK) {
        tr_body_unref(out.body);
        note(provider, check, key, 0, err, why[0] != '\0' ? why : tr_err_text(err));
        if (request != NULL) {
            tri_provider_forget(self, provider, request);
        }
    }
}

tr_err tri_provider_check(tr_self *self, tri_provider *provider, const tr_msg *msg) {
    uint32_t keys[TR_KEYS_max];
    size_t count = tr_keychain_ids(provider->spec.keychain, keys, TR_KEYS_max);
    tri_check *check = tr_zalloc(sizeof(*check));
    if (check == NULL) {
        return TR_ERR_NOMEM;
    }
    check->asker = msg->from;
    check->ref = msg->ref;
    check->open = 1; /* ours, until all have been asked */
    if (count == 0) {
        ask(self, provider, check, 0);
    }
    for (size_t i = 0; i < count; i++) {
        ask(self, provider, check, keys[i]);
    }
    if (--check->open > 0) {
        return TR_OK;
    }
    tr_err err = answer(self, provider, check);
    tr_free(check);
    return err;
}
