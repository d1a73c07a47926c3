/* What the two files of the stage share. */
#ifndef TR_TESTS_LIB_POOL_STAGE_INTERNAL_H
#define TR_TESTS_LIB_POOL_STAGE_INTERNAL_H

#include "tests/lib/pool_stage.h"

enum { KIND_DO = 100, KIND_END };

/* Has `fn` run as the actor `to`. */
typedef void pool_order_fn(tr_self *self, void *target);
void pool_stage_tell(pool_stage *s, tr_id to, pool_order_fn *fn, void *target);
/* In an actor's handle: runs such an order. */
bool pool_stage_obeyed(tr_self *self, const tr_msg *msg);
void pool_stage_spawn(pool_stage *s, const tr_behaviour *behaviour, void *target);

/* Handles a puppet's message; while one plays, memory does not run out. */
typedef tr_err pool_play_fn(tr_self *self, void *state, tr_msg **msg);
tr_err pool_stage_play(tr_self *self, void *state, tr_msg **msg, pool_play_fn *fn);
extern bool pool_stage_plays;

/* pool_stage_worker.c */
void pool_stage_spawned(void *arg, int32_t pid);
void pool_stage_signalled(void *arg, int32_t pid, int signal);
/* Between steps: what is to be done about the worker's process. False: nothing. */
bool pool_stage_begin_worker(pool_stage *s, pool_worker *w);
bool pool_stage_end_worker(pool_stage *s, pool_worker *w);

#endif
