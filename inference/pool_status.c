/* What a pool says about itself: JSON for STATUS, a few words for the tree. On the pool's shard. */
#include <stdio.h>
#include <string.h>

#include "inference/pool_line.h"
#include "runtime/answer.h"

const char *const tri_pool_state_names[TRI_POOL_N] = {"unloaded", "loading", "ready", "failed",
                                                      "unloading"};

uint32_t tri_pool_ready_members(const tri_pool *pool) {
    uint32_t ready = 0;
    for (const tri_member *m = pool->members; m != NULL; m = m->next) {
        ready += m->note.state == TRI_WORKER_READY && !m->leaving ? 1 : 0;
    }
    return ready;
}

/* Of the worker that is furthest: the model can be used when it is there. */
static uint32_t percent_of(const tri_pool *pool) {
    uint32_t percent = 0;
    for (const tri_member *m = pool->members; m != NULL; m = m->next) {
        percent = !m->leaving && m->note.percent > percent ? m->note.percent : percent;
    }
    return percent;
}

static uint32_t context_of(const tri_pool *pool) {
    for (const tri_member *m = pool->members; m != NULL; m = m->next) {
        if (m->note.context > 0) {
            return m->note.context;
        }
    }
    return pool->plan->spec.context;
}

/* What is not as it was asked for; NULL = nothing. */
static const char *why_of(const tri_pool *pool, char *buf, size_t size) {
    uint32_t asked = pool->plan->spec.context, has = context_of(pool);
    if (pool->failed) {
        return pool->why;
    }
    if (pool->plan->spec.workers == 0 || has >= asked) {
        return NULL;
    }
    snprintf(buf, size, "(configured: context %u, but the model was trained on %u)", asked, has);
    return buf;
}

static void name_uint(tr_jsonw *w, const char *name, uint64_t number) {
    tr_jsonw_name(w, name);
    tr_jsonw_uint(w, number);
}

static void name_text(tr_jsonw *w, const char *name, const char *text) {
    tr_jsonw_name(w, name);
    tr_jsonw_text(w, text);
}

static void write_member(tr_jsonw *w, const tri_pool *pool, const tri_member *m) {
    char id[TR_ID_FMT_size];
    tr_jsonw_open(w, '{');
    name_text(w, "id", tr_id_format(m->id, id));
    name_text(w, "state", tri_worker_state_names[m->note.state]);
    tr_jsonw_name(w, "joined");
    tr_jsonw_bool(w, m->note.joined);
    tr_jsonw_name(w, "pid");
    if (m->note.pid > 0) {
        tr_jsonw_int(w, m->note.pid);
    } else {
        tr_jsonw_null(w);
    }
    name_uint(w, "active", m->used);
    name_uint(w, "sequences", m->note.sequences);
    name_uint(w, "context", m->note.context);
    name_uint(w, "percent", m->note.percent);
    uint32_t starts = m->note.joined ? 1 : pool->index_starts[m->note.index];
    name_uint(w, "restarts", starts > 0 ? starts - 1 : 0);
    tr_jsonw_close(w, '}');
}

static void write_pool(tr_jsonw *w, const tri_pool *pool) {
    const tr_pool_spec *spec = &pool->plan->spec;
    tr_jsonw_open(w, '{');
    name_text(w, "gate", "pool");
    name_text(w, "model", spec->model);
    name_text(w, "state", tri_pool_state_names[pool->state]);
    name_text(w, "file", spec->file);
    name_uint(w, "percent", percent_of(pool));
    name_uint(w, "context", context_of(pool));
    name_uint(w, "active", pool->line.used);
    name_uint(w, "waiting", pool->line.waiting);
    name_uint(w, "granted", pool->line.granted);
    name_uint(w, "restarts", pool->restarts);
    char smaller[96];
    name_text(w, "why", why_of(pool, smaller, sizeof smaller));
    tr_jsonw_name(w, "workers");
    tr_jsonw_open(w, '[');
    for (const tri_member *m = pool->members; m != NULL; m = m->next) {
        write_member(w, pool, m);
    }
    tr_jsonw_close(w, ']');
    tr_jsonw_close(w, '}');
}

tr_err tri_pool_tell_status(tr_self *self, const tri_pool *pool, const tr_msg *asked) {
    tr_jsonw w;
    tr_jsonw_init(&w);
    write_pool(&w, pool);
    return tr_send_json(self, asked, TR_KIND_STATUSED, &w);
}

void tri_pool_describe(const void *state, char *buf, size_t size) {
    const tri_pool *pool = state;
    uint32_t members = 0;
    for (const tri_member *m = pool->members; m != NULL; m = m->next) {
        members++;
    }
    if (pool->state == TRI_POOL_LOADING) {
        snprintf(buf, size, "loading %u%%, %u workers, %u waiting", percent_of(pool), members,
                 pool->line.waiting);
    } else {
        snprintf(buf, size, "%s, %u of %u workers ready, %u streams, %u waiting",
                 tri_pool_state_names[pool->state], tri_pool_ready_members(pool), members,
                 pool->line.used, pool->line.waiting);
    }
}
