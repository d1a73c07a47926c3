/*
 * JSON of any bytes: nothing crashes; what is accepted is UTF-8 throughout, each slice is JSON by
 * itself, and the text written from the values reads back with the same slices.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/assert.h"
#include "protocol/json.h"
#include "protocol/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Writes what it walks over; a number as it was written, since a double may not hold it. */
static void write_value(tr_jsonw *w, const tr_json_value *value) {
    tr_json_type type = tr_json_type_of(value);
    tr_str text = tr_json_string(value);
    bool object = type == TR_JSON_OBJECT;
    if (type == TR_JSON_STRING) {
        TR_ASSERT(tr_utf8_valid(text.ptr, text.size));
        tr_jsonw_str(w, text);
    } else if (object || type == TR_JSON_ARRAY) {
        size_t count = 0;
        tr_jsonw_open(w, object ? '{' : '[');
        for (const tr_json_value *at = tr_json_first(value); at != NULL; at = tr_json_next(at)) {
            if (object) {
                tr_str name = tr_json_name(at);
                TR_ASSERT(tr_json_get(value, name.ptr) == at);
                tr_jsonw_name_str(w, name);
            }
            write_value(w, at);
            count++;
        }
        tr_jsonw_close(w, object ? '}' : ']');
        TR_ASSERT(count == tr_json_count(value));
    } else {
        (void)tr_json_number(value, 0);
        (void)tr_json_int(value, 0);
        tr_jsonw_raw(w, tr_json_raw(value));
    }
}

static char *write_text(const tr_json *json, size_t *ret_size) {
    tr_jsonw w;
    char *text = NULL;
    tr_jsonw_init(&w);
    write_value(&w, tr_json_root(json));
    TR_ASSERT(tr_jsonw_take(&w, &text, ret_size) == TR_OK);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    tr_json *json = NULL;
    tr_json *slice = NULL;
    tr_json *back = NULL;
    tr_json_fault fault = {0};
    if (size < 2) {
        return 0;
    }
    const char *text = (const char *)bytes + 2;
    if (tr_json_parse(text, size - 2, &json, &fault) != TR_OK) {
        TR_ASSERT(fault.reason != NULL && fault.offset <= size - 2);
        return 0;
    }
    tr_str raw = tr_json_raw(tr_json_root(json));
    TR_ASSERT(tr_json_parse(raw.ptr, raw.size, &slice, NULL) == TR_OK);
    size_t once = 0;
    size_t twice = 0;
    char *first = write_text(json, &once);
    TR_ASSERT(tr_json_parse(first, once, &back, NULL) == TR_OK);
    char *second = write_text(back, &twice);
    TR_ASSERT(once == twice && memcmp(first, second, once) == 0);
    free(first);
    free(second);
    tr_json_free(json);
    tr_json_free(slice);
    tr_json_free(back);
    return 0;
}
