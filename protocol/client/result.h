/*
 * A result as it grows: DELTAs add to it, one terminal message or a local failure ends it. Not
 * guarded: text belongs to whoever consumes the stream, the end to whoever moves the bytes, and
 * they are different fields.
 */
#ifndef TR_CLIENT_RESULT_H
#define TR_CLIENT_RESULT_H

#include "protocol/client/buffer.h"
#include "protocol/client/troupe.h"

#define TRI_CHOICES_max 128
#define TRI_TOOL_CALLS_max 1024
#define TRI_OPAQUES_max 256

typedef struct tri_result_call {
    uint32_t index;
    tri_buffer id, name, arguments;
} tri_result_call;

typedef struct tri_result_opaque {
    tri_buffer name, value;
} tri_result_opaque;

struct tr_result {
    /* What the DELTAs said. */
    tri_buffer *choices;
    size_t choice_count;
    tri_buffer reasoning;
    tri_result_call *calls;
    size_t call_count;
    tri_result_opaque *opaques;
    size_t opaque_count;
    size_t opaque_last; /* the one that the last opaque DELTA was of */
    size_t bytes;       /* of all the above */
    /* How it ended. */
    tr_err err;
    tri_buffer message, target, request_id;
    tr_usage usage;
    uint32_t retry_after_ms;
    uint16_t attempts, status;
    uint8_t finish; /* tr_finish, or 0 */
    bool fallback;
    bool hedged;
    bool estimated;
};

tr_result *tri_result_new(void);
/* `keep_text` false: only tool calls and opaque fields are kept. TR_ERR_NOMEM; TR_ERR_TOO_LARGE:
 * the answer is larger than TR_RESULT_max. */
TR_MUST_USE tr_err tri_result_add(tr_result *result, const tr_delta *delta, bool keep_text);
/* Lack of memory here loses words, never the error's code. */
void tri_result_done(tr_result *result, const tr_done *done);
void tri_result_fail(tr_result *result, const tr_fail *fail);
void tri_result_fail_here(tr_result *result, tr_err err, const char *message);

#endif
