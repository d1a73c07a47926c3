/*
 * Answers that a provider actor gives by itself. A prompt's tokens are estimated where the vendor
 * has no way to count them. A request that shall only be shown goes the whole way of a real one,
 * the choice of its key included, and is written down in place of START: there is no second encoder
 * that could differ from the first, and no key in what is written; so it may be shown without one.
 *
 * Called by provider_start.c and provider_keys.c on the actor's shard.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/gate.h"
#include "protocol/tokens.h"
#include "providers/provider_internal.h"
#include "runtime/answer.h"

tr_err tri_provider_estimate(const tr_msg *submit, tri_outgoing *out, char *why, size_t why_size) {
    tr_chat *chat = NULL; /* the same refusals as anywhere */
    const tr_body *body = submit->body;
    tr_err err = tr_chat_parse(TR_OP_COUNT, body->bytes, body->size, &chat, why, why_size);
    if (err != TR_OK) {
        return err;
    }
    tr_chat_free(chat);
    char *text = malloc(64);
    if (text == NULL) {
        snprintf(why, why_size, "%s", tr_err_text(TR_ERR_NOMEM));
        return TR_ERR_NOMEM;
    }
    unsigned long long tokens = tr_tokens_of_body(body->bytes, body->size);
    out->answer_size = (size_t)snprintf(text, 64, "{\"tokens\":%llu,\"exact\":false}", tokens);
    out->answer = text;
    return TR_OK;
}

static tr_err say(tri_request *request, tr_str text) {
    return tri_pieces_add(&request->pieces, &(tr_piece){.kind = TR_DELTA_TEXT, .text = text});
}

tr_err tri_provider_show(tri_request *request, tr_str headers) {
    const tri_again *again = request->again;
    char line[TR_URL_max + 16];
    int size = snprintf(line, sizeof(line), "%s %s\n",
                        again->start.method == TR_HTTP_GET ? "GET" : "POST", again->url);
    tr_err err = say(request, (tr_str){line, (size_t)size});
    err = err == TR_OK ? say(request, headers) : err;
    err = err == TR_OK ? say(request, (tr_str){"\n", 1}) : err;
    if (err == TR_OK && again->body != NULL) {
        err = say(request, (tr_str){again->body->bytes, again->body->size});
    }
    request->ended = true;
    return err;
}

tr_err tri_provider_close_idle(tr_self *self, tri_provider *provider, const tr_msg *msg) {
    char buf[TR_URL_max + 1];
    const char *url = tri_provider_base_url(provider, buf);
    if (url == NULL || !tr_base_url_valid((tr_str){url, strlen(url)}) ||
        tri_provider_find_http(self, provider) != TR_OK) {
        tr_jsonw w; /* nothing can be open */
        tr_jsonw_init(&w);
        tr_jsonw_raw(&w, (tr_str){"{\"closed\":0}", 12});
        return tr_send_json(self, msg, TR_KIND_STATUSED, &w);
    }
    tr_http_close head = {.to = msg->from, .ref = msg->ref};
    tr_msg *close = tr_http_close_msg(&head, (tr_str){url, strlen(url)});
    return close == NULL ? TR_ERR_NOMEM : tr_send_control(self, provider->http, close);
}
