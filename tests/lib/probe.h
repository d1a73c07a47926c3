/*
 * For tests on real nodes: an actor that runs what the test thread gives it, and hands every
 * message it gets to the test's function. State shared by both lies under one mutex of the probe;
 * the test waits for a condition of it, never for a time. CUnit's assertions stay on the test
 * thread.
 */
#ifndef TR_TESTS_LIB_PROBE_H
#define TR_TESTS_LIB_PROBE_H

#include "runtime/node.h"

typedef struct tr_probe tr_probe;

/* On the shard, with the probe's mutex held; `arg` is the probe's. Takes *msg by setting it NULL.
 */
typedef void tr_probe_fn(tr_self *self, void *arg, tr_msg **msg);
/* On the shard, with the mutex held. */
typedef void tr_probe_call(tr_self *self, void *arg);

/* Starts an actor on `shard` of a started node; aborts the test program when it cannot. */
tr_probe *tr_probe_new(tr_node *node, uint32_t shard, tr_probe_fn *fn, void *arg);
/* Another function from now on. */
void tr_probe_set(tr_probe *probe, tr_probe_fn *fn, void *arg);
/* Runs `call` as the actor; returns when it has run. */
void tr_probe_run(tr_probe *probe, tr_probe_call *call, void *arg);
/* Waits until `met` (called with the mutex held) holds; false after ten seconds. */
bool tr_probe_await(tr_probe *probe, bool (*met)(void *arg), void *arg);
/* As await for a fixed time in which `met` must never hold (NULL: just lets time pass); true then.
 */
bool tr_probe_stays(tr_probe *probe, uint32_t ms, bool (*met)(void *arg), void *arg);
/* Ends the actor and waits for its end (also that of its links: `fn` gets NULL as *msg from stop).
 */
void tr_probe_end(tr_probe *probe);
/* After tr_node_free. */
void tr_probe_free(tr_probe *probe);
tr_id tr_probe_id(const tr_probe *probe);

/* CPU time that this process used, in microseconds. */
uint64_t tr_cpu_us(void);

#endif
