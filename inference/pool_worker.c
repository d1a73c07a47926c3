/*
 * The life of a worker, as an actor: a process that is started, dials back and is known by a nonce;
 * or, for one that joined from another machine, only a link. The link is what counts: heartbeats
 * first, the process second, so both sorts are watched alike. Each life of the actor is one life of
 * the worker: when it is lost, every open stream gets one FAIL that says another may go on, what is
 * left of the process is killed and reaped, and the actor ends as a crash, which its supervisor
 * answers with a new one. A worker that cannot load ends normally: starting it again would not
 * help. Runs on its shard only.
 *
 * Heartbeats: PING every 100 ms while it loads, every second while it has streams, else every 5 s;
 * at least two in silence_ms. It brings the level of the log along. No answer for silence_ms, or
 * work without progress for hang_ms, and it is lost.
 */
#include "inference/pool_worker.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "protocol/assert.h"
#include "runtime/log.h"
#include "runtime/memory.h"
#include "runtime/node.h"

#define BEAT_LOADING_US 100000U
#define BEAT_BUSY_US 1000000U
#define BEAT_IDLE_US 5000000U
#define BEATS_A_SILENCE 2U
#define LATE_US 500000U
#define LINGER_US 250000U      /* its last words, after it exited */
#define GOOD_ORDER_US 2000000U /* to end by itself */
#define REAP_US 5000000U       /* after SIGKILL */
#define OUT_max (2U * TR_FRAME_max + TR_FRAME_INLINE_max)

enum { TAG_BEAT = 1, TAG_GUARD };

const char *const tri_worker_state_names[TRI_WORKER_N] = {"spawning", "joining",  "loading",
                                                          "ready",    "draining", "dead"};

static const bool may[TRI_WORKER_N][TRI_WORKER_N] = {
    [TRI_WORKER_SPAWNING] = {[TRI_WORKER_JOINING] = true,
                             [TRI_WORKER_LOADING] = true, /* its HELLO may overtake SPAWNED */
                             [TRI_WORKER_DRAINING] = true,
                             [TRI_WORKER_DEAD] = true},
    [TRI_WORKER_JOINING] =
        {[TRI_WORKER_LOADING] = true, [TRI_WORKER_DRAINING] = true, [TRI_WORKER_DEAD] = true},
    [TRI_WORKER_LOADING] =
        {[TRI_WORKER_READY] = true, [TRI_WORKER_DRAINING] = true, [TRI_WORKER_DEAD] = true},
    [TRI_WORKER_READY] = {[TRI_WORKER_DRAINING] = true, [TRI_WORKER_DEAD] = true},
    [TRI_WORKER_DRAINING] = {[TRI_WORKER_DEAD] = true},
};

static void set_state(tri_worker *w, tri_worker_state next) {
    TR_ASSERT(may[w->note.state][next]);
    w->note.state = (uint32_t)next;
}

static tr_err tell_pool(tr_self *self, const tri_worker *w) {
    tr_msg *msg = tr_msg_new(TRI_KIND_WORKER_NOTE, sizeof w->note);
    if (msg != NULL) {
        *(tri_worker_note *)msg->data = w->note;
    }
    return tr_send_control(self, w->pool, msg);
}

static void say(tri_worker *w, const char *text, size_t size) {
    size_t cut = tr_utf8_cut(text, size, sizeof w->note.text - 1);
    memmove(w->note.text, text, cut);
    w->note.text[cut] = '\0';
}

static tr_err guard(tr_self *self, tri_worker *w, uint64_t limit_us) {
    tr_timer_cancel(self, &w->guard_timer);
    return tr_timer_start(self, limit_us, TAG_GUARD, &w->guard_timer);
}

/* --- ends --- */

