/*
 * The messages of a request. System messages, wherever they stand, become the top-level system
 * prompt; the results of tools become blocks of one user message, together with what the user says
 * right after them, because the server wants all results at the beginning of the next turn. An
 * assistant's message that carries `content_blocks` (anthropic_blocks.c) gets its thinking back,
 * in its old places when these are known and still fit, else before text and tool calls. Fields
 * that nobody here knows go into the message, block or tool they stood at, as they were written;
 * those of a system or tool message, which becomes a block, go into that block.
 *
 * Called by anthropic.c; pure.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "providers/anthropic.h"
#include "providers/anthropic_internal.h"
#include "providers/codec.h"

static const char *const message_reserved[] = {"role", "content", NULL};
static const char *const block_reserved[] = {"type", "text", "source", NULL};

static void write_system(tri_anthropic_writer *writer);
static size_t write_user(tri_anthropic_writer *writer, size_t at);
static void write_assistant(tri_anthropic_writer *writer, const tr_turn *turn);
static void write_result(tri_anthropic_writer *writer, const tr_turn *turn);
static void write_parts(tri_anthropic_writer *writer, const tr_turn *turn, bool system);
static void write_text(tr_jsonw *w, tr_str text, tr_str extra, tr_str more);
static void write_image(tri_anthropic_writer *writer, const tr_part *part);
static void write_data(tri_anthropic_writer *writer, const tr_part *part);
static void write_call(tri_anthropic_writer *writer, const tr_tool_call_part *call);
static bool write_in_places(tri_anthropic_writer *writer, const tr_turn *turn,
                            const tr_json_value *blocks);
static bool plain(const tr_turn *turn);

void tri_anthropic_messages(tri_anthropic_writer *writer) {
    const tr_chat *chat = writer->in->chat;
    tr_jsonw *w = &writer->w;
    write_system(writer);
    tr_jsonw_name(w, "messages");
    tr_jsonw_open(w, '[');
    for (size_t i = 0; i < chat->turn_count;) {
        switch (chat->turns[i].role) {
        case TR_CHAT_SYSTEM:
            i++;
            break;
        case TR_CHAT_USER:
        case TR_CHAT_TOOL:
            i = write_user(writer, i);
            break;
        case TR_CHAT_ASSISTANT:
            write_assistant(writer, &chat->turns[i++]);
            break;
        }
    }
    tr_jsonw_close(w, ']');
}

/* One text without fields of its own, which goes as a string. */
static bool plain(const tr_turn *turn) {
    return turn->part_count == 1 && turn->parts[0].kind == TR_PART_TEXT &&
           turn->parts[0].extra.ptr == NULL;
}

static void write_system(tri_anthropic_writer *writer) {
    const tr_chat *chat = writer->in->chat;
    const tr_turn *first = NULL;
    tr_jsonw *w = &writer->w;
    size_t count = 0;
    for (size_t i = 0; i < chat->turn_count; i++) {
        if (chat->turns[i].role == TR_CHAT_SYSTEM) {
            first = first == NULL ? &chat->turns[i] : first;
            count++;
        }
    }
    if (count == 0) {
        return;
    }
    if (tr_json_get(writer->own, "system") != NULL) {
        tri_anthropic_refuse(writer, TR_ERR_INVALID,
                             "the request has a system message and a field \"system\": which one?");
        return;
    }
    tr_jsonw_name(w, "system");
    if (count == 1 && plain(first) && first->extra.ptr == NULL) {
        tr_jsonw_str(w, first->parts[0].text);
        return;
    }
    tr_jsonw_open(w, '[');
    for (size_t i = 0; i < chat->turn_count; i++) {
        if (chat->turns[i].role == TR_CHAT_SYSTEM) {
            write_parts(writer, &chat->turns[i], true);
        }
    }
    tr_jsonw_close(w, ']');
}

/* The message that begins with turn `at`; returns the turn after it. */
static size_t write_user(tri_anthropic_writer *writer, size_t at) {
    const tr_chat *chat = writer->in->chat;
    const tr_turn *turn = &chat->turns[at];
    tr_jsonw *w = &writer->w;
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "role");
    tr_jsonw_text(w, "user");
    tr_jsonw_name(w, "content");
    if (turn->role == TR_CHAT_USER && plain(turn)) {
        tr_jsonw_str(w, turn->parts[0].text);
    } else {
        tr_jsonw_open(w, '[');
        for (; at < chat->turn_count && chat->turns[at].role == TR_CHAT_TOOL; at++) {
            write_result(writer, &chat->turns[at]);
        }
        bool joins = at < chat->turn_count && chat->turns[at].role == TR_CHAT_USER &&
                     (turn->role == TR_CHAT_USER || chat->turns[at].extra.ptr == NULL);
        if (joins) {
            write_parts(writer, &chat->turns[at], false);
        }
        tr_jsonw_close(w, ']');
        if (!joins) {
            tr_jsonw_close(w, '}');
            return at;
        }
    }
    tri_write_extra(w, chat->turns[at].extra, message_reserved);
    tr_jsonw_close(w, '}');
    return at + 1;
}

