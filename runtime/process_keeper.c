/*
 * A process between the daemon and a program that is not ours. The parent-death signal reaches a
 * child only, not what the child starts (a wrapper script's server, a server's helpers), and a
 * daemon that is killed can no longer kill a group. So the keeper does: it is told of the daemon's
 * death by the kernel, and as the reaper of all orphans below it, it finds them again wherever they
 * have gone. It has no memory of its own to need and no descriptor but what it opens.
 *
 * It is a fork of the daemon that never execs: async-signal-safe calls only.
 */
#include "runtime/process_keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS_max 10000 /* of killing what is left; each kills at least one */

static void let_go_of_everything(void) {
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= STDERR_FILENO && null_fd >= 0; fd++) {
        dup2(null_fd, fd); /* the program's output ends when the program's does */
    }
    if (syscall(SYS_close_range, 3U, ~0U, 0U) != 0) {
        for (int fd = 3; fd < 65536; fd++) {
            close(fd);
        }
    }
}

/* Sends SIGKILL to each child, which orphans become; false: there is none. */
static int kill_children(void) {
    char list[4096];
    int killed = 0;
    int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd >= 0 ? read(fd, list, sizeof list) : 0;
    if (fd >= 0) {
        close(fd);
    }
    long pid = 0;
    for (ssize_t i = 0; i < size; i++) {
        if (list[i] >= '0' && list[i] <= '9') {
            pid = pid * 10 + (list[i] - '0');
        } else {
            killed += pid > 1 && kill((pid_t)pid, SIGKILL) == 0;
            pid = 0;
        }
    }
    return killed;
}

/* The server is dead or about to be: nothing that it started outlives it. */
static void kill_all(pid_t server) {
    if (server > 0) {
        kill(server, SIGKILL);
    }
    for (int round = 0; round < ROUNDS_max; round++) {
        (void)kill_children();
        pid_t got = waitpid(-1, NULL, 0);
        if (got < 0 && errno == ECHILD) {
            return;
        }
    }
}

/* Ends as the server ended. */
_Noreturn static void end_as(int status) {
    if (WIFSIGNALED(status)) {
        struct sigaction standard = {.sa_handler = SIG_DFL};
        int number = WTERMSIG(status);
        sigset_t set;
        sigaction(number, &standard, NULL);
        sigemptyset(&set);
        sigaddset(&set, number);
        kill(getpid(), number);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
    }
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 127);
}

_Noreturn static void keep(pid_t server) {
    sigset_t all;
    sigfillset(&all);
    for (;;) {
        int status = 0;
        pid_t got;
        while ((got = waitpid(-1, &status, WNOHANG)) > 0) {
            if (got == server) {
                kill_all(0);
                end_as(status);
            }
        }
        siginfo_t info;
        int number = sigwaitinfo(&all, &info);
        if (number == TRI_KEEPER_KILL) {
            kill_all(server);
            end_as(SIGKILL);
        } else if (number > 0 && number != SIGCHLD) {
            kill(server, number);
        }
    }
}

void tri_process_keep(int report_fd) {
    pid_t keeper = getpid();
    prctl(PR_SET_CHILD_SUBREAPER, 1UL, 0UL, 0UL, 0UL);
    pid_t server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != keeper) {
            _exit(127);
        }
        return;
    }
    tri_report report = {.pid = server, .code = server < 0 ? errno : 0};
    ssize_t done = write(report_fd, &report, sizeof report);
    (void)done;
    if (server < 0) {
        _exit(127);
    }
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none); /* its memory is a copy of the daemon's, with its keys */
    prctl(PR_SET_NAME, "troupe-keeper");
    let_go_of_everything();
    keep(server);
}
