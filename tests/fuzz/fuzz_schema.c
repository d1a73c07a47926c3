/*
 * A schema and a text, a line break between them, of any bytes: nothing crashes or takes long, a
 * refusal says why in UTF-8, what is read strictly is read leniently, and a grammar is a text of
 * bounded size.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/assert.h"
#include "protocol/schema_grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void hold_why(const char *why) {
    TR_ASSERT(why[0] != '\0' && tr_utf8_valid(why, strlen(why)));
}

static void hold_grammar(const tr_schema *schema) {
    char why[TR_SCHEMA_WHY_size] = "";
    char *text = NULL;
    size_t size = 0;
    if (tr_schema_grammar(schema, "root", &text, &size, why, sizeof why) == TR_OK) {
        TR_ASSERT(size == strlen(text) && tr_utf8_valid(text, size));
        free(text);
    } else {
        hold_why(why);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < 2) {
        return 0; /* the driver puts two bytes before each seed */
    }
    size -= 2;
    const char *text = (const char *)bytes + 2;
    const char *line = size > 0 ? memchr(text, '\n', size) : NULL;
    size_t head = line != NULL ? (size_t)(line - text) : size;
    bool strict = false;
    for (tr_schema_mode mode = TR_SCHEMA_STRICT; mode <= TR_SCHEMA_LENIENT; mode++) {
        char why[TR_SCHEMA_WHY_size] = "";
        tr_schema *schema = NULL;
        tr_err err = tr_schema_parse(text, head, mode, &schema, why, sizeof why);
        if (err != TR_OK) {
            TR_ASSERT(!strict);
            hold_why(why);
            continue;
        }
        strict = mode == TR_SCHEMA_STRICT;
        if (line != NULL &&
            tr_schema_validate(schema, line + 1, size - head - 1, why, sizeof why) != TR_OK) {
            hold_why(why);
        }
        hold_grammar(schema);
        tr_schema_free(schema);
    }
    return 0;
}
