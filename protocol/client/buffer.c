/* Growing bytes for results, frames and unread chunks: doubling, so that appending is linear. Used
 * from whichever thread holds the object that the buffer is part of. */
#include "protocol/client/buffer.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 248

void tri_buffer_fini(tri_buffer *buffer) {
    free(buffer->data);
    *buffer = (tri_buffer){0};
}

uint8_t *tri_buffer_grow(tri_buffer *buffer, size_t size) {
    if (size > SIZE_MAX / 4 - buffer->size) {
        return NULL;
    }
    size_t needed = buffer->size + size;
    if (buffer->data == NULL || needed > buffer->room) {
        size_t room = buffer->room < FIRST_ROOM ? FIRST_ROOM : buffer->room;
        while (room < needed) {
            room *= 2;
        }
        uint8_t *data = realloc(buffer->data, room + 1);
        if (data == NULL) {
            return NULL;
        }
        buffer->data = data;
        buffer->room = room;
    }
    uint8_t *at = buffer->data + buffer->size;
    buffer->size = needed;
    buffer->data[needed] = '\0';
    return at;
}

tr_err tri_buffer_add(tri_buffer *buffer, const void *data, size_t size) {
    uint8_t *at = tri_buffer_grow(buffer, size);
    if (at == NULL) {
        return TR_ERR_NOMEM;
    }
    if (size > 0) {
        memcpy(at, data, size);
    }
    return TR_OK;
}

tr_err tri_buffer_set(tri_buffer *buffer, tr_str text) {
    buffer->size = 0;
    return tri_buffer_add(buffer, text.ptr, text.size);
}

void tri_buffer_clear(tri_buffer *buffer, size_t keep) {
    buffer->size = 0;
    if (buffer->room > keep) {
        tri_buffer_fini(buffer);
    } else if (buffer->data != NULL) {
        buffer->data[0] = '\0';
    }
}

const char *tri_buffer_text(const tri_buffer *buffer) {
    return buffer->data != NULL ? (const char *)buffer->data : "";
}
