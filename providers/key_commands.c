/*
 * Runs the commands of keychains, one at a time, as children of the process door: `/bin/sh -c`, so
 * that a pipe may stand in the configuration. A command gets the daemon's whole environment, unlike
 * workers, since it is its user's own and a password manager needs its variables. Its output comes
 * through a pipe and is bounded, as is its time; what it writes to standard error is dropped, since
 * nobody can tell a key in it from a word of help. Nothing here blocks: the pipe is watched by the
 * shard's epoll. Whatever it printed is in the pipe when its exit is told, so that is the end, also
 * when something it left behind holds the pipe open.
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

extern char **environ;

typedef struct waiter {
    tr_id who;
    uint64_t ref;
    tr_keychain *chain;
} waiter;

typedef struct runner {
    tr_key_commands_args args;
    waiter *waiters;
    size_t waiter_count, waiter_room;
    /* the command that runs; chain NULL = none does */
    tr_keychain *chain;
    uint32_t ticket;
    uint64_t serial; /* of processes: events of an earlier one are skipped */
    tr_process *process;
    uint64_t timer;
    int pipe_fd;
    bool watched;
    const char *why; /* it has failed */
    size_t size;
    char output[TR_KEY_FILE_max + 1];
} runner;

static tr_err go_on(tr_self *self, runner *r);

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
    r->pipe_fd = -1;
    for (size_t i = 0; i < r->args.chain_count; i++) {
        tr_keychain_runner_lost(r->args.chains[i]);
    }
    return TR_OK;
}

static void drop_command(tr_self *self, runner *r) {
    tr_timer_cancel(self, &r->timer);
    if (r->pipe_fd >= 0) {
        if (r->watched) {
            tr_unwatch(self, r->pipe_fd);
        }
        close(r->pipe_fd);
        r->pipe_fd = -1;
    }
    r->watched = false;
    if (r->process != NULL) {
        r->args.processes->abandon(r->process);
        r->process = NULL;
    }
    explicit_bzero(r->output, r->size);
    r->size = 0;
    r->chain = NULL;
    r->why = NULL;
}

static void runner_stop(tr_self *self, void *state, tr_err reason) {
    runner *r = state;
    (void)reason;
    drop_command(self, r);
    tr_free(r->waiters);
}

static void runner_describe(const void *state, char *buf, size_t size) {
    const runner *r = state;
    snprintf(buf, size, "%s%.40s, %zu waiting", r->chain != NULL ? "a command of " : "idle",
             r->chain != NULL ? tr_keychain_provider(r->chain) : "", r->waiter_count);
}

/* What the pipe holds now. */
static void read_pipe(runner *r) {
    ssize_t got = 0;
    do {
        got = read(r->pipe_fd, r->output + r->size, sizeof r->output - r->size);
        r->size += got > 0 ? (size_t)got : 0;
    } while ((got > 0 && r->size < sizeof r->output) || (got < 0 && errno == EINTR));
    if (r->size == sizeof r->output && r->why == NULL) {
        r->why = "it printed more than 65536 bytes";
        r->args.processes->kill(r->process, SIGKILL);
    }
}

static void readable(tr_self *self, void *state, int fd, uint32_t events) {
    runner *r = state;
    size_t before = r->size;
    read_pipe(r);
    if (r->why != NULL || ((events & (EPOLLHUP | EPOLLERR)) != 0 && r->size == before)) {
        tr_unwatch(self, fd);
        r->watched = false; /* its exit follows */
    }
}

static tr_err start_command(tr_self *self, runner *r, const char *command) {
    static const char *const shell = "/bin/sh";
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        return TR_ERR_IO;
    }
    r->pipe_fd = ends[0];
    fcntl(ends[1], F_SETFL, 0); /* the child's end waits for us */
    const char *argv[] = {shell, "-c", command, NULL};
    tr_process_spec spec = {
        .argv = argv, .env_add = (const char *const *)environ, .out_fd = ends[1]};
    tr_err err = r->args.processes->spawn(r->args.processes, self, &spec, ++r->serial, &r->process);
    close(ends[1]);
    if (err == TR_OK) {
        err = tr_watch(self, r->pipe_fd, EPOLLIN, readable);
        r->watched = err == TR_OK;
    }
    if (err == TR_OK) {
        err = tr_timer_start(self, TR_KEY_COMMAND_MS_max * 1000ULL, 0, &r->timer);
    }
    return err;
}

static void end_command(tr_self *self, runner *r, const char *why) {
    why = r->why != NULL ? r->why : why;
    tr_keychain_ran(r->chain, r->ticket, (tr_str){r->output, r->size}, why, tr_now_us(self));
    if (why != NULL) {
        tr_log(TR_LOG_WARN, self, "a command for a key failed", "provider=%s why=\"%s\"",
               tr_keychain_provider(r->chain), why);
    }
    drop_command(self, r);
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

/* The next command, of whoever has waited longest. */
static tr_err go_on(tr_self *self, runner *r) {
    char command[TR_KEY_SOURCE_max + 1];
    while (r->chain == NULL && r->waiter_count > 0) {
        tr_keychain *chain = r->waiters[0].chain;
        if (!tr_keychain_next_command(chain, tr_now_us(self), command, &r->ticket)) {
            tr_err err = tell(self, r, chain);
            if (err != TR_OK) {
                return err;
            }
            continue;
        }
        r->chain = chain;
        if (start_command(self, r, command) != TR_OK) {
            end_command(self, r, "it cannot be started");
        }
        explicit_bzero(command, sizeof command);
    }
    return TR_OK;
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
    return go_on(self, r);
}

static tr_err on_process(tr_self *self, runner *r, const tr_msg *msg) {
    const tr_process_event *event = (const void *)msg->data;
    char why[64] = "";
    if (r->chain == NULL || msg->ref != r->serial) {
        return TR_OK;
    }
    if (event->event == TR_PROCESS_SPAWNED) {
        if (event->err == TR_OK) {
            return TR_OK;
        }
        snprintf(why, sizeof why, "/bin/sh cannot be started: %.30s", strerror(event->code));
    } else {
        read_pipe(r);
        if (event->signal != 0) {
            snprintf(why, sizeof why, "signal %d killed it", event->signal);
        } else if (event->code != 0) {
            snprintf(why, sizeof why, "it ended with status %d", event->code);
        }
    }
    end_command(self, r, why[0] != '\0' ? why : NULL);
    return go_on(self, r);
}

static tr_err runner_handle(tr_self *self, void *state, tr_msg **msg) {
    runner *r = state;
    switch ((*msg)->kind) {
    case TR_KIND_KEYS_WANTED:
        return on_wanted(self, r, *msg);
    case TR_KIND_PROCESS:
        return on_process(self, r, *msg);
    case TR_KIND_TIMER:
        if (r->chain != NULL && (*msg)->ref == r->timer) {
            r->timer = 0;
            r->why = "it took longer than 30 s";
            r->args.processes->kill(r->process, SIGKILL);
        }
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
