/*
 * Runs the commands of keychains as children of the process door: `/bin/sh -c`, so that a pipe may
 * stand in the configuration. A provider's commands run one after the other, those of different
 * providers side by side, so that one that hangs keeps no other provider's key. A command gets the
 * daemon's whole environment, unlike workers, since it is its user's own and a password manager
 * needs its variables. Its output comes through a pipe and is bounded, as is its time; what it
 * writes to standard error is dropped, since nobody can tell a key in it from a word of help.
 * Nothing here blocks: the pipe is watched by the shard's epoll. Whatever it printed is in the pipe
 * when its exit is told, so that is the end, also when something it left behind holds it open.
 *
 * Spoken to by provider actors; runs on shard 0.
 */
#include "providers/key_commands.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "runtime/log.h"
#include "runtime/memory.h"

#define WAITERS_max 65536U
#define RUNS_max 16U /* at once */

extern char **environ;

typedef struct waiter {
    tr_id who;
    uint64_t ref;
    tr_keychain *chain;
} waiter;

/* A command that runs. */
typedef struct run {
    tr_keychain *chain;
    uint32_t ticket;
    uint64_t serial; /* of its process */
    tr_process *process;
    uint64_t timer;
    int pipe_fd;
    bool watched;
    const char *why; /* it has failed */
    size_t size;
    char output[TR_KEY_FILE_max + 1];
} run;

typedef struct runner {
    tr_key_commands_args args;
    waiter *waiters;
    size_t waiter_count, waiter_room;
    uint64_t serial;
    run *runs[RUNS_max]; /* at most one a keychain; NULL = free */
} runner;

tr_child_spec tr_key_commands_child(const tr_key_commands_args *args) {
    return (tr_child_spec){.name = TR_KEY_COMMANDS_NAME,
                           .behaviour = &tr_key_commands,
                           .args = args,
                           .args_size = sizeof *args,
                           .restart = TR_PERMANENT,
                           .shutdown_ms = 1000,
                           .registers = true};
}

tr_msg *tr_keys_wanted_msg(const char *provider, uint64_t ref) {
    size_t size = strlen(provider) + 1;
    tr_msg *msg = tr_msg_new(TR_KIND_KEYS_WANTED, (uint32_t)size);
    if (msg != NULL) {
        memcpy(msg->data, provider, size);
        msg->ref = ref;
    }
    return msg;
}

static tr_err runner_init(tr_self *self, void *state, const void *args) {
    (void)self;
    runner *r = state;
    memcpy(&r->args, args, sizeof r->args);
    for (size_t i = 0; i < r->args.chain_count; i++) {
        tr_keychain_runner_lost(r->args.chains[i]);
    }
    return TR_OK;
}

static run **place_of(runner *r, const tr_keychain *chain) {
    for (size_t i = 0; i < RUNS_max; i++) {
        if ((r->runs[i] != NULL ? r->runs[i]->chain : NULL) == chain) {
            return &r->runs[i];
        }
    }
    return NULL;
}

static void drop(tr_self *self, const runner *r, run **place) {
    run *gone = *place;
    *place = NULL;
    tr_timer_cancel(self, &gone->timer);
    if (gone->pipe_fd >= 0) {
        if (gone->watched) {
            tr_unwatch(self, gone->pipe_fd);
        }
        close(gone->pipe_fd);
    }
    if (gone->process != NULL) {
        r->args.processes->abandon(gone->process);
    }
    explicit_bzero(gone->output, gone->size);
    tr_free(gone);
}

static void runner_stop(tr_self *self, void *state, tr_err reason) {
    runner *r = state;
    (void)reason;
    for (size_t i = 0; i < RUNS_max; i++) {
        if (r->runs[i] != NULL) {
            drop(self, r, &r->runs[i]);
        }
    }
    tr_free(r->waiters);
}

static void runner_describe(const void *state, char *buf, size_t size) {
    const runner *r = state;
    size_t count = 0;
    const char *first = "";
    for (size_t i = 0; i < RUNS_max; i++) {
        if (r->runs[i] != NULL) {
            first = count++ == 0 ? tr_keychain_provider(r->runs[i]->chain) : first;
        }
    }
    if (count == 1) {
        snprintf(buf, size, "a command of %.40s, %zu waiting", first, r->waiter_count);
    } else if (count == 0) {
        snprintf(buf, size, "idle, %zu waiting", r->waiter_count);
    } else {
        snprintf(buf, size, "%zu commands, %zu waiting", count, r->waiter_count);
    }
}

