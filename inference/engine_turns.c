/*
 * libllama's chat templates take turns of role and text. Tools go into the system turn in the words
 * that Hermes and Qwen were trained with; calls of earlier turns are written as the model would
 * have written them; results of tools become one turn of the user's, in the order of the calls they
 * answer, since nothing else tells the model which is which. Called by engine_prompt.c.
 */
#include "inference/engine_turns.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/engine.h"
#include "inference/engine_write.h"
#include "runtime/memory.h"

static void write_parts(tri_write *w, const tr_turn *turn) {
    for (size_t i = 0; i < turn->part_count; i++) {
        tri_write_str(w, turn->parts[i].text);
    }
}

/* A name or text as JSON. */
static tr_err write_json(tri_write *w, tr_str text) {
    tr_jsonw json;
    char *made = NULL;
    size_t size = 0;
    tr_jsonw_init(&json);
    tr_jsonw_str(&json, text);
    tr_err err = tr_jsonw_take(&json, &made, &size);
    if (err == TR_OK) {
        tri_write_str(w, (tr_str){made, size});
        free(made);
    }
    return err;
}

static tr_err write_tool(tri_write *w, const tr_tool *tool) {
    tri_write_text(w, "\n{\"type\": \"function\", \"function\": {\"name\": ");
    tr_err err = write_json(w, tool->name);
    if (err == TR_OK && tool->description.ptr != NULL) {
        tri_write_text(w, ", \"description\": ");
        err = write_json(w, tool->description);
    }
    if (tool->parameters.ptr != NULL) {
        tri_write_text(w, ", \"parameters\": ");
        tri_write_str(w, tool->parameters);
    }
    tri_write_text(w, "}}");
    return err;
}

static tr_err write_tools(tri_write *w, const tr_chat *chat) {
    tr_err err = TR_OK;
    tri_write_text(w, "# Tools\n\nYou may call one or more functions to assist with the user query."
                      "\n\nYou are provided with function signatures within <tools></tools> XML "
                      "tags:\n<tools>");
    for (size_t i = 0; i < chat->tool_count && err == TR_OK; i++) {
        err = write_tool(w, &chat->tools[i]);
    }
    tri_write_text(w, "\n</tools>\n\nFor each function call, return a json object with function "
                      "name and arguments within <tool_call></tool_call> XML tags:\n"
                      "<tool_call>\n{\"name\": <function-name>, \"arguments\": "
                      "<args-json-object>}\n</tool_call>");
    return err;
}

static tr_err write_calls(tri_write *w, const tr_turn *turn) {
    tr_err err = TR_OK;
    for (size_t i = 0; i < turn->call_count && err == TR_OK; i++) {
        const tr_tool_call_part *call = &turn->calls[i];
        bool no_arguments = call->arguments.ptr == NULL || call->arguments.size == 0;
        tri_write_text(w, w->size > 0 ? "\n" : "");
        tri_write_text(w, TRI_CALL_OPEN "\n{\"name\": ");
        err = write_json(w, call->name);
        tri_write_text(w, ", \"arguments\": ");
        tri_write_str(w, no_arguments ? (tr_str){"{}", 2} : call->arguments);
        tri_write_text(w, "}\n" TRI_CALL_CLOSE);
    }
    return err;
}

static bool answers(const tr_turn *result, const tr_tool_call_part *call) {
    return result->tool_call_id.size == call->id.size &&
           memcmp(result->tool_call_id.ptr, call->id.ptr, call->id.size) == 0;
}

static void write_result(tri_write *w, const tr_turn *turn) {
    tri_write_text(w, w->size > 0 ? "\n" : "");
    tri_write_text(w, TRI_RESULT_OPEN "\n");
    write_parts(w, turn);
    tri_write_text(w, "\n" TRI_RESULT_CLOSE);
}

/* The tool turns from `first` on; *ret_end is behind them. */
static tr_err write_results(tri_write *w, const tr_chat *chat, size_t first, size_t *ret_end,
                            char *ret_why) {
    const tr_turn *caller = first > 0 ? &chat->turns[first - 1] : NULL;
    size_t end = first, written = 0;
    while (end < chat->turn_count && chat->turns[end].role == TR_CHAT_TOOL) {
        end++;
    }
    for (size_t i = 0; caller != NULL && i < caller->call_count; i++) {
        for (size_t k = first; k < end; k++) {
            if (answers(&chat->turns[k], &caller->calls[i])) {
                write_result(w, &chat->turns[k]);
                written++;
            }
        }
    }
    *ret_end = end;
    if (written == end - first) {
        return TR_OK;
    }
    snprintf(ret_why, TR_ENGINE_WHY_size,
             "messages[%zu] to [%zu]: results of tools must each answer, by tool_call_id, one call "
             "of the assistant's message right before them",
             first, end - 1);
    return TR_ERR_INVALID;
}

static tr_err take(tri_lines *lines, const char *role, tri_write *w) {
    char *text = tri_write_take(w);
    if (text == NULL) {
        return TR_ERR_NOMEM;
    }
    lines->items[lines->count++] = (tri_line){role, text};
    return TR_OK;
}

/* One turn of the chat, or a row of results. */
static tr_err add(tri_lines *lines, const tr_chat *chat, const tri_tools *tools, size_t at,
                  size_t *ret_next, char *ret_why) {
    const tr_turn *turn = &chat->turns[at];
    tri_write w = {0};
    tr_err err = TR_OK;
    const char *role = tr_chat_role_name(turn->role);
    *ret_next = at + 1;
    if (turn->role == TR_CHAT_TOOL) {
        role = tr_chat_role_name(TR_CHAT_USER);
        err = write_results(&w, chat, at, ret_next, ret_why);
    } else {
        write_parts(&w, turn);
        err = write_calls(&w, turn);
    }
    if (err == TR_OK && at == 0 && tools != NULL && turn->role == TR_CHAT_SYSTEM) {
        tri_write_text(&w, w.size > 0 ? "\n\n" : "");
        err = write_tools(&w, chat);
    }
    if (err == TR_OK) {
        return take(lines, role, &w);
    }
    tr_free(w.text);
    return err;
}

tr_err tri_lines_init(tri_lines *lines, const tr_chat *chat, const tri_tools *tools,
                      char *ret_why) {
    *lines = (tri_lines){.items = tr_zalloc((chat->turn_count + 1) * sizeof *lines->items)};
    tr_err err = lines->items != NULL ? TR_OK : TR_ERR_NOMEM;
    if (err == TR_OK && tools != NULL &&
        (chat->turn_count == 0 || chat->turns[0].role != TR_CHAT_SYSTEM)) {
        tri_write w = {0};
        err = write_tools(&w, chat);
        err = err == TR_OK ? take(lines, tr_chat_role_name(TR_CHAT_SYSTEM), &w) : err;
        tr_free(w.text);
    }
    for (size_t at = 0, next; at < chat->turn_count && err == TR_OK; at = next) {
        err = add(lines, chat, tools, at, &next, ret_why);
    }
    return err;
}

void tri_lines_fini(tri_lines *lines) {
    for (size_t i = 0; i < lines->count; i++) {
        tr_free(lines->items[i].text);
    }
    tr_free(lines->items);
    *lines = (tri_lines){0};
}

size_t tri_lines_size(const tri_lines *lines) {
    size_t size = 0;
    for (size_t i = 0; i < lines->count; i++) {
        size += strlen(lines->items[i].text);
    }
    return size;
}
