/*
 * What every dialect needs around its own decoding: framing, collecting a body that only makes
 * sense whole, and recognising bodies that are not what was asked for. The first byte that is not
 * blank decides: '{' or '[' is one JSON value (also where a stream was asked for: several servers
 * report errors that way at status 200), '<' is a web page (a wrong base URL), anything else is a
 * stream. Statuses other than 2xx are refusals; their body is collected whatever it is.
 *
 * Called by the provider actor on its shard, and by the conformance and fuzz tests. No I/O.
 */
#include "providers/decoder.h"

#include <stdio.h>
#include <string.h>

#include "protocol/assert.h"
#include "providers/inventory.h"
#include "providers/sse.h"
#include "runtime/memory.h"

typedef enum body_kind { BODY_UNKNOWN, BODY_STREAM, BODY_WHOLE, BODY_PAGE, BODY_REFUSAL } body_kind;

struct tr_decoder {
    const tr_dialect *dialect;
    tr_decoding decoding;
    tr_outcome outcome;
    tr_sse sse;
    body_kind kind;
    char *body; /* collected */
    size_t body_size;
    size_t body_room;
    tr_err result; /* TR_OK while it goes on */
    bool last;     /* the event at hand lacks its end */
    _Alignas(16) uint8_t state[];
};

static tr_err feed(tr_decoder *decoder, const char *bytes, size_t size);
static body_kind sniff(tr_decoder *decoder, const char **bytes, size_t *size);
static tr_err collect(tr_decoder *decoder, const char *bytes, size_t size, size_t max);
static tr_err feed_lines(tr_decoder *decoder, const char *bytes, size_t size);
static tr_err on_event(void *arg, const tr_sse_event *event);
static tr_err end(tr_decoder *decoder, bool cut);
static tr_err settle(tr_decoder *decoder, tr_err err);
static void say(tr_decoder *decoder, const char *text);

tr_err tr_decoder_new(const tr_dialect *dialect, tr_op op, tr_piece_fn *fn, void *arg,
                      tr_decoder **ret) {
    tr_decoder *decoder = tr_zalloc(sizeof(*decoder) + dialect->state_size);
    if (decoder == NULL) {
        return TR_ERR_NOMEM;
    }
    decoder->dialect = dialect;
    decoder->decoding = (tr_decoding){.op = op,
                                      .status = 200,
                                      .fn = fn,
                                      .arg = arg,
                                      .outcome = &decoder->outcome,
                                      .state = decoder->state};
    decoder->outcome.usage.cost = __builtin_nan("");
    tr_sse_init(&decoder->sse);
    *ret = decoder;
    return TR_OK;
}

void tr_decoder_free(tr_decoder *decoder) {
    if (decoder == NULL) {
        return;
    }
    decoder->dialect->fini(&decoder->decoding);
    tr_sse_fini(&decoder->sse);
    tr_free(decoder->body);
    tr_free(decoder);
}

void tr_decoder_head(tr_decoder *decoder, uint16_t status) {
    decoder->decoding.status = status;
    if (status < 200 || status > 299) {
        decoder->kind = BODY_REFUSAL;
    }
}

tr_err tr_decoder_feed(tr_decoder *decoder, const char *bytes, size_t size) {
    if (decoder->result != TR_OK) {
        return decoder->result;
    }
    return settle(decoder, feed(decoder, bytes, size));
}

tr_err tr_decoder_end(tr_decoder *decoder, bool cut) {
    if (decoder->result != TR_OK) {
        return decoder->result;
    }
    tr_err err = settle(decoder, end(decoder, cut));
    TR_ASSERT(err != TR_OK);
    return err;
}

const tr_outcome *tr_decoder_outcome(const tr_decoder *decoder) {
    return &decoder->outcome;
}

static tr_err feed(tr_decoder *decoder, const char *bytes, size_t size) {
    if (decoder->kind == BODY_UNKNOWN) {
        decoder->kind = sniff(decoder, &bytes, &size);
        if (decoder->kind == BODY_STREAM && tri_inventory_op(decoder->decoding.op)) {
            decoder->kind = BODY_WHOLE;
        }
    }
    switch (decoder->kind) {
    case BODY_UNKNOWN:
        return TR_OK;
    case BODY_STREAM:
        return decoder->dialect->framing == TR_FRAMING_NDJSON
                   ? feed_lines(decoder, bytes, size)
                   : tr_sse_feed(&decoder->sse, bytes, size, on_event, decoder);
    case BODY_WHOLE:
        if (decoder->dialect->framing == TR_FRAMING_NDJSON && decoder->decoding.op == TR_OP_CHAT) {
            return feed_lines(decoder, bytes, size);
        }
        return collect(decoder, bytes, size,
                       decoder->decoding.op == TR_OP_EMBED ? TR_ANSWER_EMBED_max
                                                           : TR_ANSWER_JSON_max);
    case BODY_PAGE:
    case BODY_REFUSAL: {
        size_t rest = TR_ANSWER_REFUSAL_max - decoder->body_size;
        return collect(decoder, bytes, size < rest ? size : rest, TR_ANSWER_REFUSAL_max);
    }
    }
    return TR_ERR_BUG;
}

