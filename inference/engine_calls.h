/*
 * Tool calls in a model's text: `<tool_call>{"name": "x", "arguments": {…}}</tool_call>`, as Hermes
 * and Qwen write them, several in a row being parallel. A reader of bytes: what it says and what it
 * holds back is a function of the bytes alone, which is what makes resuming exact. Pure.
 */
#ifndef TR_INFERENCE_ENGINE_CALLS_H
#define TR_INFERENCE_ENGINE_CALLS_H

#include "protocol/chat.h"

#define TRI_CALL_OPEN "<tool_call>"
#define TRI_CALL_CLOSE "</tool_call>"
/* Around a result of a tool in the prompt; the model itself may not open one. */
#define TRI_RESULT_OPEN "<tool_response>"
#define TRI_RESULT_CLOSE "</tool_response>"
#define TRI_CALL_HEAD_max 2048 /* what may be held back of a call before its arguments */

typedef enum tri_calls_state {
    TRI_CALLS_TEXT,  /* `matched` bytes of the opening tag are held back */
    TRI_CALLS_HEAD,  /* all since the tag is held back */
    TRI_CALLS_ARGS,  /* `depth` levels deep in the arguments; 0 = before their first brace */
    TRI_CALLS_TAIL,  /* the object's end and the closing tag */
    TRI_CALLS_AFTER, /* behind a call: another one, or text */
} tri_calls_state;

typedef struct tri_calls {
    /* set at init, borrowed */
    const tr_str *names; /* of the tools, as JSON writes them inside quotes */
    size_t name_count;
    /* where it is */
    tri_calls_state state;
    uint32_t count; /* calls begun */
    size_t matched; /* of the part of the form that is being read */
    uint32_t part;  /* of the form's head or tail */
    uint32_t depth;
    bool in_string, escaped;
    char held[TRI_CALL_HEAD_max];
    size_t held_size;
    size_t name_at; /* where the name begins in `held`; once it is read, the tool's number */
} tri_calls;

/* What one byte brought: kind 0 = nothing (yet). `text` lasts until the next byte. */
typedef struct tri_calls_out {
    int kind;      /* tr_delta_kind: TEXT, TOOL_START or TOOL_ARGS */
    uint32_t call; /* number of the call in its answer */
    size_t tool;   /* of a TOOL_START: which name */
    tr_str text;
} tri_calls_out;

void tri_calls_init(tri_calls *calls, const tr_str *names, size_t name_count);
/* Takes one byte, which the caller keeps until the next. */
tri_calls_out tri_calls_feed(tri_calls *calls, const char *byte);
/* Bytes that were fed and may still become text. */
size_t tri_calls_held(const tri_calls *calls);
/* No byte follows: what is held back is text. */
tri_calls_out tri_calls_finish(tri_calls *calls);

#endif
