/*
 * A request and its keys. It is sent with the keychain's next key; when the server refuses that key
 * or says that its limit is used up, the same request is sent once more with the next one, unseen
 * by the call: nothing of an answer has come, and the server has done nothing. So a bad key costs a
 * round trip, no attempt, and nobody's breaker. A 403 that does not name the key is about what the
 * key may do: the other keys are tried for this request and it stays in service for others.
 *
 * When no key is left the failure is the last server's, but a key that only waits for its limit
 * makes it a rate limit with the time that it takes. A command that prints keys is waited for,
 * once.
 *
 * Called by provider.c on its shard.
 */
#include <stdio.h>
#include <string.h>

#include "protocol/assert.h"
#include "providers/fault.h"
#include "providers/key_commands.h"
#include "providers/provider_internal.h"
#include "runtime/log.h"
#include "runtime/memory.h"

tr_err tri_again_keep(tri_request *request, tri_outgoing *out, const tr_http_start *start) {
    size_t url_size = strlen(out->url) + 1;
    size_t headers_size = strlen(out->headers) + 1;
    TR_ASSERT(request->again == NULL);
    tri_again *again = tr_zalloc(sizeof(*again) + url_size + headers_size);
    if (again == NULL) {
        return TR_ERR_NOMEM;
    }
    again->start = *start;
    again->trusted = out->trusted;
    request->untrusted = !out->trusted;
    again->body = out->body;
    out->body = NULL;
    memcpy(again->url, out->url, url_size);
    memcpy(again->url + url_size, out->headers, headers_size);
    again->headers = again->url + url_size;
    request->again = again;
    return TR_OK;
}

void tri_again_free(tri_request *request) {
    tri_again *again = request->again;
    if (again != NULL) {
        tr_body_unref(again->body);
        explicit_bzero(&again->key, sizeof(again->key));
        tr_free(again);
        request->again = NULL;
    }
}

/* --- why there is none --- */

static tr_err lacks(const tri_provider *provider, char *why, size_t why_size) {
    const tr_catalog_row *row = provider->row;
    const char *name = provider->spec.name;
    char variable[128];
    char reasons[256];
    tr_keychain *chain = provider->spec.keychain;
    bool has_variable = tr_keychain_variable(chain, variable, sizeof(variable));
    tr_keychain_lacks(chain, reasons, sizeof(reasons));
    bool configured = tr_keychain_configured(chain);
    bool unset = strncmp(reasons, "the daemon's environment lacks ", 31) == 0;
    if (!has_variable || !unset || (configured && strchr(reasons, ';') != NULL)) {
        snprintf(why, why_size, "provider %s has no key: %s", name, reasons);
        return TR_ERR_AUTH;
    }
    const char *page = row->key_page;
    snprintf(why, why_size,
             "the daemon's environment lacks %s, which provider %s needs: %s%s%sset it (export "
             "%s=...) and start the daemon again (troupe stop; troupe start)%s%s",
             variable, name, page == NULL ? "" : "get a key at ", page == NULL ? "" : page,
             page == NULL ? "" : ", ", variable,
             configured ? "" : ", or store a key with troupe key set ", configured ? "" : name);
    return TR_ERR_AUTH;
}

static tr_err is_out(tr_self *self, const tri_provider *provider, char *why, size_t why_size) {
    char all[400];
    tr_keychain_is_out(provider->spec.keychain, tr_now_us(self), all, sizeof(all));
    snprintf(why, why_size, "%s", all);
    return TR_ERR_AUTH;
}

/* --- sending --- */