/* Nothing more can come from it. */
static tr_err lose(tr_self *self, tri_worker *w, const char *why) {
    bool first = w->note.state != TRI_WORKER_DEAD;
    if (first) {
        if (w->note.state != TRI_WORKER_DRAINING) {
            if (w->note.text[0] == '\0') {
                say(w, why, strlen(why));
            }
            char quoted[sizeof w->note.text + 64];
            tr_log(TR_LOG_WARN, self, "a worker is lost",
                   "model=%s pid=%" PRId32 " state=%s streams=%u why=%s", w->plan->spec.model,
                   w->note.pid, tri_worker_state_names[w->note.state], w->row_count,
                   tr_log_quote(w->note.text, strlen(w->note.text), quoted, sizeof quoted));
        }
        set_state(w, TRI_WORKER_DEAD);
        (void)tell_pool(self, w); /* or it learns by our DOWN */
        tri_row_fail_all(self, w, "the worker died");
    }
    tr_link_free(w->link);
    w->link = NULL;
    tr_timer_cancel(self, &w->beat_timer);
    if (!w->running) {
        return w->outcome;
    }
    if (!first) {
        return TR_OK;
    }
    tr_node_platform(tr_self_node(self))->processes->kill(w->process, SIGKILL);
    return guard(self, w, REAP_US); /* its memory is free before the next one starts */
}

/* In good order: what it does is given back, and it may end by itself. */
static tr_err shut(tr_self *self, tri_worker *w, tr_err err, const char *why) {
    if (w->note.state >= TRI_WORKER_DRAINING) {
        return TR_OK;
    }
    set_state(w, TRI_WORKER_DRAINING);
    w->outcome = TR_DONE;
    (void)tell_pool(self, w);
    tri_row_fail_all(self, w, "the worker was stopped");
    tr_timer_cancel(self, &w->beat_timer);
    if (w->link != NULL) {
        tr_msg *fail = tr_msg_failf(err, "%s", why);
        if (fail != NULL) {
            (void)!tr_link_send(w->link, self, fail, 0); /* or it sees only its link end */
        }
        tr_msg_free(fail);
        tr_link_finish(w->link, self);
    }
    if (w->running) {
        tr_node_platform(tr_self_node(self))->processes->kill(w->process, SIGTERM);
    } else if (w->link == NULL) {
        return lose(self, w, why);
    }
    return guard(self, w, w->running ? GOOD_ORDER_US : LINGER_US);
}

static tr_err guard_came(tr_self *self, tri_worker *w) {
    w->guard_timer = 0;
    if (w->note.state == TRI_WORKER_DEAD) {
        return w->outcome; /* the kernel still holds it: stop() leaves it to be reaped */
    }
    if (w->note.state == TRI_WORKER_JOINING) {
        return lose(self, w, "it started, but did not dial in time");
    }
    return lose(self, w, "its link stayed open when it had ended");
}

/* --- the process --- */

static tr_err start_process(tr_self *self, tri_worker *w) {
    tr_process_table *table = tr_node_platform(tr_self_node(self))->processes;
    const tr_pool_spec *spec = &w->plan->spec;
    char nonce[20];
    char numbers[4][16];
    snprintf(nonce, sizeof nonce, "%016" PRIx64, w->nonce);
    snprintf(numbers[0], sizeof numbers[0], "%" PRIu32, spec->sequences);
    snprintf(numbers[1], sizeof numbers[1], "%" PRIu32, spec->context);
    snprintf(numbers[2], sizeof numbers[2], "%" PRIu32, spec->threads);
    snprintf(numbers[3], sizeof numbers[3], "%" PRId32, spec->gpu_layers);
    const char *const argv[] = {spec->worker_program,
                                "--dial",
                                spec->dial_url,
                                "--nonce",
                                nonce,
                                "--name",
                                spec->model,
                                "--model",
                                spec->file,
                                "--sequences",
                                numbers[0],
                                "--context",
                                numbers[1],
                                "--threads",
                                numbers[2],
                                "--gpu-layers",
                                numbers[3],
                                "--chat-template",
                                spec->chat_template,
                                "--log-level",
                                tr_log_level_name(tr_log_level_now()),
                                "--log-format",
                                tr_log_format_now() == TR_LOG_JSON ? "json" : "logfmt",
                                NULL};
    /* Spinning threads on shared cores made decoding 50 times slower. */
    static const char *const env[] = {"OMP_WAIT_POLICY=passive", "GGML_NO_BACKTRACE=1", NULL};
    tr_process_spec process = {.argv = argv, .env_add = env, .memory_victim = true};
    tr_err err =
        table != NULL ? table->spawn(table, self, &process, 0, &w->process) : TR_ERR_UNSUPPORTED;
    w->running = err == TR_OK;
    return err;
}

