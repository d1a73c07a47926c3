/*
 * A pool of two real workers on a tiny model whose every token depends on all before it: streams go
 * on, byte for byte, whatever happens to the processes; bad model files are said; nothing stays.
 */
#include <poll.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/puppet.h"
#include "tests/local/local_stream.h"

static void kill_at_every_tenth_token(double temperature) {
    set_up(TR_TINY_RANDOM, 2);
    tr_request *request = request_for("tell me", temperature, 4);
    static reading whole, cut;
    read_undisturbed(&whole, request);
    for (size_t at = 10; at < whole.chunks; at += 10) {
        open_stream(&cut, request);
        read_chunks(&cut, at);
        kill_its_worker();
        read_chunks(&cut, SIZE_MAX / 2);
        check_same(&cut, &whole);
        tr_stream_close(cut.stream);
    }
    CU_ASSERT(local_number(&the, "restarts") >= 10);
    tr_request_free(request);
    local_stop(&the);
}

static void a_kill_at_each_tenth_token_changes_nothing(void) {
    kill_at_every_tenth_token(0);
}

static void a_kill_changes_nothing_at_a_temperature_either(void) {
    kill_at_every_tenth_token(1.5);
}

static void ten_kills_in_one_stream_change_nothing(void) {
    set_up(TR_TINY_RANDOM, 2);
    tr_request *request = request_for("once upon a time", 0, 4);
    static reading whole, cut;
    read_undisturbed(&whole, request);
    open_stream(&cut, request);
    for (int i = 0; i < 10; i++) {
        read_chunks(&cut, 10);
        kill_its_worker();
    }
    read_chunks(&cut, SIZE_MAX / 2);
    check_same(&cut, &whole);
    tr_stream_close(cut.stream);
    tr_request_free(request);
    local_stop(&the);
}

static void streams_of_two_workers_go_on_when_both_are_killed(void) {
    enum { STREAMS = 6 };
    set_up(TR_TINY_RANDOM, 2);
    static reading whole[STREAMS], cut[STREAMS];
    tr_request *requests[STREAMS];
    for (int i = 0; i < STREAMS; i++) {
        char prompt[32];
        snprintf(prompt, sizeof prompt, "story number %d", i);
        requests[i] = request_for(prompt, 0, 4);
        read_undisturbed(&whole[i], requests[i]);
    }
    for (int i = 0; i < STREAMS; i++) {
        open_stream(&cut[i], requests[i]);
        read_chunks(&cut[i], 20);
    }
    pid_t pids[2];
    CU_ASSERT_EQUAL_FATAL(local_workers(&the, true, pids, 2), 2);
    CU_ASSERT(kill(pids[0], SIGKILL) == 0 && kill(pids[1], SIGKILL) == 0);
    for (int i = 0; i < STREAMS; i++) {
        read_chunks(&cut[i], SIZE_MAX / 2);
        check_same(&cut[i], &whole[i]);
        tr_stream_close(cut[i].stream);
        tr_request_free(requests[i]);
    }
    local_stop(&the);
}

static void a_client_that_leaves_frees_its_sequence_within_100_ms(void) {
    set_up(TR_TINY_RANDOM, 1);
    tr_request *request = request_for("tell me", 0, 4);
    static reading cut;
    open_stream(&cut, request);
    read_chunks(&cut, 10);
    CU_ASSERT_EQUAL(local_number(&the, "active"), 1);
    tr_stream_close(cut.stream);
    uint64_t left_ms = local_ms();
    while (local_number(&the, "active") != 0 && local_ms() - left_ms < PATIENCE_MS) {
    }
    CU_ASSERT(local_ms() - left_ms <= 100);
    tr_request_free(request);
    local_stop(&the);
}

static void check_load_fails(const char *with) {
    tr_result *result = NULL;
    tr_options options = TR_OPTIONS_INIT;
    options.model = "tiny";
    CU_ASSERT_EQUAL_FATAL(tr_ask(the.client, &options, "hello", &result), TR_OK);
    CU_ASSERT_NOT_EQUAL(tr_result_error(result), TR_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(tr_result_message(result), with));
    fprintf(stderr, "said: %s\n", tr_result_message(result));
    tr_result_free(result);
    CU_ASSERT(local_state_is(&the, "failed"));
}