/* Skips blanks and a BOM (which the SSE parser skips itself when it comes whole with the rest). */
static body_kind sniff(tr_decoder *decoder, const char **bytes, size_t *size) {
    while (*size > 0) {
        char c = **bytes;
        if (c == '{' || c == '[') {
            return BODY_WHOLE;
        }
        if (c == '<') {
            return BODY_PAGE;
        }
        bool bom = c == '\xEF' || c == '\xBB' || c == '\xBF';
        if (c != ' ' && c != '\t' && c != '\r' && c != '\n' && !bom) {
            return BODY_STREAM;
        }
        (*bytes)++;
        (*size)--;
    }
    (void)decoder;
    return BODY_UNKNOWN;
}

static tr_err collect(tr_decoder *decoder, const char *bytes, size_t size, size_t max) {
    if (size > max - decoder->body_size) {
        say(decoder, "the server's answer is larger than its limit");
        return TR_ERR_TOO_LARGE;
    }
    if (decoder->body_size + size > decoder->body_room) {
        size_t room = decoder->body_room == 0 ? 4096 : decoder->body_room;
        while (room < decoder->body_size + size) {
            room *= 2;
        }
        char *grown = tr_realloc(decoder->body, room);
        if (grown == NULL) {
            return TR_ERR_NOMEM;
        }
        decoder->body = grown;
        decoder->body_room = room;
    }
    if (size > 0) {
        memcpy(decoder->body + decoder->body_size, bytes, size);
        decoder->body_size += size;
    }
    return TR_OK;
}

/* One JSON value a line. */
static tr_err feed_lines(tr_decoder *decoder, const char *bytes, size_t size) {
    while (size > 0) {
        const char *lf = memchr(bytes, '\n', size);
        size_t length = lf == NULL ? size : (size_t)(lf - bytes);
        tr_str line = {bytes, length};
        tr_err err = TR_OK;
        if (lf == NULL || decoder->body_size > 0) {
            err = collect(decoder, bytes, length, TR_ANSWER_JSON_max);
            line = (tr_str){decoder->body, decoder->body_size};
        }
        if (err != TR_OK || lf == NULL) {
            return err;
        }
        decoder->body_size = 0;
        if (line.size > 0) {
            err = decoder->dialect->event(&decoder->decoding, (tr_str){"", 0}, line, false);
        }
        if (err != TR_OK) {
            return err;
        }
        bytes = lf + 1;
        size -= length + 1;
    }
    return TR_OK;
}

static tr_err on_event(void *arg, const tr_sse_event *event) {
    tr_decoder *decoder = arg;
    static const tr_str bare = {"bare", 4};
    return decoder->dialect->event(&decoder->decoding, event->bare ? bare : event->type,
                                   event->data, decoder->last);
}

static tr_err end(tr_decoder *decoder, bool cut) {
    tr_str body = {decoder->body == NULL ? "" : decoder->body, decoder->body_size};
    tr_err err = TR_OK;
    switch (decoder->kind) {
    case BODY_UNKNOWN:
        say(decoder, TR_DECODER_EMPTY);
        return cut ? TR_ERR_TRUNCATED : TR_ERR_SERVER;
    case BODY_STREAM:
        decoder->last = true;
        if (decoder->dialect->framing == TR_FRAMING_SSE) {
            err = tr_sse_end(&decoder->sse, on_event, decoder);
        } else if (body.size > 0) {
            err = decoder->dialect->event(&decoder->decoding, (tr_str){"", 0}, body, true);
        }
        return err != TR_OK ? err : decoder->dialect->eof(&decoder->decoding, cut);
    case BODY_WHOLE:
        if (decoder->dialect->framing == TR_FRAMING_NDJSON && decoder->decoding.op == TR_OP_CHAT) {
            decoder->kind = BODY_STREAM;
            return end(decoder, cut);
        }
        if (cut) {
            say(decoder, "the connection broke off before the answer was complete");
            return TR_ERR_TRUNCATED;
        }
        return tri_inventory_op(decoder->decoding.op)
                   ? tri_inventory_report(&decoder->decoding, body)
                   : decoder->dialect->whole(&decoder->decoding, body);
    case BODY_PAGE:
        say(decoder, "the server answered with a web page instead of JSON: is the base URL right?");
        return TR_ERR_NOT_FOUND;
    case BODY_REFUSAL:
        return decoder->dialect->refusal(&decoder->decoding, body);
    }
    return TR_ERR_BUG;
}

/* A failure always has a sentence. */
static tr_err settle(tr_decoder *decoder, tr_err err) {
    decoder->result = err;
    if (err == TR_DONE) {
        decoder->outcome.err = TR_OK;
    } else if (err != TR_OK) {
        decoder->outcome.err = err;
        say(decoder, tr_err_text(err));
    }
    return err;
}

static void say(tr_decoder *decoder, const char *text) {
    if (decoder->outcome.message[0] == '\0') {
        snprintf(decoder->outcome.message, sizeof(decoder->outcome.message), "%s", text);
    }
}
