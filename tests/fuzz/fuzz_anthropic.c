/*
 * Answers of any bytes through the decoder of the anthropic dialect (decoder.h); and what a
 * complete answer says must bring back is brought back: the request that holds it can be written
 * and is JSON.
 */
#include <stdlib.h>

#include "providers/anthropic.h"
#include "tests/fuzz/decoder.h"

/* Text and blocks of one answer. */
typedef struct answer {
    char *blocks;
    size_t blocks_size, text_size;
    char said[65536];
} answer;

static tr_err keep(void *arg, const tr_piece *piece) {
    answer *answer = arg;
    static const char name[] = TR_ANTHROPIC_BLOCKS;
    if (piece->kind == TR_DELTA_TEXT &&
        answer->text_size + piece->text.size < sizeof(answer->said)) {
        memcpy(answer->said + answer->text_size, piece->text.ptr, piece->text.size);
        answer->text_size += piece->text.size;
    }
    if (piece->kind == TR_DELTA_OPAQUE && piece->name.size == sizeof(name) - 1 &&
        memcmp(piece->name.ptr, name, sizeof(name) - 1) == 0) {
        TR_ASSERT(answer->blocks == NULL);
        answer->blocks = malloc(piece->text.size + 1);
        TR_ASSERT(answer->blocks != NULL);
        memcpy(answer->blocks, piece->text.ptr, piece->text.size);
        answer->blocks_size = piece->text.size;
    }
    return TR_OK;
}

static void send_back(const answer *answer) {
    char why[200];
    char *request = NULL;
    size_t size = 0;
    tr_chat *chat = NULL;
    tr_encoded encoded = {0};
    tr_json *json = NULL;
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "messages");
    tr_jsonw_open(&w, '[');
    tr_jsonw_raw(&w, (tr_str){"{\"role\":\"user\",\"content\":\"Hi\"}", 30});
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "role");
    tr_jsonw_text(&w, "assistant");
    tr_jsonw_name(&w, "content");
    tr_jsonw_str(&w, (tr_str){answer->said, answer->text_size});
    tr_jsonw_name(&w, TR_ANTHROPIC_BLOCKS);
    tr_jsonw_raw(&w, (tr_str){answer->blocks, answer->blocks_size});
    tr_jsonw_close(&w, '}');
    tr_jsonw_close(&w, ']');
    tr_jsonw_close(&w, '}');
    TR_ASSERT(tr_jsonw_take(&w, &request, &size) == TR_OK);
    /* A block as deep as JSON may be is too deep two levels further down. */
    if (tr_chat_parse(TR_OP_CHAT, request, size, &chat, why, sizeof(why)) == TR_OK) {
        tr_encode in = {
            .op = TR_OP_CHAT, .chat = chat, .model = {"m", 1}, .stream = true, .provider = "p"};
        if (tr_dialect_anthropic.encode(&in, &encoded, why, sizeof(why)) == TR_OK) {
            tr_err err = tr_json_parse(encoded.body, encoded.body_size, &json, NULL);
            TR_ASSERT(err == TR_OK || err == TR_ERR_INVALID);
            free(encoded.body);
            tr_json_free(json);
        }
        tr_chat_free(chat);
    }
    free(request);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static answer answer;
    tr_decoder *decoder = NULL;
    fuzz_decoder(&tr_dialect_anthropic, bytes, size);
    if (size < 3) {
        return 0;
    }
    answer.blocks = NULL;
    answer.text_size = answer.blocks_size = 0;
    TR_ASSERT(tr_decoder_new(&tr_dialect_anthropic, TR_OP_CHAT, keep, &answer, &decoder) == TR_OK);
    tr_decoder_head(decoder, 200);
    tr_err err = tr_decoder_feed(decoder, (const char *)bytes + 2, size - 2);
    err = err == TR_OK ? tr_decoder_end(decoder, false) : err;
    if (err == TR_DONE && answer.blocks != NULL) {
        send_back(&answer);
    }
    free(answer.blocks);
    tr_decoder_free(decoder);
    return 0;
}
