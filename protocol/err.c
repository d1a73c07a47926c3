/* The table of err.h as arrays. Numbers from the wire may be unknown here: they read as TR_ERR_BUG,
 * never out of bounds. */
#include "protocol/err.h"

#include <stddef.h>

typedef struct err_row {
    const char *name;
    const char *text;
    tr_err_class class;
    bool may_retry;
} err_row;

static const err_row errs[TR_ERR_N] = {
#define TR_ERR_ROW(code, number, class_, again, sentence)                                          \
    [code] = {.name = #code, .text = sentence, .class = TR_CLASS_##class_, .may_retry = again},
    TR_ERR_MAP(TR_ERR_ROW)
#undef TR_ERR_ROW
};

static const char *const class_names[TR_CLASS_N] = {
    [TR_CLASS_OK] = "ok",
    [TR_CLASS_INVALID_REQUEST] = "invalid_request",
    [TR_CLASS_AUTH] = "auth",
    [TR_CLASS_QUOTA] = "quota",
    [TR_CLASS_NOT_FOUND] = "not_found",
    [TR_CLASS_RATE_LIMIT] = "rate_limit",
    [TR_CLASS_OVERLOADED] = "overloaded",
    [TR_CLASS_TIMEOUT] = "timeout",
    [TR_CLASS_SERVER] = "server",
    [TR_CLASS_TRUNCATED] = "truncated",
    [TR_CLASS_CANCELLED] = "cancelled",
    [TR_CLASS_NO_DAEMON] = "no_daemon",
};

static const err_row *row_of(tr_err err) {
    unsigned number = (unsigned)err;
    return number < TR_ERR_N && errs[number].name != NULL ? &errs[number] : &errs[TR_ERR_BUG];
}

const char *tr_err_name(tr_err err) {
    return row_of(err)->name;
}

const char *tr_err_text(tr_err err) {
    return row_of(err)->text;
}

tr_err_class tr_err_class_of(tr_err err) {
    return row_of(err)->class;
}

const char *tr_err_class_name(tr_err_class class) {
    unsigned number = (unsigned)class;
    return number < TR_CLASS_N ? class_names[number] : "server";
}

bool tr_err_may_retry(tr_err err) {
    return row_of(err)->may_retry;
}
