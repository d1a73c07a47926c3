/*
 * The process of a managed server and its health. Each start has a port of its own, which the
 * kernel says is free; if somebody takes it before the server does, the server ends, and the next
 * start, at another port, is not counted as one after a crash; so it is when the healthy answer
 * turns out to come from another user's program. Its health is asked for over the
 * shard's HTTP door: often while it starts, every few seconds when it is ready, whether it has
 * requests or not. Any answer below 500 is a good one: servers that have no such page still show
 * that they live.
 *
 * Called by managed.c, on its shard.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "actors/command.h"
#include "actors/managed_internal.h"
#include "protocol/assert.h"
#include "providers/http.h"
#include "runtime/log.h"
#include "runtime/memory.h"
#include "runtime/node.h"
#include "runtime/port.h"

#define PROBE_FIRST_US 50000U
#define PROBE_MOST_US 1000000U
#define BEAT_US 5000000U /* between two questions to one that is well */
#define ANSWER_MS 5000U  /* for one answer, while it starts */
#define SLACK_US 2000000U
#define GOOD_ORDER_US 5000000U /* to end by itself */
#define LOAD_CRASHES_max 3U
#define CRASHES_max 10U
#define PORT_LOSSES_max 5U
#define BACKOFF_US 100000U
#define BACKOFF_DOUBLINGS_max 7U /* 12.8 s */
#define WORDS_size 500

static tr_process_table *table_of(tr_self *self) {
    return tr_node_platform(tr_self_node(self))->processes;
}

static uint32_t port_of(const tri_managed *m) {
    return atomic_load_explicit(&m->plan->port, memory_order_relaxed);
}

/* --- its words --- */

void tri_managed_last_words(tr_self *self, const tri_managed *m, char *buf, size_t size) {
    char all[TR_PROCESS_OUTPUT_max + 1] = "";
    if (m->process != NULL) {
        table_of(self)->output(m->process, all, sizeof all);
    }
    size_t end = strlen(all);
    while (end > 0 && strchr(" \t\n", all[end - 1]) != NULL) {
        end--;
    }
    /* Lines become one, each separated by " | ", which takes two bytes more. */
    size_t begin = end;
    size_t cost = 1;
    while (begin > 0 && cost + (all[begin - 1] == '\n' ? 3U : 1U) <= size) {
        cost += all[begin - 1] == '\n' ? 3U : 1U;
        begin--;
    }
    size_t whole = begin > 0 ? begin + strcspn(all + begin, "\n") : begin;
    begin = whole < end ? whole : begin; /* from a line's start, if there is one */
    size_t used = 0;
    for (size_t i = begin; i < end; i++) {
        bool line = all[i] == '\n';
        if (!line) {
            buf[used++] = all[i];
        } else if (used > 0 && buf[used - 1] != '|' && (used < 2 || buf[used - 2] != '|')) {
            memcpy(buf + used, " | ", 3);
            used += 3;
        }
    }
    buf[used] = '\0';
    buf[tr_utf8_mend(buf, used)] = '\0';
}

/* The sentence of its end, with its last words. */
static void tell_why(tr_self *self, tri_managed *m, const char *what) {
    char words[WORDS_size] = "";
    tri_managed_last_words(self, m, words, sizeof words);
    snprintf(m->why, sizeof m->why, "the server of %s (%s) %s%s%s", m->plan->spec.name,
             m->plan->spec.kind, what,
             words[0] != '\0' ? "; its last words: " : "; it said nothing", words);
    m->why[tr_utf8_mend(m->why, strlen(m->why))] = '\0';
}

/* --- starting --- */

static tr_err spawn(tr_self *self, tri_managed *m, const tr_command *command, const char *program) {
    static const char *const env[] = {"PYTHONUNBUFFERED=1", "OMP_WAIT_POLICY=passive", NULL};
    const char *argv[TR_COMMAND_WORDS_max + 1];
    memcpy(argv, command->words, sizeof argv);
    argv[0] = program;
    tr_process_table *table = table_of(self);
    tr_process_spec spec = {.argv = argv,
                            .env_add = env,
                            .memory_victim = true,
                            .foreign = true,
                            .env_pass = m->plan->spec.env};
    return table != NULL ? table->spawn(table, self, &spec, ++m->life, &m->process)
                         : TR_ERR_UNSUPPORTED;
}

static void not_installed(tri_managed *m, const char *program) {
    const char *install = m->plan->spec.install;
    snprintf(m->why, sizeof m->why,
             "%s: the program %s is not in the daemon's PATH%s%s%s; name another by "
             "local.%s.command, or start the daemon where it is found",
             m->plan->spec.name, program, install != NULL ? " (how to get it: " : "",
             install != NULL ? install : "", install != NULL ? ")" : "", m->plan->spec.name);
}

