/*
 * A pre-fork server: the children open clients of their own, after fork. The library has no
 * threads, so this is safe; what the parent opened is refused in a child with a sentence, never a
 * crash.
 */
#include <stdio.h>
#include <sys/wait.h>
#include <troupe.h>
#include <unistd.h>

#define CHILDREN 8

static int serve(tr_client *inherited, int number) {
    tr_options options = TR_OPTIONS_INIT;
    options.max_tokens = 20;
    tr_client *client;
    tr_result *result;
    if (tr_ask(inherited, NULL, "hello", &result) != TR_ERR_FORKED ||
        tr_client_open(NULL, &client) != TR_OK) {
        fprintf(stderr, "%s\n", tr_client_error());
        return 1;
    }
    int status = 1;
    if (tr_ask(client, &options, "hello", &result) == TR_OK) {
        status = tr_result_error(result) == TR_OK ? 0 : 1;
        printf("child %d: %s\n", number, tr_result_text(result));
        tr_result_free(result);
    }
    tr_client_close(client);
    tr_client_close(inherited); /* frees the child's memory; the parent's connection stays */
    return status;
}

int main(void) {
    tr_client *client;
    if (tr_client_open(NULL, &client) != TR_OK) {
        fprintf(stderr, "%s\n", tr_client_error());
        return 3;
    }
    for (int i = 0; i < CHILDREN; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            int status = serve(client, i);
            fflush(stdout);
            _exit(status);
        }
    }
    int failed = 0, status;
    while (wait(&status) > 0) {
        failed += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    tr_client_close(client);
    return failed == 0 ? 0 : 1;
}