/* What the pipe holds now. */
static void read_pipe(const runner *r, run *it) {
    ssize_t got = 0;
    do {
        got = read(it->pipe_fd, it->output + it->size, sizeof it->output - it->size);
        it->size += got > 0 ? (size_t)got : 0;
    } while ((got > 0 && it->size < sizeof it->output) || (got < 0 && errno == EINTR));
    if (it->size == sizeof it->output && it->why == NULL) {
        it->why = "it printed more than 65536 bytes";
        r->args.processes->kill(it->process, SIGKILL);
    }
}

static void readable(tr_self *self, void *state, int fd, uint32_t events) {
    runner *r = state;
    for (size_t i = 0; i < RUNS_max; i++) {
        run *it = r->runs[i];
        if (it == NULL || it->pipe_fd != fd) {
            continue;
        }
        size_t before = it->size;
        read_pipe(r, it);
        if (it->why != NULL || ((events & (EPOLLHUP | EPOLLERR)) != 0 && it->size == before)) {
            tr_unwatch(self, fd);
            it->watched = false; /* its exit follows */
        }
    }
}

static tr_err start_command(tr_self *self, runner *r, run *it, const char *command) {
    static const char *const shell = "/bin/sh";
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        return TR_ERR_IO;
    }
    it->pipe_fd = ends[0];
    it->serial = ++r->serial;
    fcntl(ends[1], F_SETFL, 0); /* the child's end waits for us */
    const char *argv[] = {shell, "-c", command, NULL};
    tr_process_spec spec = {
        .argv = argv, .env_add = (const char *const *)environ, .out_fd = ends[1]};
    tr_err err = r->args.processes->spawn(r->args.processes, self, &spec, it->serial, &it->process);
    close(ends[1]);
    if (err == TR_OK) {
        err = tr_watch(self, it->pipe_fd, EPOLLIN, readable);
        it->watched = err == TR_OK;
    }
    if (err == TR_OK) {
        err = tr_timer_start(self, TR_KEY_COMMAND_MS_max * 1000ULL, 0, &it->timer);
    }
    return err;
}

static void end_command(tr_self *self, const runner *r, run **place, const char *why) {
    const run *it = *place;
    why = it->why != NULL ? it->why : why;
    tr_keychain_ran(it->chain, it->ticket, (tr_str){it->output, it->size}, why, tr_now_us(self));
    if (why != NULL) {
        tr_log(TR_LOG_WARN, self, "a command for a key failed", "provider=%s why=\"%s\"",
               tr_keychain_provider(it->chain), why);
    }
    drop(self, r, place);
}

/* Those whose provider's commands have all run are told. */
static tr_err tell(tr_self *self, runner *r, const tr_keychain *chain) {
    size_t kept = 0;
    tr_err err = TR_OK;
    for (size_t i = 0; i < r->waiter_count; i++) {
        if (r->waiters[i].chain != chain) {
            r->waiters[kept++] = r->waiters[i];
            continue;
        }
        tr_msg *msg = tr_msg_new(TR_KIND_KEYS_CAME, 0);
        if (msg != NULL) {
            msg->ref = r->waiters[i].ref;
        }
        tr_err sent = tr_send_control(self, r->waiters[i].who, msg);
        err = err == TR_OK ? sent : err;
    }
    r->waiter_count = kept;
    return err;
}

/* Its next command, when none of it runs and there is a place; or its waiters are told. */
static tr_err advance(tr_self *self, runner *r, tr_keychain *chain) {
    char command[TR_KEY_SOURCE_max + 1];
    if (place_of(r, chain) != NULL) {
        return TR_OK;
    }
    while (tr_keychain_wants_command(chain, tr_now_us(self))) {
        run **place = place_of(r, NULL);
        if (place == NULL) {
            return TR_OK;
        }
        run *it = tr_zalloc(sizeof *it);
        if (it == NULL) {
            return TR_ERR_NOMEM;
        }
        it->pipe_fd = -1;
        it->chain = chain;
        *place = it;
        if (!tr_keychain_next_command(chain, tr_now_us(self), command, &it->ticket)) {
            drop(self, r, place); /* a reload took it away meanwhile */
            break;
        }
        tr_err err = start_command(self, r, it, command);
        explicit_bzero(command, sizeof command);
        if (err == TR_OK) {
            return TR_OK;
        }
        end_command(self, r, place, "it cannot be started");
    }
    return tell(self, r, chain);
}

