/*
 * Tokens are pieces of bytes: one may end inside a character, or inside a stop string. Bytes first
 * pass a small UTF-8 reader (RFC 3629) that lets whole characters through and turns what is none
 * into U+FFFD, also NUL, which no string of ours may hold. Then stop strings are looked for, only
 * where they can be new. What may be sent ends before the longest suffix that some stop string
 * begins with, and at the end of a token. Called by the engine, on its thread.
 */
#include "inference/engine_text.h"

#include <string.h>

#include "protocol/assert.h"
#include "runtime/memory.h"

void tri_text_init(tri_text *text, const tr_str *stops, size_t stop_count) {
    *text = (tri_text){.stops = stops, .stop_count = stop_count};
}

void tri_text_fini(tri_text *text) {
    tr_free(text->bytes);
    tr_free(text->tokens);
    *text = (tri_text){0};
}

static tr_err append(tri_text *text, const void *bytes, size_t size) {
    if (text->size + size > text->room) {
        size_t room = (text->size + size) * 2 + 64;
        char *grown = tr_realloc(text->bytes, room);
        if (grown == NULL) {
            return TR_ERR_NOMEM;
        }
        text->bytes = grown;
        text->room = room;
    }
    memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
    return TR_OK;
}

/* How many bytes a character has that begins with `byte`; 0 = none does. */
static size_t length_of(uint8_t byte) {
    if (byte != 0 && byte < 0x80) {
        return 1;
    }
    if (byte >= 0xc2 && byte <= 0xdf) {
        return 2;
    }
    if (byte >= 0xe0 && byte <= 0xef) {
        return 3;
    }
    return byte >= 0xf0 && byte <= 0xf4 ? 4 : 0;
}

/* Whether `byte` may follow the open bytes: RFC 3629, section 4. */
static bool may_follow(const tri_text *text, uint8_t byte) {
    if (text->open_size == 0) {
        return length_of(byte) > 0;
    }
    uint8_t low = 0x80, high = 0xbf;
    if (text->open_size == 1) {
        low = text->open[0] == 0xe0 ? 0xa0 : text->open[0] == 0xf0 ? 0x90 : low;
        high = text->open[0] == 0xed ? 0x9f : text->open[0] == 0xf4 ? 0x8f : high;
    }
    return byte >= low && byte <= high;
}

static tr_err push_byte(tri_text *text, uint8_t byte) {
    static const char replacement[] = "\xef\xbf\xbd";
    if (!may_follow(text, byte)) {
        bool alone = text->open_size == 0;
        text->open_size = 0;
        tr_err err = append(text, replacement, 3);
        /* A byte that only broke off the character before it may begin its own. */
        return err != TR_OK || alone ? err : push_byte(text, byte);
    }
    text->open[text->open_size++] = byte;
    if (text->open_size < length_of(text->open[0])) {
        return TR_OK;
    }
    size_t size = text->open_size;
    text->open_size = 0;
    return append(text, text->open, size);
}

static bool stands_at(const tri_text *text, size_t at, tr_str what) {
    return what.size <= text->size - at && memcmp(text->bytes + at, what.ptr, what.size) == 0;
}

static bool may_be_fence(const tri_text *text, size_t at) {
    size_t left = text->size - at;
    return left < text->fence.size && memcmp(text->bytes + at, text->fence.ptr, left) == 0;
}

/* The offset of the first stop string at or after `searched`, or SIZE_MAX. */
static size_t find_stop(tri_text *text) {
    for (size_t at = text->searched; at < text->size && !text->fenced; at++) {
        for (size_t i = 0; i < text->stop_count; i++) {
            tr_str stop = text->stops[i];
            if (stop.size > 0 && stands_at(text, at, stop)) {
                return at;
            }
        }
        text->fenced = text->fence.size > 0 && stands_at(text, at, text->fence);
        if (may_be_fence(text, at)) {
            break; /* a stop string inside it would not count */
        }
    }
    return SIZE_MAX;
}

/* The first offset from which on the text may become a stop string or the fence; its size when
 * there is none. */
static size_t held_from(const tri_text *text) {
    for (size_t at = text->searched; at < text->size && !text->fenced; at++) {
        size_t left = text->size - at;
        if (may_be_fence(text, at)) {
            return at;
        }
        for (size_t i = 0; i < text->stop_count; i++) {
            tr_str stop = text->stops[i];
            if (left < stop.size && memcmp(text->bytes + at, stop.ptr, left) == 0) {
                return at;
            }
        }
    }
    return text->size;
}

tr_err tri_text_add(tri_text *text, const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        tr_err err = push_byte(text, (uint8_t)bytes[i]);
        if (err != TR_OK) {
            return err;
        }
    }
    return TR_OK;
}

tr_err tri_text_push(tri_text *text, int32_t token, const char *piece, size_t size) {
    TR_ASSERT(!text->stopped && !text->finished);
    if (text->token_count == text->token_room) {
        size_t room = text->token_room * 2 + 16;
        tri_text_token *grown = tr_realloc(text->tokens, room * sizeof *grown);
        if (grown == NULL) {
            return TR_ERR_NOMEM;
        }
        text->tokens = grown;
        text->token_room = room;
    }
    tr_err err = tri_text_add(text, piece, size);
    if (err != TR_OK) {
        return err;
    }
    size_t stop_at = find_stop(text);
    if (stop_at != SIZE_MAX) {
        text->stopped = true;
        text->size = stop_at;
        text->searched = stop_at;
        text->open_size = 0;
    } else {
        text->searched = held_from(text);
    }
    text->tokens[text->token_count++] = (tri_text_token){token, text->size, text->open_size > 0};
    return TR_OK;
}

void tri_text_finish(tri_text *text) {
    text->finished = true;
    text->open_size = 0;
}

void tri_text_resumed(tri_text *text) {
    text->sent_tokens = text->token_count;
    text->sent_size = text->size;
}

void tri_text_ready(const tri_text *text, size_t *ret_tokens, size_t *ret_size) {
    if (text->stopped || text->finished) {
        *ret_tokens = text->token_count;
        *ret_size = text->size;
        return;
    }
    size_t count = text->token_count;
    while (count > 0 &&
           (text->tokens[count - 1].open || text->tokens[count - 1].end > text->searched)) {
        count--;
    }
    *ret_tokens = count;
    *ret_size = count > 0 ? text->tokens[count - 1].end : 0;
}

void tri_text_take(tri_text *text, size_t tokens, size_t size) {
    TR_ASSERT(tokens <= text->token_count && size <= text->size);
    if (text->size > size) {
        memmove(text->bytes, text->bytes + size, text->size - size);
    }
    if (text->token_count > tokens) {
        memmove(text->tokens, text->tokens + tokens,
                (text->token_count - tokens) * sizeof *text->tokens);
    }
    text->size -= size;
    text->token_count -= tokens;
    for (size_t i = 0; i < text->token_count; i++) {
        text->tokens[i].end = text->tokens[i].end > size ? text->tokens[i].end - size : 0;
    }
    text->searched = text->searched > size ? text->searched - size : 0;
    text->sent_tokens = text->sent_tokens > tokens ? text->sent_tokens - tokens : 0;
    text->sent_size = text->sent_size > size ? text->sent_size - size : 0;
}
