/* See upstream.h. */
#include "tests/e2e/upstream.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fcntl.h>

extern char **environ;

static pid_t mock;
static uint16_t port;

uint16_t tr_upstream_open(const char *key) {
    char program[512], line[128] = "", option[128];
    char die[] = "--die-with-parent";
    char *argv[] = {program, die, key != NULL ? option : NULL, NULL};
    const char *folder = getenv("TROUPE_BIN");
    int out[2];
    posix_spawn_file_actions_t actions;
    snprintf(program, sizeof program, "%s/troupe-mock", folder != NULL ? folder : "build/bin");
    snprintf(option, sizeof option, "--key=%s", key != NULL ? key : "");
    CU_ASSERT_EQUAL_FATAL(pipe2(out, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    CU_ASSERT_EQUAL_FATAL(posix_spawn(&mock, program, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    FILE *said = fdopen(out[0], "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(said);
    CU_ASSERT_PTR_NOT_NULL_FATAL(fgets(line, sizeof line, said));
    fclose(said);
    const char *colon = strrchr(line, ':');
    CU_ASSERT_PTR_NOT_NULL_FATAL(colon);
    port = (uint16_t)strtoul(colon + 1, NULL, 10);
    return port;
}

void tr_upstream_close(void) {
    kill(mock, SIGTERM);
    waitpid(mock, NULL, 0);
}

static void ask(const char *request, char *ret_answer, size_t size) {
    size_t used = 0;
    ssize_t got = 0;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    CU_ASSERT_EQUAL(write(fd, request, strlen(request)), (ssize_t)strlen(request));
    while ((got = read(fd, ret_answer + used, size - 1 - used)) > 0) {
        used += (size_t)got;
    }
    close(fd);
    ret_answer[used] = '\0';
}

long long tr_upstream_stat(const char *name) {
    char answer[1024] = "", wanted[64];
    ask("GET /stats HTTP/1.1\r\nConnection: close\r\n\r\n", answer, sizeof answer);
    snprintf(wanted, sizeof wanted, "\"%s\":", name);
    const char *at = strstr(answer, wanted);
    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    return at == NULL ? -1 : strtoll(at + strlen(wanted), NULL, 10);
}

size_t tr_upstream_arrivals(uint64_t *ret_us, size_t max) {
    static char answer[128 * 1024];
    size_t count = 0;
    ask("GET /arrivals HTTP/1.1\r\nConnection: close\r\n\r\n", answer, sizeof answer);
    const char *at = strstr(answer, "\"arrivals_us\":[");
    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    at = at == NULL ? "]" : at + strlen("\"arrivals_us\":[");
    while (count < max && *at != ']') {
        char *end = NULL;
        ret_us[count++] = strtoull(at, &end, 10);
        at = *end == ',' ? end + 1 : end;
    }
    return count;
}

void tr_upstream_reset(void) {
    char answer[1024];
    ask("POST /reset HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", answer,
        sizeof answer);
}

typedef struct aim {
    const char *name;
    long long value;
} aim;

static bool reached(void *arg) {
    const aim *a = arg;
    return tr_upstream_stat(a->name) == a->value;
}

bool tr_upstream_comes_to(const char *name, long long value, long ms) {
    aim a = {name, value};
    return tr_stage_until(reached, &a, ms);
}
