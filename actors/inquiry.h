/*
 * An inquiry: what a control actor asks of a provider about its models, past the provider's limiter
 * (it costs no tokens) but with the same messages as any request. A list is asked for twice at
 * once, for what there is and what is loaded; that a provider cannot say the latter is no failure.
 * Belongs to the actor that asks, on its shard.
 */
#ifndef TR_ACTORS_INQUIRY_H
#define TR_ACTORS_INQUIRY_H

#include "protocol/json.h"
#include "runtime/actor.h"

#define TR_INQUIRY_TEXT_max (4 * 1024 * 1024) /* a list of models as JSON */

typedef struct tr_inquiry_list {
    char *text;
    size_t size, room;
    bool failed;
} tr_inquiry_list;

typedef struct tr_inquiry {
    tr_inquiry_list lists[2]; /* models, loaded; by ref - 1 */
    uint32_t open;            /* answers that have not come */
    bool lists_asked;         /* else the answer is DONE alone */
} tr_inquiry;

/* The provider's actor on this shard, or TR_ID_NONE. */
tr_id tr_inquiry_provider(tr_self *self, const char *name);
/* TR_OP_MODELS (and TR_OP_LOADED with it), TR_OP_LOAD or TR_OP_UNLOAD; the caller monitors the
 * provider. Answers come as DELTA, DONE and FAIL. */
TR_MUST_USE tr_err tr_inquiry_ask(tr_inquiry *inquiry, tr_self *self, tr_id provider, tr_op op,
                                  const char *model, uint32_t total_ms);
/* A DELTA: TR_ERR_TOO_LARGE or TR_ERR_NOMEM. */
TR_MUST_USE tr_err tr_inquiry_take(tr_inquiry *inquiry, const tr_msg *delta);
/* Whether the rest of the answer is worth having without what this FAIL would have told. */
bool tr_inquiry_forgives(const tr_inquiry *inquiry, const tr_msg *fail);
/* A terminal message: true when it was the last (also of who never asked). */
bool tr_inquiry_end(tr_inquiry *inquiry, const tr_msg *terminal);
/* Members "models" and "loaded" of the object that is open. */
void tr_inquiry_write(const tr_inquiry *inquiry, tr_jsonw *w);
void tr_inquiry_fini(tr_inquiry *inquiry);

#endif