static tr_err exited(tr_self *self, tri_worker *w, const tr_process_event *event) {
    w->running = false;
    char why[128];
    if (event->signal != 0) {
        snprintf(why, sizeof why, "the worker process was killed by signal %" PRId32 " (%s)",
                 event->signal, strsignal(event->signal));
    } else {
        snprintf(why, sizeof why, "the worker process ended with status %" PRId32, event->code);
    }
    if (w->note.state == TRI_WORKER_DEAD) {
        return w->outcome;
    }
    bool planned = w->note.state == TRI_WORKER_DRAINING;
    if (planned || w->link == NULL) {
        return lose(self, w, why);
    }
    if (w->note.text[0] == '\0') {
        say(w, why, strlen(why));
    }
    return guard(self, w, LINGER_US); /* CLOSED comes behind its last words */
}

static tr_err process_came(tr_self *self, tri_worker *w, const tr_process_event *event) {
    if (event->event == TR_PROCESS_EXITED) {
        return exited(self, w, event);
    }
    if (event->err == TR_OK) {
        w->note.pid = event->pid;
        if (w->note.state == TRI_WORKER_SPAWNING) {
            set_state(w, TRI_WORKER_JOINING);
            tr_err err = guard(self, w, (uint64_t)w->plan->spec.hang_ms * 1000);
            return err == TR_OK ? tell_pool(self, w) : err;
        }
        return tell_pool(self, w);
    }
    w->running = false;
    char why[sizeof w->note.text];
    int size = snprintf(why, sizeof why, "%s cannot be started: %s%s", w->plan->spec.worker_program,
                        strerror(event->code),
                        event->code == ENOENT
                            ? ": put its directory into PATH, or name it (`trouped --worker "
                              "FILE`, worker_program of tr_daemon_options); if there is none, "
                              "build with local models (tools/quickstart, or tools/setup and "
                              "cmake -DTROUPE_LOCAL=ON), or name a provider's model "
                              "(provider/model)"
                            : "");
    say(w, why, size > 0 && (size_t)size < sizeof why ? (size_t)size : sizeof why - 1);
    w->note.failed = true;
    w->note.err = (uint32_t)event->err;
    w->outcome = TR_DONE;
    return lose(self, w, why);
}

/* --- heartbeats --- */

/* A short limit of silence needs more questions, or it would be kept to by chance only. */
static uint64_t beat_us(const tri_worker *w) {
    uint64_t usual_us = w->note.state == TRI_WORKER_LOADING ? BEAT_LOADING_US
                        : w->row_count > 0                  ? BEAT_BUSY_US
                                                            : BEAT_IDLE_US;
    uint64_t limit_us = (uint64_t)w->plan->spec.silence_ms * 1000 / BEATS_A_SILENCE;
    return usual_us < limit_us ? usual_us : limit_us;
}

static tr_err arm_beat(tr_self *self, tri_worker *w) {
    uint64_t due_us = tr_now_us(self) + beat_us(w);
    if (w->beat_timer != 0 && w->beat_due_us <= due_us) {
        return TR_OK;
    }
    tr_timer_cancel(self, &w->beat_timer);
    w->beat_due_us = due_us;
    return tr_timer_start(self, beat_us(w), TAG_BEAT, &w->beat_timer);
}

