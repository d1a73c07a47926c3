/*
 * What the tests of dialects share: a request encoded to text, and an answer decoded to the opaque
 * field of a name. Included once by each test.
 */
#ifndef TR_TESTS_UNIT_PROVIDERS_CODEC_TEST_H
#define TR_TESTS_UNIT_PROVIDERS_CODEC_TEST_H

#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "providers/decoder.h"

static char why[200];
static char body[16384];
static char path[1024];

/* The request's JSON as the dialect writes it, in `body` and `path`; `why` when it does not. */
static tr_err encode_as(const tr_dialect *dialect, tr_op op, const char *model, const char *request,
                        bool stream) {
    tr_chat *chat = NULL;
    tr_encoded encoded;
    body[0] = path[0] = why[0] = '\0';
    tr_err err = tr_chat_parse(op, request, strlen(request), &chat, why, sizeof(why));
    if (err != TR_OK) {
        printf("\n%s\n", why);
    }
    CU_ASSERT_EQUAL_FATAL(err, TR_OK);
    tr_encode in = {.op = op,
                    .chat = chat,
                    .model = {model, strlen(model)},
                    .stream = stream,
                    .provider = "acme"};
    err = dialect->encode(&in, &encoded, why, sizeof(why));
    tr_chat_free(chat);
    if (err == TR_OK) {
        tr_json *json = NULL;
        CU_ASSERT_EQUAL(strlen(encoded.body), encoded.body_size);
        CU_ASSERT_EQUAL(tr_json_parse(encoded.body, encoded.body_size, &json, NULL), TR_OK);
        tr_json_free(json);
        snprintf(body, sizeof(body), "%s", encoded.body);
        snprintf(path, sizeof(path), "%s", encoded.path);
        free(encoded.body);
    } else {
        CU_ASSERT(why[0] != '\0');
    }
    return err;
}

typedef struct heard {
    const char *wanted; /* the opaque field to keep */
    char opaque[16384];
    char text[1024];  /* of text pieces */
    char ids[256];    /* of calls */
    unsigned opaques; /* pieces of the wanted name */
    tr_outcome outcome;
    tr_err err;
} heard;

static tr_err hear(void *arg, const tr_piece *piece) {
    heard *heard = arg;
    size_t size = strlen(heard->wanted);
    if (piece->kind == TR_DELTA_TEXT) {
        strncat(heard->text, piece->text.ptr, piece->text.size);
    } else if (piece->kind == TR_DELTA_TOOL_START) {
        strncat(heard->ids, piece->id.ptr, piece->id.size);
        strncat(heard->ids, " ", 2);
    } else if (piece->kind == TR_DELTA_OPAQUE && piece->name.size == size &&
               memcmp(piece->name.ptr, heard->wanted, size) == 0) {
        heard->opaques++;
        heard->opaque[0] = '\0';
        strncat(heard->opaque, piece->text.ptr, piece->text.size);
    }
    return TR_OK;
}

static heard decode_as(const tr_dialect *dialect, tr_op op, uint16_t status, const char *answer,
                       const char *wanted) {
    heard heard = {.wanted = wanted};
    tr_decoder *decoder = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_decoder_new(dialect, op, hear, &heard, &decoder), TR_OK);
    tr_decoder_head(decoder, status);
    heard.err = tr_decoder_feed(decoder, answer, strlen(answer));
    if (heard.err == TR_OK) {
        heard.err = tr_decoder_end(decoder, false);
    }
    heard.outcome = *tr_decoder_outcome(decoder);
    tr_decoder_free(decoder);
    return heard;
}

#endif
