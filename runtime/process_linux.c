/*
 * Linux's process table: one thread that forks, watches every child's pidfd, and reaps. It lives as
 * long as the table, because the parent-death signal that ties a child to the daemon fires when the
 * forking thread ends. The child does only what is async-signal-safe between fork and exec, and
 * reports a failed exec through a pipe that a successful one closes. A child leads a session, so a
 * Ctrl-C meant for the daemon does not reach it, and what it leaves behind in its process group is
 * killed before it is reaped, while its pid cannot have been given to another. Both events'
 * messages are made when the spawn is asked for: telling needs no memory. Tables are called from
 * shards.
 */
#include "runtime/process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/assert.h"
#include "runtime/memory.h"
#include "runtime/node.h"
#include "runtime/process_internal.h"
#include "runtime/process_keeper.h"

#define EVENTS_max 16
#define OUTPUT_TAG 1U
#define PIECES_a_turn 32            /* of output: what a pipe holds */
#define MEMORY_VICTIM_score "800\n" /* of 1000; the daemon's own is about 0 */

extern char **environ;

typedef enum process_state { WAITING, RUNNING, ENDED } process_state;

typedef struct linux_table linux_table;

struct tr_process {
    /* set at init */
    linux_table *table;
    tr_node *node;
    char **argv;
    char **env;
    bool memory_victim;
    bool foreign;
    /* of the table's thread */
    int output_fd; /* -1 = none */
    int out_fd;    /* the spec's, our own; closed when it has been started; -1 = none */
    /* guarded by the table's processes_mtx */
    tr_process *next, *prev;
    tr_msg *spawned_msg;
    tr_msg *exited_msg;
    process_state state;
    pid_t pid;         /* our child */
    pid_t program_pid; /* the same, or what it keeps */
    int pidfd;         /* -1 = none */
    int signal;        /* asked for before it ran; 0 = none */
    bool abandoned;
    size_t output_size;
    char output[TR_PROCESS_OUTPUT_max];
};

struct linux_table {
    tr_process_table base;
    pthread_t thread;
    pid_t daemon_pid;
    int epoll_fd;
    int wake_fd;
    pthread_mutex_t processes_mtx;
    tr_process *processes; /* guarded by processes_mtx; oldest last */
    bool stopping;         /* guarded by processes_mtx */
};

/* ---- the child ---- */

static void write_to(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t done = write(fd, text, strlen(text));
        (void)done; /* without it the child is only killed less early */
        close(fd);
    }
}

static void close_on_exec_from(int first) {
    if (syscall(SYS_close_range, (unsigned)first, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */) == 0) {
        return;
    }
    long limit = sysconf(_SC_OPEN_MAX);
    for (int fd = first; fd < (limit > 0 && limit < 65536 ? (int)limit : 65536); fd++) {
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
}

/* Between fork and exec: async-signal-safe calls only. */
_Noreturn static void run_child(const tr_process *process, int report_fd, int output_fd) {
    sigset_t none;
    sigemptyset(&none);
    struct sigaction standard = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++) {
        sigaction(number, &standard, NULL); /* KILL, STOP and the C library's own refuse */
    }
    setsid();
    prctl(PR_SET_PDEATHSIG, process->foreign ? TRI_KEEPER_KILL : SIGKILL);
    if (getppid() != process->table->daemon_pid) {
        _exit(127); /* the daemon died before the line above */
    }
    if (process->memory_victim) {
        write_to("/proc/self/oom_score_adj", MEMORY_VICTIM_score);
    }
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_fd >= 0) {
        dup2(null_fd, STDIN_FILENO);
    }
    if (process->foreign) {
        dup2(output_fd, STDERR_FILENO);
        tri_process_keep(report_fd);
    }
    if (process->out_fd >= 0) {
        int nowhere_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(process->out_fd, STDOUT_FILENO);
        dup2(nowhere_fd >= 0 ? nowhere_fd : process->out_fd, STDERR_FILENO);
    } else {
        dup2(STDERR_FILENO, STDOUT_FILENO);
    }
    close_on_exec_from(STDERR_FILENO + 1);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(process->argv[0], process->argv, process->env);
    tri_report report = {.code = errno};
    ssize_t done = write(report_fd, &report, sizeof report);
    (void)done;
    _exit(127);
}

/* Until the child's exec, or its end, closes the pipe. */
static tri_report read_reports(int fd) {
    tri_report all = {0};
    for (;;) {
        tri_report one;
        ssize_t got = read(fd, &one, sizeof one);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got != (ssize_t)sizeof one) {
            return all;
        }
        all.pid = one.pid != 0 ? one.pid : all.pid;
        all.code = one.code != 0 ? one.code : all.code;
    }
}

static void close_both(const int fds[2]) {
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
}