static tr_err beat(tr_self *self, tri_worker *w) {
    w->beat_timer = 0;
    tri_row_say_returned(self, w);
    uint64_t now = tr_now_us(self);
    char why[96];
    if (now - w->beat_due_us > LATE_US) { /* we stood still, not it: its answer may wait here */
        w->asked_us = w->asked_us != 0 ? now : 0;
        w->progress_us = w->moved_us = now;
    }
    if (w->asked_us != 0 && now - w->asked_us >= (uint64_t)w->plan->spec.silence_ms * 1000) {
        snprintf(why, sizeof why, "it has not answered for %" PRIu64 " ms",
                 (now - w->asked_us) / 1000);
        return lose(self, w, why);
    }
    bool busy = w->pong.busy != 0 || w->note.state == TRI_WORKER_LOADING;
    if (busy && now - w->progress_us >= (uint64_t)w->plan->spec.hang_ms * 1000) {
        snprintf(why, sizeof why, "it has worked without getting on for %" PRIu64 " ms",
                 (now - w->progress_us) / 1000);
        return lose(self, w, why);
    }
    uint64_t cancelled_us = tri_row_oldest_cancel_us(w);
    uint64_t stuck_us = cancelled_us > w->moved_us ? cancelled_us : w->moved_us;
    if (cancelled_us != 0 && now - stuck_us >= (uint64_t)w->plan->spec.cancel_ms * 1000) {
        snprintf(why, sizeof why, "it has not answered a CANCEL for %" PRIu64 " ms",
                 (now - cancelled_us) / 1000);
        return lose(self, w, why);
    }
    tr_msg *ping = tr_msg_new(TR_KIND_PING, sizeof(tr_ping));
    if (ping == NULL) {
        return TR_ERR_NOMEM;
    }
    *(tr_ping *)ping->data =
        (tr_ping){.number = ++w->ping_number, .log_level = (uint32_t)tr_log_level_now() + 1};
    tr_err err = tr_link_send(w->link, self, ping, 0);
    tr_msg_free(ping);
    if (err == TR_ERR_STALLED) {
        return lose(self, w, "it does not read its link");
    }
    w->asked_us = w->asked_us != 0 ? w->asked_us : now;
    return err == TR_OK ? arm_beat(self, w) : err;
}

static tr_err pong_came(tr_self *self, tri_worker *w, const tr_ping *pong) {
    bool moved = pong->ticks != w->pong.ticks || pong->load_percent != w->pong.load_percent;
    bool idle = pong->busy == 0 || w->pong.busy == 0;
    if (moved || (idle && w->note.state == TRI_WORKER_READY)) {
        w->progress_us = tr_now_us(self);
    }
    w->moved_us = moved ? tr_now_us(self) : w->moved_us;
    w->pong = *pong;
    uint32_t percent = pong->load_percent < 100 ? pong->load_percent : 100;
    if (percent == w->note.percent && (percent < 100 || w->note.state != TRI_WORKER_LOADING)) {
        return TR_OK;
    }
    w->note.percent = percent;
    if (percent == 100 && w->note.state == TRI_WORKER_LOADING) {
        set_state(w, TRI_WORKER_READY);
        w->note.has_digest = true;
        char id[TR_ID_FMT_size];
        tr_log(TR_LOG_INFO, self, "a worker is ready",
               "model=%s worker=%s pid=%" PRId32 " sequences=%u context=%u", w->plan->spec.model,
               tr_id_format(tr_self_id(self), id), w->note.pid, w->note.sequences, w->note.context);
        if (!w->note.joined && w->note.context < w->plan->spec.context) {
            tr_log(TR_LOG_WARN, self,
                   "the model's context is smaller than configured: it was trained on no more",
                   "model=%s configured=%u context=%u", w->plan->spec.model, w->plan->spec.context,
                   w->note.context);
        }
    }
    return tell_pool(self, w);
}

/* --- the link --- */

/* FAIL{ref 0}: the process says why it ends. */
static void last_words(tri_worker *w, const tr_fail *fail) {
    tr_str why = tr_fail_read(fail).message;
    say(w, why.ptr, why.size);
    if (w->note.state == TRI_WORKER_LOADING) {
        w->note.failed = true;
        w->note.err = fail->err != TR_OK ? fail->err : (uint32_t)TR_ERR_SERVER;
        w->outcome = TR_DONE;
    }
}

static tr_err frame_came(tr_self *self, void *state, tr_msg **msg) {
    tri_worker *w = state;
    w->asked_us = 0;
    if (w->note.state >= TRI_WORKER_DRAINING) {
        return TR_OK;
    }
    switch ((*msg)->kind) {
    case TR_KIND_DELTA:
    case TR_KIND_DONE:
        w->progress_us = w->moved_us = tr_now_us(self);
        return tri_row_answer(self, w, msg);
    case TR_KIND_FAIL:
        if ((*msg)->ref == 0) {
            last_words(w, (const tr_fail *)(*msg)->data);
            return TR_OK;
        }
        return tri_row_answer(self, w, msg);
    case TR_KIND_PONG:
        return pong_came(self, w, (const tr_ping *)(*msg)->data);
    case TR_KIND_PING:
        (*msg)->kind = TR_KIND_PONG;
        return tr_link_send(w->link, self, *msg, (*msg)->ref);
    default:
        return TR_ERR_PROTOCOL;
    }
}

