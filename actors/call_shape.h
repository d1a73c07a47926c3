/*
 * An answer in JSON (response_format): see call_shape.c. Internal to actors/call*.c; on the call's
 * shard.
 */
#ifndef TR_ACTORS_CALL_SHAPE_H
#define TR_ACTORS_CALL_SHAPE_H

#include "actors/call_internal.h"

#define TRI_SHAPE_max (1024 * 1024) /* bytes of an answer that is checked, or held back */

/* Looks whether the request asks for JSON: then c->shape is there. TR_ERR_NOMEM. */
TR_MUST_USE tr_err tri_shape_begin(tri_call *c);
void tri_shape_free(struct tri_shape *shape); /* NULL is fine */

/* A sentence when the target in use cannot be asked, or NULL. */
const char *tri_shape_refusal(const tri_call *c);
/* The body for the target in use, a reference; NULL = out of memory. Begins a new answer. */
tr_body *tri_shape_body(tri_call *c);
/* Whether the answer is held back until it is known to be good. */
bool tri_shape_holds(const tri_call *c);
/* The answer is held back, and none of it has come. */
bool tri_shape_waits(const tri_call *c);

/* A DELTA of an answer that is held back; the message is taken. */
tr_err tri_shape_hold(tr_self *self, tri_call *c, tr_msg **msg);
/* A DELTA that goes on to the client: its text is kept for the check. */
void tri_shape_note(tri_call *c, const tr_delta *delta);
/* The backend's DONE: the answer's end, its correction, or a failure. */
tr_err tri_shape_done(tr_self *self, tri_call *c, const tr_msg *msg);
/* Sends what was held back and then `terminal`, which is taken, as the client's credit allows. */
tr_err tri_shape_deliver(tr_self *self, tri_call *c, tr_msg *terminal);
/* There is new credit. */
tr_err tri_shape_go_on(tr_self *self, tri_call *c);
/* Adds what the attempts before a correction used. */
void tri_shape_add_used(const tri_call *c, tr_usage_wire *usage);

#endif
