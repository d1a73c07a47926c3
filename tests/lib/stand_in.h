/*
 * For tests of one actor on a stepped node (puppet.h): stand-ins for the actors around it, which
 * keep whole messages for the test to read and send what the test gives them. The clock is
 * puppet_clock_us. One thread.
 */
#ifndef TR_TESTS_LIB_STAND_IN_H
#define TR_TESTS_LIB_STAND_IN_H

#include "tests/lib/puppet.h"

typedef struct stand_in {
    tr_node *node;
    tr_id id; /* TR_ID_NONE: it has ended */
    tr_msg *head, **tail;
} stand_in;

/* `name` NULL, or registered. */
void stand_in_start(stand_in *who, tr_node *node, uint32_t shard, const char *name);
/* Runs `fn` as the actor, and everything that follows. */
void stand_in_do(stand_in *who, puppet_fn *fn, void *arg);
/* Sends `msg` with `ref`, and runs what follows. */
void stand_in_send(stand_in *who, tr_id to, tr_msg *msg, uint64_t ref);
/* Monitors `to`, so that its DOWN comes. */
void stand_in_monitor(stand_in *who, tr_id to);
/* The oldest message that it got and the test has not taken, to be freed by the test; NULL. */
tr_msg *stand_in_take(stand_in *who);
/* The same, which must be of `kind`. */
tr_msg *stand_in_expect(stand_in *who, uint16_t kind);
/* How many wait to be taken. */
uint32_t stand_in_count(const stand_in *who);
/* Frees what waits. */
void stand_in_clear(stand_in *who);
void stand_in_crash(stand_in *who);

/* Memory of the whole program: every allocation from the Nth on fails, or only that one; 0 = none.
 * stand_in_memory comes before the first node. */
extern size_t stand_in_fail_at;
extern bool stand_in_fail_on;
void stand_in_memory(void);

#endif
