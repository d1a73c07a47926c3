/* Workers die in the middle of streams, and the client does not notice. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e/stage.h"

#define TOKENS 100

static tr_client *client;
static tr_client *watcher; /* asks for pids while `client` streams */
static char undisturbed[4096];

/* Streams TOKENS tokens of the random model; kills a worker each time the text has grown by
 * `every` bytes (0 = never), at most `kills` times. Returns how often it killed. */
static int stream(char *text, size_t size, size_t first, size_t every, int kills) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = "random";
    options.temperature = 1;
    options.seed = 5;
    options.max_tokens = TOKENS;
    options.window_messages = 4; /* so that the stream does not run ahead of its killer */
    tr_request *request;
    tr_stream *s;
    CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &request), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_request_text(request, "user", "go"), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_stream_open(client, request, &s), TR_OK);
    size_t used = 0, next = first;
    int killed = 0;
    tr_chunk chunk;
    tr_err err;
    while ((err = tr_stream_next(s, 60000, &chunk)) == TR_OK) {
        CU_ASSERT_FATAL(used + chunk.size < size);
        memcpy(text + used, chunk.text, chunk.size);
        used += chunk.size;
        if (killed < kills && used >= next) {
            next = used + every;
            for (unsigned i = 0; i < 2; i++) {
                pid_t pid = tr_stage_worker(watcher, "random", i);
                killed += pid > 0 && kill(pid, SIGKILL) == 0;
            }
        }
    }
    text[used] = '\0';
    if (err != TR_DONE) {
        printf("\n    %s: %s\n", tr_err_name(err), tr_result_message(tr_stream_result(s)));
    }
    CU_ASSERT_EQUAL(err, TR_DONE);
    tr_stream_close(s);
    tr_request_free(request);
    return killed;
}

static void open_stage(void) {
    tr_stage_open(2, NULL);
    client = tr_stage_client();
    watcher = tr_stage_client();
    stream(undisturbed, sizeof undisturbed, 0, 0, 0);
    CU_ASSERT_TRUE_FATAL(strlen(undisturbed) >= TOKENS / 2);
}

static void killed_at_each_tenth_token_it_goes_on_unbroken(void) {
    for (size_t at = 0; at < TOKENS; at += 10) {
        char text[4096];
        int killed = stream(text, sizeof text, at > 0 ? at : 1, 100000, 2);
        CU_ASSERT_TRUE(killed > 0 || strlen(text) < at);
        CU_ASSERT_STRING_EQUAL(text, undisturbed);
    }
}

static void ten_kills_in_one_stream_leave_it_unbroken(void) {
    char text[4096];
    int killed = stream(text, sizeof text, 5, 8, 10);
    CU_ASSERT_TRUE(killed >= 8);
    CU_ASSERT_STRING_EQUAL(text, undisturbed);
}

static void close_stage(void) {
    tr_client_close(client);
    tr_client_close(watcher);
    tr_stage_close();
}

int main(void) {
    CU_TestInfo tests[] = {
        {"(the daemon starts)", open_stage},
        {"killed_at_each_tenth_token_it_goes_on_unbroken",
         killed_at_each_tenth_token_it_goes_on_unbroken},
        {"ten_kills_in_one_stream_leave_it_unbroken", ten_kills_in_one_stream_leave_it_unbroken},
        {"(the daemon stops)", close_stage},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("deaths", tests);
}
