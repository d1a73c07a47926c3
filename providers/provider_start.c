/*
 * From a SUBMIT to an HTTP request: reads the common request, finds the base URL, and lets the
 * dialect write the body. A key goes only to the server it was given for: a request that brings its
 * own base URL gets it when that names the configured server, else none (provider_keys.c).
 *
 * Called by provider.c on its shard. Reads the environment, as keychain.c does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "providers/azure.h"
#include "providers/http.h"
#include "providers/inventory.h"
#include "providers/provider_internal.h"
#include "providers/servers.h"

static tr_err find_url(const tri_provider *provider, tr_str asked, char buf[TR_URL_max + 1],
                       tr_str *ret, char *why, size_t why_size);
static void write_headers(const tri_provider *provider, tr_str url, tri_outgoing *out);

static const char *env_text(const char *name) {
    const char *text = name == NULL ? NULL : getenv(name);
    return text == NULL || *text == '\0' ? NULL : text;
}

tr_err tr_provider_spec_init(const char *name, const char *kind, const char *base_url,
                             const char *key_env_name, tr_provider_spec *ret, char *ret_why,
                             size_t why_size) {
    tr_provider_spec spec = {0};
    kind = kind == NULL ? name : kind;
    base_url = base_url == NULL ? "" : base_url;
    key_env_name = key_env_name == NULL ? "" : key_env_name;
    if (*name == '\0' || strlen(name) > TR_PROVIDER_NAME_max || strpbrk(name, "/: \t\n") != NULL) {
        snprintf(ret_why, why_size,
                 "a provider's name has 1 to %d characters, no blank, colon or slash",
                 TR_PROVIDER_NAME_max);
        return TR_ERR_INVALID;
    }
    if (tr_catalog_find(kind) == NULL) {
        snprintf(ret_why, why_size,
                 "provider %s: no kind \"%.40s\" is known (for any compatible server: "
                 "openai-compatible)",
                 name, kind);
        return TR_ERR_NOT_FOUND;
    }
    if (*base_url != '\0' && (strlen(base_url) >= sizeof(spec.base_url) ||
                              !tr_base_url_valid((tr_str){base_url, strlen(base_url)}))) {
        snprintf(ret_why, why_size,
                 "provider %s: the base URL must be http(s)://HOST[:PORT][/PATH]", name);
        return TR_ERR_INVALID;
    }
    if (strlen(key_env_name) >= sizeof(spec.key_env) || strpbrk(key_env_name, "= \t\n") != NULL) {
        snprintf(ret_why, why_size, "provider %s: the key's variable is no variable's name", name);
        return TR_ERR_INVALID;
    }
    snprintf(spec.name, sizeof(spec.name), "%s", name);
    snprintf(spec.kind, sizeof(spec.kind), "%s", kind);
    snprintf(spec.base_url, sizeof(spec.base_url), "%s", base_url);
    snprintf(spec.key_env, sizeof(spec.key_env), "%s", key_env_name);
    *ret = spec;
    return TR_OK;
}

tr_err tr_provider_spec_server(const char *kind, const char *model, const char *server_model,
                               const _Atomic uint32_t *port, tr_provider_spec *ret, char *ret_why,
                               size_t why_size) {
    tr_provider_spec spec = {.port = port};
    if (tr_server_find(kind) == NULL) {
        snprintf(ret_why, why_size, "there is no kind \"%.40s\"", kind);
        return TR_ERR_NOT_FOUND;
    }
    if (*model == '\0' || strlen(model) > TR_PROVIDER_SERVER_max ||
        strlen(server_model) > TR_NAME_max) {
        snprintf(
            ret_why, why_size,
            "the name of a managed server has 1 to %d characters, that of its model at most %d",
            TR_PROVIDER_SERVER_max, TR_NAME_max);
        return TR_ERR_INVALID;
    }
    snprintf(spec.name, sizeof(spec.name), "local/%s", model);
    snprintf(spec.kind, sizeof(spec.kind), "%s", kind);
    snprintf(spec.model, sizeof(spec.model), "%s", server_model);
    *ret = spec;
    return TR_OK;
}

bool tr_provider_needs_key(const tr_provider_spec *spec) {
    return spec->key_env[0] != '\0' || tr_catalog_find(spec->kind)->key_need == TR_KEY_REQUIRED ||
           (spec->keychain != NULL && tr_keychain_configured(spec->keychain));
}

const char *tri_provider_base_url(const tri_provider *provider, char buf[TR_URL_max + 1]) {
    return tr_provider_base_url(&provider->spec, buf);
}

const char *tr_provider_base_url(const tr_provider_spec *spec, char buf[TR_URL_max + 1]) {
    const tr_catalog_row *row = tr_catalog_find(spec->kind);
    if (spec->base_url[0] != '\0') {
        return spec->base_url;
    }
    if (spec->port != NULL) {
        snprintf(buf, TR_URL_max + 1, "http://127.0.0.1:%u/v1",
                 (unsigned)atomic_load_explicit(spec->port, memory_order_relaxed));
        return buf;
    }
    const char *text = env_text(row->base_url_env);
    if (text != NULL && row->read_base_url != NULL) {
        /* What cannot be read is used as it is: whoever needs it says that it is no base URL. */
        return row->read_base_url(text, buf, TR_URL_max + 1) ? buf : text;
    }
    return text != NULL ? text : row->base_url;
}

