/*
 * Workloads of troupe-bench. A workload is one file with one `tri_workload`; main.c has the list,
 * reads the options and prints the result as one JSON line.
 */
#ifndef TR_TOOLS_BENCH_BENCH_H
#define TR_TOOLS_BENCH_BENCH_H

#include "runtime/node.h"

#define TRI_OPTIONS_max 8

typedef struct tri_option {
    const char *name; /* as typed after --, and as printed */
    uint64_t value;   /* the default */
    uint64_t min, max;
} tri_option;

/* What the user asked for; values stand in the order of the workload's options. */
typedef struct tri_run {
    uint64_t values[TRI_OPTIONS_max];
    tr_mailbox_mode mailbox;
    const char *socket; /* of a running daemon; NULL = one in this process */
} tri_run;

typedef struct tri_result {
    uint64_t count; /* of what `counts` names */
    double seconds;
} tri_result;

typedef struct tri_workload {
    const char *name;
    const char *counts;                  /* "messages", "actors": per_second's unit */
    tri_option options[TRI_OPTIONS_max]; /* ended by a NULL name */
    tr_err (*run)(const tri_run *run, tri_result *ret);
} tri_workload;

extern const tri_workload tri_bench_ring;
extern const tri_workload tri_bench_pingpong;
extern const tri_workload tri_bench_fanin;
extern const tri_workload tri_bench_spawn;
extern const tri_workload tri_bench_ipc;

/* A running node and the moment at which its actors are done. */
typedef struct tri_stage tri_stage;
TR_MUST_USE tr_err tri_stage_open(const tri_run *run, uint64_t shards, tri_stage **ret);
tr_node *tri_stage_node(const tri_stage *stage);
/* Starts an actor; returns before it runs. */
TR_MUST_USE tr_err tri_stage_spawn(tri_stage *stage, uint32_t shard, const tr_behaviour *behaviour,
                                   const void *args, size_t args_size);
/* The clock starts, and `actor` gets a message of `kind`. */
void tri_stage_begin(tri_stage *stage, tr_id actor, uint16_t kind);
/* From an actor: one of those whom tri_stage_wait counts is done (or ready). */
void tri_stage_done(tri_stage *stage);
/* Waits for `count` calls of tri_stage_done since the last wait. */
void tri_stage_wait(tri_stage *stage, uint64_t count);
/* Seconds between tri_stage_begin and the end of the last wait. */
double tri_stage_seconds(const tri_stage *stage);
void tri_stage_close(tri_stage *stage);

#endif
