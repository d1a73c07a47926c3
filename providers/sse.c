/*
 * The parser of server-sent events. Lines are found by memchr in the bytes as they came; only what
 * a piece leaves unfinished is copied, so a stream of small events costs one copy a data line. A
 * line's end may be split from it in any way: a CR ends its line at once and a following LF is
 * skipped, also when it opens the next piece. Lines and events are capped, since the other side
 * decides how much comes.
 *
 * Used by decoder.c, on whatever thread the decoder lives; no I/O, no clock.
 */
#include "providers/sse.h"

#include <string.h>

#include "runtime/memory.h"

static tr_err append(tr_sse_buffer *buffer, const char *bytes, size_t size);
static tr_err take_line(tr_sse *sse, const char *line, size_t size, tr_sse_fn *fn, void *arg);
static tr_err take_field(tr_sse *sse, tr_str name, tr_str value);
static tr_err dispatch(tr_sse *sse, tr_sse_fn *fn, void *arg);
static const char *line_end(const char *bytes, size_t size);

void tr_sse_init(tr_sse *sse) {
    memset(sse, 0, sizeof(*sse));
}

void tr_sse_fini(tr_sse *sse) {
    tr_free(sse->line.bytes);
    tr_free(sse->data.bytes);
    memset(sse, 0, sizeof(*sse));
}

tr_err tr_sse_feed(tr_sse *sse, const char *bytes, size_t size, tr_sse_fn *fn, void *arg) {
    while (size > 0) {
        if (sse->skip_lf) {
            sse->skip_lf = false;
            if (*bytes == '\n') {
                bytes++;
                size--;
                continue;
            }
        }
        const char *end = line_end(bytes, size);
        if (end == NULL) {
            return append(&sse->line, bytes, size);
        }
        size_t length = (size_t)(end - bytes);
        tr_err err;
        if (sse->line.size == 0) {
            err = take_line(sse, bytes, length, fn, arg);
        } else {
            err = append(&sse->line, bytes, length);
            if (err == TR_OK) {
                err = take_line(sse, sse->line.bytes, sse->line.size, fn, arg);
                sse->line.size = 0;
            }
        }
        if (err != TR_OK) {
            return err;
        }
        sse->skip_lf = *end == '\r';
        bytes = end + 1;
        size -= length + 1;
    }
    return TR_OK;
}

tr_err tr_sse_end(tr_sse *sse, tr_sse_fn *fn, void *arg) {
    if (sse->line.size > 0) {
        tr_err err = take_line(sse, sse->line.bytes, sse->line.size, fn, arg);
        sse->line.size = 0;
        if (err != TR_OK) {
            return err;
        }
    }
    return dispatch(sse, fn, arg);
}

/* The first CR or LF, or NULL. */
static const char *line_end(const char *bytes, size_t size) {
    const char *lf = memchr(bytes, '\n', size);
    const char *cr = memchr(bytes, '\r', lf == NULL ? size : (size_t)(lf - bytes));
    return cr != NULL ? cr : lf;
}

static tr_err append(tr_sse_buffer *buffer, const char *bytes, size_t size) {
    if (size > TR_SSE_EVENT_max - buffer->size) {
        return TR_ERR_TOO_LARGE;
    }
    if (buffer->size + size > buffer->room) {
        size_t room = buffer->room == 0 ? 1024 : buffer->room;
        while (room < buffer->size + size) {
            room *= 2;
        }
        char *grown = tr_realloc(buffer->bytes, room);
        if (grown == NULL) {
            return TR_ERR_NOMEM;
        }
        buffer->bytes = grown;
        buffer->room = room;
    }
    if (size > 0) {
        memcpy(buffer->bytes + buffer->size, bytes, size);
        buffer->size += size;
    }
    return TR_OK;
}

static tr_err take_line(tr_sse *sse, const char *line, size_t size, tr_sse_fn *fn, void *arg) {
    if (!sse->begun) {
        sse->begun = true;
        if (size >= 3 && memcmp(line, "\xEF\xBB\xBF", 3) == 0) {
            line += 3;
            size -= 3;
        }
    }
    if (size == 0) {
        return dispatch(sse, fn, arg);
    }
    if (*line == ':') {
        return TR_OK; /* a comment: servers keep the connection alive with it */
    }
    if (*line == '{') {
        tr_sse_event event = {.data = {line, size}, .bare = true};
        return fn(arg, &event);
    }
    const char *colon = memchr(line, ':', size);
    tr_str name = {line, colon == NULL ? size : (size_t)(colon - line)};
    tr_str value = {line + size, 0};
    if (colon != NULL) {
        value = (tr_str){colon + 1, size - name.size - 1};
        if (value.size > 0 && *value.ptr == ' ') {
            value.ptr++;
            value.size--;
        }
    }
    return take_field(sse, name, value);
}

static bool is(tr_str text, const char *word) {
    return text.size == strlen(word) && memcmp(text.ptr, word, text.size) == 0;
}

static tr_err take_field(tr_sse *sse, tr_str name, tr_str value) {
    bool error = is(name, "error");
    if (is(name, "event") || error) {
        tr_str type = error ? name : value;
        /* No server's event has so long a name: what does not fit cannot be one that we know. */
        sse->type_size = type.size < sizeof(sse->type) ? type.size : sizeof(sse->type);
        memcpy(sse->type, type.ptr, sse->type_size);
    }
    if (is(name, "data") || error) {
        if (sse->has_data) {
            tr_err err = append(&sse->data, "\n", 1);
            if (err != TR_OK) {
                return err;
            }
        }
        sse->has_data = true;
        return append(&sse->data, value.ptr, value.size);
    }
    return TR_OK; /* id, retry and unknown fields mean nothing here */
}

static tr_err dispatch(tr_sse *sse, tr_sse_fn *fn, void *arg) {
    bool has_data = sse->has_data;
    tr_sse_event event = {.type = {sse->type, sse->type_size},
                          .data = {sse->data.bytes == NULL ? "" : sse->data.bytes, sse->data.size}};
    sse->has_data = false;
    sse->type_size = 0;
    sse->data.size = 0;
    return has_data ? fn(arg, &event) : TR_OK;
}
