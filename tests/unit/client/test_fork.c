/*
 * Fork: an inherited client answers TR_ERR_FORKED, a child's own client works, and nothing a child
 * does disturbs the parent's connection. Children leave by _exit with a number that says which of
 * their claims failed, since only the parent may assert.
 */
#include "tests/unit/client/client_test.h"

#include <sys/wait.h>
#include <unistd.h>

enum { CHILDREN = 8 };

static tr_stream *inherited;
static uint64_t inherited_id;

static void ignore_done(const tr_result *result, void *arg) {
    (void)result;
    (void)arg;
}

/* 0 = every call on what was inherited answered as it must. */
static int touch_inherited(const tr_request *request) {
    tr_result *result = NULL;
    tr_stream *stream = NULL;
    tr_chunk chunk;
    uint64_t id;
    char *json = NULL;
    int wrong = 0;
    wrong += tr_send_request(client, request, &result) != TR_ERR_FORKED;
    wrong += strstr(tr_client_error(), "after fork") == NULL;
    wrong += tr_stream_open(client, request, &stream) != TR_ERR_FORKED;
    wrong += tr_client_submit(client, request, NULL, ignore_done, NULL, &id) != TR_ERR_FORKED;
    wrong += tr_client_cancel(client, inherited_id) != TR_ERR_FORKED;
    wrong += tr_client_dispatch(client) != TR_ERR_FORKED;
    wrong += tr_client_fd(client) != -1;
    wrong += tr_client_state(client) != TR_ERR_FORKED;
    wrong += tr_models_json(client, &json) != TR_ERR_FORKED;
    wrong += tr_gather(client, &request, 1, 0, &result, NULL, NULL) != TR_ERR_FORKED;
    wrong += tr_stream_next(inherited, 0, &chunk) != TR_ERR_FORKED;
    tr_stream_cancel(inherited);
    return wrong;
}

static int use_own(const char *url) {
    tr_client *own = NULL;
    if (tr_client_open(url, &own) != TR_OK) {
        return 1;
    }
    tr_options options = TR_OPTIONS_INIT;
    options.model = "count:100:10";
    int wrong = 0;
    for (int i = 0; i < 10; i++) {
        tr_result *result = NULL;
        wrong += tr_ask(own, &options, "x", &result) != TR_OK || tr_result_error(result) != TR_OK ||
                 strlen(tr_result_text(result)) != 1000;
        tr_result_free(result);
    }
    tr_client_close(own);
    return wrong;
}

/* The children begin when all have been forked: a sanitizer's allocator is not put in order by
 * fork, so the fake daemon's thread must be at rest then. */
static int be_child(const tr_request *request, const int gate[2]) {
    char byte;
    close(gate[1]);
    while (read(gate[0], &byte, 1) != 0) {
    }
    int wrong = touch_inherited(request);
    if (wrong == 0) {
        wrong = use_own(fake_server_url(fake)) * 20;
    }
    tr_client_close(client);
    tr_stream_close(inherited);
    return wrong;
}

/* Waits for a child; its exit status, or 255 when a signal ended it. */
static int status_of(pid_t pid) {
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
        return 255;
    }
    return WEXITSTATUS(status);
}

static void a_pre_fork_server_of_eight_works(void) {
    tr_request *request = request_for("count:100:10");
    tr_request *never = request_for("never");
    MUST(tr_stream_open(client, never, &inherited));
    MUST(tr_client_submit(client, never, NULL, ignore_done, NULL, &inherited_id));
    CU_ASSERT_TRUE(tr_client_fd(client) >= 0);
    pid_t children[CHILDREN];
    int gate[2];
    CU_ASSERT_EQUAL_FATAL(pipe(gate), 0);
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, 2));
    fake_server_hang(fake, true);
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork();
        CU_ASSERT_TRUE_FATAL(children[i] >= 0);
        if (children[i] == 0) {
            _exit(be_child(request, gate));
        }
    }
    fake_server_hang(fake, false);
    close(gate[0]);
    close(gate[1]);
    for (int i = 0; i < CHILDREN; i++) {
        CU_ASSERT_EQUAL(status_of(children[i]), 0);
    }
    /* The parent's connection is what it was: both streams are open, and it still answers. */
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, 2));
    tr_result *result = NULL;
    MUST(tr_send_request(client, request, &result));
    CU_ASSERT_EQUAL(strlen(tr_result_text(result)), 1000);
    tr_result_free(result);
    tr_stream_close(inherited);
    MUST(tr_client_cancel(client, inherited_id));
    CU_ASSERT_TRUE(fake_server_until(fake, open_is, 0));
    CU_ASSERT_EQUAL(fake_server_counts(fake).cancels, 2);
    tr_request_free(request);
    tr_request_free(never);
}

/* NNG would abort the child: it must be told before. */
static void nng_is_refused_in_a_child_of_its_user(void) {
    tr_client *none = NULL;
    tr_client_options options = TR_CLIENT_OPTIONS_INIT;
    options.url = "tls+tcp://127.0.0.1:1";
    options.ca_file = "/dev/null";
    CU_ASSERT_NOT_EQUAL(tr_client_open_with(&options, &none), TR_OK); /* NNG is in use now */
    fake_server_hang(fake, true);
    pid_t child = fork();
    CU_ASSERT_TRUE_FATAL(child >= 0);
    if (child == 0) {
        int wrong = tr_client_open_with(&options, &none) != TR_ERR_FORKED;
        wrong += strstr(tr_client_error(), "after fork") == NULL;
        wrong += tr_client_open("inproc://x", &none) != TR_ERR_FORKED;
        wrong += use_own(fake_server_url(fake));
        _exit(wrong);
    }
    fake_server_hang(fake, false);
    CU_ASSERT_EQUAL(status_of(child), 0);
}

int main(void) {
    CU_initialize_registry();
    CU_pSuite suite = CU_add_suite("fork", pair_open, pair_close);
    CU_ADD_TEST(suite, a_pre_fork_server_of_eight_works);
    CU_ADD_TEST(suite, nng_is_refused_in_a_child_of_its_user);
    return finish_tests();
}
