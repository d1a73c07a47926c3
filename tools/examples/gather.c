/*
 * Many questions at once. Each has its own result: one that fails does not stop the others. Nothing
 * here waits for a rate limit or counts connections; the daemon does.
 */
#include <stdio.h>
#include <troupe.h>

#define N 3

static void on_progress(size_t done, size_t total, size_t i, const tr_result *result, void *arg) {
    const char *const *subjects = arg;
    fprintf(stderr, "%zu/%zu %s: %s\n", done, total, subjects[i],
            tr_err_name(tr_result_error(result)));
}

int main(void) {
    static const char *const subjects[N] = {"Python", "JavaScript", "Rust"};
    tr_options options = TR_OPTIONS_INIT;
    options.max_tokens = 60;
    tr_client *client = NULL;
    tr_request *requests[N] = {NULL};
    tr_result *results[N] = {NULL};
    tr_err err = tr_client_open(NULL, &client);
    for (size_t i = 0; i < N && err == TR_OK; i++) {
        char prompt[64];
        snprintf(prompt, sizeof prompt, "Summarize %s", subjects[i]);
        err = tr_request_new(&options, &requests[i]);
        if (err == TR_OK) {
            err = tr_request_text(requests[i], "user", prompt);
        }
    }
    if (err == TR_OK) {
        err = tr_gather(client, (const tr_request *const *)requests, N, 0, results, on_progress,
                        (void *)subjects);
    }
    if (err != TR_OK) {
        fprintf(stderr, "%s\n", tr_client_error());
    }
    size_t failed = 0;
    for (size_t i = 0; i < N; i++) {
        if (results[i] != NULL) {
            failed += tr_result_error(results[i]) != TR_OK;
            printf("%s: %s\n", subjects[i], tr_result_text(results[i]));
        }
        tr_result_free(results[i]);
        tr_request_free(requests[i]);
    }
    tr_client_close(client);
    return err == TR_OK && failed == 0 ? 0 : 1;
}