/* Whether the provider takes the request at all. */
static tr_err check(const tri_provider *provider, const tr_msg *submit, char *why,
                    size_t why_size) {
    const tr_submit *head = (const void *)submit->data;
    bool inquires = tri_inventory_op((tr_op)head->op);
    if (inquires && provider->dialect->inquire == NULL) {
        snprintf(why, why_size, "provider %s neither lists nor loads models", provider->spec.name);
        return TR_ERR_UNSUPPORTED;
    }
    if (head->op != TR_OP_CHAT && head->op != TR_OP_EMBED && head->op != TR_OP_COUNT && !inquires) {
        snprintf(why, why_size, "provider %s answers chat, embed and count requests only",
                 provider->spec.name);
        return TR_ERR_UNSUPPORTED;
    }
    bool names_none = head->op == TR_OP_MODELS || head->op == TR_OP_LOADED;
    if (tr_submit_read(head).target.size == 0 && !names_none) {
        snprintf(why, why_size, "no model is named: write %s/MODEL", provider->spec.name);
        return TR_ERR_INVALID;
    }
    if (head->resume_count > 0 || (submit->body == NULL && !inquires)) {
        snprintf(why, why_size, "provider %s cannot go on with another's tokens",
                 provider->spec.name);
        return TR_ERR_UNSUPPORTED;
    }
    return TR_OK;
}

/* Who sends too much at once is told before it costs anything: a client then sends parts. No token
 * has less than three bytes on the whole, so that what passes here is seldom refused there. */
static tr_err check_embed(const tri_provider *provider, const tr_chat *chat, char *why,
                          size_t why_size) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < chat->input_count; i++) {
        bytes += chat->inputs[i].size;
    }
    uint32_t texts = provider->row->embed_texts_max;
    if (texts > 0 && chat->input_count > texts) {
        snprintf(why, why_size, "provider %s embeds at most %u texts in one request",
                 provider->spec.name, (unsigned)texts);
        return TR_ERR_TOO_LARGE;
    }
    uint32_t max = provider->row->embed_tokens_max;
    if (max > 0 && chat->input_count > 1 && bytes / 3 > max) {
        snprintf(why, why_size, "provider %s embeds at most %u tokens in one request",
                 provider->spec.name, (unsigned)max);
        return TR_ERR_TOO_LARGE;
    }
    return TR_OK;
}

static tr_err encode(const tri_provider *provider, const tr_msg *submit, tri_outgoing *out,
                     tr_encoded *ret, char *why, size_t why_size) {
    const tr_submit *head = (const void *)submit->data;
    tr_encode in = {.op = (tr_op)head->op,
                    .model = tr_submit_read(head).target,
                    .stream = head->op == TR_OP_CHAT && (head->flags & TR_SUBMIT_NO_STREAM) == 0,
                    .quirks = provider->row->quirks,
                    .provider = provider->spec.name};
    if (provider->spec.model[0] != '\0') {
        in.model = (tr_str){provider->spec.model, strlen(provider->spec.model)};
    }
    out->stream = in.stream;
    if (tri_inventory_op(in.op)) {
        return provider->dialect->inquire(&in, ret, why, why_size);
    }
    tr_chat *chat = NULL;
    tr_err err =
        tr_chat_parse(in.op, submit->body->bytes, submit->body->size, &chat, why, why_size);
    if (err != TR_OK) {
        return err;
    }
    in.chat = chat;
    err = in.op == TR_OP_EMBED ? check_embed(provider, chat, why, why_size) : TR_OK;
    err = err == TR_OK ? provider->dialect->encode(&in, ret, why, why_size) : err;
    tr_chat_free(chat);
    return err;
}