static tr_err wait_for_command(tr_self *self, tri_provider *provider, tri_request *request,
                               char *why, size_t why_size) {
    tr_id runner = tr_whereis(tr_self_node(self), TR_KEY_COMMANDS_NAME);
    if (runner == TR_ID_NONE || request->again->waited) {
        char reasons[300];
        tr_keychain_lacks(provider->spec.keychain, reasons, sizeof(reasons));
        snprintf(why, why_size, "provider %s has no key: %s", provider->spec.name,
                 runner == TR_ID_NONE ? "nobody runs its command" : reasons);
        return TR_ERR_AUTH;
    }
    tr_err err =
        provider->runner_monitor == 0 ? tr_monitor(self, runner, &provider->runner_monitor) : TR_OK;
    if (err == TR_OK) {
        err = tr_send_control(self, runner,
                              tr_keys_wanted_msg(provider->spec.name, request->http_ref));
    }
    if (err == TR_OK) {
        request->waits = true;
        request->again->waited = true;
    }
    return err;
}

/* START with the headers and, when `key` is there, its own. */
static tr_err start(tr_self *self, tri_provider *provider, tri_request *request,
                    const tr_keychain_key *key) {
    const tri_again *again = request->again;
    const tr_catalog_row *row = provider->row;
    char headers[TR_HTTP_HEADERS_max];
    size_t used = (size_t)snprintf(headers, sizeof(headers), "%s", again->headers);
    if (key != NULL) {
        bool bearer = row->key_header == NULL || key->bearer;
        used += (size_t)snprintf(headers + used, sizeof(headers) - used, "%s: %s%s\n",
                                 bearer ? "Authorization" : row->key_header,
                                 bearer ? "Bearer " : "", request->shown ? "***" : key->text);
    }
    TR_ASSERT(used < sizeof(headers)); /* the headers without it have at most 4096 bytes */
    if (request->shown) {
        return tri_provider_show(request, (tr_str){headers, used});
    }
    tr_body *body = again->body != NULL ? tr_body_ref(again->body) : NULL;
    tr_msg *open =
        tr_http_start_msg(request->http_ref, &again->start,
                          (tr_str){again->url, strlen(again->url)}, (tr_str){headers, used}, body);
    explicit_bzero(headers, used);
    if (open == NULL) {
        return TR_ERR_NOMEM;
    }
    tr_err err = tr_send(self, provider->http, &open);
    if (err != TR_OK) {
        explicit_bzero(open->data, open->size);
        tr_msg_free(open);
        return err == TR_ERR_FULL ? TR_ERR_OVERLOADED : err;
    }
    request->transfer_open = true;
    return TR_OK;
}

tr_err tri_provider_send(tr_self *self, tri_provider *provider, tri_request *request, char *why,
                         size_t why_size) {
    tri_again *again = request->again;
    bool needs = provider->row->key_need == TR_KEY_REQUIRED ||
                 (again->trusted && tr_provider_needs_key(&provider->spec));
    tr_keychain_answer answer = TR_KEYCHAIN_NONE;
    request->key = 0;
    if (again->tried_count == TR_KEYS_max) {
        answer = TR_KEYCHAIN_OUT;
    } else if (again->pinned != 0) {
        bool there = tr_keychain_take_one(provider->spec.keychain, again->pinned, &again->key);
        answer = there ? TR_KEYCHAIN_TAKEN : TR_KEYCHAIN_NONE;
        needs = true;
    } else if (again->trusted || needs) {
        answer = tr_keychain_take(provider->spec.keychain, tr_now_us(self), again->tried,
                                  again->tried_count, &again->key);
    }
    if (answer == TR_KEYCHAIN_TAKEN && !again->trusted) {
        answer = TR_KEYCHAIN_NONE; /* it has one, which is not for this server */
        needs = false;
    }
    if (request->shown && answer != TR_KEYCHAIN_TAKEN && (needs || answer != TR_KEYCHAIN_NONE)) {
        return start(self, provider, request, &again->key); /* its place is shown, without any */
    }
    switch (answer) {
    case TR_KEYCHAIN_TAKEN:
        request->key = again->key.id;
        again->tried[again->tried_count++] = again->key.id;
        return start(self, provider, request, &again->key);
    case TR_KEYCHAIN_NONE:
        if (needs) {
            return lacks(provider, why, why_size);
        }
        break;
    case TR_KEYCHAIN_OUT:
        return is_out(self, provider, why, why_size);
    case TR_KEYCHAIN_AWAIT:
        return wait_for_command(self, provider, request, why, why_size);
    }
    tr_err err = start(self, provider, request, NULL);
    tri_again_free(request);
    return err;
}