static void a_missing_or_corrupt_model_file_is_said_and_mended(void) {
    local_prepare(&the, TR_TINY_CHAIN);
    tr_pool_spec pool = local_pool(&the, "tiny", 2);
    CU_ASSERT_EQUAL(unlink(the.model), 0);
    local_start(&the, &pool, 1);
    check_load_fails("model.gguf");
    FILE *file = fopen(the.model, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs("GGUF but not really", file);
    fclose(file);
    CU_ASSERT_NOT_EQUAL(tr_load(the.client, "tiny"), TR_OK);
    check_load_fails("model.gguf");
    CU_ASSERT_TRUE_FATAL(tr_tiny_gguf_write(&(tr_tiny_spec){.kind = TR_TINY_CHAIN}, the.model));
    CU_ASSERT_EQUAL(tr_load(the.client, "tiny"), TR_OK);
    tr_request *request = request_for("abc", 0, 0);
    static reading whole;
    open_stream(&whole, request);
    read_chunks(&whole, SIZE_MAX / 2);
    CU_ASSERT_EQUAL(whole.end, TR_DONE);
    CU_ASSERT_PTR_NOT_NULL(strstr(whole.text, "xyz"));
    tr_stream_close(whole.stream);
    tr_request_free(request);
    local_stop(&the);
}

static bool environment_of(pid_t pid, char *buf, size_t size) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    FILE *in = fopen(path, "re");
    size_t got = in != NULL ? fread(buf, 1, size - 1, in) : 0;
    if (in != NULL) {
        fclose(in);
    }
    for (size_t i = 0; i < got; i++) {
        buf[i] = buf[i] != '\0' ? buf[i] : '\n';
    }
    buf[got] = '\0';
    return got > 0;
}

static void a_worker_does_not_hold_the_keys_of_providers(void) {
    static char environment[65536];
    setenv("OPENAI_API_KEY", "sk-very-secret", 1);
    set_up(TR_TINY_CHAIN, 1);
    CU_ASSERT_EQUAL(tr_load(the.client, "tiny"), TR_OK);
    CU_ASSERT_TRUE(environment_of(local_worker(&the, false), environment, sizeof environment));
    CU_ASSERT_PTR_NULL(strstr(environment, "very-secret"));
    CU_ASSERT_PTR_NULL(strstr(environment, "OPENAI"));
    CU_ASSERT_PTR_NOT_NULL(strstr(environment, "OMP_WAIT_POLICY=passive"));
    CU_ASSERT_PTR_NOT_NULL(strstr(environment, "PATH="));
    local_stop(&the);
    unsetenv("OPENAI_API_KEY");
}

static void unload_ends_the_processes_and_the_next_request_starts_them(void) {
    set_up(TR_TINY_CHAIN, 2);
    CU_ASSERT_EQUAL(tr_load(the.client, "tiny"), TR_OK);
    pid_t pid = local_worker(&the, false);
    CU_ASSERT(pid > 0 && kill(pid, 0) == 0);
    CU_ASSERT_EQUAL(tr_unload(the.client, "tiny"), TR_OK);
    CU_ASSERT(local_state_is(&the, "unloaded"));
    CU_ASSERT_NOT_EQUAL(kill(pid, 0), 0);
    tr_result *result = NULL;
    tr_options options = TR_OPTIONS_INIT;
    options.model = "tiny";
    CU_ASSERT_EQUAL_FATAL(tr_ask(the.client, &options, "abc", &result), TR_OK);
    CU_ASSERT_EQUAL(tr_result_error(result), TR_OK);
    tr_result_free(result);
    local_stop(&the);
}

static bool is_gone(pid_t pid) {
    for (int left = 500; left > 0 && kill(pid, 0) == 0; left--) {
        poll(NULL, 0, 10);
    }
    return kill(pid, 0) != 0;
}

/* A stopped process looks like a hung one: nobody answers PING. */
static void a_worker_that_stands_still_is_replaced_and_its_stream_goes_on(void) {
    local_prepare(&the, TR_TINY_RANDOM);
    tr_pool_spec pool = local_pool(&the, "tiny", 2);
    pool.silence_ms = 1500;
    local_start(&the, &pool, 1);
    tr_request *request = request_for("tell me", 0, 4);
    static reading whole, cut;
    read_undisturbed(&whole, request);
    open_stream(&cut, request);
    read_chunks(&cut, 30);
    pid_t pid = local_worker(&the, true);
    CU_ASSERT_FATAL(pid > 0);
    CU_ASSERT_EQUAL_FATAL(kill(pid, SIGSTOP), 0);
    read_chunks(&cut, SIZE_MAX / 2);
    check_same(&cut, &whole);
    CU_ASSERT(is_gone(pid)); /* it was killed before another went on, and is reaped soon */
    tr_stream_close(cut.stream);
    tr_request_free(request);
    local_stop(&the);
}

