/* The one copy from a writer's buffer into a message's body. */
#include "runtime/answer.h"

#include <stdlib.h>
#include <string.h>

tr_err tr_send_json(tr_self *self, const tr_msg *asked, uint16_t kind, tr_jsonw *w) {
    char *text;
    size_t size;
    tr_err err = tr_jsonw_take(w, &text, &size);
    if (err != TR_OK) {
        return err;
    }
    tr_body *body = tr_body_new(size);
    tr_msg *msg = tr_msg_new(kind, 0);
    if (body == NULL || msg == NULL) {
        free(text);
        tr_body_unref(body);
        tr_msg_free(msg);
        return TR_ERR_NOMEM;
    }
    memcpy(body->bytes, text, size);
    free(text);
    msg->body = body;
    msg->ref = asked->ref;
    return tr_send_control(self, asked->from, msg);
}