static tr_err begin(tr_self *self, tri_managed *m, tr_command *command) {
    const tr_managed_spec *spec = &m->plan->spec;
    char reason[200] = "";
    char program[1024];
    uint16_t port = 0;
    tr_err err = tr_port_free(&port);
    if (err != TR_OK) {
        snprintf(m->why, sizeof m->why, "%s: there is no free port on 127.0.0.1", spec->name);
        return err;
    }
    tr_command_values values = {.model = spec->model,
                                .host = "127.0.0.1",
                                .port = port,
                                .context = spec->context,
                                .sequences = spec->at_once};
    err = tr_command_read(spec->command, &values, command, reason, sizeof reason);
    if (err != TR_OK) {
        snprintf(m->why, sizeof m->why, "%s: command: %s", spec->name, reason);
        return err;
    }
    if (!tr_command_find(command->words[0], program, sizeof program)) {
        not_installed(m, command->words[0]);
        return TR_ERR_NOT_FOUND;
    }
    atomic_store_explicit(&m->plan->port, port, memory_order_relaxed);
    err = spawn(self, m, command, program);
    if (err == TR_OK) {
        err = tr_timer_start(self, (uint64_t)spec->load_ms * 1000, TRI_MANAGED_GUARD,
                             &m->guard_timer);
    }
    if (err != TR_OK) {
        snprintf(m->why, sizeof m->why, "%s: its server cannot be started: %s", spec->name,
                 tr_err_text(err));
    }
    return err;
}

void tri_managed_start(tr_self *self, tri_managed *m) {
    TR_ASSERT(m->process == NULL);
    tri_managed_set_state(self, m, TRI_MANAGED_STARTING);
    m->pid = 0;
    m->ending[0] = '\0';
    m->hopeless = false;
    m->started_us = tr_now_us(self);
    m->probe_us = PROBE_FIRST_US;
    tr_command *command = tr_zalloc(sizeof *command);
    tr_err err = TR_ERR_NOMEM;
    if (command != NULL) {
        err = begin(self, m, command);
        tr_free(command);
    } else {
        snprintf(m->why, sizeof m->why, "out of memory");
    }
    if (err == TR_OK) {
        m->starts++;
        return;
    }
    if (m->process != NULL) {
        table_of(self)->abandon(m->process);
        m->process = NULL;
    }
    tri_managed_give_up(self, m, err);
}

void tri_managed_end(tr_self *self, tri_managed *m, bool brutal) {
    tr_timer_cancel(self, &m->guard_timer);
    table_of(self)->kill(m->process, brutal ? SIGKILL : SIGTERM);
    if (!brutal &&
        tr_timer_start(self, GOOD_ORDER_US, TRI_MANAGED_GUARD, &m->guard_timer) != TR_OK) {
        m->guard_timer = 0;
        table_of(self)->kill(m->process, SIGKILL);
    }
}

/* --- health --- */

static void await_probe(tr_self *self, tri_managed *m, uint64_t us) {
    tr_timer_cancel(self, &m->probe_timer);
    if (tr_timer_start(self, us, TRI_MANAGED_PROBE, &m->probe_timer) != TR_OK) {
        /* Nobody would see a hang any more: its own end is still seen. */
        m->probe_timer = 0;
    }
}

/* Until when it must have given a good answer. */
static uint64_t hang_us(const tri_managed *m) {
    return m->good_us + (uint64_t)m->plan->spec.hang_ms * 1000;
}

static uint64_t beat_us(const tri_managed *m) {
    uint64_t quarter_us = (uint64_t)m->plan->spec.hang_ms * 1000 / 4;
    return quarter_us < BEAT_US ? quarter_us : BEAT_US;
}

static void give_back_probe(tr_self *self, tri_managed *m) {
    if (m->probe != 0) {
        (void)tr_send_control(self, m->door, tr_http_abort_msg(m->probe, false));
        m->probe = 0;
    }
}

