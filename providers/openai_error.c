/*
 * Errors of OpenAI-compatible servers. The object has many shapes, all recorded: {"error":
 * {message, type, code}}, {"error": "text"}, {"object": "error", message}, {"detail": …} (FastAPI),
 * {"code", "error": "text"} (xAI), the same inside an array (Gemini's compatible endpoint). It may
 * come as the body of a refusal, as the whole answer at status 200, or as an event in the middle of
 * a stream; a number inside the object then stands for the status.
 *
 * Called by openai_decode.c; pure.
 */
#include <stdio.h>
#include <string.h>

#include "providers/fault.h"
#include "providers/openai_internal.h"

static tr_str text_of(const tr_json_value *value);
static tr_str detail_of(const tr_json_value *detail);
static uint16_t status_in(const tr_json_value *value);

tr_err tri_openai_error(tr_decoding *decoding, const tr_json_value *root, bool certain) {
    if (tr_json_type_of(root) == TR_JSON_ARRAY && tr_json_count(root) > 0) {
        root = tr_json_first(root);
    }
    const tr_json_value *error = tr_json_get(root, "error");
    const tr_json_value *object = tr_json_get(root, "object");
    bool has_error = error != NULL && tr_json_type_of(error) != TR_JSON_NULL;
    tr_str kind = tr_json_string(object);
    bool is_error = has_error || (kind.size == 5 && memcmp(kind.ptr, "error", 5) == 0);
    if (!is_error && !certain) {
        return TR_OK;
    }
    tr_fault fault = {.status = decoding->status};
    const tr_json_value *from =
        has_error && tr_json_type_of(error) == TR_JSON_OBJECT ? error : root;
    fault.code = text_of(tr_json_get(from, "code"));
    fault.type = text_of(tr_json_get(from, "type"));
    if (fault.type.size == 0) {
        fault.type = text_of(tr_json_get(root, "error_type"));
    }
    fault.message = text_of(tr_json_get(from, "message"));
    if (has_error && tr_json_type_of(error) == TR_JSON_STRING) {
        fault.message = tr_json_string(error);
    }
    if (fault.message.size == 0) {
        fault.message = detail_of(tr_json_get(root, "detail"));
    }
    if (fault.message.size == 0) {
        fault.message = tr_json_raw(has_error ? error : root);
    }
    if (fault.status >= 200 && fault.status < 300) {
        uint16_t inner = status_in(tr_json_get(from, "status_code"));
        fault.status = inner != 0 ? inner : status_in(tr_json_get(from, "code"));
    }
    size_t size = tr_utf8_cut(fault.message.ptr, fault.message.size, TR_MESSAGE_max);
    memcpy(decoding->outcome->message, fault.message.ptr, size);
    decoding->outcome->message[size] = '\0';
    return tr_fault_classify(&fault);
}

/* A string's text, a number as it is written, else nothing. */
static tr_str text_of(const tr_json_value *value) {
    if (value == NULL) {
        return (tr_str){"", 0};
    }
    tr_json_type type = tr_json_type_of(value);
    if (type == TR_JSON_STRING) {
        return tr_json_string(value);
    }
    return type == TR_JSON_NUMBER ? tr_json_raw(value) : (tr_str){"", 0};
}

/* FastAPI's: a string, or an array of {loc, msg, type}. */
static tr_str detail_of(const tr_json_value *detail) {
    if (detail != NULL && tr_json_type_of(detail) == TR_JSON_ARRAY && tr_json_count(detail) > 0) {
        tr_str text = text_of(tr_json_get(tr_json_first(detail), "msg"));
        return text.size > 0 ? text : tr_json_raw(detail);
    }
    if (detail != NULL && tr_json_type_of(detail) == TR_JSON_OBJECT) {
        return tr_json_raw(detail);
    }
    return text_of(detail);
}

/* 400 or "400", or 0. */
static uint16_t status_in(const tr_json_value *value) {
    int64_t number = tr_json_int(value, 0);
    tr_str text = text_of(value);
    if (number == 0 && text.size == 3) {
        for (size_t i = 0; i < 3; i++) {
            if (text.ptr[i] < '0' || text.ptr[i] > '9') {
                return 0;
            }
            number = number * 10 + (text.ptr[i] - '0');
        }
    }
    return number >= 400 && number <= 599 ? (uint16_t)number : 0;
}
