/*
 * Turns of a conversation as Gemini's contents. System turns that stand first are its instruction;
 * one between others cannot be said. The results of one round of calls are parts of a single
 * content, as the API demands, each with the name of its call, which is looked up by id in the
 * turns before. An assistant's turn that brings its answer's own parts back (thought signatures on
 * them) is written as exactly that.
 *
 * Called by gemini.c; pure.
 */
#include <stdio.h>
#include <string.h>

#include "providers/codec.h"
#include "providers/gemini.h"
#include "providers/gemini_internal.h"

typedef struct writer {
    tr_jsonw *w;
    const tr_encode *in;
    char *why;
    size_t why_size;
} writer;

static tr_err write_system(writer *writer, const tr_json_value *own, size_t *ret_count);
static tr_err write_turn(writer *writer, size_t at);
static tr_err write_answer(writer *writer, const tr_turn *turn);
static tr_err write_result(writer *writer, size_t at);
static tr_err write_part(writer *writer, const tr_part *part);
static tr_err write_image(writer *writer, const tr_part *part);
static tr_err write_call(writer *writer, const tr_tool_call_part *call);

tr_err tri_gemini_write_turns(tr_jsonw *w, const tr_encode *in, const tr_json_value *own,
                              char *ret_why, size_t why_size) {
    writer writer = {.w = w, .in = in, .why = ret_why, .why_size = why_size};
    const tr_chat *chat = in->chat;
    size_t at = 0;
    tr_err err = write_system(&writer, own, &at);
    if (err != TR_OK) {
        return err;
    }
    tr_jsonw_name(w, "contents");
    tr_jsonw_open(w, '[');
    while (at < chat->turn_count && err == TR_OK) {
        if (chat->turns[at].role != TR_CHAT_TOOL) {
            err = write_turn(&writer, at++);
            continue;
        }
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "role");
        tr_jsonw_text(w, "user");
        tr_jsonw_name(w, "parts");
        tr_jsonw_open(w, '[');
        while (at < chat->turn_count && chat->turns[at].role == TR_CHAT_TOOL && err == TR_OK) {
            err = write_result(&writer, at++);
        }
        tr_jsonw_close(w, ']');
        tr_jsonw_close(w, '}');
    }
    tr_jsonw_close(w, ']');
    return err;
}

static tr_err write_system(writer *writer, const tr_json_value *own, size_t *ret_count) {
    static const char *const reserved[] = {"parts", "role", NULL};
    const tr_chat *chat = writer->in->chat;
    tr_jsonw *w = writer->w;
    size_t count = 0;
    while (count < chat->turn_count && chat->turns[count].role == TR_CHAT_SYSTEM) {
        count++;
    }
    *ret_count = count;
    if (count == 0) {
        return TR_OK;
    }
    if (tr_json_get(own, "systemInstruction") != NULL) {
        snprintf(writer->why, writer->why_size,
                 "the request has both a system message and a systemInstruction");
        return TR_ERR_INVALID;
    }
    tr_jsonw_name(w, "systemInstruction");
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "parts");
    tr_jsonw_open(w, '[');
    tr_err err = TR_OK;
    for (size_t i = 0; i < count; i++) {
        const tr_turn *turn = &chat->turns[i];
        for (size_t k = 0; k < turn->part_count && err == TR_OK; k++) {
            err = write_part(writer, &turn->parts[k]);
        }
    }
    tr_jsonw_close(w, ']');
    tri_write_extra(w, chat->turns[0].extra, reserved);
    tr_jsonw_close(w, '}');
    return err;
}