/* ---- workers that join ---- */

static void end_joined(pid_t pid) {
    (void)kill(pid, SIGKILL);
    CU_ASSERT_EQUAL(waitpid(pid, NULL, 0), pid);
}

static void set_up_joined(uint32_t locals, uint32_t silence_ms) {
    local_prepare(&the, TR_TINY_RANDOM);
    local_open_tcp(&the);
    tr_pool_spec pool = local_pool(&the, "tiny", locals);
    pool.silence_ms = silence_ms;
    local_start(&the, &pool, 1);
}

static void a_stream_goes_on_at_another_joined_worker(void) {
    set_up_joined(0, 0);
    pid_t pids[2] = {local_join(&the, "tiny"), local_join(&the, "tiny")};
    CU_ASSERT_FATAL(local_await_ready(&the, 2));
    tr_request *request = request_for("tell me", 0, 4);
    static reading whole, cut;
    read_undisturbed(&whole, request);
    open_stream(&cut, request);
    read_chunks(&cut, 30);
    end_joined(pids[0]);
    read_chunks(&cut, 30);
    pids[0] = local_join(&the, "tiny");
    CU_ASSERT_FATAL(local_await_ready(&the, 2));
    end_joined(pids[1]);
    read_chunks(&cut, SIZE_MAX / 2);
    check_same(&cut, &whole);
    tr_stream_close(cut.stream);
    tr_request_free(request);
    end_joined(pids[0]);
    local_stop(&the);
}

static void a_stream_moves_between_joined_and_local_workers(void) {
    set_up_joined(1, 1500);
    pid_t joined = local_join(&the, "tiny");
    CU_ASSERT_FATAL(local_await_ready(&the, 1));
    tr_request *request = request_for("tell me", 0, 4);
    static reading whole, cut;
    read_undisturbed(&whole, request); /* by the joined one: the model is not loaded here */
    CU_ASSERT_EQUAL(local_worker(&the, false), 0);
    open_stream(&cut, request);
    read_chunks(&cut, 30);
    CU_ASSERT_EQUAL_FATAL(kill(joined, SIGSTOP), 0); /* its link is open, and nobody answers */
    read_chunks(&cut, 30);
    CU_ASSERT(local_worker(&the, true) > 0);
    kill_its_worker();
    read_chunks(&cut, SIZE_MAX / 2);
    check_same(&cut, &whole);
    tr_stream_close(cut.stream);
    tr_request_free(request);
    end_joined(joined);
    local_stop(&the);
}

static void a_joined_worker_with_another_file_ends_with_a_reason(void) {
    set_up_joined(1, 0);
    CU_ASSERT_EQUAL(tr_load(the.client, "tiny"), TR_OK);
    CU_ASSERT_TRUE_FATAL(
        tr_tiny_gguf_write(&(tr_tiny_spec){.kind = TR_TINY_RANDOM, .seed = 4}, the.model));
    pid_t joined = local_join(&the, "tiny");
    int status = 0;
    CU_ASSERT_EQUAL(waitpid(joined, &status, 0), joined); /* it would dial for ever otherwise */
    CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    CU_ASSERT(local_await_ready(&the, 1));
    local_stop(&the);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(a_kill_at_each_tenth_token_changes_nothing),
        PUPPET_TEST(a_kill_changes_nothing_at_a_temperature_either),
        PUPPET_TEST(ten_kills_in_one_stream_change_nothing),
        PUPPET_TEST(streams_of_two_workers_go_on_when_both_are_killed),
        PUPPET_TEST(a_client_that_leaves_frees_its_sequence_within_100_ms),
        PUPPET_TEST(a_missing_or_corrupt_model_file_is_said_and_mended),
        PUPPET_TEST(a_worker_does_not_hold_the_keys_of_providers),
        PUPPET_TEST(unload_ends_the_processes_and_the_next_request_starts_them),
        PUPPET_TEST(a_worker_that_stands_still_is_replaced_and_its_stream_goes_on),
        PUPPET_TEST(a_stream_goes_on_at_another_joined_worker),
        PUPPET_TEST(a_stream_moves_between_joined_and_local_workers),
        PUPPET_TEST(a_joined_worker_with_another_file_ends_with_a_reason),
    };
    return puppet_main("real workers", tests, sizeof tests / sizeof *tests);
}
