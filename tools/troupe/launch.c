/*
 * `troupe start`. The child gets one end of a pipe by --ready-fd and writes "ready" or the reason
 * why not into it; its closing without a word means that it died. So nothing is polled, and the
 * person who typed the command sees the daemon's own sentence; the exit status then tells a wrong
 * configuration from other failures. The daemon has a session of its own and belongs to init as
 * soon as this program has ended.
 */
#include "tools/troupe/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_MS 60000
#define ARGUMENTS_max 32

static void find_program(char *buf, size_t size) {
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length > 0) {
        self[length] = '\0';
        char *slash = strrchr(self, '/');
        if (slash != NULL) {
            *slash = '\0';
            int written = snprintf(buf, size, "%s/trouped", self);
            if (written > 0 && (size_t)written < size && access(buf, X_OK) == 0) {
                return;
            }
        }
    }
    snprintf(buf, size, "trouped");
}

/* Runs in the child; only calls that are safe after fork. */
static void become_daemon(const char *program, char *const *argv, int log_fd, int ready_fd) {
    setsid();
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(log_fd, STDOUT_FILENO) < 0 ||
        dup2(log_fd, STDERR_FILENO) < 0 || fcntl(ready_fd, F_SETFD, 0) != 0) {
        _exit(126);
    }
    execvp(program, argv);
    char reason[256];
    int size = snprintf(reason, sizeof reason, "%s cannot be run: %s", program, strerror(errno));
    if (size > 0 && write(ready_fd, reason, (size_t)size) < 0) {
        _exit(126);
    }
    _exit(127);
}

/* Reads until the other end closes or says all it has to: "ready\n" or a sentence. */
static tr_err wait_ready(int fd, char *why, size_t why_size) {
    char text[512];
    size_t used = 0;
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        int count = poll(&ready, 1, READY_MS);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            snprintf(why, why_size, "trouped did not get ready within %d s", READY_MS / 1000);
            return TR_ERR_TIMEOUT;
        }
        ssize_t size = read(fd, text + used, sizeof text - 1 - used);
        if (size < 0 && errno == EINTR) {
            continue;
        }
        used += size > 0 ? (size_t)size : 0;
        text[used] = '\0';
        if (strncmp(text, "ready\n", 6) == 0) {
            return TR_OK;
        }
        if (size <= 0 || used == sizeof text - 1) {
            break;
        }
    }
    text[strcspn(text, "\n")] = '\0';
    snprintf(why, why_size, "%s", used > 0 ? text : "trouped ended before it was ready");
    return TR_ERR_NO_DAEMON;
}

/* The class of a start that failed: trouped's exit status is 2 when its configuration is wrong, 3
 * when another daemon has its socket. */
static tr_err failure_of(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return TR_ERR_NO_DAEMON;
        }
    }
    switch (WIFEXITED(status) ? WEXITSTATUS(status) : 1) {
    case 2:
        return TR_ERR_INVALID;
    case 3:
        return TR_ERR_EXISTS;
    default:
        return TR_ERR_NO_DAEMON;
    }
}

tr_err tr_launch(const char *directory, char *const *arguments, tr_launched *ret, char *why,
                 size_t why_size) {
    tr_launched launched = {0};
    find_program(launched.program, sizeof launched.program);
    snprintf(launched.log_file, sizeof launched.log_file, "%s/trouped.log", directory);
    int log_fd =
        open(launched.log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log_fd < 0) {
        snprintf(why, why_size, "%s cannot be written: %s", launched.log_file, strerror(errno));
        return TR_ERR_IO;
    }
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) != 0) {
        close(log_fd);
        snprintf(why, why_size, "no pipe: %s", strerror(errno));
        return TR_ERR_IO;
    }
    char ready_text[16];
    snprintf(ready_text, sizeof ready_text, "%d", ready[1]);
    char flag[] = "--ready-fd";
    char *argv[ARGUMENTS_max + 4] = {launched.program, flag, ready_text};
    for (int i = 0; arguments != NULL && arguments[i] != NULL && i < ARGUMENTS_max; i++) {
        argv[3 + i] = arguments[i];
    }
    fflush(NULL);
    launched.pid = fork();
    if (launched.pid == 0) {
        become_daemon(launched.program, argv, log_fd, ready[1]);
    }
    close(log_fd);
    close(ready[1]);
    tr_err err = TR_ERR_IO;
    if (launched.pid < 0) {
        snprintf(why, why_size, "cannot start another process: %s", strerror(errno));
    } else {
        err = wait_ready(ready[0], why, why_size);
        err = err == TR_ERR_NO_DAEMON ? failure_of(launched.pid) : err;
    }
    close(ready[0]);
    if (err == TR_OK) {
        *ret = launched;
    }
    return err;
}
