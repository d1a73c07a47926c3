/*
 * The messages of the HTTP door as bytes: a fixed structure, then its strings. Apart from http.c so
 * that whoever speaks the protocol (the provider actor, a fake door in a test) does not need curl.
 *
 * Called by both sides; any thread.
 */
#include <stdio.h>
#include <string.h>

#include "protocol/assert.h"
#include "providers/http.h"

static tr_msg *build(uint16_t kind, uint64_t ref, const void *head, size_t head_size, tr_str first,
                     tr_str second) {
    tr_msg *msg = tr_msg_new(kind, head_size + first.size + second.size);
    if (msg == NULL) {
        return NULL;
    }
    msg->ref = ref;
    memcpy(msg->data, head, head_size);
    if (first.size > 0) {
        memcpy(msg->data + head_size, first.ptr, first.size);
    }
    if (second.size > 0) {
        memcpy(msg->data + head_size + first.size, second.ptr, second.size);
    }
    return msg;
}

tr_msg *tr_http_start_msg(uint64_t ref, const tr_http_start *head, tr_str url, tr_str headers,
                          tr_body *take_body) {
    TR_ASSERT(url.size <= TR_URL_max && headers.size <= TR_HTTP_HEADERS_max);
    tr_http_start start = *head;
    start.url_size = (uint32_t)url.size;
    start.headers_size = (uint32_t)headers.size;
    tr_msg *msg = build(TR_KIND_HTTP_START, ref, &start, sizeof(start), url, headers);
    if (msg == NULL) {
        tr_body_unref(take_body);
        return NULL;
    }
    msg->flags = TR_MSG_OPENING;
    msg->body = take_body;
    return msg;
}

tr_msg *tr_http_head_msg(uint64_t ref, const tr_http_head *head, tr_str headers) {
    tr_http_head sized = *head;
    sized.headers_size = (uint32_t)headers.size;
    return build(TR_KIND_HTTP_HEAD, ref, &sized, sizeof(sized), headers, (tr_str){NULL, 0});
}

tr_msg *tr_http_data_msg(uint64_t ref, const void *bytes, size_t size) {
    return build(TR_KIND_HTTP_DATA, ref, bytes, size, (tr_str){NULL, 0}, (tr_str){NULL, 0});
}

tr_msg *tr_http_taken_msg(uint64_t ref, uint32_t bytes) {
    tr_http_taken taken = {.bytes = bytes};
    return build(TR_KIND_HTTP_TAKEN, ref, &taken, sizeof(taken), (tr_str){NULL, 0},
                 (tr_str){NULL, 0});
}

tr_msg *tr_http_end_msg(uint64_t ref, tr_err err, const char *message) {
    tr_str text = {message, message == NULL ? 0 : strlen(message)};
    tr_http_end end = {.err = (uint32_t)err, .message_size = (uint32_t)text.size};
    return build(TR_KIND_HTTP_END, ref, &end, sizeof(end), text, (tr_str){NULL, 0});
}

tr_msg *tr_http_abort_msg(uint64_t ref, bool gentle) {
    tr_http_abort abort = {.gentle = gentle ? 1 : 0};
    return build(TR_KIND_HTTP_ABORT, ref, &abort, sizeof(abort), (tr_str){NULL, 0},
                 (tr_str){NULL, 0});
}

tr_msg *tr_http_close_msg(const tr_http_close *head, tr_str url) {
    return build(TR_KIND_HTTP_CLOSE, 0, head, sizeof(*head), url, (tr_str){NULL, 0});
}

const tr_http_start *tr_http_start_read(const tr_msg *msg, tr_str *ret_url, tr_str *ret_headers) {
    const tr_http_start *start = (const void *)msg->data;
    if (msg->size < sizeof(*start) ||
        msg->size - sizeof(*start) != (size_t)start->url_size + start->headers_size) {
        return NULL;
    }
    const char *strings = (const char *)msg->data + sizeof(*start);
    *ret_url = (tr_str){strings, start->url_size};
    *ret_headers = (tr_str){strings + start->url_size, start->headers_size};
    return start;
}

const tr_http_head *tr_http_head_read(const tr_msg *msg, tr_str *ret_headers) {
    const tr_http_head *head = (const void *)msg->data;
    if (msg->size < sizeof(*head) || msg->size - sizeof(*head) != head->headers_size) {
        return NULL;
    }
    *ret_headers = (tr_str){(const char *)msg->data + sizeof(*head), head->headers_size};
    return head;
}

tr_err tr_http_end_read(const tr_msg *msg, tr_str *ret_message) {
    const tr_http_end *end = (const void *)msg->data;
    *ret_message = (tr_str){"", 0};
    if (msg->size < sizeof(*end) || msg->size - sizeof(*end) != end->message_size ||
        end->err >= TR_ERR_N) {
        return TR_ERR_PROTOCOL;
    }
    *ret_message = (tr_str){(const char *)msg->data + sizeof(*end), end->message_size};
    return (tr_err)end->err;
}

bool tr_http_end_lasting(const tr_msg *msg) {
    const tr_http_end *end = (const void *)msg->data;
    return msg->size >= sizeof(*end) && end->lasting != 0;
}

tr_str tr_http_header(tr_str headers, const char *name) {
    size_t name_size = strlen(name);
    const char *at = headers.ptr;
    const char *end = headers.size == 0 ? at : headers.ptr + headers.size;
    while (at != end) {
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        const char *stop = lf == NULL ? end : lf;
        if ((size_t)(stop - at) > name_size + 1 && memcmp(at, name, name_size) == 0 &&
            at[name_size] == ':') {
            const char *value = at + name_size + 1;
            while (value < stop && *value == ' ') {
                value++;
            }
            return (tr_str){value, (size_t)(stop - value)};
        }
        at = lf == NULL ? end : lf + 1;
    }
    return (tr_str){"", 0};
}

const char *tr_http_name(uint32_t shard, char buf[TR_HTTP_NAME_size]) {
    snprintf(buf, TR_HTTP_NAME_size, "http:%u", (unsigned)shard);
    return buf;
}