static void write_result(tri_anthropic_writer *writer, const tr_turn *turn) {
    static const char *const reserved[] = {"type", "tool_use_id", "content", NULL};
    tr_jsonw *w = &writer->w;
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "type");
    tr_jsonw_text(w, "tool_result");
    tr_jsonw_name(w, "tool_use_id");
    tr_jsonw_str(w, turn->tool_call_id);
    tr_jsonw_name(w, "content");
    if (plain(turn)) {
        tr_jsonw_str(w, turn->parts[0].text);
    } else {
        tr_jsonw_open(w, '[');
        write_parts(writer, turn, false);
        tr_jsonw_close(w, ']');
    }
    tri_write_extra(w, turn->extra, reserved);
    tr_jsonw_close(w, '}');
}

/* An empty text is refused by the server and says nothing: it is left out, unless it carries a
 * field of its own. A system message's own fields go into its last block. */
static void write_parts(tri_anthropic_writer *writer, const tr_turn *turn, bool system) {
    for (size_t i = 0; i < turn->part_count; i++) {
        const tr_part *part = &turn->parts[i];
        bool last = system && i + 1 == turn->part_count;
        switch (part->kind) {
        case TR_PART_TEXT:
            if (part->text.size > 0 || part->extra.ptr != NULL) {
                write_text(&writer->w, part->text, part->extra,
                           last ? turn->extra : (tr_str){NULL, 0});
            }
            break;
        case TR_PART_IMAGE:
            if (system) {
                tri_anthropic_refuse(writer, TR_ERR_UNSUPPORTED,
                                     "provider %s takes no image in a system message",
                                     writer->in->provider);
                return;
            }
            write_image(writer, part);
            break;
        }
    }
}

static bool has(const tr_json_value *object, tr_str name) {
    const tr_json_value *v = tr_json_first(object);
    for (; v != NULL; v = tr_json_next(v)) {
        tr_str its = tr_json_name(v);
        if (its.size == name.size && memcmp(its.ptr, name.ptr, name.size) == 0) {
            return true;
        }
    }
    return false;
}

void tri_anthropic_members(tr_jsonw *w, tr_str first, tr_str second, const char *const *reserved) {
    tr_json *one = NULL, *two = NULL;
    tri_write_extra(w, first, reserved);
    if (first.ptr == NULL || second.ptr == NULL) {
        tri_write_extra(w, second, reserved);
        return;
    }
    tr_err err = tr_json_parse(first.ptr, first.size, &one, NULL);
    if (err == TR_OK) {
        err = tr_json_parse(second.ptr, second.size, &two, NULL);
    }
    const tr_json_value *v = err == TR_OK ? tr_json_first(tr_json_root(two)) : NULL;
    for (; v != NULL; v = tr_json_next(v)) {
        bool taken = has(tr_json_root(one), tr_json_name(v));
        for (size_t i = 0; reserved[i] != NULL && !taken; i++) {
            taken = tri_same(tr_json_name(v), reserved[i]);
        }
        if (!taken) {
            tr_jsonw_name_str(w, tr_json_name(v));
            tr_jsonw_raw(w, tr_json_raw(v));
        }
    }
    w->err = w->err == TR_OK ? err : w->err;
    tr_json_free(one);
    tr_json_free(two);
}

static void write_text(tr_jsonw *w, tr_str text, tr_str extra, tr_str more) {
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "type");
    tr_jsonw_text(w, "text");
    tr_jsonw_name(w, "text");
    tr_jsonw_str(w, text);
    tri_anthropic_members(w, extra, more, block_reserved);
    tr_jsonw_close(w, '}');
}

static bool starts(tr_str text, const char *word) {
    size_t size = strlen(word);
    return text.size >= size && strncasecmp(text.ptr, word, size) == 0;
}