static tr_err write_turn(writer *writer, size_t at) {
    static const char *const reserved[] = {"parts", "role", NULL};
    const tr_turn *turn = &writer->in->chat->turns[at];
    tr_jsonw *w = writer->w;
    if (turn->role == TR_CHAT_SYSTEM) {
        snprintf(writer->why, writer->why_size,
                 "messages[%zu]: provider %s takes system messages at the beginning only", at,
                 writer->in->provider);
        return TR_ERR_UNSUPPORTED;
    }
    if (turn->role == TR_CHAT_ASSISTANT) {
        return write_answer(writer, turn);
    }
    tr_err err = TR_OK;
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "role");
    tr_jsonw_text(w, "user");
    tr_jsonw_name(w, "parts");
    tr_jsonw_open(w, '[');
    for (size_t i = 0; i < turn->part_count && err == TR_OK; i++) {
        err = write_part(writer, &turn->parts[i]);
    }
    tr_jsonw_close(w, ']');
    tri_write_extra(w, turn->extra, reserved);
    tr_jsonw_close(w, '}');
    return err;
}

static tr_err write_answer(writer *writer, const tr_turn *turn) {
    static const char *const reserved[] = {"parts", "role", "refusal", NULL};
    tr_jsonw *w = writer->w;
    tr_json *json = NULL;
    tr_err err = TR_OK;
    if (turn->extra.ptr != NULL) {
        err = tr_json_parse(turn->extra.ptr, turn->extra.size, &json, NULL);
        if (err != TR_OK) {
            return err;
        }
    }
    const tr_json_value *own = json == NULL ? NULL : tr_json_root(json);
    const tr_json_value *parts = tr_json_get(own, TR_GEMINI_PARTS);
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "role");
    tr_jsonw_text(w, "model");
    tr_jsonw_name(w, "parts");
    if (parts != NULL && !tri_is(parts, TR_JSON_ARRAY)) {
        snprintf(writer->why, writer->why_size,
                 "an assistant's message brings back " TR_GEMINI_PARTS
                 ", but not as the array that it was");
        err = TR_ERR_INVALID;
    } else if (parts != NULL) {
        tr_jsonw_raw(w, tr_json_raw(parts));
    } else {
        tr_jsonw_open(w, '[');
        /* An empty text is refused beside a call; a refusal is all that its answer said. */
        tr_str refusal = tr_json_string(tr_json_get(own, "refusal"));
        bool empty = turn->part_count == 1 && turn->parts[0].kind == TR_PART_TEXT &&
                     turn->parts[0].text.size == 0;
        bool text = !empty || (turn->call_count == 0 && refusal.size == 0);
        for (size_t i = 0; text && i < turn->part_count && err == TR_OK; i++) {
            err = write_part(writer, &turn->parts[i]);
        }
        if (refusal.size > 0) {
            tr_jsonw_open(w, '{');
            tr_jsonw_name(w, "text");
            tr_jsonw_str(w, refusal);
            tr_jsonw_close(w, '}');
        }
        for (size_t i = 0; i < turn->call_count && err == TR_OK; i++) {
            err = write_call(writer, &turn->calls[i]);
        }
        tr_jsonw_close(w, ']');
    }
    tri_write_answer_members(w, own, reserved);
    tr_jsonw_close(w, '}');
    tr_json_free(json);
    return err;
}

/* The call that a result belongs to: the nearest before it of that id. */
static const tr_tool_call_part *call_of(const tr_chat *chat, size_t at) {
    tr_str id = chat->turns[at].tool_call_id;
    for (size_t i = at; i > 0; i--) {
        const tr_turn *turn = &chat->turns[i - 1];
        for (size_t k = 0; k < turn->call_count; k++) {
            const tr_tool_call_part *call = &turn->calls[k];
            if (call->id.size == id.size &&
                (id.size == 0 || memcmp(call->id.ptr, id.ptr, id.size) == 0)) {
                return call;
            }
        }
    }
    return NULL;
}

/* Only an id of the server's own goes back. */
static void write_id(tr_jsonw *w, tr_str id) {
    size_t ours = sizeof(TRI_GEMINI_ID) - 1;
    if (id.size > 0 && (id.size < ours || memcmp(id.ptr, TRI_GEMINI_ID, ours) != 0)) {
        tr_jsonw_name(w, "id");
        tr_jsonw_str(w, id);
    }
}

