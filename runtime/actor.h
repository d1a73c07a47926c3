/*
 * Actors. An actor is a behaviour (a table of functions) and a state, living on one shard; its
 * functions run there, one message at a time, never two at once, and must not block. Everything an
 * actor may do while it runs is here; `self` is valid only inside the behaviour's functions.
 *
 * An actor ends when handle returns TR_DONE (normal), or an error (a crash), or when it gets EXIT.
 * Then, once: stop() runs, its mailbox is emptied, its timers and watches end, its name is free,
 * and everyone who monitors it gets one DOWN. Order: messages between two actors arrive in the
 * order sent; nothing follows DOWN. The model is Erlang/OTP's.
 */
#ifndef TR_RUNTIME_ACTOR_H
#define TR_RUNTIME_ACTOR_H

#include "runtime/msg.h"

typedef struct tr_self tr_self; /* the running actor */
typedef struct tr_node tr_node; /* all shards of this process: node.h */

typedef struct tr_behaviour {
    const char *name;  /* what it is: "call", "limiter" */
    size_t state_size; /* zeroed before init */
    bool traps_exit;   /* EXIT arrives as a message instead of ending it */
    bool acks_itself;  /* STARTED is sent by tr_started, not when init returns */
    /* NULL = nothing to do. After an error stop() does not run: give back what init took. */
    tr_err (*init)(tr_self *self, void *state, const void *args);
    /* Takes *msg by setting it to NULL, else the runtime frees it. TR_OK: go on; TR_DONE: end;
     * else: crash. */
    tr_err (*handle)(tr_self *self, void *state, tr_msg **msg);
    void (*stop)(tr_self *self, void *state,
                 tr_err reason); /* the one exit path; NULL = nothing to do */
    /* For people, in `troupe tree`: a few words on what it does now. Runs on its shard. NULL =
     * none. */
    void (*describe)(const void *state, char *buf, size_t size);
} tr_behaviour;

typedef struct tr_spawn_spec {
    const tr_behaviour *behaviour;
    const void *args; /* args_size bytes, copied; what they point to must outlive init */
    size_t args_size;
    const char *name;     /* copied, or NULL; shown in the tree */
    bool registers;       /* the name is looked up by tr_whereis: must be free */
    uint32_t mailbox_max; /* 0 = TR_MAILBOX_default */
    tr_id parent;         /* shown above it in the tree; TR_ID_NONE = the spawning actor */
    uint32_t restarts;    /* of a supervised child so far; shown in the tree */
} tr_spawn_spec;

/* Starts an actor on this shard and runs its init before returning: its error comes back
 * (TR_ERR_EXISTS for a name). */
TR_MUST_USE tr_err tr_spawn(tr_self *self, const tr_spawn_spec *spec, tr_id *ret);
/* Starts one on any shard; STARTED with `ref` comes back, also when it failed. Behaviour and name
 * must be static. */
TR_MUST_USE tr_err tr_spawn_on(tr_self *self, uint32_t shard, const tr_spawn_spec *spec,
                               uint64_t ref);
/* tr_spawn_on and tr_monitor in one: DOWN{*ret_watch} comes whatever becomes of the child,
 * STARTED{ref} before it when it is up. */
TR_MUST_USE tr_err tr_spawn_watched(tr_self *self, uint32_t shard, const tr_spawn_spec *spec,
                                    uint64_t ref, uint64_t *ret_watch);
/* As tr_exit to the child that tr_spawn_watched started on `shard` as `watch`, whose id need not be
 * known. `msg` was made by tr_exit_message before, so that asking it to end needs no memory; it is
 * taken. */
tr_msg *tr_exit_message(void); /* NULL when out of memory */
void tr_exit_watched(tr_self *self, uint32_t shard, uint64_t watch, tr_err reason, tr_msg *msg);
/* An actor that acks_itself says that it is up (TR_OK), or why not and then ends. */
void tr_started(tr_self *self, tr_err err);

/* Sends. On TR_OK the message is taken and *msg is NULL, also when `to` is gone (monitors tell
 * that). TR_ERR_FULL: the mailbox on this shard refused an opening message and *msg is still yours;
 * on another shard it comes back as BOUNCED. */
TR_MUST_USE tr_err tr_send(tr_self *self, tr_id to, tr_msg **msg);
/* Sends a message that no bound can refuse (not TR_MSG_OPENING). NULL (out of memory) asserts
 * nothing and returns TR_ERR_NOMEM. */
tr_err tr_send_control(tr_self *self, tr_id to, tr_msg *msg);

/* Asks `to` to end for `reason`. TR_ERR_CANCELLED kills: it is not trapped and overtakes what
 * waits. */
void tr_exit(tr_self *self, tr_id to, tr_err reason);
/* One DOWN{ref} when `to` ends, at once if it is already gone. */
TR_MUST_USE tr_err tr_monitor(tr_self *self, tr_id to, uint64_t *ret_ref);
void tr_demonitor(tr_self *self, uint64_t ref); /* a DOWN already in the mailbox still comes */
/* If either ends other than normally, the other gets EXIT. */
TR_MUST_USE tr_err tr_link_to(tr_self *self, tr_id to);
void tr_unlink(tr_self *self, tr_id to);

/* TIMER{ref = id, flags = tag} after delay_us, unless cancelled first or fired already (then
 * compare ids). 0 is no timer. */
TR_MUST_USE tr_err tr_timer_start(tr_self *self, uint64_t delay_us, uint16_t tag, uint64_t *ret_id);
void tr_timer_cancel(tr_self *self, uint64_t *id); /* sets it to 0; 0 is fine */

/* Watches a file descriptor on this shard's epoll (level-triggered): `fn` runs with this actor as
 * self. `events` are EPOLLIN and EPOLLOUT. Simulation has none: TR_ERR_UNSUPPORTED. */
typedef void tr_watch_fn(tr_self *self, void *state, int fd, uint32_t events);
TR_MUST_USE tr_err tr_watch(tr_self *self, int fd, uint32_t events, tr_watch_fn *fn);
TR_MUST_USE tr_err tr_watch_change(tr_self *self, int fd, uint32_t events);
void tr_unwatch(tr_self *self, int fd); /* before the fd is closed */

/* Runs `fn` once, as this actor, after the shard has handled what it has now: for joining writes.
 * One a time: a second call before it ran changes nothing. */
typedef void tr_defer_fn(tr_self *self, void *state);
void tr_defer(tr_self *self, tr_defer_fn *fn);

/* The actor has freed much: when its shard has had no work for a moment, malloc gives back what it
 * keeps. A shard does so by itself after a peak of actors. */
void tr_trim(tr_self *self);

/* A name that another actor can look up; it is free again when this actor ends. */
TR_MUST_USE tr_err tr_register(tr_self *self, const char *name);
/* TR_ID_NONE when nobody has it. Any thread. */
tr_id tr_whereis(tr_node *node, const char *name);

/* Calls `fn` for each actor on this shard whose parent is `self`. */
void tr_children(tr_self *self, void (*fn)(void *arg, tr_id child), void *arg);

tr_id tr_self_id(const tr_self *self);
uint32_t tr_self_shard(const tr_self *self);
tr_node *tr_self_node(const tr_self *self);
uint64_t tr_now_us(const tr_self *self); /* monotonic; the same within one batch of messages */
uint64_t tr_random(tr_self *self);

#endif