/* OpenAI's `detail` has no counterpart: "auto" is what happens, anything else cannot be said. */
static void write_image(tri_anthropic_writer *writer, const tr_part *part) {
    static const char *const reserved[] = {"type", "source", "detail", NULL};
    tr_jsonw *w = &writer->w;
    tr_json *beside = NULL;
    if (part->image_extra.ptr != NULL &&
        tr_json_parse(part->image_extra.ptr, part->image_extra.size, &beside, NULL) == TR_OK) {
        const tr_json_value *detail = tr_json_get(tr_json_root(beside), "detail");
        if (detail != NULL && !tri_same(tr_json_string(detail), "auto")) {
            tri_anthropic_refuse(writer, TR_ERR_UNSUPPORTED,
                                 "provider %s does not take an image's detail",
                                 writer->in->provider);
        }
        tr_json_free(beside);
    }
    if (starts(part->url, "data:")) {
        write_data(writer, part);
    } else if (starts(part->url, "https://") || starts(part->url, "http://")) {
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "type");
        tr_jsonw_text(w, "image");
        tr_jsonw_name(w, "source");
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "type");
        tr_jsonw_text(w, "url");
        tr_jsonw_name(w, "url");
        tr_jsonw_str(w, part->url);
        tr_jsonw_close(w, '}');
    } else {
        tri_anthropic_refuse(writer, TR_ERR_INVALID,
                             "an image's URL begins with http://, https:// or data:");
        return;
    }
    if (writer->err == TR_OK) {
        tri_anthropic_members(w, part->extra, part->image_extra, reserved);
        tr_jsonw_close(w, '}');
    }
}

/* data:image/png;base64,… as image or, for a PDF, as document; the block stays open. */
static void write_data(tri_anthropic_writer *writer, const tr_part *part) {
    tr_jsonw *w = &writer->w;
    tr_str type = {part->url.ptr + 5, 0};
    const char *comma = memchr(part->url.ptr, ',', part->url.size);
    tr_str head = {type.ptr, comma == NULL ? 0 : (size_t)(comma - type.ptr)};
    while (type.size < head.size && type.ptr[type.size] != ';') {
        type.size++;
    }
    bool pdf = type.size == 15 && starts(type, "application/pdf");
    if (head.size < 7 || strncasecmp(head.ptr + head.size - 7, ";base64", 7) != 0 ||
        (!pdf && !starts(type, "image/"))) {
        tri_anthropic_refuse(writer, TR_ERR_INVALID,
                             "a data: URL must be data:image/TYPE;base64,... (or "
                             "application/pdf) for provider %s",
                             writer->in->provider);
        return;
    }
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "type");
    tr_jsonw_text(w, pdf ? "document" : "image");
    tr_jsonw_name(w, "source");
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "type");
    tr_jsonw_text(w, "base64");
    tr_jsonw_name(w, "media_type");
    tr_jsonw_str(w, type);
    tr_jsonw_name(w, "data");
    tr_jsonw_str(w, (tr_str){comma + 1, part->url.size - (size_t)(comma + 1 - part->url.ptr)});
    tr_jsonw_close(w, '}');
}

static bool is_place(const tr_json_value *block) {
    tr_str type = tr_json_string(tr_json_get(block, "type"));
    return tri_same(type, "text") || tri_same(type, "tool_use");
}

static void write_assistant(tri_anthropic_writer *writer, const tr_turn *turn) {
    tr_jsonw *w = &writer->w;
    tr_json *extra = NULL;
    const tr_json_value *blocks = NULL;
    if (turn->extra.ptr != NULL) {
        tr_err err = tr_json_parse(turn->extra.ptr, turn->extra.size, &extra, NULL);
        if (err != TR_OK) {
            tri_anthropic_refuse(writer, err, "a message's own fields are not a JSON object");
            return;
        }
        blocks = tr_json_get(tr_json_root(extra), TR_ANTHROPIC_BLOCKS);
    }
    if (blocks != NULL && !tri_is(blocks, TR_JSON_ARRAY)) {
        tri_anthropic_refuse(writer, TR_ERR_INVALID,
                             TR_ANTHROPIC_BLOCKS ": expected an array of blocks");
    }
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "role");
    tr_jsonw_text(w, "assistant");
    tr_jsonw_name(w, "content");
    if (blocks == NULL && turn->call_count == 0 && plain(turn)) {
        tr_jsonw_str(w, turn->parts[0].text);
    } else {
        tr_jsonw_open(w, '[');
        if (!write_in_places(writer, turn, blocks)) {
            const tr_json_value *block = tr_json_first(blocks);
            for (; block != NULL; block = tr_json_next(block)) {
                if (!is_place(block)) {
                    tr_jsonw_raw(w, tr_json_raw(block));
                }
            }
            write_parts(writer, turn, false);
            for (size_t i = 0; i < turn->call_count; i++) {
                write_call(writer, &turn->calls[i]);
            }
        }
        tr_jsonw_close(w, ']');
    }
    tri_write_answer_members(w, extra == NULL ? NULL : tr_json_root(extra), message_reserved);
    tr_jsonw_close(w, '}');
    tr_json_free(extra);
}

