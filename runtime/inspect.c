/*
 * The answer to INSPECT: a row for each actor of this shard. It is made in one go on the shard's
 * thread, so it is one consistent picture of the shard; nothing is kept for it otherwise. Out of
 * memory the answer has no body.
 */
#include <stdio.h>
#include <string.h>

#include "runtime/cell.h"

static void describe(const tr_self *self, tr_actor_row *row) {
    memset(row, 0, sizeof *row);
    row->id = self->id;
    row->parent = self->parent;
    row->mailbox = self->mail_count;
    row->mailbox_max = self->mail_max;
    row->handled = self->handled;
    row->restarts = self->restarts;
    snprintf(row->name, sizeof row->name, "%s", self->name != NULL ? self->name : "");
    snprintf(row->kind, sizeof row->kind, "%s", self->behaviour->name);
    if (self->behaviour->describe != NULL) {
        self->behaviour->describe(self->state, row->info, sizeof row->info);
    }
}

void tri_inspect(tr_shard *shard, tr_msg *msg) {
    tr_body *body = tr_body_new(shard->actors * sizeof(tr_actor_row));
    if (body != NULL) {
        char *out = body->bytes;
        for (uint32_t page = 0; page < shard->page_count; page++) {
            for (uint32_t i = 0; shard->pages[page].slots != NULL && i < TRI_PAGE; i++) {
                const tr_self *self = &shard->pages[page].slots[i];
                if (self->behaviour != NULL) {
                    tr_actor_row row;
                    describe(self, &row);
                    memcpy(out, &row, sizeof row);
                    out += sizeof row;
                }
            }
        }
    }
    tr_body_unref(msg->body);
    msg->body = body;
    msg->kind = TR_KIND_INSPECTED;
    msg->size = 0;
    msg->flags = 0;
    tr_id asker = msg->from;
    msg->from = msg->to;
    msg->to = asker;
    tri_route(shard, msg);
}
