/*
 * Requests of any bytes: nothing crashes, a refusal says why in UTF-8, and what is accepted is
 * whole. Each goes through every operation.
 */
#include <stdint.h>
#include <string.h>

#include "protocol/assert.h"
#include "protocol/chat.h"
#include "protocol/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void hold_text(tr_str text) {
    TR_ASSERT(text.ptr != NULL || text.size == 0);
    TR_ASSERT(tr_utf8_valid(text.ptr, text.size));
}

/* Raw JSON, or nothing. */
static void hold_raw(tr_str raw) {
    tr_json *json = NULL;
    if (raw.ptr != NULL) {
        TR_ASSERT(tr_json_parse(raw.ptr, raw.size, &json, NULL) == TR_OK);
        tr_json_free(json);
    }
}

static void hold_turn(const tr_turn *turn) {
    TR_ASSERT(turn->role >= TR_CHAT_SYSTEM && turn->role <= TR_CHAT_TOOL);
    TR_ASSERT(turn->part_count + turn->call_count > 0);
    for (size_t i = 0; i < turn->part_count; i++) {
        const tr_part *part = &turn->parts[i];
        TR_ASSERT(part->kind == TR_PART_TEXT || part->url.size > 0);
        hold_text(part->text);
        hold_text(part->url);
        hold_raw(part->image_extra);
        hold_raw(part->extra);
    }
    for (size_t i = 0; i < turn->call_count; i++) {
        const tr_tool_call_part *call = &turn->calls[i];
        TR_ASSERT(call->name.size > 0);
        hold_text(call->id);
        hold_text(call->name);
        hold_text(call->arguments);
        hold_raw(call->function_extra);
        hold_raw(call->extra);
    }
    hold_text(turn->tool_call_id);
    hold_raw(turn->extra);
}

static void hold(tr_op op, const tr_chat *chat) {
    TR_ASSERT(op == TR_OP_EMBED ? chat->input_count > 0 : chat->turn_count > 0);
    TR_ASSERT(chat->stop_count <= TR_STOP_max && chat->input_count <= TR_INPUTS_max);
    for (size_t i = 0; i < chat->turn_count; i++) {
        hold_turn(&chat->turns[i]);
    }
    for (size_t i = 0; i < chat->tool_count; i++) {
        TR_ASSERT(chat->tools[i].name.size > 0);
        hold_text(chat->tools[i].description);
        hold_raw(chat->tools[i].parameters);
        hold_raw(chat->tools[i].function_extra);
        hold_raw(chat->tools[i].extra);
    }
    for (size_t i = 0; i < chat->stop_count; i++) {
        TR_ASSERT(chat->stops[i].size > 0 && chat->stops[i].size <= TR_STOP_TEXT_max);
        hold_text(chat->stops[i]);
    }
    for (size_t i = 0; i < chat->input_count; i++) {
        TR_ASSERT(chat->inputs[i].size > 0);
        hold_text(chat->inputs[i]);
    }
    hold_text(chat->grammar);
    hold_text(chat->reasoning_effort);
    hold_raw(chat->schema);
    hold_raw(chat->format);
    hold_raw(chat->tool_choice);
    hold_raw(chat->extra);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < 2) {
        return 0;
    }
    char why[160] = "";
    for (tr_op op = TR_OP_CHAT; op <= TR_OP_COUNT; op++) {
        tr_chat *chat = NULL;
        if (tr_chat_parse(op, (const char *)bytes + 2, size - 2, &chat, why, sizeof why) == TR_OK) {
            hold(op, chat);
            tr_chat_free(chat);
        } else {
            TR_ASSERT(why[0] != '\0' && tr_utf8_valid(why, strlen(why)));
        }
    }
    return 0;
}
