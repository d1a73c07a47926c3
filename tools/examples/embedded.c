/*
 * The daemon inside this program: no second process to start or to find, no socket. The client
 * talks to it as to any other, only by an inproc:// address. Arguments: the model, the prompt, and
 * a GGUF file of one's own, which is the model "mine". Local models run in troupe-worker processes:
 * it is looked for beside this program, in bin/ beside libtrouped's lib/, and in PATH; where it
 * lies elsewhere, options.worker_program names it.
 * cc embedded.c $(pkg-config --cflags --libs trouped) \
 *    -Wl,-rpath,$(pkg-config --variable=libdir trouped)
 */
#include <stdio.h>
#include <troupe.h>
#include <trouped.h>

static tr_err ask(const char *url, const char *model, const char *prompt, tr_result **ret) {
    tr_client *client;
    tr_err err = tr_client_open(url, &client);
    if (err == TR_OK) {
        tr_options options = TR_OPTIONS_INIT;
        options.model = model;
        options.temperature = 0;
        options.max_tokens = 100;
        err = tr_ask(client, &options, prompt, ret);
        tr_client_close(client);
    }
    return err;
}

int main(int argc, char **argv) {
    char config[4200] = "listen: {socket: off}\nlog: {level: warn}\n";
    if (argc > 3) {
        snprintf(config, sizeof config,
                 "listen: {socket: off}\nlog: {level: warn}\nlocal: {mine: {file: \"%s\"}}\n",
                 argv[3]);
    }
    tr_daemon_options options = TR_DAEMON_OPTIONS_INIT;
    options.config_text = config;
    options.inproc = "inproc://embedded";
    tr_daemon *daemon;
    if (tr_daemon_start(&options, &daemon) != 0) {
        fprintf(stderr, "%s\n", tr_daemon_error());
        return 3;
    }
    tr_result *result = NULL;
    tr_err err = ask(tr_daemon_url(daemon), argc > 1 ? argv[1] : NULL,
                     argc > 2 ? argv[2] : "What is an actor?", &result);
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
