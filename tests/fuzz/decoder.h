/*
 * What the fuzz targets of the dialects' decoders share: answers of any bytes. Nothing crashes,
 * every answer ends once, what comes out is UTF-8 and the same however the bytes are cut. The first
 * byte says how, the second which status and operation.
 */
#ifndef TR_TESTS_FUZZ_DECODER_H
#define TR_TESTS_FUZZ_DECODER_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "protocol/assert.h"
#include "providers/decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

typedef struct heard {
    uint64_t hash;
    tr_err err;
} heard;

static void mix(heard *heard, const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        heard->hash = (heard->hash ^ (unsigned char)bytes[i]) * 1099511628211U;
    }
}

static tr_err hear(void *arg, const tr_piece *piece) {
    heard *heard = arg;
    char kind = (char)piece->kind;
    char choice = (char)piece->choice;
    if (piece->kind != TR_DELTA_OPAQUE && piece->text.size > 0) {
        TR_ASSERT(tr_utf8_valid(piece->text.ptr, piece->text.size));
    }
    mix(heard, &kind, 1);
    mix(heard, &choice, 1);
    mix(heard, piece->id.ptr, piece->id.size);
    mix(heard, piece->name.ptr, piece->name.size);
    mix(heard, piece->text.ptr, piece->text.size);
    return TR_OK;
}

static heard decode(const tr_dialect *dialect, const char *bytes, size_t size, size_t step,
                    uint8_t how) {
    static const uint16_t statuses[] = {200, 200, 200, 400, 429, 500};
    tr_decoder *decoder = NULL;
    heard heard = {.hash = 14695981039346656037U};
    static const tr_op ops[] = {TR_OP_EMBED, TR_OP_COUNT, TR_OP_MODELS, TR_OP_LOADED};
    tr_op op = (how & 0x80U) == 0 ? TR_OP_CHAT : ops[(how >> 4U) & 3U];
    TR_ASSERT(tr_decoder_new(dialect, op, hear, &heard, &decoder) == TR_OK);
    tr_decoder_head(decoder, statuses[how % 6]);
    tr_err err = TR_OK;
    for (size_t at = 0; at < size && err == TR_OK; at += step) {
        size_t left = size - at;
        err = tr_decoder_feed(decoder, bytes + at, left < step ? left : step);
    }
    heard.err = tr_decoder_end(decoder, (how & 0x40U) != 0);
    const tr_outcome *outcome = tr_decoder_outcome(decoder);
    TR_ASSERT(heard.err == TR_DONE || outcome->err == heard.err);
    TR_ASSERT(heard.err == TR_DONE || outcome->message[0] != '\0');
    TR_ASSERT(tr_utf8_valid(outcome->message, strlen(outcome->message)));
    TR_ASSERT(tr_utf8_valid(outcome->model, strlen(outcome->model)));
    TR_ASSERT(tr_utf8_valid(outcome->id, strlen(outcome->id)));
    mix(&heard, outcome->model, strlen(outcome->model));
    mix(&heard, outcome->message, strlen(outcome->message));
    tr_decoder_free(decoder);
    return heard;
}

static void fuzz_decoder(const tr_dialect *dialect, const uint8_t *bytes, size_t size) {
    if (size < 3) {
        return;
    }
    const char *text = (const char *)bytes + 2;
    heard whole = decode(dialect, text, size - 2, size, bytes[1]);
    heard cut = decode(dialect, text, size - 2, 1U + bytes[0] % 32U, bytes[1]);
    TR_ASSERT(whole.hash == cut.hash && whole.err == cut.err);
}

#endif