static void write_text_of(tr_jsonw *w, const tr_turn *turn) {
    tr_json *json = NULL;
    tr_str text = turn->part_count == 0 ? (tr_str){"", 0} : turn->parts[0].text;
    bool object = turn->part_count == 1 &&
                  tr_json_parse(text.ptr, text.size, &json, NULL) == TR_OK &&
                  tri_is(tr_json_root(json), TR_JSON_OBJECT);
    if (object) {
        tr_jsonw_raw(w, tr_json_raw(tr_json_root(json)));
    } else {
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "result");
        if (turn->part_count <= 1) {
            tr_jsonw_str(w, text);
        } else {
            tr_jsonw_open(w, '[');
            for (size_t i = 0; i < turn->part_count; i++) {
                tr_jsonw_str(w, turn->parts[i].text);
            }
            tr_jsonw_close(w, ']');
        }
        tr_jsonw_close(w, '}');
    }
    tr_json_free(json);
}

/* What a tool gave is an object here: JSON of that kind goes as it is, any other text inside one.
 */
static tr_err write_result(writer *writer, size_t at) {
    static const char *const reserved[] = {"id", "name", "response", NULL};
    const tr_turn *turn = &writer->in->chat->turns[at];
    const tr_tool_call_part *call = call_of(writer->in->chat, at);
    tr_jsonw *w = writer->w;
    if (call == NULL) {
        snprintf(writer->why, writer->why_size,
                 "messages[%zu].tool_call_id: no call of that id stands before it", at);
        return TR_ERR_INVALID;
    }
    for (size_t i = 0; i < turn->part_count; i++) {
        if (turn->parts[i].kind != TR_PART_TEXT) {
            snprintf(writer->why, writer->why_size,
                     "messages[%zu]: provider %s takes text from a tool, no image", at,
                     writer->in->provider);
            return TR_ERR_UNSUPPORTED;
        }
    }
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "functionResponse");
    tr_jsonw_open(w, '{');
    write_id(w, turn->tool_call_id);
    tr_jsonw_name(w, "name");
    tr_jsonw_str(w, call->name);
    tr_jsonw_name(w, "response");
    write_text_of(w, turn);
    tri_write_extra(w, turn->extra, reserved);
    tr_jsonw_close(w, '}');
    tr_jsonw_close(w, '}');
    return TR_OK;
}

/* The signature where Google's OpenAI-compatible endpoint puts it, for who spoke to that before. */
static void write_signature(tr_jsonw *w, tr_str extra) {
    tr_json *json = NULL;
    if (extra.ptr != NULL && tr_json_parse(extra.ptr, extra.size, &json, NULL) == TR_OK) {
        const tr_json_value *root = tr_json_root(json);
        const tr_json_value *google = tr_json_get(tr_json_get(root, "extra_content"), "google");
        const tr_json_value *signature = tr_json_get(google, "thought_signature");
        if (signature != NULL && tr_json_get(root, "thoughtSignature") == NULL) {
            tr_jsonw_name(w, "thoughtSignature");
            tr_jsonw_raw(w, tr_json_raw(signature));
        }
    }
    tr_json_free(json);
}

