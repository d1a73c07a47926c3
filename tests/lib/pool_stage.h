/*
 * A stage for tests of pools: a stepped node under a clock that only the test moves, a transport in
 * memory, a process table whose processes are puppets that dial back as troupe-worker does, the
 * gateway's part of the handover, and calls that reserve, submit and go on after a worker's death.
 * Everything on the test's thread.
 */
#ifndef TR_TESTS_LIB_POOL_STAGE_H
#define TR_TESTS_LIB_POOL_STAGE_H

#include "protocol/gate.h"
#include "protocol/limits.h"
#include "runtime/link.h"
#include "runtime/process_fake.h"
#include "runtime/shard.h"
#include "runtime/supervisor.h"
#include "runtime/transport_memory.h"

#define POOL_STAGE_URL "ipc:///pool-stage"
#define POOL_STAGE_WORKERS_max 256
#define POOL_STAGE_STREAMS_max 128

typedef struct pool_stage pool_stage;
/* What the processes that start from now on do by themselves. */
typedef struct pool_manner {
    uint32_t sequences;     /* 0 = 2 */
    uint8_t digest;         /* each byte of it; 0 = 1 */
    bool stays_out;         /* starts, but does not dial */
    bool stays_loading;     /* dials, and answers PING with less than 100 % */
    bool exits_at_once;     /* status 3, before it dials */
    bool dies_loading;      /* by SIGSEGV, once it is welcome */
    bool exec_fails;        /* no such program */
    const char *load_fails; /* says this instead of loading */
    const char *poison;     /* a SUBMIT whose body is this kills it */
    bool ignores_terminate; /* SIGTERM and the end of its link do not end it */
} pool_manner;

typedef struct pool_stream {
    uint64_t ref;     /* on the link */
    char body[32];    /* whose it is: calls of one test have different bodies */
    uint32_t resumed; /* token ids that came with the SUBMIT */
    struct pool_worker *worker;
    bool open;
    bool cancelled;
} pool_stream;

typedef struct pool_worker {
    pool_stage *stage;
    pool_manner manner;
    int32_t pid; /* 0 = it joined */
    uint64_t nonce;
    tr_id id; /* of the actor that plays it */
    tr_link *link;
    bool alive, welcome;
    bool silent, deaf; /* answers no PING, no CANCEL */
    uint32_t percent;
    uint64_t ticks;
    bool busy;
    bool dying;                /* the stage ends it between steps */
    int death;                 /* the signal */
    uint32_t pings, log_level; /* what the last PING said */
    uint32_t credits;
    char refusal[512]; /* FAIL{ref 0} of the pool */
    bool overbooked;   /* had more streams at once than it takes */
    uint32_t count;    /* of streams so far */
    pool_stream streams[POOL_STAGE_STREAMS_max];
} pool_worker;

typedef struct pool_call {
    pool_stage *stage;
    tr_id id;
    const char *body;
    bool goes_on; /* after a worker's death, up to TR_RESUMES_WITHOUT_TOKEN_max times */
    uint32_t remaining_ms;
    int8_t priority;
    uint64_t attempt;
    tr_id backend;    /* of the grant it has; TR_ID_NONE = none */
    uint64_t monitor; /* of that backend */
    uint32_t granted;
    uint32_t granted_at; /* a number that grows with each grant of any call */
    uint32_t tokens;
    uint32_t tokens_at_attempt;
    uint32_t barren;
    uint32_t resumes;
    uint32_t resumable; /* FAILs that said so */
    uint32_t terminals; /* DONE and FAIL of attempts that were not resumed */
    bool done;
    tr_err err;
    char message[512];
} pool_call;

struct pool_stage {
    tr_node *node;
    tr_memory_net *net;
    tr_fake_processes *processes;
    uint64_t now_us;
    uint64_t random;
    bool stirring;
    pool_manner manner;
    pool_worker workers[POOL_STAGE_WORKERS_max];
    uint32_t worker_count;
    uint32_t grants;
    tr_id top; /* the test's own supervisor above the pool */
    tr_id asker;
    tr_id victim;
    const char *model; /* of the last question */
    uint32_t questions, all_answers, answers;
    tr_err answer;
    char text[4096];
};

/* The Nth allocation of the tested actors fails; 0 = none. Set up before the first stage. */
extern size_t pool_stage_fail_at;
void pool_stage_memory(void);
/* `child` is the pool's supervisor; its parent here is a supervisor that restarts it. */
void pool_stage_set_up(pool_stage *s, uint32_t shards);
void pool_stage_start(pool_stage *s, const tr_child_spec *child);
/* Stops the pool's tree and waits until it has ended. */
void pool_stage_stop(pool_stage *s);
void pool_stage_tear_down(pool_stage *s);
/* Until nothing is left to do now; then time passes in steps of 10 ms. */
void pool_stage_run(pool_stage *s);
/* Only so many single steps, in an order drawn from s->random. While `stirring` is set, everything
 * below does so instead of running until nothing is left. */
void pool_stage_stir(pool_stage *s, uint32_t steps);
void pool_stage_wait_ms(pool_stage *s, uint64_t ms);
/* The `i`th worker that is alive, in the order of their starts; the one that has an open stream of
 * `call`; or NULL. */
pool_worker *pool_stage_worker(pool_stage *s, uint32_t i);
uint32_t pool_stage_alive(const pool_stage *s);
pool_worker *pool_stage_serving(pool_stage *s, const pool_call *call, pool_stream **ret_stream);
pool_worker *pool_stage_join(pool_stage *s, const char *model);
/* False when no worker has it. */
bool pool_stage_token(pool_stage *s, const pool_call *call);
bool pool_stage_done(pool_stage *s, const pool_call *call);
void pool_stage_answer_cancels(pool_worker *w); /* a deaf one hears again */
void pool_stage_loaded(pool_worker *w, uint32_t percent);
void pool_stage_kill(pool_worker *w, int signal);
void pool_stage_hang_up(pool_worker *w); /* its link ends, its process does not */
void pool_call_start(pool_stage *s, pool_call *call, const char *body);
void pool_call_reserve(pool_call *call);
/* Ends as a call that was cancelled does: CANCEL, SETTLE, and its actor is gone. */
void pool_call_end(pool_call *call);
void pool_call_pause(pool_call *call); /* its client does not read; pool_call_reserve goes on */
void pool_call_crash(pool_call *call); /* without a word */
void pool_call_credit(pool_call *call);
void pool_stage_crash(pool_stage *s, tr_id actor);
/* LOAD, UNLOAD or STATUS to "pool:MODEL"; the answer is in s->answer and s->text. */
void pool_stage_ask(pool_stage *s, const char *model, uint16_t kind);

#endif