static tr_err stream_came(tr_self *self, tri_worker *w, tr_msg *msg) {
    if (w->link == NULL) {
        return TR_OK;
    }
    tr_err err = tr_link_handle(w->link, self, msg);
    if (err == TR_OK) {
        return TR_OK;
    }
    if (w->note.state == TRI_WORKER_DRAINING && w->running) {
        tr_link_free(w->link); /* it closes as it was asked to; its exit follows */
        w->link = NULL;
        return TR_OK;
    }
    return lose(self, w, err == TR_ERR_CLOSED ? "its link closed" : tr_err_text(err));
}

static tr_err welcome(tr_self *self, tri_worker *w) {
    static const char software[] = "troupe/" TROUPE_VERSION;
    tr_str name = {software, sizeof software - 1};
    tr_msg *msg = tr_msg_new(TR_KIND_WELCOME, tr_welcome_size(name));
    if (msg == NULL) {
        return TR_ERR_NOMEM;
    }
    tr_welcome head = {
        .version = TR_PROTOCOL_VERSION, .streams_max = TRI_STREAMS_max, .frame_max = TR_FRAME_max};
    tr_welcome_write(msg->data, &head, name);
    tr_err err = tr_link_send(w->link, self, msg, 0);
    tr_msg_free(msg);
    return err;
}

static tr_err handed_over(tr_self *self, tri_worker *w, tr_msg *msg) {
    if (w->note.state > TRI_WORKER_JOINING || w->link != NULL) {
        return TR_OK; /* the stream closes with the message */
    }
    const tr_handover *handover = (const tr_handover *)msg->data;
    const tr_hello *hello = (const tr_hello *)(const void *)handover->hello;
    static const uint8_t unknown[sizeof hello->digest];
    w->note.sequences = hello->sequences > 0 ? hello->sequences : 1;
    w->note.context = hello->context;
    memcpy(w->note.digest, hello->digest, sizeof w->note.digest);
    w->note.has_digest = memcmp(unknown, hello->digest, sizeof unknown) != 0;
    tr_stream *stream = tr_handover_take(msg);
    if (stream == NULL) {
        return TR_OK;
    }
    set_state(w, TRI_WORKER_LOADING);
    w->progress_us = tr_now_us(self);
    tr_timer_cancel(self, &w->guard_timer);
    tr_err err = tr_link_new(self, stream, 0, OUT_max, frame_came, w, &w->link);
    if (err == TR_OK) {
        err = welcome(self, w);
    }
    if (err == TR_OK) {
        err = tell_pool(self, w);
    }
    w->beat_due_us = tr_now_us(self);
    return err == TR_OK ? beat(self, w) : err;
}

/* --- the actor --- */

static tr_err init(tr_self *self, void *state, const void *args) {
    tri_worker *w = state;
    const tri_worker_args *given = args;
    w->plan = given->plan;
    w->note.index = given->index;
    w->note.joined = given->joined;
    w->outcome = given->joined ? TR_DONE : TR_ERR_CRASHED;
    w->pool = tr_whereis(tr_self_node(self), w->plan->pool_name);
    if (w->pool == TR_ID_NONE) {
        return TR_ERR_GONE;
    }
    tr_err err = tr_monitor(self, w->pool, &w->pool_monitor);
    if (err == TR_OK && given->joined) {
        err = guard(self, w, LINGER_US); /* the HANDOVER follows at once */
    } else if (err == TR_OK) {
        do {
            w->nonce = tr_random(self);
        } while (w->nonce == 0);
        char name[TR_ACTOR_NAME_max + 1];
        snprintf(name, sizeof name, "worker:%016" PRIx64, w->nonce);
        err = tr_register(self, name);
        if (err == TR_OK) {
            err = start_process(self, w);
        }
    }
    if (err == TR_OK) {
        err = tell_pool(self, w);
    }
    if (err != TR_OK && w->process != NULL) {
        tr_node_platform(tr_self_node(self))->processes->abandon(w->process);
    }
    return err;
}

