/*
 * The credit given covers the longest list that is taken, so none is given later: who has more to
 * say is refused. A provider's list is JSON of its codec's writing and goes on as it is.
 *
 * Called by control.c on its shard.
 */
#include "actors/inquiry.h"

#include <stdio.h>
#include <string.h>

#include "protocol/limits.h"
#include "runtime/memory.h"

#define MODELS_REF 1U
#define LOADED_REF 2U

tr_id tr_inquiry_provider(tr_self *self, const char *name) {
    char actor[TR_ACTOR_NAME_max + 1];
    snprintf(actor, sizeof actor, "provider:%s:%u", name, tr_self_shard(self));
    return tr_whereis(tr_self_node(self), actor);
}

static tr_err submit(tr_inquiry *inquiry, tr_self *self, tr_id provider, tr_op op,
                     const char *model, uint32_t total_ms, uint64_t ref) {
    tr_submit head = {.op = (uint8_t)op,
                      .flags = TR_SUBMIT_NO_STREAM,
                      .credit_messages = TR_CREDIT_MESSAGES_max,
                      .credit_bytes = TR_CREDIT_BYTES_max,
                      .total_ms = total_ms};
    tr_submit_view view = {.target = {model, strlen(model)}};
    tr_msg *msg = tr_msg_submit(&head, &view, NULL);
    if (msg == NULL) {
        return TR_ERR_NOMEM;
    }
    msg->ref = ref;
    tr_err err = tr_send(self, provider, &msg);
    tr_msg_free(msg); /* NULL once it was sent */
    inquiry->open += err == TR_OK ? 1 : 0;
    return err;
}

tr_err tr_inquiry_ask(tr_inquiry *inquiry, tr_self *self, tr_id provider, tr_op op,
                      const char *model, uint32_t total_ms) {
    inquiry->lists_asked = op == TR_OP_MODELS;
    tr_err err = submit(inquiry, self, provider, op, model, total_ms, MODELS_REF);
    if (err == TR_OK && inquiry->lists_asked) {
        err = submit(inquiry, self, provider, TR_OP_LOADED, model, total_ms, LOADED_REF);
    }
    return err;
}

tr_err tr_inquiry_take(tr_inquiry *inquiry, const tr_msg *delta) {
    if (inquiry->open == 0 || delta->ref < MODELS_REF || delta->ref > LOADED_REF) {
        return TR_OK;
    }
    tr_inquiry_list *list = &inquiry->lists[delta->ref - 1];
    tr_str text = tr_delta_read((const tr_delta *)(const void *)delta->data).text;
    if (list->size + text.size > TR_INQUIRY_TEXT_max) {
        return TR_ERR_TOO_LARGE;
    }
    if (list->size + text.size > list->room) {
        size_t room = 2 * (list->size + text.size);
        char *grown = tr_realloc(list->text, room);
        if (grown == NULL) {
            return TR_ERR_NOMEM;
        }
        list->text = grown;
        list->room = room;
    }
    if (text.size > 0) {
        memcpy(list->text + list->size, text.ptr, text.size);
        list->size += text.size;
    }
    return TR_OK;
}

bool tr_inquiry_forgives(const tr_inquiry *inquiry, const tr_msg *fail) {
    return inquiry->lists_asked && fail->ref == LOADED_REF;
}

bool tr_inquiry_end(tr_inquiry *inquiry, const tr_msg *terminal) {
    if (inquiry->open == 0) {
        return true;
    }
    if (terminal->kind == TR_KIND_FAIL && terminal->ref == LOADED_REF) {
        inquiry->lists[LOADED_REF - 1].failed = true;
    }
    return --inquiry->open == 0;
}

static void write_list(tr_jsonw *w, const char *name, const tr_inquiry_list *list) {
    if (list->size > 0 && !list->failed) {
        tr_jsonw_name(w, name);
        tr_jsonw_raw(w, (tr_str){list->text, list->size});
    }
}

void tr_inquiry_write(const tr_inquiry *inquiry, tr_jsonw *w) {
    write_list(w, "models", &inquiry->lists[MODELS_REF - 1]);
    write_list(w, "loaded", &inquiry->lists[LOADED_REF - 1]);
}

void tr_inquiry_fini(tr_inquiry *inquiry) {
    tr_free(inquiry->lists[0].text);
    tr_free(inquiry->lists[1].text);
}