static void ask(tr_self *self, tri_managed *m) {
    char url[TR_URL_max + 1];
    char name[TR_HTTP_NAME_size];
    uint64_t now_us = tr_now_us(self);
    uint64_t limit_ms = ANSWER_MS;
    if (m->state != TRI_MANAGED_STARTING) {
        uint64_t left_ms = hang_us(m) > now_us ? (hang_us(m) - now_us) / 1000 : 0;
        limit_ms = left_ms > 500 ? left_ms : 500;
    }
    snprintf(url, sizeof url, "http://127.0.0.1:%" PRIu32 "%s", port_of(m), m->plan->spec.health);
    tr_http_start start = {
        .method = TR_HTTP_GET, .connect_ms = 1000, .first_byte_ms = (uint32_t)limit_ms};
    m->door = tr_whereis(tr_self_node(self), tr_http_name(tr_self_shard(self), name));
    tr_msg *msg = m->door != TR_ID_NONE
                      ? tr_http_start_msg(++m->probes, &start, (tr_str){url, strlen(url)},
                                          (tr_str){"", 0}, NULL)
                      : NULL;
    if (msg == NULL) { /* the door is being started again, or memory */
        await_probe(self, m, PROBE_MOST_US);
        return;
    }
    msg->flags &= (uint16_t)~TR_MSG_OPENING;
    m->probe = m->probes;
    (void)tr_send_control(self, m->door, msg);
    await_probe(self, m, limit_ms * 1000 + SLACK_US); /* should the door die with it */
}

static void well(tr_self *self, tri_managed *m) {
    if (tr_port_foreign((uint16_t)port_of(m))) {
        /* The answer is another user's, and prompts are not for them. */
        snprintf(m->ending, sizeof m->ending,
                 "was killed, since another user's program listens at its port %" PRIu32,
                 port_of(m));
        tri_managed_end(self, m, true);
        return;
    }
    m->good_us = tr_now_us(self);
    if (m->state == TRI_MANAGED_STARTING) {
        tr_timer_cancel(self, &m->guard_timer);
        m->load_crashes = m->port_losses = 0;
        tri_managed_set_state(self, m, TRI_MANAGED_READY);
        tr_log(TR_LOG_INFO, self, "a model server is ready",
               "model=%s pid=%" PRId32 " port=%" PRIu32 " ms=%" PRIu64, m->plan->spec.name, m->pid,
               port_of(m), (m->good_us - m->started_us) / 1000);
    }
    await_probe(self, m, beat_us(m));
}

static void unwell(tr_self *self, tri_managed *m) {
    if (m->state == TRI_MANAGED_STARTING) {
        m->probe_us = m->probe_us * 3 / 2 < PROBE_MOST_US ? m->probe_us * 3 / 2 : PROBE_MOST_US;
        await_probe(self, m, m->probe_us);
        return;
    }
    if (tr_now_us(self) < hang_us(m)) {
        uint64_t quarter_us = beat_us(m) / 4;
        await_probe(self, m, quarter_us < PROBE_MOST_US ? quarter_us : PROBE_MOST_US);
        return;
    }
    snprintf(m->ending, sizeof m->ending,
             "gave no healthy answer at http://127.0.0.1:%" PRIu32 "%s for %" PRIu32
             " ms and was killed",
             port_of(m), m->plan->spec.health, m->plan->spec.hang_ms);
    tri_managed_end(self, m, true);
}

static bool is_asked(const tri_managed *m) {
    return m->process != NULL && m->ending[0] == '\0' &&
           (m->state == TRI_MANAGED_STARTING || m->state == TRI_MANAGED_READY ||
            m->state == TRI_MANAGED_DRAINING);
}

void tri_managed_http_came(tr_self *self, tri_managed *m, const tr_msg *msg) {
    tr_str headers;
    if (m->probe == 0 || msg->ref != m->probe || !is_asked(m)) {
        return; /* of a question that is over */
    }
    if (msg->kind == TR_KIND_HTTP_HEAD) {
        const tr_http_head *head = tr_http_head_read(msg, &headers);
        (void)tr_send_control(self, m->door, tr_http_abort_msg(m->probe, true));
        m->probe = 0;
        if (head != NULL && head->status < 500) {
            well(self, m);
        } else {
            unwell(self, m);
        }
    } else if (msg->kind == TR_KIND_HTTP_END) {
        m->probe = 0;
        unwell(self, m);
    }
}

void tri_managed_probe_timer(tr_self *self, tri_managed *m) {
    m->probe_timer = 0;
    if (!is_asked(m)) {
        return;
    }
    if (m->probe != 0) {
        give_back_probe(self, m);
        unwell(self, m);
    } else {
        ask(self, m);
    }
}