tr_err tri_provider_prepare(const tri_provider *provider, const tr_msg *submit, tri_outgoing *ret,
                            char *why, size_t why_size) {
    char buf[TR_URL_max + 1];
    tr_str url;
    tr_encoded encoded = {0};
    const tr_submit *head = (const void *)submit->data;
    tr_err err = check(provider, submit, why, why_size);
    bool counts = provider->dialect->counts || (provider->row->quirks & TR_QUIRK_TOKENIZE) != 0;
    if (err == TR_OK && head->op == TR_OP_COUNT && !counts) {
        return tri_provider_estimate(submit, ret, why, why_size);
    }
    if (err == TR_OK) {
        tr_str asked = tr_submit_read(head).base_url;
        err = find_url(provider, asked, buf, &url, why, why_size);
    }
    if (err == TR_OK) {
        err = encode(provider, submit, ret, &encoded, why, why_size);
    }
    if (err != TR_OK) {
        free(encoded.body);
        return err;
    }
    write_headers(provider, url, ret);
    ret->get = encoded.get;
    if (encoded.body != NULL) {
        ret->body = tr_body_new(encoded.body_size);
        if (ret->body != NULL) {
            memcpy(ret->body->bytes, encoded.body, encoded.body_size);
        }
        free(encoded.body);
        if (ret->body == NULL) {
            snprintf(why, why_size, "%s", tr_err_text(TR_ERR_NOMEM));
            return TR_ERR_NOMEM;
        }
    }
    url.size = encoded.from_root ? tr_base_url_origin(url) : url.size;
    while (url.size > 0 && url.ptr[url.size - 1] == '/') {
        url.size--;
    }
    /* Some variables hold a base URL with the path's "/v1" and some without. */
    bool twice = url.size > 3 && memcmp(url.ptr + url.size - 3, "/v1", 3) == 0 &&
                 strncmp(encoded.path, "/v1/", 4) == 0;
    bool fits = true;
    if ((provider->row->quirks & TR_QUIRK_AZURE_URL) != 0) {
        fits = tri_azure_url(url, tr_submit_read((const void *)submit->data).target, encoded.path,
                             env_text("OPENAI_API_VERSION"), ret->url, sizeof(ret->url));
    } else {
        int size = snprintf(ret->url, sizeof(ret->url), "%.*s%s", (int)url.size, url.ptr,
                            encoded.path + (twice ? 3 : 0));
        fits = (size_t)size < sizeof(ret->url);
    }
    if (!fits) {
        snprintf(why, why_size, "the base URL and the model's name are too long together");
        tr_body_unref(ret->body);
        ret->body = NULL;
        return TR_ERR_INVALID;
    }
    return TR_OK;
}

static tr_err find_url(const tri_provider *provider, tr_str asked, char buf[TR_URL_max + 1],
                       tr_str *ret, char *why, size_t why_size) {
    const char *text = tri_provider_base_url(provider, buf);
    *ret = (tr_str){text, text == NULL ? 0 : strlen(text)};
    if (asked.size > 0 && !provider->row->any_base_url) {
        const char *other = strcmp(provider->row->dialect, "openai") == 0 ? "openai-compatible"
                            : strcmp(provider->row->dialect, "responses") == 0
                                ? "responses-compatible"
                                : NULL;
        snprintf(why, why_size,
                 "provider %s takes no base URL from a request: %s%s%sgive the configuration a "
                 "provider with kind: %s and this base_url",
                 provider->spec.name, other == NULL ? "" : "use provider ",
                 other == NULL ? "" : other, other == NULL ? "" : ", or ", provider->row->name);
        return TR_ERR_INVALID;
    }
    if (asked.size > 0) {
        *ret = asked;
    }
    if (ret->size == 0 && !provider->row->any_base_url) {
        snprintf(why, why_size,
                 "provider %s needs its base URL: set %s in the daemon's environment, or base_url "
                 "in the configuration",
                 provider->spec.name, provider->row->base_url_env);
        return TR_ERR_INVALID;
    }
    if (ret->size == 0) {
        snprintf(why, why_size,
                 "provider %s needs a base URL: give --base-url http://HOST:PORT/v1, or set it in "
                 "the configuration",
                 provider->spec.name);
        return TR_ERR_INVALID;
    }
    /* Room for the path stays below TR_URL_max. */
    if (!tr_base_url_valid(*ret) || ret->size > TR_URL_max - 200) {
        snprintf(why, why_size, "the base URL must be http(s)://HOST[:PORT][/PATH]");
        return TR_ERR_INVALID;
    }
    return TR_OK;
}

/* Nothing that could end a header's line. */
static bool header_safe(tr_str text) {
    for (size_t i = 0; i < text.size; i++) {
        if ((unsigned char)text.ptr[i] <= ' ' || (unsigned char)text.ptr[i] >= 0x7f) {
            return false;
        }
    }
    return true;
}

static void write_headers(const tri_provider *provider, tr_str url, tri_outgoing *out) {
    const tr_catalog_row *row = provider->row;
    char buf[TR_URL_max + 1];
    const char *own = tri_provider_base_url(provider, buf);
    out->trusted = own != NULL && tr_base_url_same_origin(url, (tr_str){own, strlen(own)});
    size_t used = (size_t)snprintf(out->headers, sizeof(out->headers),
                                   "Content-Type: application/json\n"
                                   "Accept: text/event-stream, application/json\n");
    for (size_t i = 0; i < sizeof(row->headers) / sizeof(row->headers[0]); i++) {
        const tr_catalog_header *header = &row->headers[i];
        const char *value = header->value;
        if (header->env != NULL) {
            value = out->trusted ? env_text(header->env) : NULL;
        }
        if (value != NULL && strlen(value) <= 255 && header_safe((tr_str){value, strlen(value)})) {
            used += (size_t)snprintf(out->headers + used, sizeof(out->headers) - used, "%s: %s\n",
                                     header->name, value);
        }
    }
}
