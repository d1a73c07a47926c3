/*
 * The daemon inside this program: no second process to start or to find. The client talks to it as
 * to any other, only by an inproc:// address. The first argument names the model.
 */
#include <stdio.h>
#include <troupe.h>
#include <trouped.h>

static tr_err ask(const char *url, const char *model, tr_result **ret) {
    tr_client *client;
    tr_err err = tr_client_open(url, &client);
    if (err == TR_OK) {
        tr_options options = TR_OPTIONS_INIT;
        options.model = model;
        options.max_tokens = 100;
        err = tr_ask(client, &options, "What is an actor?", ret);
        tr_client_close(client);
    }
    return err;
}

int main(int argc, char **argv) {
    tr_daemon_options options = TR_DAEMON_OPTIONS_INIT;
    options.config_text = "listen: {socket: off}\nlog: {level: warn}\n";
    options.inproc = "inproc://embedded";
    tr_daemon *daemon;
    if (tr_daemon_start(&options, &daemon) != 0) {
        fprintf(stderr, "%s\n", tr_daemon_error());
        return 3;
    }
    tr_result *result;
    tr_err err = ask(tr_daemon_url(daemon), argc > 1 ? argv[1] : NULL, &result);
    if (err != TR_OK) {
        fprintf(stderr, "%s\n", tr_client_error());
    } else {
        err = tr_result_error(result);
        printf("%s\n", err == TR_OK ? tr_result_text(result) : tr_result_message(result));
        tr_result_free(result);
    }
    tr_daemon_stop(daemon);
    return err == TR_OK ? 0 : 1;
}