void tri_managed_guard_timer(tr_self *self, tri_managed *m) {
    m->guard_timer = 0;
    if (m->process == NULL) {
        return;
    }
    if (m->state == TRI_MANAGED_STARTING) {
        snprintf(m->ending, sizeof m->ending,
                 "runs, but gave no healthy answer at http://127.0.0.1:%" PRIu32
                 "%s within %" PRIu32 " s (local.%s.load_limit)%s",
                 port_of(m), m->plan->spec.health, m->plan->spec.load_ms / 1000, m->plan->spec.name,
                 tr_command_has(m->plan->spec.command, "port") ? ""
                                                               : "; its command has no {port}");
        m->hopeless = true;
    }
    table_of(self)->kill(m->process, SIGKILL);
}

/* --- its end --- */

static void rest(tr_self *self, tri_managed *m, uint32_t crashes) {
    uint32_t doublings = crashes < 2 ? 0 : crashes - 2;
    doublings = doublings < BACKOFF_DOUBLINGS_max ? doublings : BACKOFF_DOUBLINGS_max;
    uint64_t us = crashes < 2 ? 0 : (uint64_t)BACKOFF_US << doublings;
    tri_managed_set_state(self, m, TRI_MANAGED_RESTING);
    if (tr_timer_start(self, us, TRI_MANAGED_REST, &m->rest_timer) != TR_OK) {
        tri_managed_give_up(self, m, TR_ERR_NOMEM);
    }
}

static void crashed(tr_self *self, tri_managed *m, const char *how) {
    char what[400];
    bool loading = m->state == TRI_MANAGED_STARTING;
    uint32_t count = loading ? ++m->load_crashes : ++m->crashes;
    bool final = m->hopeless || count >= (loading ? LOAD_CRASHES_max : CRASHES_max);
    snprintf(what, sizeof what, "%s%s", m->ending[0] != '\0' ? m->ending : how,
             m->ending[0] != '\0' ? ""
             : loading            ? " while it was loading"
                                  : "");
    if (final && count > 1) {
        size_t used = strlen(what);
        snprintf(what + used, sizeof what - used, ", %" PRIu32 " times in a row", count);
    }
    tell_why(self, m, what);
    char quoted[TRI_MANAGED_WHY_size + 64];
    tr_log(TR_LOG_WARN, self, "a model server ended", "model=%s pid=%" PRId32 " streams=%u why=%s",
           m->plan->spec.name, m->pid, m->line.used,
           tr_log_quote(m->why, strlen(m->why), quoted, sizeof quoted));
    if (final) {
        tri_managed_give_up(self, m, m->hopeless ? TR_ERR_TIMEOUT : TR_ERR_CRASHED);
    } else {
        rest(self, m, count);
    }
}

static void exited(tr_self *self, tri_managed *m, const tr_process_event *event) {
    char how[128];
    if (event->signal != 0) {
        snprintf(how, sizeof how, "was killed by signal %" PRId32 " (%s)", event->signal,
                 strsignal(event->signal));
    } else {
        snprintf(how, sizeof how, "ended with status %" PRId32, event->code);
    }
    give_back_probe(self, m);
    tr_timer_cancel(self, &m->probe_timer);
    tr_timer_cancel(self, &m->guard_timer);
    bool lost_port = m->state == TRI_MANAGED_STARTING && !m->hopeless &&
                     m->port_losses < PORT_LOSSES_max && tr_port_taken((uint16_t)port_of(m));
    if (lost_port) {
        m->port_losses++;
        tr_log(TR_LOG_INFO, self, "somebody took a model server's port: another is tried",
               "model=%s port=%" PRIu32, m->plan->spec.name, port_of(m));
        rest(self, m, 0);
    } else if (m->state == TRI_MANAGED_STARTING || m->state == TRI_MANAGED_READY) {
        crashed(self, m, how);
    } else {
        tri_managed_set_state(self, m, TRI_MANAGED_STOPPED);
    }
    table_of(self)->abandon(m->process);
    m->process = NULL;
}

void tri_managed_process_came(tr_self *self, tri_managed *m, const tr_msg *msg) {
    const tr_process_event *event = (const tr_process_event *)(const void *)msg->data;
    if (m->process == NULL || msg->ref != m->life) {
        return;
    }
    if (event->event == TR_PROCESS_EXITED) {
        exited(self, m, event);
    } else if (event->err == TR_OK) {
        m->pid = event->pid;
        if (m->state == TRI_MANAGED_STARTING) {
            await_probe(self, m, m->probe_us);
        }
    } else {
        tr_timer_cancel(self, &m->guard_timer);
        snprintf(m->why, sizeof m->why, "the server of %s cannot be started: %s",
                 m->plan->spec.name, strerror(event->code));
        table_of(self)->abandon(m->process);
        m->process = NULL;
        tri_managed_give_up(self, m, event->err);
    }
}
