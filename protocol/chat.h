/*
 * The common chat request: what a SUBMIT's body says, read once by the backend that serves it (and
 * by nobody before). The JSON is a superset of OpenAI's chat completions request: PROTOCOL.md lists
 * every field. Everything in tr_chat is borrowed from it and freed with it. Absent numbers are NaN
 * (doubles) or -1 (integers), absent strings have ptr NULL.
 */
#ifndef TR_PROTOCOL_CHAT_H
#define TR_PROTOCOL_CHAT_H

#include "protocol/json.h"

typedef enum tr_chat_role {
    TR_CHAT_SYSTEM = 1,
    TR_CHAT_USER,
    TR_CHAT_ASSISTANT,
    TR_CHAT_TOOL,
} tr_chat_role;
/* "system", "user", "assistant", "tool". Pure. */
const char *tr_chat_role_name(tr_chat_role role);

typedef enum tr_part_kind { TR_PART_TEXT = 1, TR_PART_IMAGE } tr_part_kind;

typedef struct tr_part {
    tr_part_kind kind;
    tr_str text;        /* of a text part */
    tr_str url;         /* of an image part: http(s) URL or data: URL */
    tr_str image_extra; /* what stands beside the URL ("detail"), as extra */
    tr_str extra;       /* the part's own other fields, raw JSON object, or NULL */
} tr_part;

typedef struct tr_tool_call_part {
    tr_str id, name;
    tr_str arguments;      /* JSON text, as the model wrote it, or NULL */
    tr_str function_extra; /* what else stands in `function`, as extra */
    tr_str extra;
} tr_tool_call_part;

typedef struct tr_turn {
    tr_chat_role role;
    const tr_part *parts;
    size_t part_count;
    const tr_tool_call_part *calls; /* of an assistant turn */
    size_t call_count;
    tr_str tool_call_id; /* of a tool turn */
    tr_str extra;
} tr_turn;

typedef struct tr_tool {
    tr_str name, description;
    tr_str parameters;     /* JSON schema, raw */
    tr_str function_extra; /* what else stands in `function` ("strict"), as extra */
    tr_str extra;
} tr_tool;

typedef struct tr_chat {
    const tr_turn *turns;
    size_t turn_count;
    const tr_tool *tools;
    size_t tool_count;
    tr_str tool_choice; /* raw JSON, or NULL */
    double temperature, top_p, min_p;
    double repeat_penalty, frequency_penalty, presence_penalty;
    int64_t top_k, repeat_last_n;
    int64_t seed;
    int64_t max_tokens;
    const tr_str *stops;
    size_t stop_count;
    tr_str grammar;          /* GBNF */
    tr_str schema;           /* JSON schema of the answer, raw */
    tr_str format;           /* the whole response_format that schema comes from, raw */
    tr_str reasoning_effort; /* "low" … */
    tr_str extra;            /* the provider's own request fields, raw JSON object, or NULL */
    const tr_str *inputs;    /* of an embed request */
    size_t input_count;
    tr_json *json; /* owns all the above; the arrays lie in one block with the struct */
} tr_chat;

/* Reads and checks a request body for `op` (chat, embed or count). On TR_ERR_INVALID, `ret_why` (>=
 * 160 bytes) says which field and what it must be. The result is freed by tr_chat_free. Pure. */
TR_MUST_USE tr_err tr_chat_parse(tr_op op, const char *text, size_t size, tr_chat **ret,
                                 char *ret_why, size_t why_size);
void tr_chat_free(tr_chat *chat);

#endif
