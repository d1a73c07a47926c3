/*
 * The node that a workload runs on. The main thread sleeps on a condition while the shards work,
 * and reads the clock at both ends.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/bench/bench.h"

struct tri_stage {
    tr_node *node;
    struct timespec begun, ended;
    pthread_mutex_t done_mtx;
    pthread_cond_t done_cond;
    uint64_t done; /* guarded by done_mtx */
};

tr_err tri_stage_open(const tri_run *run, uint64_t shards, tri_stage **ret) {
    tri_stage *stage = calloc(1, sizeof *stage);
    if (stage == NULL) {
        return TR_ERR_NOMEM;
    }
    pthread_mutex_init(&stage->done_mtx, NULL);
    pthread_cond_init(&stage->done_cond, NULL);
    tr_node_spec spec = {.shards = (uint32_t)shards, .mailbox = run->mailbox};
    tr_err err = tr_node_new(&spec, &stage->node);
    if (err == TR_OK) {
        err = tr_node_start(stage->node);
    }
    if (err != TR_OK) {
        tri_stage_close(stage);
        return err;
    }
    *ret = stage;
    return TR_OK;
}

tr_node *tri_stage_node(const tri_stage *stage) {
    return stage->node;
}

tr_err tri_stage_spawn(tri_stage *stage, uint32_t shard, const tr_behaviour *behaviour,
                       const void *args, size_t args_size) {
    tr_spawn_spec spec = {.behaviour = behaviour, .args = args, .args_size = args_size};
    return tr_node_spawn(stage->node, shard, &spec);
}

void tri_stage_begin(tri_stage *stage, tr_id actor, uint16_t kind) {
    tr_msg *msg = tr_msg_new(kind, 0);
    if (msg == NULL) {
        abort();
    }
    clock_gettime(CLOCK_MONOTONIC, &stage->begun);
    tr_post(stage->node, actor, msg);
}

void tri_stage_done(tri_stage *stage) {
    pthread_mutex_lock(&stage->done_mtx);
    stage->done++;
    pthread_cond_signal(&stage->done_cond);
    pthread_mutex_unlock(&stage->done_mtx);
}

void tri_stage_wait(tri_stage *stage, uint64_t count) {
    pthread_mutex_lock(&stage->done_mtx);
    while (stage->done < count) {
        pthread_cond_wait(&stage->done_cond, &stage->done_mtx);
    }
    stage->done -= count;
    pthread_mutex_unlock(&stage->done_mtx);
    clock_gettime(CLOCK_MONOTONIC, &stage->ended);
}

double tri_stage_seconds(const tri_stage *stage) {
    return (double)(stage->ended.tv_sec - stage->begun.tv_sec) +
           (double)(stage->ended.tv_nsec - stage->begun.tv_nsec) / 1e9;
}

void tri_stage_close(tri_stage *stage) {
    if (stage->node != NULL) {
        tr_node_stop(stage->node);
        tr_node_free(stage->node);
    }
    pthread_mutex_destroy(&stage->done_mtx);
    pthread_cond_destroy(&stage->done_cond);
    free(stage);
}