/* Whether the block names the turn's call number `i`. */
static bool names_call(const tr_json_value *block, const tr_turn *turn, size_t i) {
    tr_str id = tr_json_string(tr_json_get(block, "id"));
    return i < turn->call_count && turn->calls[i].id.size == id.size && id.size > 0 &&
           memcmp(turn->calls[i].id.ptr, id.ptr, id.size) == 0;
}

/* Whether the places name exactly the turn's text and calls: it may have been edited since. */
static bool places_fit(const tr_turn *turn, const tr_json_value *blocks) {
    size_t places = 0, calls = 0;
    tr_str rest = {"", 0};
    if (plain(turn)) {
        rest = turn->parts[0].text;
    } else if (turn->part_count > 0) {
        return false;
    }
    const tr_json_value *block = tr_json_first(blocks);
    for (; block != NULL; block = tr_json_next(block)) {
        if (!is_place(block)) {
            continue;
        }
        places++;
        if (tri_same(tr_json_string(tr_json_get(block, "type")), "tool_use")) {
            if (!names_call(block, turn, calls++)) {
                return false;
            }
            continue;
        }
        uint64_t size = tri_count(block, "bytes");
        if (size == 0 || size > rest.size || !tr_utf8_valid(rest.ptr, (size_t)size)) {
            return false;
        }
        rest = (tr_str){rest.ptr + size, rest.size - (size_t)size};
    }
    return places > 0 && rest.size == 0 && calls == turn->call_count;
}

static bool write_in_places(tri_anthropic_writer *writer, const tr_turn *turn,
                            const tr_json_value *blocks) {
    static const char *const reserved[] = {"type", "bytes", "text", NULL};
    tr_jsonw *w = &writer->w;
    size_t at = 0, calls = 0;
    if (blocks == NULL || !places_fit(turn, blocks)) {
        return false;
    }
    const tr_json_value *block = tr_json_first(blocks);
    for (; block != NULL; block = tr_json_next(block)) {
        if (!is_place(block)) {
            tr_jsonw_raw(w, tr_json_raw(block));
        } else if (tri_same(tr_json_string(tr_json_get(block, "type")), "tool_use")) {
            write_call(writer, &turn->calls[calls++]);
        } else {
            size_t size = (size_t)tri_count(block, "bytes");
            tr_jsonw_open(w, '{');
            tr_jsonw_name(w, "type");
            tr_jsonw_text(w, "text");
            tr_jsonw_name(w, "text");
            tr_jsonw_str(w, (tr_str){turn->parts[0].text.ptr + at, size});
            tri_write_members(w, block, reserved);
            tr_jsonw_close(w, '}');
            at += size;
        }
    }
    return true;
}

/* The model's own words must be an object here; no arguments at all are an empty one. */
static void write_call(tri_anthropic_writer *writer, const tr_tool_call_part *call) {
    static const char *const reserved[] = {"type", "id", "name", "input", NULL};
    tr_jsonw *w = &writer->w;
    tr_str arguments = call->arguments.size == 0 ? (tr_str){"{}", 2} : call->arguments;
    tr_json *json = NULL;
    tr_err err = tr_json_parse(arguments.ptr, arguments.size, &json, NULL);
    bool object = err == TR_OK && tri_is(tr_json_root(json), TR_JSON_OBJECT);
    if (!object) {
        tri_anthropic_refuse(writer, err == TR_ERR_NOMEM ? err : TR_ERR_INVALID,
                             "the arguments of the call of tool %.*s are not a JSON object",
                             call->name.size < 80 ? (int)call->name.size : 80, call->name.ptr);
        tr_json_free(json);
        return;
    }
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "type");
    tr_jsonw_text(w, "tool_use");
    tr_jsonw_name(w, "id");
    tr_jsonw_str(w, call->id);
    tr_jsonw_name(w, "name");
    tr_jsonw_str(w, call->name);
    tr_jsonw_name(w, "input");
    tr_jsonw_raw(w, tr_json_raw(tr_json_root(json)));
    tri_anthropic_members(w, call->extra, call->function_extra, reserved);
    tr_jsonw_close(w, '}');
    tr_json_free(json);
}