/* Its own fields (a thought signature) stand beside the call, as they do in an answer. */
static tr_err write_call(writer *writer, const tr_tool_call_part *call) {
    static const char *const inside[] = {"id", "name", "args", NULL};
    static const char *const beside[] = {"functionCall", "extra_content", NULL};
    tr_jsonw *w = writer->w;
    tr_json *json = NULL;
    tr_str arguments = call->arguments.size == 0 ? (tr_str){"{}", 2} : call->arguments;
    if (tr_json_parse(arguments.ptr, arguments.size, &json, NULL) != TR_OK ||
        !tri_is(tr_json_root(json), TR_JSON_OBJECT)) {
        tr_json_free(json);
        snprintf(writer->why, writer->why_size,
                 "the arguments of a call of %.*s are not a JSON object",
                 (int)(call->name.size < 64 ? call->name.size : 64), call->name.ptr);
        return TR_ERR_INVALID;
    }
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "functionCall");
    tr_jsonw_open(w, '{');
    write_id(w, call->id);
    tr_jsonw_name(w, "name");
    tr_jsonw_str(w, call->name);
    tr_jsonw_name(w, "args");
    tr_jsonw_raw(w, arguments);
    tri_write_extra(w, call->function_extra, inside);
    tr_jsonw_close(w, '}');
    write_signature(w, call->extra);
    tri_write_extra(w, call->extra, beside);
    tr_jsonw_close(w, '}');
    tr_json_free(json);
    return TR_OK;
}

static tr_err write_part(writer *writer, const tr_part *part) {
    static const char *const reserved[] = {"type", "text", "inlineData", "fileData", NULL};
    tr_jsonw *w = writer->w;
    tr_err err = TR_OK;
    tr_jsonw_open(w, '{');
    switch (part->kind) {
    case TR_PART_TEXT:
        tr_jsonw_name(w, "text");
        tr_jsonw_str(w, part->text);
        break;
    case TR_PART_IMAGE:
        err = write_image(writer, part);
        break;
    }
    tri_write_extra(w, part->extra, reserved);
    tr_jsonw_close(w, '}');
    return err;
}

/* A data: URL goes inline, a file of the API's own by its name; other servers' images it does not
 * fetch. OpenAI's `detail` has no equal, except that "auto" means nothing. */
static tr_err write_image(writer *writer, const tr_part *part) {
    static const char *const inside[] = {"url", "mimeType", "data", "detail", NULL};
    static const char *const named[] = {"url", "fileUri", "detail", NULL};
    static const char files[] = "https://generativelanguage.googleapis.com/";
    tr_jsonw *w = writer->w;
    tr_str url = part->url;
    bool inlined = url.size > 5 && memcmp(url.ptr, "data:", 5) == 0;
    bool file = url.size >= sizeof(files) && memcmp(url.ptr, files, sizeof(files) - 1) == 0;
    const char *comma = inlined ? memchr(url.ptr, ',', url.size) : NULL;
    static const char base64[] = ";base64";
    size_t tail = sizeof(base64) - 1;
    bool coded = comma != NULL && (size_t)(comma - url.ptr) > 5 + tail &&
                 memcmp(comma - tail, base64, tail) == 0;
    const char *wrong = !inlined && !file   ? "takes images as data: URLs, and fetches none"
                        : inlined && !coded ? "takes images as base64 with their type only"
                        : tri_has_word(part->image_extra, "detail", "auto") ? NULL
                        : tri_has_member(part->image_extra, "detail")
                            ? "has no field for an image's detail"
                            : NULL;
    if (wrong != NULL) {
        snprintf(writer->why, writer->why_size, "provider %s %s", writer->in->provider, wrong);
        return TR_ERR_UNSUPPORTED;
    }
    tr_jsonw_name(w, inlined ? "inlineData" : "fileData");
    tr_jsonw_open(w, '{');
    if (inlined) {
        const char *semicolon = memchr(url.ptr, ';', url.size);
        tr_jsonw_name(w, "mimeType");
        tr_jsonw_str(w, (tr_str){url.ptr + 5, (size_t)(semicolon - url.ptr) - 5});
        tr_jsonw_name(w, "data");
        tr_jsonw_str(w, (tr_str){comma + 1, url.size - (size_t)(comma + 1 - url.ptr)});
    } else {
        tr_jsonw_name(w, "fileUri");
        tr_jsonw_str(w, url);
    }
    tri_write_extra(w, part->image_extra, inlined ? inside : named);
    tr_jsonw_close(w, '}');
    return TR_OK;
}