void tri_provider_taken(tri_provider *provider, tri_request *request) {
    if (request->key != 0) {
        tr_keychain_fine(provider->spec.keychain, request->key);
    }
    tri_again_free(request);
}

tri_request *tri_provider_waiting(const tri_provider *provider, uint64_t http_ref) {
    uint32_t slot = (uint32_t)(http_ref & 0xffffU);
    tri_request *request = slot < provider->room ? provider->requests[slot] : NULL;
    return request != NULL && request->waits && request->http_ref == http_ref ? request : NULL;
}

/* --- what the server said --- */

/* A 403 is about the key only when its words say so. */
static bool key_is_bad(const tri_request *request) {
    const char *said = tr_decoder_outcome(request->decoder)->message;
    tr_str words = {said, strlen(said)};
    return request->status != 403 ||
           (tr_fault_has(words, "key") &&
            (tr_fault_has(words, "invalid") || tr_fault_has(words, "not valid") ||
             tr_fault_has(words, "incorrect") || tr_fault_has(words, "expired") ||
             tr_fault_has(words, "revoked") || tr_fault_has(words, "disabled")));
}

static uint64_t limited_until_us(tr_self *self, const tri_request *request, tr_err err) {
    uint32_t hint_ms = request->has_retry_after
                           ? request->retry_after_ms
                           : tr_decoder_outcome(request->decoder)->retry_after_ms;
    uint64_t ms = hint_ms > 0                ? hint_ms
                  : err == TR_ERR_QUOTA      ? TR_KEY_REST_MS_max
                  : request->has_retry_after ? 0
                                             : TR_KEY_LIMITED_MS_default;
    return tr_now_us(self) + ms * 1000;
}

static void log_refused(tr_self *self, const tri_provider *provider, const tri_request *request) {
    char place[128];
    tr_keychain_place(provider->spec.keychain, request->key, place, sizeof(place));
    if (place[0] != '\0') {
        tr_log(TR_LOG_WARN, self, "a key was refused", "provider=%s key=\"%s\" status=%u",
               provider->spec.name, place, (unsigned)request->status);
    }
}

/* Whether another key may help. */
static bool learn(tr_self *self, tri_provider *provider, tri_request *request, tr_err err) {
    tr_keychain *chain = provider->spec.keychain;
    bool refused = err == TR_ERR_AUTH && request->status != 407;
    if (request->key == 0 || request->err != TR_OK || request->status < 400) {
        return false;
    }
    if (refused && key_is_bad(request)) {
        log_refused(self, provider, request);
        tr_keychain_refused(chain, request->key, tr_now_us(self));
    } else if (err == TR_ERR_RATE_LIMIT || err == TR_ERR_QUOTA) {
        tr_keychain_limited(chain, request->key, limited_until_us(self, request, err));
        request->again->limited = request->again->limited || err == TR_ERR_RATE_LIMIT;
    } else if (!refused) {
        tr_keychain_fine(chain, request->key);
        return false;
    }
    return true;
}

/* No key is left for it. */
static void end_keys(tr_self *self, const tri_provider *provider, tri_request *request,
                     tr_err err) {
    uint32_t ms = tr_keychain_limited_ms(provider->spec.keychain, tr_now_us(self));
    if (request->again->tried_count > 1 && request->again->limited && ms > 0) {
        if (err != TR_ERR_RATE_LIMIT) {
            request->err = TR_ERR_RATE_LIMIT;
            request->status = 429;
            snprintf(request->message, sizeof(request->message),
                     "the rate limit of one key is used up, and the others do not serve");
        }
        request->has_retry_after = true;
        request->retry_after_ms = ms;
    }
}