/* What calls send may fail because the process does not read: then it is lost. */
static tr_err after_call(tr_self *self, tri_worker *w, tr_err err) {
    if (err == TR_ERR_STALLED) {
        return lose(self, w, "it does not read its link");
    }
    return err == TR_OK && w->note.state == TRI_WORKER_READY ? arm_beat(self, w) : err;
}

static tr_err refused(tr_self *self, tri_worker *w, const tr_msg *msg) {
    if (w->note.state >= TRI_WORKER_DRAINING) {
        return TR_OK;
    }
    const char *why = (const char *)msg->data;
    say(w, why, strnlen(why, msg->size));
    w->note.failed = true;
    w->note.err = TR_ERR_INVALID;
    char quoted[sizeof w->note.text + 64];
    tr_log(TR_LOG_WARN, self, "a worker was turned away", "model=%s pid=%" PRId32 " why=%s",
           w->plan->spec.model, w->note.pid,
           tr_log_quote(w->note.text, strlen(w->note.text), quoted, sizeof quoted));
    return shut(self, w, TR_ERR_INVALID, w->note.text);
}

static tr_err handle(tr_self *self, void *state, tr_msg **taken) {
    tri_worker *w = state;
    tr_msg *msg = *taken;
    switch (msg->kind) {
    case TR_KIND_STREAM:
        return stream_came(self, w, msg);
    case TR_KIND_SUBMIT:
        return after_call(self, w, tri_row_submit(self, w, msg));
    case TR_KIND_CREDIT:
    case TR_KIND_CANCEL:
        return after_call(self, w, tri_row_steer(self, w, msg));
    case TRI_KIND_RETURN:
        return after_call(self, w, tri_row_return(self, w, (const tri_stream_key *)msg->data));
    case TR_KIND_DOWN:
        return msg->ref == w->pool_monitor
                   ? shut(self, w, TR_ERR_SHUTDOWN, "the pool ended")
                   : after_call(self, w, tri_row_call_ended(self, w, msg->ref));
    case TR_KIND_TIMER:
        if (msg->ref == w->beat_timer) {
            return beat(self, w);
        }
        return msg->ref == w->guard_timer ? guard_came(self, w) : TR_OK;
    case TR_KIND_PROCESS:
        return process_came(self, w, (const tr_process_event *)msg->data);
    case TR_KIND_HANDOVER:
        return handed_over(self, w, msg);
    case TRI_KIND_WORKER_REFUSE:
        return refused(self, w, msg);
    case TR_KIND_EXIT:
        return shut(self, w, TR_ERR_SHUTDOWN, "the model is being unloaded");
    default:
        return TR_OK;
    }
}

static void stop(tr_self *self, void *state, tr_err reason) {
    (void)reason;
    tri_worker *w = state;
    tri_row_fail_all(self, w, "the worker's actor ended");
    if (w->process != NULL) {
        tr_node_platform(tr_self_node(self))->processes->abandon(w->process);
    }
    tr_link_free(w->link);
    tr_free(w->rows);
}

static void describe(const void *state, char *buf, size_t size) {
    const tri_worker *w = state;
    int used = snprintf(buf, size, "%s", tri_worker_state_names[w->note.state]);
    size_t at = used > 0 && (size_t)used < size ? (size_t)used : 0;
    if (w->note.joined) {
        snprintf(buf + at, size - at, ", joined, %u of %u streams", w->row_count,
                 w->note.sequences);
    } else if (w->note.state == TRI_WORKER_LOADING) {
        snprintf(buf + at, size - at, " %u%%, pid %" PRId32, w->note.percent, w->note.pid);
    } else {
        snprintf(buf + at, size - at, ", pid %" PRId32 ", %u of %u streams", w->note.pid,
                 w->row_count, w->note.sequences);
    }
}

const tr_behaviour tri_worker_behaviour = {
    .name = "worker",
    .state_size = sizeof(tri_worker),
    .traps_exit = true,
    .init = init,
    .handle = handle,
    .stop = stop,
    .describe = describe,
};