static bool open_pipes(const tr_process *process, int report[2], int output[2]) {
    return pipe2(report, O_CLOEXEC) == 0 &&
           (!process->foreign ||
            (pipe2(output, O_CLOEXEC) == 0 && fcntl(output[0], F_SETFL, O_NONBLOCK) == 0));
}

/* Forks. *ret_pid is the child; the report's pid the program, its code errno of what failed. */
static tr_err start_child(tr_process *process, pid_t *ret_pid, tri_report *ret) {
    int report[2] = {-1, -1};
    int output[2] = {-1, -1};
    if (!open_pipes(process, report, output)) {
        ret->code = errno;
        close_both(report);
        close_both(output);
        return TR_ERR_IO;
    }
    /* No handler of the daemon may run in the child: all is blocked until it has reset them. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0) {
        run_child(process, report[1], output[1]);
    }
    ret->code = pid < 0 ? errno : 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(report[1]);
    if (output[1] >= 0) {
        close(output[1]);
    }
    if (pid > 0) {
        *ret = read_reports(report[0]);
    }
    close(report[0]);
    if (ret->code != 0) {
        if (pid > 0) {
            waitpid(pid, NULL, 0);
        }
        if (output[0] >= 0) {
            close(output[0]);
        }
        return ret->code == ENOMEM   ? TR_ERR_NOMEM
               : ret->code == ENOENT ? TR_ERR_NOT_FOUND
                                     : TR_ERR_IO;
    }
    process->output_fd = output[0];
    ret->pid = ret->pid != 0 ? ret->pid : pid;
    *ret_pid = pid;
    return TR_OK;
}

/* ---- the table's thread ---- */

static void free_process(tr_process *process) {
    if (process->out_fd >= 0) {
        close(process->out_fd);
    }
    tr_msg_free(process->spawned_msg);
    tr_msg_free(process->exited_msg);
    tr_free(process->argv);
    tr_free(process->env);
    tr_free(process);
}

static void unlink_locked(tr_process *process) {
    *(process->prev != NULL ? &process->prev->next : &process->table->processes) = process->next;
    if (process->next != NULL) {
        process->next->prev = process->prev;
    }
}

/* Under the mutex, so that nothing is told after abandon has returned. */
static void tell_locked(tr_process *process, tr_msg **msg, const tr_process_event *event) {
    if (!process->abandoned) {
        *(tr_process_event *)(void *)(*msg)->data = *event;
        tr_post(process->node, (*msg)->to, *msg);
        *msg = NULL;
    }
}

static void end_locked(tr_process *process) {
    process->state = ENDED;
    if (process->pidfd >= 0) {
        close(process->pidfd); /* which also takes it out of epoll */
        process->pidfd = -1;
    }
    if (process->abandoned) {
        unlink_locked(process);
        free_process(process);
    }
}

static void signal_locked(const tr_process *process, int number) {
    number = process->foreign && number == SIGKILL ? TRI_KEEPER_KILL : number;
    /* Cannot miss: the pid is the child's until this thread's owner reaps it, under this mutex. */
    syscall(SYS_pidfd_send_signal, process->pidfd, number, NULL, 0U);
}

static void close_output(tr_process *process) {
    if (process->output_fd >= 0) {
        close(process->output_fd); /* which also takes it out of epoll */
        process->output_fd = -1;
    }
}

/* Takes in what it has written, as much as was there; closes it at its end. Whoever writes without
 * end waits for its next turn, so that others are started and reaped. */
static void read_output(tr_process *process) {
    char piece[TR_PROCESS_OUTPUT_max / 2];
    for (int i = 0; i < PIECES_a_turn && process->output_fd >= 0; i++) {
        ssize_t got = read(process->output_fd, piece, sizeof piece);
        if (got > 0) {
            pthread_mutex_lock(&process->table->processes_mtx);
            tri_process_keep_output(process->output, &process->output_size, piece, (size_t)got);
            pthread_mutex_unlock(&process->table->processes_mtx);
        } else if (got < 0 && errno == EINTR) {
            continue;
        } else if (got < 0 && errno == EAGAIN) {
            return;
        } else {
            close_output(process);
        }
    }
}

/* In epoll a process is its address, its output that and a bit which no address has. */
static bool watch(const linux_table *table, int fd, tr_process *process, uintptr_t tag) {
    struct epoll_event watch = {.events = EPOLLIN, .data.u64 = (uintptr_t)process | tag};
    return epoll_ctl(table->epoll_fd, EPOLL_CTL_ADD, fd, &watch) == 0;
}

static tr_process *process_of(const struct epoll_event *event) {
    return (tr_process *)(uintptr_t)(event->data.u64 & ~(uint64_t)OUTPUT_TAG);
}

static void spawn_waiting(linux_table *table, tr_process *process) {
    pid_t pid = 0;
    tri_report report = {0};
    tr_err err = start_child(process, &pid, &report);
    if (process->out_fd >= 0) { /* its reader must see the end when the child closes its own */
        close(process->out_fd);
        process->out_fd = -1;
    }
    int pidfd = -1;
    if (err == TR_OK) {
        pidfd = (int)syscall(SYS_pidfd_open, pid, 0U);
        if (pidfd < 0 || !watch(table, pidfd, process, 0) ||
            (process->output_fd >= 0 && !watch(table, process->output_fd, process, OUTPUT_TAG))) {
            report.code = errno;
            err = TR_ERR_IO;
            kill(pid, process->foreign ? TRI_KEEPER_KILL : SIGKILL);
            waitpid(pid, NULL, 0);
            close_output(process);
            if (pidfd >= 0) {
                close(pidfd);
                pidfd = -1;
            }
        }
    }
    tr_process_event event = {
        .event = TR_PROCESS_SPAWNED, .err = err, .pid = report.pid, .code = report.code};
    pthread_mutex_lock(&table->processes_mtx);
    process->pid = pid;
    process->program_pid = report.pid;
    process->pidfd = pidfd;
    process->state = RUNNING;
    tell_locked(process, &process->spawned_msg, &event);
    if (err != TR_OK) {
        end_locked(process);
    } else if (process->abandoned || process->signal != 0) {
        signal_locked(process, process->abandoned ? SIGKILL : process->signal);
    }
    pthread_mutex_unlock(&table->processes_mtx);
}

static void reap(linux_table *table, tr_process *process) {
    siginfo_t info = {0};
    read_output(process); /* its last words come before its end */
    close_output(process);
    pthread_mutex_lock(&table->processes_mtx);
    kill(-process->pid, SIGKILL); /* what it left behind: its pid is its group's while it waits */
    if (waitid(P_PID, (id_t)process->pid, &info, WEXITED) == 0) {
        bool exited = info.si_code == CLD_EXITED;
        tr_process_event event = {.event = TR_PROCESS_EXITED,
                                  .pid = process->program_pid,
                                  .code = exited ? info.si_status : 0,
                                  .signal = exited ? 0 : info.si_status};
        tell_locked(process, &process->exited_msg, &event);
    }
    end_locked(process);
    pthread_mutex_unlock(&table->processes_mtx);
}

/* The oldest that waits to be spawned, or NULL; drops those abandoned meanwhile. */
static tr_process *next_waiting(linux_table *table) {
    tr_process *oldest = NULL;
    pthread_mutex_lock(&table->processes_mtx);
    for (tr_process *process = table->processes, *next; process != NULL; process = next) {
        next = process->next;
        if (process->state == WAITING && process->abandoned) {
            end_locked(process);
        } else if (process->state == WAITING) {
            oldest = process;
        }
    }
    pthread_mutex_unlock(&table->processes_mtx);
    return oldest;
}

static bool is_over(linux_table *table) {
    pthread_mutex_lock(&table->processes_mtx);
    bool over = table->stopping && table->processes == NULL;
    pthread_mutex_unlock(&table->processes_mtx);
    return over;
}

static void *table_run(void *arg) {
    linux_table *table = arg;
    while (!is_over(table)) {
        struct epoll_event events[EVENTS_max];
        int count = epoll_wait(table->epoll_fd, events, EVENTS_max, -1);
        bool woken = false;
        for (int i = 0; i < count; i++) { /* before any process is freed */
            if ((events[i].data.u64 & OUTPUT_TAG) != 0) {
                read_output(process_of(&events[i]));
            }
        }
        for (int i = 0; i < count; i++) {
            if (events[i].data.u64 == 0) {
                uint64_t times;
                woken = read(table->wake_fd, &times, sizeof times) > 0 || woken;
            } else if ((events[i].data.u64 & OUTPUT_TAG) == 0) {
                reap(table, process_of(&events[i]));
            }
        }
        tr_process *process;
        while (woken && (process = next_waiting(table)) != NULL) {
            spawn_waiting(table, process);
        }
    }
    return NULL;
}

/* ---- the table, from shards ---- */

static void wake(const linux_table *table) {
    uint64_t one = 1;
    ssize_t done = write(table->wake_fd, &one, sizeof one);
    (void)done; /* full = it is awake already */
}

static tr_msg *event_new(tr_self *self, uint64_t ref) {
    tr_msg *msg = tr_msg_new(TR_KIND_PROCESS, sizeof(tr_process_event));
    if (msg != NULL) {
        msg->to = tr_self_id(self);
        msg->ref = ref;
    }
    return msg;
}

static tr_err spawn(tr_process_table *base, tr_self *self, const tr_process_spec *spec,
                    uint64_t ref, tr_process **ret) {
    linux_table *table = (linux_table *)base;
    TR_ASSERT(spec->argv != NULL && spec->argv[0] != NULL);
    tr_process *process = tr_zalloc(sizeof *process);
    if (process == NULL) {
        return TR_ERR_NOMEM;
    }
    process->table = table;
    process->node = tr_self_node(self);
    process->memory_victim = spec->memory_victim;
    process->foreign = spec->foreign;
    process->output_fd = process->pidfd = -1;
    process->out_fd = spec->out_fd > 0 ? fcntl(spec->out_fd, F_DUPFD_CLOEXEC, 3) : -1;
    if (spec->out_fd > 0 && process->out_fd < 0) {
        tr_free(process);
        return TR_ERR_IO;
    }
    process->argv = tri_process_copy_argv(spec->argv);
    process->env = tri_process_copy_env(spec, (const char *const *)environ);
    process->spawned_msg = event_new(self, ref);
    process->exited_msg = event_new(self, ref);
    if (process->argv == NULL || process->env == NULL || process->spawned_msg == NULL ||
        process->exited_msg == NULL) {
        free_process(process);
        return TR_ERR_NOMEM;
    }
    pthread_mutex_lock(&table->processes_mtx);
    process->next = table->processes;
    if (process->next != NULL) {
        process->next->prev = process;
    }
    table->processes = process;
    pthread_mutex_unlock(&table->processes_mtx);
    wake(table);
    *ret = process;
    return TR_OK;
}

static void send_signal(tr_process *process, int number) {
    pthread_mutex_lock(&process->table->processes_mtx);
    TR_ASSERT(!process->abandoned);
    if (process->state == RUNNING) {
        signal_locked(process, number);
    } else if (process->state == WAITING && process->signal != SIGKILL) {
        process->signal = number;
    }
    pthread_mutex_unlock(&process->table->processes_mtx);
}

static void output(tr_process *process, char *buf, size_t size) {
    pthread_mutex_lock(&process->table->processes_mtx);
    tri_process_tell_output(process->output, process->output_size, buf, size);
    pthread_mutex_unlock(&process->table->processes_mtx);
}

static void abandon_locked(tr_process *process) {
    process->abandoned = true;
    if (process->state == RUNNING) {
        signal_locked(process, SIGKILL);
    } else if (process->state == ENDED) {
        unlink_locked(process);
        free_process(process);
    }
}

static void abandon(tr_process *process) {
    linux_table *table = process->table;
    pthread_mutex_lock(&table->processes_mtx);
    TR_ASSERT(!process->abandoned);
    abandon_locked(process);
    pthread_mutex_unlock(&table->processes_mtx);
    wake(table); /* one that waits is dropped */
}

static void free_table(tr_process_table *base) {
    linux_table *table = (linux_table *)base;
    pthread_mutex_lock(&table->processes_mtx);
    table->stopping = true;
    for (tr_process *process = table->processes, *next; process != NULL; process = next) {
        next = process->next;
        if (!process->abandoned) {
            abandon_locked(process);
        }
    }
    pthread_mutex_unlock(&table->processes_mtx);
    wake(table);
    pthread_join(table->thread, NULL);
    close(table->wake_fd);
    close(table->epoll_fd);
    pthread_mutex_destroy(&table->processes_mtx);
    tr_free(table);
}

tr_err tr_process_table_linux(tr_process_table **ret) {
    linux_table *table = tr_zalloc(sizeof *table);
    if (table == NULL) {
        return TR_ERR_NOMEM;
    }
    table->base = (tr_process_table){.spawn = spawn,
                                     .kill = send_signal,
                                     .output = output,
                                     .abandon = abandon,
                                     .free = free_table};
    table->daemon_pid = getpid();
    pthread_mutex_init(&table->processes_mtx, NULL);
    table->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    table->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event watch = {.events = EPOLLIN, .data.u64 = 0};
    if (table->epoll_fd < 0 || table->wake_fd < 0 ||
        epoll_ctl(table->epoll_fd, EPOLL_CTL_ADD, table->wake_fd, &watch) != 0 ||
        pthread_create(&table->thread, NULL, table_run, table) != 0) {
        if (table->wake_fd >= 0) {
            close(table->wake_fd);
        }
        if (table->epoll_fd >= 0) {
            close(table->epoll_fd);
        }
        pthread_mutex_destroy(&table->processes_mtx);
        tr_free(table);
        return TR_ERR_IO;
    }
    pthread_setname_np(table->thread, "processes");
    *ret = &table->base;
    return TR_OK;
}

void tr_process_table_free(tr_process_table *table) {
    if (table != NULL) {
        table->free(table);
    }
}