/* A place is free: whoever has waited longest for one is next. */
static tr_err advance_others(tr_self *self, runner *r) {
    tr_err err = TR_OK;
    for (size_t i = 0; i < r->waiter_count && place_of(r, NULL) != NULL && err == TR_OK;) {
        if (place_of(r, r->waiters[i].chain) != NULL) {
            i++;
            continue;
        }
        err = advance(self, r, r->waiters[i].chain);
        i = 0; /* it runs now, or its waiters are gone */
    }
    return err;
}

static tr_err ended(tr_self *self, runner *r, run **place, const char *why) {
    tr_keychain *chain = (*place)->chain;
    end_command(self, r, place, why);
    tr_err err = advance(self, r, chain);
    return err == TR_OK ? advance_others(self, r) : err;
}

static tr_err on_wanted(tr_self *self, runner *r, const tr_msg *msg) {
    const char *name = (const char *)msg->data;
    tr_keychain *chain = NULL;
    for (size_t i = 0; i < r->args.chain_count && msg->size > 0; i++) {
        if (strncmp(tr_keychain_provider(r->args.chains[i]), name, msg->size) == 0) {
            chain = r->args.chains[i];
        }
    }
    if (chain == NULL || r->waiter_count == WAITERS_max) {
        tr_msg *came = tr_msg_new(TR_KIND_KEYS_CAME, 0);
        if (came != NULL) {
            came->ref = msg->ref;
        }
        return tr_send_control(self, msg->from, came);
    }
    if (r->waiter_count == r->waiter_room) {
        size_t room = r->waiter_room == 0 ? 16 : r->waiter_room * 2;
        waiter *grown = tr_realloc(r->waiters, room * sizeof *grown);
        if (grown == NULL) {
            return TR_ERR_NOMEM;
        }
        r->waiters = grown;
        r->waiter_room = room;
    }
    r->waiters[r->waiter_count++] = (waiter){.who = msg->from, .ref = msg->ref, .chain = chain};
    return advance(self, r, chain);
}

static tr_err on_process(tr_self *self, runner *r, const tr_msg *msg) {
    const tr_process_event *event = (const void *)msg->data;
    char why[64] = "";
    run **place = NULL;
    for (size_t i = 0; i < RUNS_max; i++) {
        if (r->runs[i] != NULL && r->runs[i]->serial == msg->ref) {
            place = &r->runs[i];
        }
    }
    if (place == NULL) {
        return TR_OK;
    }
    if (event->event == TR_PROCESS_SPAWNED) {
        if (event->err == TR_OK) {
            return TR_OK;
        }
        snprintf(why, sizeof why, "/bin/sh cannot be started: %.30s", strerror(event->code));
    } else {
        read_pipe(r, *place);
        if (event->signal != 0) {
            snprintf(why, sizeof why, "signal %d killed it", event->signal);
        } else if (event->code != 0) {
            snprintf(why, sizeof why, "it ended with status %d", event->code);
        }
    }
    return ended(self, r, place, why[0] != '\0' ? why : NULL);
}

static void on_timer(const runner *r, uint64_t timer) {
    for (size_t i = 0; i < RUNS_max; i++) {
        run *it = r->runs[i];
        if (it != NULL && it->timer == timer) {
            it->timer = 0;
            it->why = "it took longer than 30 s";
            r->args.processes->kill(it->process, SIGKILL);
        }
    }
}

static tr_err runner_handle(tr_self *self, void *state, tr_msg **msg) {
    runner *r = state;
    switch ((*msg)->kind) {
    case TR_KIND_KEYS_WANTED:
        return on_wanted(self, r, *msg);
    case TR_KIND_PROCESS:
        return on_process(self, r, *msg);
    case TR_KIND_TIMER:
        on_timer(r, (*msg)->ref);
        return TR_OK;
    default:
        return TR_OK;
    }
}

const tr_behaviour tr_key_commands = {
    .name = "keys",
    .state_size = sizeof(runner),
    .init = runner_init,
    .handle = runner_handle,
    .stop = runner_stop,
    .describe = runner_describe,
};
