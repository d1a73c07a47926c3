/*
 * A supervisor's state and its children's. Internal to runtime/supervisor*.c.
 */
#ifndef TR_RUNTIME_SUPERVISOR_INTERNAL_H
#define TR_RUNTIME_SUPERVISOR_INTERNAL_H

#include "runtime/cell.h"
#include "runtime/supervisor.h"

typedef enum tri_child_state {
    TRI_CHILD_OFF,
    TRI_CHILD_WAITING, /* for its backoff, then it starts */
    TRI_CHILD_STARTING,
    TRI_CHILD_UP,
    TRI_CHILD_STOPPING, /* it was asked to end or killed; DOWN comes */
    TRI_CHILD_N
} tri_child_state;

enum { TRI_TAG_BACKOFF = 1, TRI_TAG_KILL, TRI_TAG_KILL_ADOPTED };

typedef struct tri_child {
    tr_child_spec spec; /* name and args lie behind this structure */
    tri_child_state state;
    bool must_start;
    bool must_stop;
    bool forget;     /* once it has stopped */
    tr_msg *answer;  /* START_CHILD or STOP_CHILD, becomes STARTED when that is done */
    tr_msg *ask_msg; /* EXIT and KILL, made before the child: stopping it needs no memory */
    tr_msg *kill_msg;
    uint64_t serial; /* names the child in STARTED */
    uint64_t watch;  /* names this life in DOWN; 0 = none */
    uint64_t timer;
    uint64_t up_since_us;
    tr_id id;
    uint32_t restarts;
    uint32_t streak; /* restarts without a quiet period in between */
} tri_child;

typedef struct tri_restarted {
    uint64_t at_us;
    uint64_t serial;
} tri_restarted;

typedef enum tri_phase {
    TRI_PHASE_STARTING,
    TRI_PHASE_UP,
    TRI_PHASE_ENDING,
    TRI_PHASE_ENDED
} tri_phase;

typedef struct tri_supervisor {
    tr_strategy strategy;
    bool adopts;
    tr_auto_shutdown auto_shutdown;
    bool ends_when_up; /* it was to shut down while it still started */
    tri_phase phase;
    tr_err reason; /* for its own end */
    uint32_t intensity;
    uint64_t period_us;
    tri_child **children; /* in the order of their starts */
    uint32_t count;
    uint32_t room;
    tri_restarted *recent; /* room for intensity + 1 */
    uint32_t recent_count;
    uint64_t next_serial;
    uint32_t adopted_left; /* asked to end and not yet down */
    bool adopted_done;
    uint64_t adopted_timer;
} tri_supervisor;

/* supervisor_child.c */
/* A child off, at the end of the list. TR_ERR_EXISTS: the name is taken; TR_ERR_INVALID: it may not
 * be significant. */
TR_MUST_USE tr_err tri_child_add(tri_supervisor *sup, const tr_child_spec *spec, tri_child **ret);
/* Answers whoever waits, with `err`, and forgets it. It must be off. */
void tri_child_remove(tri_supervisor *sup, tr_self *self, tri_child *child, tr_err err);
void tri_child_answer(tr_self *self, tri_child *child, tr_err err);
void tri_child_set(tri_child *child, tri_child_state state);
/* The spawn is on its way: STARTED and DOWN, or only DOWN, will come. */
TR_MUST_USE tr_err tri_child_start(tri_child *child, tr_self *self);
void tri_child_stop(tri_child *child, tr_self *self);
void tri_child_kill(tri_child *child, tr_self *self);
/* Its life is over: back to off. */
void tri_child_off(tri_child *child, tr_self *self);
tri_child *tri_child_by_name(tri_supervisor *sup, const char *name);
tri_child *tri_child_by_serial(tri_supervisor *sup, uint64_t serial);
tri_child *tri_child_by_watch(tri_supervisor *sup, uint64_t watch);
tri_child *tri_child_by_timer(tri_supervisor *sup, uint64_t timer);
/* How long its next restart waits; counts it. */
uint64_t tri_child_backoff_us(tri_child *child, uint64_t now_us, uint64_t quiet_us);

#endif
