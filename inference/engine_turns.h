/* A chat as turns of plain text, the form that chat templates know. Pure; any thread. */
#ifndef TR_INFERENCE_ENGINE_TURNS_H
#define TR_INFERENCE_ENGINE_TURNS_H

#include "inference/engine_tools.h"

typedef struct tri_line {
    const char *role;
    char *text; /* owned */
} tri_line;

typedef struct tri_lines {
    tri_line *items;
    size_t count;
} tri_lines;

/* `tools` NULL: the model is told of none. TR_ERR_INVALID with `ret_why` (>= TR_ENGINE_WHY_size);
 * to be finished in every case. */
TR_MUST_USE tr_err tri_lines_init(tri_lines *lines, const tr_chat *chat, const tri_tools *tools,
                                  char *ret_why);
void tri_lines_fini(tri_lines *lines);
/* Bytes of all texts. */
size_t tri_lines_size(const tri_lines *lines);

#endif