static void begin_again(tri_request *request) {
    request->status = 0;
    request->has_retry_after = false;
    request->retry_after_ms = 0;
    request->retry_flags = 0;
    request->owed = 0;
    request->ended = false;
    request->request_id[0] = '\0';
}

bool tri_provider_goes_on(tr_self *self, tri_provider *provider, tri_request *request, tr_err err) {
    char why[512] = "";
    tri_again *again = request->again;
    TR_ASSERT(request->first_us == 0 && !request->transfer_open);
    if (!learn(self, provider, request, err) || again->pinned != 0) {
        return false;
    }
    tr_keychain_key next;
    tr_keychain_answer answer = provider->http == TR_ID_NONE || again->tried_count == TR_KEYS_max
                                    ? TR_KEYCHAIN_OUT
                                    : tr_keychain_take(provider->spec.keychain, tr_now_us(self),
                                                       again->tried, again->tried_count, &next);
    bool another = answer == TR_KEYCHAIN_TAKEN || (answer == TR_KEYCHAIN_AWAIT && !again->waited);
    if (!another || tri_provider_renew(provider, request) != TR_OK) {
        explicit_bzero(&next, sizeof(next));
        end_keys(self, provider, request, err);
        return false;
    }
    begin_again(request);
    tr_err sent = TR_OK;
    if (answer == TR_KEYCHAIN_TAKEN) {
        again->key = next;
        again->tried[again->tried_count++] = next.id;
        request->key = next.id;
        sent = start(self, provider, request, &next);
    } else {
        sent = wait_for_command(self, provider, request, why, sizeof(why));
    }
    explicit_bzero(&next, sizeof(next));
    if (sent != TR_OK) {
        request->err = sent;
        snprintf(request->message, sizeof(request->message), "%s",
                 why[0] != '\0' ? why : tr_err_text(sent));
    }
    return sent == TR_OK;
}

/* --- words --- */

void tri_provider_hide(const tri_provider *provider, const tri_request *request, char *text) {
    tr_keychain_hide(provider->spec.keychain, text);
    /* The keychain may have lost it meanwhile. */
    const tr_keychain_key *key = request->again != NULL ? &request->again->key : NULL;
    char *at = text;
    while (key != NULL && key->size >= 8 && (at = strstr(at, key->text)) != NULL) {
        memset(at, '*', key->size);
        at += key->size;
    }
}

/* How to give one to who sent none. */
static void tell_none(const tri_provider *provider, const tri_request *request, char *buf,
                      size_t size) {
    if (request->untrusted) {
        snprintf(buf, size,
                 "no key was sent: a base URL that comes with a request gets none; give the "
                 "configuration a provider with this base_url, and that one a key");
    } else {
        snprintf(buf, size,
                 "no key was sent: store one with troupe key set %s, or name its source in the "
                 "configuration, providers.%s.keys",
                 provider->spec.name, provider->spec.name);
    }
}

void tri_provider_tell_key(tr_self *self, const tri_provider *provider, const tri_request *request,
                           char text[TR_MESSAGE_max + 1]) {
    char more[400] = "";
    size_t used = strlen(text);
    if (request->err != TR_OK || request->status < 400 || request->status == 407) {
        return; /* it is not about a key of ours */
    }
    if (request->key == 0) {
        tell_none(provider, request, more, sizeof(more));
    } else if (request->again != NULL && request->again->tried_count > 1) {
        tr_keychain_is_out(provider->spec.keychain, tr_now_us(self), more, sizeof(more));
    } else {
        char place[128];
        tr_keychain_place(provider->spec.keychain, request->key, place, sizeof(place));
        snprintf(more, sizeof(more), place[0] != '\0' ? "asked with %s" : "%s", place);
    }
    if (more[0] != '\0' && used + strlen(more) + 4 <= TR_MESSAGE_max) {
        snprintf(text + used, TR_MESSAGE_max + 1 - used, " (%s)", more);
    }
}
