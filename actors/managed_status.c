/* What a managed server's actor says about itself: JSON for STATUS, a few words for the tree. On
 * its shard. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "actors/managed_internal.h"
#include "runtime/answer.h"

const char *const tri_managed_state_names[TRI_MANAGED_N] = {
    "stopped", "starting", "ready", "restarting", "unloading", "stopping", "failed"};

static void name_uint(tr_jsonw *w, const char *name, uint64_t number) {
    tr_jsonw_name(w, name);
    tr_jsonw_uint(w, number);
}

static void name_text(tr_jsonw *w, const char *name, const char *text) {
    tr_jsonw_name(w, name);
    tr_jsonw_text(w, text);
}

/* What is not as it should be; NULL = nothing. */
static const char *why_of(const tri_managed *m) {
    bool bad = m->state == TRI_MANAGED_FAILED || m->state == TRI_MANAGED_RESTING ||
               (m->state == TRI_MANAGED_STARTING && m->load_crashes > 0);
    return bad && m->why[0] != '\0' ? m->why : NULL;
}

static void write_managed(tr_self *self, tr_jsonw *w, const tri_managed *m) {
    const tr_managed_spec *spec = &m->plan->spec;
    char words[300] = "";
    char url[40];
    tri_managed_last_words(self, m, words, sizeof words);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v1",
             (unsigned)atomic_load_explicit(&m->plan->port, memory_order_relaxed));
    tr_jsonw_open(w, '{');
    name_text(w, "gate", "managed");
    name_text(w, "model", spec->name);
    name_text(w, "kind", spec->kind);
    name_text(w, "state", tri_managed_state_names[m->state]);
    name_text(w, "file", spec->model);
    name_text(w, "url", m->process != NULL ? url : NULL);
    tr_jsonw_name(w, "pid");
    if (m->process != NULL && m->pid > 0) {
        tr_jsonw_int(w, m->pid);
    } else {
        tr_jsonw_null(w);
    }
    name_uint(w, "context", spec->context);
    name_uint(w, "sequences", spec->at_once);
    name_uint(w, "active", m->line.used);
    name_uint(w, "waiting", m->line.waiting);
    name_uint(w, "granted", m->line.granted);
    name_uint(w, "restarts", m->starts > 0 ? m->starts - 1 : 0);
    name_uint(w, "running_ms", m->process != NULL ? (tr_now_us(self) - m->started_us) / 1000 : 0);
    name_text(w, "why", why_of(m));
    name_text(w, "last_words", words[0] != '\0' ? words : NULL);
    tr_jsonw_close(w, '}');
}

tr_err tri_managed_tell_status(tr_self *self, const tri_managed *m, const tr_msg *asked) {
    tr_jsonw w;
    tr_jsonw_init(&w);
    write_managed(self, &w, m);
    return tr_send_json(self, asked, TR_KIND_STATUSED, &w);
}

void tri_managed_describe(const void *state, char *buf, size_t size) {
    const tri_managed *m = state;
    const char *name = tri_managed_state_names[m->state];
    if (m->process == NULL) {
        snprintf(buf, size, "%s, %u waiting%s%s", name, m->line.waiting,
                 why_of(m) != NULL ? ": " : "", why_of(m) != NULL ? m->why : "");
    } else {
        snprintf(buf, size, "%s, pid %" PRId32 ", port %u, %u of %u streams, %u waiting", name,
                 m->pid, (unsigned)atomic_load_explicit(&m->plan->port, memory_order_relaxed),
                 m->line.used, m->plan->spec.at_once, m->line.waiting);
    }
}
