/*
 * Eight client processes of sixteen streams each, half of them killed with SIGKILL in the middle:
 * the others get every answer whole, and nothing that the dead held stays held.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/stage.h"

enum { PROCESSES = 8, STREAMS = 16, ROUNDS = 3, KILLED = 4 };

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz";

static void open_stage(void) {
    tr_stage_open(2, "");
}

static tr_request *request_of(const char *model, uint32_t max_tokens) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = model;
    options.temperature = 0;
    options.max_tokens = max_tokens;
    tr_request *request = NULL;
    if (tr_request_new(&options, &request) != TR_OK ||
        tr_request_text(request, "user", "say it") != TR_OK) {
        _exit(3);
    }
    return request;
}

/* One survivor's work: rounds of sixteen whole answers; says a byte after the first round. */
static int ask_rounds(tr_client *client, int say_fd) {
    tr_request *request = request_of("chain", 0);
    const tr_request *requests[STREAMS];
    tr_result *results[STREAMS];
    int wrong = 0;
    for (int i = 0; i < STREAMS; i++) {
        requests[i] = request;
    }
    for (int round = 0; round < ROUNDS; round++) {
        if (tr_gather(client, requests, STREAMS, 0, results, NULL, NULL) != TR_OK) {
            return 4;
        }
        for (int i = 0; i < STREAMS; i++) {
            wrong += strcmp(tr_result_text(results[i]), alphabet) != 0;
            tr_result_free(results[i]);
        }
        wrong += round == 0 && write(say_fd, "r", 1) != 1;
    }
    tr_request_free(request);
    return wrong != 0;
}

/* One victim's: sixteen streams that never end, some running, some waiting for a sequence; says a
 * byte when it has looked at each. */
static int stream_for_ever(tr_client *client, int say_fd) {
    tr_request *request = request_of("random", 100000);
    tr_stream *streams[STREAMS];
    tr_chunk chunk;
    for (int i = 0; i < STREAMS; i++) {
        if (tr_stream_open(client, request, &streams[i]) != TR_OK) {
            return 5;
        }
    }
    for (size_t turn = 0;; turn++) {
        tr_err err = tr_stream_next(streams[turn % STREAMS], 10, &chunk);
        bool ended = tr_stream_result(streams[turn % STREAMS]) != NULL;
        if (ended && err != TR_DONE) { /* at its context's end one may be done */
            return 6;
        }
        if (turn == STREAMS && write(say_fd, "v", 1) != 1) {
            return 7;
        }
    }
}

static bool is_at_rest(void *arg) {
    return tr_stage_active(arg, "random") == 0 && tr_stage_active(arg, "chain") == 0;
}

static void killed_clients_leave_nothing_and_disturb_nobody(void) {
    int ends[2];
    CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
    pid_t pids[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        CU_ASSERT_TRUE_FATAL(pids[i] >= 0);
        if (pids[i] == 0) {
            close(ends[0]);
            tr_client *client = NULL;
            if (tr_client_open(tr_stage_now.url, &client) != TR_OK) {
                _exit(2);
            }
            _exit(i < KILLED ? stream_for_ever(client, ends[1]) : ask_rounds(client, ends[1]));
        }
    }
    close(ends[1]);
    struct pollfd polled = {.fd = ends[0], .events = POLLIN};
    int victims = 0;
    char byte;
    while (victims < KILLED && poll(&polled, 1, 60000) > 0 && read(ends[0], &byte, 1) == 1) {
        victims += byte == 'v';
    }
    CU_ASSERT_EQUAL(victims, KILLED);
    for (int i = 0; i < KILLED; i++) {
        kill(pids[i], SIGKILL);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = 0;
        CU_ASSERT_EQUAL(waitpid(pids[i], &status, 0), pids[i]);
        if (i < KILLED) {
            CU_ASSERT_TRUE(WIFSIGNALED(status));
        } else {
            CU_ASSERT_TRUE(WIFEXITED(status));
            CU_ASSERT_EQUAL(WEXITSTATUS(status), 0);
        }
    }
    close(ends[0]);
    tr_client *client = tr_stage_client();
    CU_ASSERT_TRUE(tr_stage_until(is_at_rest, client, 5000));
    char *requests = NULL;
    CU_ASSERT_EQUAL(tr_control_json(client, "{\"do\":\"requests\"}", &requests), TR_OK);
    CU_ASSERT_PTR_NULL(strstr(requests, "local/random"));
    tr_memory_free(requests);
    tr_client_close(client);
}

int main(void) {
    CU_TestInfo tests[] = {
        {"(the daemon starts)", open_stage},
        {"killed_clients_leave_nothing_and_disturb_nobody",
         killed_clients_leave_nothing_and_disturb_nobody},
        {"(the daemon stops)", tr_stage_close},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("clients", tests);
}
