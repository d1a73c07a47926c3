/*
 * A request as it is built: its turns and tools already JSON, put together when it is sent.
 */
#ifndef TR_CLIENT_REQUEST_H
#define TR_CLIENT_REQUEST_H

#include "protocol/client/buffer.h"
#include "protocol/client/troupe.h"

typedef struct tri_turn {
    bool user;
    tri_buffer text;  /* a JSON string: the only part, while it is the only one */
    tri_buffer parts; /* part objects with commas between */
    tri_buffer head;  /* the turn's members before "content", opened: {"role":"user" */
    tri_buffer tail;  /* members after it, each with its comma before */
    bool no_content;  /* content is null */
} tri_turn;

struct tr_request {
    char *target, *provider, *base_url; /* "" when not given */
    tr_submit head;                     /* limits, window, flags, priority */
    bool forget;
    tri_buffer fields; /* the options' and extra_json's members, with commas between */
    bool extra_choice; /* extra_json has the tool_choice */
    tri_buffer choice; /* tool_choice as JSON, or empty */
    tri_buffer tools;
    tri_turn *turns;
    size_t turn_count;
};

/* Appends `text` as a JSON string. TR_ERR_INVALID when it is not UTF-8. */
TR_MUST_USE tr_err tri_json_string(tri_buffer *buffer, const char *text);
TR_MUST_USE tr_err tri_add(tri_buffer *buffer, const char *text);
/* Renders the options' members and fills the head of `request`; says why not. */
TR_MUST_USE tr_err tri_request_options(tr_request *request, const tr_options *options);
/* Appends an empty turn. */
TR_MUST_USE tr_err tri_request_turn(tr_request *request, const char *role, tri_turn **ret);
/* Appends the body as op chat and count take it, or `inputs` as op embed does. */
TR_MUST_USE tr_err tri_request_body(const tr_request *request, tri_buffer *body);
TR_MUST_USE tr_err tri_request_inputs(const tr_request *request, const char *const *texts, size_t n,
                                      tri_buffer *body);

#endif
