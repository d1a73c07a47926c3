/*
 * Requests of any form through the encoders of all dialects: what the common parser takes, each
 * dialect writes as JSON or refuses with a sentence. The first byte says which quirks, the second
 * whether to stream.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/assert.h"
#include "providers/catalog.h"
#include "providers/dialect.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void encode(const tr_dialect *dialect, const tr_chat *chat, tr_op op, uint32_t quirks,
                   bool stream) {
    char why[512] = "";
    tr_encoded encoded = {0};
    tr_encode in = {.op = op,
                    .chat = chat,
                    .model = {"gemini-3:%", 10},
                    .stream = stream,
                    .quirks = quirks,
                    .provider = "acme"};
    tr_err err = dialect->encode(&in, &encoded, why, sizeof(why));
    if (err != TR_OK) {
        TR_ASSERT(why[0] != '\0' && tr_utf8_valid(why, strlen(why)));
        return;
    }
    tr_json *json = NULL;
    TR_ASSERT(encoded.path[0] == '/');
    /* The writer nests at most a few levels deeper than the reader lets a request be. */
    err = tr_json_parse(encoded.body, encoded.body_size, &json, NULL);
    TR_ASSERT(err == TR_OK || err == TR_ERR_INVALID);
    tr_json_free(json);
    free(encoded.body);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const uint32_t quirks[] = {0, UINT32_MAX, 0x0fff, TR_QUIRK_TOP_K | TR_QUIRK_MIN_P};
    char why[160] = "";
    if (size < 2) {
        return 0;
    }
    for (tr_op op = TR_OP_CHAT; op <= TR_OP_COUNT; op++) {
        tr_chat *chat = NULL;
        if (tr_chat_parse(op, (const char *)bytes + 2, size - 2, &chat, why, sizeof(why)) !=
            TR_OK) {
            continue;
        }
        const char *last = "";
        const tr_catalog_row *row = NULL;
        for (size_t i = 0; (row = tr_catalog_at(i)) != NULL; i++) {
            if (strcmp(row->dialect, last) != 0) {
                encode(tr_dialect_find(row->dialect), chat, op, quirks[bytes[0] % 4],
                       (bytes[1] & 1U) != 0);
            }
            last = row->dialect;
        }
        tr_chat_free(chat);
    }
    return 0;
}
