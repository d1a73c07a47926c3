/* One question, one whole answer: cc ask.c $(pkg-config --cflags --libs troupe) */
#include <stdio.h>
#include <troupe.h>

int main(int argc, char **argv) {
    tr_client *client;
    if (tr_client_open(NULL, &client) != TR_OK) {
        fprintf(stderr, "%s\n", tr_client_error());
        return 3;
    }
    tr_options options = TR_OPTIONS_INIT;
    options.max_tokens = 100;
    tr_result *result;
    if (tr_ask(client, &options, argc > 1 ? argv[1] : "What is an actor?", &result) != TR_OK) {
        fprintf(stderr, "%s\n", tr_client_error());
        tr_client_close(client);
        return 2;
    }
    tr_err err = tr_result_error(result);
    if (err == TR_OK) {
        puts(tr_result_text(result));
    } else {
        fprintf(stderr, "%s: %s\n", tr_err_name(err), tr_result_message(result));
    }
    tr_result_free(result);
    tr_client_close(client);
    return err == TR_OK ? 0 : 1;
}
