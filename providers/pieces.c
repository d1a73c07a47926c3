/*
 * A singly linked queue whose newest member may still grow. A text's room doubles, so joining costs
 * a copy of each byte on average once.
 *
 * Used by the provider actor on its shard; pure.
 */
#include "providers/pieces.h"

#include <string.h>

#include "protocol/assert.h"
#include "runtime/memory.h"

struct tri_piece {
    tri_piece *next;
    tr_delta head;
    char *text;
    size_t text_size, text_room;
    char strings[]; /* id, then name */
};

static bool joins(const tri_piece *tail, const tr_piece *piece);
static tr_err append(tri_piece *to, const char *text, size_t size);
static tr_err begin(tri_pieces *pieces, const tr_piece *piece, bool first);
static void drop_head(tri_pieces *pieces);

void tri_pieces_fini(tri_pieces *pieces) {
    while (pieces->head != NULL) {
        drop_head(pieces);
    }
}

tr_err tri_pieces_add(tri_pieces *pieces, const tr_piece *piece) {
    if (piece->id.size > TR_NAME_max || piece->name.size > TR_NAME_max ||
        piece->choice > UINT16_MAX) {
        return TR_ERR_PROTOCOL;
    }
    const char *text = piece->text.ptr;
    size_t left = piece->text.size;
    bool bytes = piece->kind == TR_DELTA_OPAQUE;
    bool first = true;
    while (left > 0 || first) {
        if (!first || !joins(pieces->tail, piece)) {
            tr_err err = begin(pieces, piece, first);
            if (err != TR_OK) {
                return err;
            }
        }
        size_t room = TR_DELTA_TEXT_max - pieces->tail->text_size;
        size_t size = left < room ? left : room;
        if (left > room && !bytes) {
            size = tr_utf8_cut(text, left, room);
        }
        tr_err err = append(pieces->tail, text, size);
        if (err != TR_OK) {
            return err;
        }
        text = size > 0 ? text + size : text;
        left -= size;
        first = false;
    }
    return TR_OK;
}

bool tri_pieces_empty(const tri_pieces *pieces) {
    return pieces->head == NULL;
}

size_t tri_pieces_next_size(const tri_pieces *pieces) {
    const tri_piece *piece = pieces->head;
    return piece == NULL
               ? 0
               : sizeof(tr_delta) + piece->head.id_size + piece->head.name_size + piece->text_size;
}

tr_msg *tri_pieces_take(tri_pieces *pieces) {
    tri_piece *piece = pieces->head;
    TR_ASSERT(piece != NULL);
    piece->head.seq = pieces->seq;
    tr_delta_view view = {.id = {piece->strings, piece->head.id_size},
                          .name = {piece->strings + piece->head.id_size, piece->head.name_size},
                          .text = {piece->text == NULL ? "" : piece->text, piece->text_size}};
    tr_msg *msg = tr_msg_delta(&piece->head, &view);
    if (msg != NULL) {
        pieces->seq++;
        drop_head(pieces);
    }
    return msg;
}

/* Only texts of one stream join: a start or a provider's own field stands alone. */
static bool joins(const tri_piece *tail, const tr_piece *piece) {
    return tail != NULL && tail->head.kind == piece->kind && tail->head.choice == piece->choice &&
           tail->head.tool == piece->tool && piece->id.size == 0 && piece->name.size == 0 &&
           tail->head.id_size == 0 && tail->head.name_size == 0 && piece->kind != TR_DELTA_OPAQUE &&
           piece->kind != TR_DELTA_TOOL_START && tail->text_size < TR_DELTA_TEXT_max;
}

/* A provider's own field that goes on has no name again: so its reader knows that it goes on. */
static tr_err begin(tri_pieces *pieces, const tr_piece *piece, bool first) {
    static const tr_str none = {"", 0};
    bool goes_on = !first && piece->kind == TR_DELTA_OPAQUE;
    tr_str id = goes_on ? none : piece->id;
    tr_str name = goes_on ? none : piece->name;
    tri_piece *made = tr_zalloc(sizeof(*made) + id.size + name.size);
    if (made == NULL) {
        return TR_ERR_NOMEM;
    }
    made->head = (tr_delta){.choice = (uint16_t)piece->choice,
                            .kind = (uint8_t)piece->kind,
                            .tool = piece->tool,
                            .id_size = (uint16_t)id.size,
                            .name_size = (uint16_t)name.size};
    if (id.size > 0) {
        memcpy(made->strings, id.ptr, id.size);
    }
    if (name.size > 0) {
        memcpy(made->strings + id.size, name.ptr, name.size);
    }
    if (pieces->tail == NULL) {
        pieces->head = made;
    } else {
        pieces->tail->next = made;
    }
    pieces->tail = made;
    return TR_OK;
}

static tr_err append(tri_piece *to, const char *text, size_t size) {
    if (size == 0) {
        return TR_OK;
    }
    if (to->text_size + size > to->text_room) {
        size_t room = to->text_room == 0 ? 64 : to->text_room;
        while (room < to->text_size + size) {
            room *= 2;
        }
        char *grown = tr_realloc(to->text, room);
        if (grown == NULL) {
            return TR_ERR_NOMEM;
        }
        to->text = grown;
        to->text_room = room;
    }
    memcpy(to->text + to->text_size, text, size);
    to->text_size += size;
    return TR_OK;
}

static void drop_head(tri_pieces *pieces) {
    tri_piece *piece = pieces->head;
    pieces->head = piece->next;
    if (pieces->head == NULL) {
        pieces->tail = NULL;
    }
    tr_free(piece->text);
    tr_free(piece);
}
