/*
 * An exchange with a server: NAME.meta.json (dialect, kind, status, headers), NAME.body (the answer
 * as it came), NAME.expected.json (what a correct client reports) and, of a recording, maybe
 * NAME.request.json (what was sent). The recordings' folder and the project's own fixtures have the
 * same form.
 */
#ifndef TR_TESTS_CONFORMANCE_EXCHANGE_H
#define TR_TESTS_CONFORMANCE_EXCHANGE_H

#include "protocol/json.h"
#include "providers/decoder.h"

typedef struct text {
    char *bytes; /* with a NUL behind its end */
    size_t size;
} text;

void text_add(text *to, tr_str piece);

typedef struct exchange {
    char *name;
    char dialect[32];
    char provider[64]; /* "" = not recorded */
    tr_op op;
    uint16_t status;
    bool cut; /* the connection breaks off behind the body */
    text body, request;
    tr_json *meta, *expected;
} exchange;

/* All of `folder` in the order of their names; -1 when it cannot be read or one of them cannot:
 * then the reason was printed. */
int exchange_load_all(const char *folder, exchange **ret, size_t *ret_count);
void exchange_free_all(exchange *exchanges, size_t count);

/* Equal as JSON values: members in any order, numbers by value. */
bool exchange_same_json(const tr_json_value *a, const tr_json_value *b);
bool exchange_same_text(const tr_json_value *expected, const char *bytes, size_t size);

#endif
