/*
 * For tests of actors without threads: a node whose shards the test steps, a clock that only the
 * test moves, and puppets: actors that run what the test tells them and write down what they get.
 * One node at a time; everything on the test's thread.
 */
#ifndef TR_TESTS_LIB_PUPPET_H
#define TR_TESTS_LIB_PUPPET_H

#include "runtime/shard.h"

#define PUPPET_RECORD_max 128

enum { PUPPET_DO = 100, PUPPET_NOTE, PUPPET_CRASH, PUPPET_END };

typedef struct puppet_got {
    uint16_t kind;
    uint16_t flags;
    uint32_t reason; /* of DOWN, EXIT and STARTED */
    uint64_t ref;
    tr_id from;
    tr_id id; /* of STARTED */
} puppet_got;

typedef struct puppet_record {
    tr_id id;
    uint32_t starts;
    uint32_t stops;
    tr_err reason; /* of its last end */
    uint32_t count;
    puppet_got got[PUPPET_RECORD_max];
    uint32_t deferred;
    uint64_t stopped_at;       /* a number that grows with each stop of any puppet */
    uint64_t started_at;       /* the same for starts */
    tr_err init_fails;         /* what its init returns */
    uint32_t init_fails_after; /* so many starts that work first */
} puppet_record;

typedef struct puppet_args {
    puppet_record *record;
} puppet_args;

typedef void puppet_fn(tr_self *self, void *arg);

extern uint64_t puppet_clock_us;
extern const tr_behaviour puppet_behaviour; /* ends at EXIT */
extern const tr_behaviour puppet_trapper;   /* notes EXIT and goes on */
extern const tr_behaviour puppet_silent;    /* is not up until it calls tr_started */

tr_node *puppet_node(uint32_t shards);
/* With a table of processes, which is freed after the node's actors have ended. */
tr_node *puppet_node_with(uint32_t shards, struct tr_process_table *processes);
/* Steps until nothing is left to do. */
void puppet_run(tr_node *node);
/* Moves the clock on and steps. */
void puppet_wait_us(tr_node *node, uint64_t us);
void puppet_start(tr_node *node, uint32_t shard, puppet_record *record);
void puppet_start_as(tr_node *node, uint32_t shard, const tr_behaviour *behaviour,
                     puppet_record *record, const char *name, uint32_t mailbox_max);
tr_msg *puppet_msg(uint16_t kind, uint64_t ref);
/* Has `fn` run as the puppet, and everything that follows from it. */
void puppet_tell(tr_node *node, const puppet_record *record, puppet_fn *fn, void *arg);
void puppet_post(tr_node *node, const puppet_record *record, uint16_t kind);
/* The state behind `self` of a puppet's functions. */
puppet_record *puppet_of(void *state);

typedef struct puppet_test {
    const char *name;
    void (*fn)(void);
} puppet_test;
#define PUPPET_TEST(fn)                                                                            \
    { #fn, fn }
/* Runs them as one CUnit suite; main's exit status. */
int puppet_main(const char *suite, const puppet_test *tests, size_t count);

#endif
