/* What the tests of the pool share: a stage with one pool "m" on it, and its calls. */
#ifndef TR_TESTS_UNIT_INFERENCE_POOL_SCENE_H
#define TR_TESTS_UNIT_INFERENCE_POOL_SCENE_H

#include <CUnit/Basic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inference/pool.h"
#include "runtime/log.h"
#include "tests/lib/pool_stage.h"
#include "tests/lib/puppet.h"

#define CALLS_max 40

typedef struct scene {
    pool_stage stage;
    tr_pool_plan *plan;
    pool_call calls[CALLS_max];
    char bodies[CALLS_max][16];
    uint32_t call_count;
} scene;

static scene the;

static const tr_pool_spec plain = {.model = "m",
                                   .file = "/models/m.gguf",
                                   .worker_program = "/bin/troupe-worker",
                                   .dial_url = POOL_STAGE_URL,
                                   .workers = 1,
                                   .sequences = 2,
                                   .context = 512};

static inline void set_up_on(const tr_pool_spec *spec, const pool_manner *manner, uint32_t shards) {
    memset(&the, 0, sizeof the);
    pool_stage_set_up(&the.stage, shards);
    if (manner != NULL) {
        the.stage.manner = *manner;
    }
    CU_ASSERT_EQUAL_FATAL(tr_pool_plan_new(spec, &the.plan), TR_OK);
    tr_child_spec child = tr_pool_child(the.plan);
    pool_stage_start(&the.stage, &child);
}

static inline void set_up(const tr_pool_spec *spec, const pool_manner *manner) {
    set_up_on(spec, manner, 1);
}

static const char *status(void) {
    pool_stage_ask(&the.stage, "m", TR_KIND_STATUS);
    CU_ASSERT_EQUAL(the.stage.answers, 1);
    return the.stage.text;
}

static inline bool status_has(const char *part) {
    return strstr(status(), part) != NULL;
}

/* Every test's last claims: no sequence is held, and the tree ends with every process. */
static inline void tear_down(void) {
    for (uint32_t i = 0; i < the.call_count; i++) {
        pool_call_crash(&the.calls[i]);
    }
    if (tr_whereis(the.stage.node, "pool:m") != TR_ID_NONE) {
        CU_ASSERT(status_has("\"active\":0,\"waiting\":0"));
    }
    pool_stage_stop(&the.stage);
    CU_ASSERT_EQUAL(tr_fake_process_pid(the.stage.processes, 0), 0);
    pool_stage_tear_down(&the.stage);
    tr_pool_plan_free(the.plan);
}

static inline pool_call *call(void) {
    CU_ASSERT_FATAL(the.call_count < CALLS_max);
    uint32_t i = the.call_count++;
    snprintf(the.bodies[i], sizeof the.bodies[i], "call %u", i);
    pool_call_start(&the.stage, &the.calls[i], the.bodies[i]);
    the.calls[i].goes_on = true;
    return &the.calls[i];
}

static inline pool_call *reserved(void) {
    pool_call *c = call();
    pool_call_reserve(c);
    return c;
}

/* The worker that streams `c`; fails the test when none does. */
static inline pool_worker *serving(const pool_call *c) {
    pool_stream *stream;
    pool_worker *w = pool_stage_serving(&the.stage, c, &stream);
    CU_ASSERT_PTR_NOT_NULL_FATAL(w);
    return w;
}

static inline tr_pool_spec with_workers(uint32_t workers) {
    tr_pool_spec spec = plain;
    spec.workers = workers;
    return spec;
}

static inline void load(void) {
    pool_stage_ask(&the.stage, "m", TR_KIND_LOAD);
    CU_ASSERT_EQUAL_FATAL(the.stage.answers, 1);
    CU_ASSERT_EQUAL_FATAL(the.stage.answer, TR_OK);
}

#endif
