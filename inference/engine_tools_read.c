/*
 * An answer with tools, from text to pieces. What a piece says comes from the bytes before
 * `covered`, and reading them again in another worker says the same, so a DELTA that tells how many
 * bytes it covers can be resumed behind: engine_emit.c writes it as a mark among the token ids,
 * where the bytes end inside a token. Called by the engine, on its thread.
 */
#include "inference/engine_tools.h"
#include "protocol/kind.h"

enum { piece_max = 16 * 1024 };

static bool goes_on(const tri_tools_piece *piece, const tri_calls_out *out) {
    return piece->kind == 0 || (piece->kind == out->kind && piece->call == out->call &&
                                out->kind != TR_DELTA_TOOL_START);
}

static void gather(tri_tools *tools, const tri_calls_out *out) {
    tri_tools_piece *piece = &tools->piece;
    if (out->kind == 0) {
        return;
    }
    if (!goes_on(piece, out) || piece->text.size >= piece_max) {
        piece = &tools->next;
    }
    piece->kind = out->kind;
    piece->call = out->call;
    piece->tool = out->tool;
    if (out->text.size > 0) {
        tri_write_str(&piece->text, out->text);
    }
}

/* Bytes that are held back may have left the text already, with tokens that had no other. */
static void cover(tri_tools *tools) {
    size_t held = tri_calls_held(&tools->calls);
    if (tools->next.kind == 0) {
        tools->covered = tools->fed > held ? tools->fed - held : 0;
    }
}

tr_err tri_tools_read(tri_tools *tools, const char *bytes, size_t size, bool ended) {
    while (tools->fed < size && tools->next.kind == 0) {
        tri_calls_out out = tri_calls_feed(&tools->calls, bytes + tools->fed++);
        gather(tools, &out);
        cover(tools);
    }
    if (ended && tools->fed == size && tools->next.kind == 0 && !tools->flushed &&
        tri_calls_held(&tools->calls) > 0) {
        tri_calls_out out = tri_calls_finish(&tools->calls);
        tools->flushed = true;
        gather(tools, &out);
        cover(tools);
    }
    return tools->piece.text.failed || tools->next.text.failed ? TR_ERR_NOMEM : TR_OK;
}

void tri_tools_sent(tri_tools *tools) {
    tri_tools_piece sent = tools->piece;
    tools->piece = tools->next;
    tools->next = (tri_tools_piece){.text = sent.text}; /* its memory serves again */
    tools->next.text.size = 0;
    tools->fed -= tools->covered;
    tools->covered = 0;
    cover(tools);
}

void tri_tools_replay(tri_tools *tools, const char *bytes, size_t size, bool flushed) {
    for (size_t i = 0; i < size; i++) {
        (void)tri_calls_feed(&tools->calls, bytes + i);
    }
    if (flushed) {
        (void)tri_calls_finish(&tools->calls);
        tools->flushed = true;
    }
}
