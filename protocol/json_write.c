/*
 * Writing JSON: a growing buffer and a sticky first failure, so that a caller writes straight on
 * and looks once, at tr_jsonw_take. Numbers do not depend on the locale.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/json.h"
#include "protocol/limits.h"

void tr_jsonw_init(tr_jsonw *w) {
    *w = (tr_jsonw){0};
}

void tr_jsonw_fini(tr_jsonw *w) {
    free(w->text);
    tr_jsonw_init(w);
}

static void add(tr_jsonw *w, const char *bytes, size_t size) {
    if (w->err != TR_OK) {
        return;
    }
    if (w->room - w->size <= size) {
        size_t room = w->room < 128 ? 256 : w->room * 2;
        while (room - w->size <= size) {
            room *= 2;
        }
        char *text = realloc(w->text, room);
        if (text == NULL) {
            w->err = TR_ERR_NOMEM;
            return;
        }
        w->text = text;
        w->room = room;
    }
    memcpy(w->text + w->size, bytes, size);
    w->size += size;
}

static void misused(tr_jsonw *w) {
    w->err = w->err == TR_OK ? TR_ERR_BUG : w->err;
}

static bool in_object(const tr_jsonw *w) {
    return w->depth > 0 && (w->objects >> (w->depth - 1) & 1) != 0;
}

/* Before a value: its place must be free, and gets the comma that its predecessor needs. */
static void begin(tr_jsonw *w) {
    if (in_object(w) != w->named || (w->depth == 0 && w->need_comma)) {
        misused(w);
    }
    if (w->need_comma) {
        add(w, ",", 1);
    }
    w->need_comma = true;
    w->named = false;
}

void tr_jsonw_open(tr_jsonw *w, char bracket) {
    begin(w);
    if (w->depth == TR_JSON_DEPTH_max) {
        misused(w);
        return;
    }
    add(w, &bracket, 1);
    uint64_t bit = (uint64_t)1 << w->depth++;
    w->objects = bracket == '{' ? w->objects | bit : w->objects & ~bit;
    w->need_comma = false;
}

void tr_jsonw_close(tr_jsonw *w, char bracket) {
    if (w->depth == 0 || w->named || in_object(w) != (bracket == '}')) {
        misused(w);
        return;
    }
    w->depth--;
    add(w, &bracket, 1);
    w->need_comma = true;
}

static void add_string(tr_jsonw *w, tr_str text) {
    if (text.size > 0 && !tr_utf8_valid(text.ptr, text.size)) {
        w->err = w->err == TR_OK ? TR_ERR_INVALID : w->err;
        return;
    }
    static const char hex[] = "0123456789abcdef";
    add(w, "\"", 1);
    size_t done = 0;
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            continue;
        }
        add(w, text.ptr + done, i - done);
        done = i + 1;
        const char *at = strchr("\"\"\\\\\bb\ff\nn\rr\tt", c);
        if (at != NULL) { /* c is no letter, so it was found as the first of its pair */
            char escape[2] = {'\\', at[1]};
            add(w, escape, 2);
        } else {
            char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            add(w, escape, 6);
        }
    }
    add(w, text.ptr + done, text.size - done);
    add(w, "\"", 1);
}

void tr_jsonw_name_str(tr_jsonw *w, tr_str name) {
    if (!in_object(w) || w->named) {
        misused(w);
        return;
    }
    if (w->need_comma) {
        add(w, ",", 1);
    }
    add_string(w, name);
    add(w, ":", 1);
    w->need_comma = false;
    w->named = true;
}

void tr_jsonw_name(tr_jsonw *w, const char *name) {
    tr_jsonw_name_str(w, (tr_str){name, strlen(name)});
}

void tr_jsonw_str(tr_jsonw *w, tr_str text) {
    begin(w);
    add_string(w, text);
}

void tr_jsonw_text(tr_jsonw *w, const char *text) {
    if (text == NULL) {
        tr_jsonw_null(w);
    } else {
        tr_jsonw_str(w, (tr_str){text, strlen(text)});
    }
}

static void add_text(tr_jsonw *w, const char *text) {
    begin(w);
    add(w, text, strlen(text));
}

void tr_jsonw_int(tr_jsonw *w, int64_t number) {
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, number);
    add_text(w, text);
}

void tr_jsonw_uint(tr_jsonw *w, uint64_t number) {
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, number);
    add_text(w, text);
}

void tr_jsonw_double(tr_jsonw *w, double number) {
    if (!isfinite(number)) {
        tr_jsonw_null(w);
        return;
    }
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number);
        double back = strtod(text, NULL); /* in the same locale as it was written */
        if (!(back < number) && !(back > number)) {
            break;
        }
    }
    /* A locale's decimal point may be another one, and longer than a byte. */
    size_t whole = strspn(text, "-0123456789");
    size_t rest = whole;
    while (text[rest] != '\0' && strchr("0123456789e", text[rest]) == NULL) {
        rest++;
    }
    begin(w);
    add(w, text, whole);
    if (rest > whole) {
        add(w, ".", 1);
    }
    add(w, text + rest, strlen(text + rest));
}

void tr_jsonw_bool(tr_jsonw *w, bool value) {
    add_text(w, value ? "true" : "false");
}

void tr_jsonw_null(tr_jsonw *w) {
    add_text(w, "null");
}

void tr_jsonw_raw(tr_jsonw *w, tr_str json) {
    begin(w);
    add(w, json.ptr, json.size);
}

tr_err tr_jsonw_take(tr_jsonw *w, char **ret_text, size_t *ret_size) {
    add(w, "", 1);
    tr_err err = w->err != TR_OK ? w->err : w->depth != 0 ? TR_ERR_BUG : TR_OK;
    if (err != TR_OK) {
        tr_jsonw_fini(w);
        return err;
    }
    *ret_text = w->text;
    if (ret_size != NULL) {
        *ret_size = w->size - 1;
    }
    tr_jsonw_init(w);
    return TR_OK;
}
