/* What actors of every folder answer when they are asked for their status: JSON as a message. */
#ifndef TR_RUNTIME_ANSWER_H
#define TR_RUNTIME_ANSWER_H

#include "protocol/json.h"
#include "runtime/actor.h"

/* Sends what `w` holds (taken) as the body of a message of `kind`, to whoever sent `asked`, with
 * its ref. TR_ERR_NOMEM: nothing was sent. */
tr_err tr_send_json(tr_self *self, const tr_msg *asked, uint16_t kind, tr_jsonw *w);

#endif
