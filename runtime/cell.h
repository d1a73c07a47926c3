/*
 * The lives of actors in a shard's slots, and the ties between them. Internal to runtime/.
 */
#ifndef TR_RUNTIME_CELL_H
#define TR_RUNTIME_CELL_H

#include "runtime/shard_internal.h"

/* What a SPAWN's body holds; the copies of args and name follow. */
typedef struct tri_spawn {
    tr_spawn_spec spec;
    tr_msg *watch;                         /* MONITOR to attach to the new actor, or NULL */
    bool answers;                          /* STARTED goes to the sender */
    void (*failed)(void *arg, tr_err err); /* of tr_node_spawn; NULL = nobody asks */
    void *failed_arg;
} tri_spawn;

/* cell.c */
tr_self *tri_find(tr_shard *shard, tr_id id);
/* `ack` (or NULL) becomes STARTED and `watch` (or NULL) the new actor's tie; both are taken. */
TR_MUST_USE tr_err tri_start(tr_shard *shard, const tr_spawn_spec *spec, tr_id spawner, tr_msg *ack,
                             tr_msg *watch, tr_id *ret);
void tri_end(tr_self *self, tr_err reason);
void tri_pages_shrink(tr_shard *shard); /* gives back those without an actor; between turns */
void tri_leave(tr_self *self);          /* one function of self returned */
void tri_tell_started(tr_self *self, tr_err err);
/* A message that carries `spec` to a shard. */
TR_MUST_USE tr_err tri_spawn_message(const tr_spawn_spec *spec, bool answers, tr_msg **ret);
void tri_spawned(tr_shard *shard, tr_msg *msg); /* SPAWN arrived: takes it */

/* ebb.c */
void tri_ebb_note(tr_shard *shard); /* an actor ended */
void tri_ebb(tr_shard *shard);      /* ebb_us has come; between turns */

/* monitor.c */
void tri_ties_init(tri_ties *ties);
void tri_ties_fini(tri_ties *ties);
void tri_ties_shrink(tri_ties *ties);
/* MONITOR to LINK_END, EXIT_WATCHED or DOWN arrived: takes it. */
void tri_tie_told(tr_shard *shard, tr_msg *msg);
void tri_tie_attach(tr_self *self, tr_msg *watch); /* MONITOR, of a SPAWN: taken */
/* An actor that never came to life answers its watcher, or one that ends all its ties. */
void tri_tie_refuse(tr_shard *shard, tr_msg *watch, tr_err reason);
void tri_ties_end(tr_self *self, tr_err reason);

#endif
