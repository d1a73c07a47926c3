/*
 * The whole path: a daemon inside this process with one provider an exchange, and libtroupe as its
 * client, whose streams are read one after the other while all of them run. Each batch has a daemon
 * of its own, so that what the limiter or the breaker learned from one exchange meets no other. The
 * test's thread only.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/client/troupe.h"
#include "tests/conformance/door.h"
#include "tools/trouped/trouped.h"

static void write_config(text *to, replay_server *server, const door_run *runs, size_t count) {
    char line[512];
    snprintf(line, sizeof(line),
             "listen: {socket: off}\nlog: {level: error}\nshards: 2\nproviders:\n");
    text_add(to, (tr_str){line, strlen(line)});
    for (size_t i = 0; i < count; i++) {
        snprintf(line, sizeof(line),
                 "  x%zu: {kind: %s, base_url: \"http://127.0.0.1:%u%s\", keys: ['env:%s']}\n", i,
                 runs[i].kind, (unsigned)replay_server_port(server, i), runs[i].base_path,
                 DOOR_KEY_ENV);
        text_add(to, (tr_str){line, strlen(line)});
    }
}

static tr_stream *open_stream(tr_client *client, const door_run *run, size_t i) {
    char model[200];
    tr_options options = TR_OPTIONS_INIT;
    tr_request *request = NULL;
    tr_stream *stream = NULL;
    snprintf(model, sizeof(model), "x%zu/%s", i, run->model);
    options.model = model;
    options.retries = 0;
    options.whole = !run->stream;
    if (tr_request_new(&options, &request) == TR_OK &&
        tr_request_text(request, "user", "Hi") == TR_OK) {
        (void)!tr_stream_open(client, request, &stream);
    }
    tr_request_free(request);
    return stream;
}

static uint8_t finish_of(const char *name) {
    static const char *const names[] = {"", "stop", "length", "tool_calls", "content_filter"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i], name) == 0) {
            return (uint8_t)i;
        }
    }
    return TR_FINISH_OTHER;
}

/* Where nobody said what was used, an estimate stands in its place, and says that it is one. */
static void judge_estimate(door_run *run, const tr_result *result, const tr_usage *usage) {
    heard *heard = &run->heard;
    bool estimated = tr_result_estimated(result);
    bool spoke = heard->answer.size > 0 || heard->reasoning.size > 0;
    bool none = usage->in == 0 || (spoke && usage->out == 0);
    if (heard->err == TR_OK && (estimated ? none : usage->in == 0 && usage->out == 0)) {
        heard->err = TR_ERR_BUG;
    }
    if (estimated) {
        heard->usage = (tr_usage_wire){0};
    }
}

static void read_stream(tr_stream *stream, door_run *run, size_t i) {
    tr_chunk chunk;
    while (tr_stream_next(stream, 60000, &chunk) == TR_OK) {
        tr_piece piece = {.kind = (tr_delta_kind)chunk.kind,
                          .choice = chunk.choice,
                          .tool = chunk.tool,
                          .id = {chunk.id, strlen(chunk.id)},
                          .name = {chunk.name, strlen(chunk.name)},
                          .text = {chunk.text, chunk.size}};
        (void)!heard_piece(&run->heard, &piece);
    }
    const tr_result *result = tr_stream_result(stream);
    if (result == NULL) {
        return;
    }
    char name[32];
    tr_usage usage = tr_result_usage(result);
    run->terminals++;
    run->heard.err = tr_result_error(result);
    run->heard.status = (uint16_t)tr_result_status(result);
    run->heard.usage = (tr_usage_wire){
        .in = usage.in, .out = usage.out, .cached = usage.cached, .reasoning = usage.reasoning};
    judge_estimate(run, result, &usage);
    run->heard.finish =
        run->heard.err == TR_OK ? finish_of(tr_result_finish(result)) : HEARD_UNTOLD;
    snprintf(name, sizeof(name), "x%zu", i);
    door_words(&run->heard, name, tr_result_message(result));
}

static long running(tr_client *client) {
    char *json = NULL;
    long number = -1;
    if (tr_control_json(client, "{\"do\":\"requests\"}", &json) == TR_OK) {
        const char *at = strstr(json, "\"running\":");
        number = at == NULL ? -1 : strtol(at + 10, NULL, 10);
    }
    tr_memory_free(json);
    return number;
}

bool door_through_daemon(replay_server *server, door_run *runs, size_t count) {
    text config = {0};
    tr_daemon_options options = TR_DAEMON_OPTIONS_INIT;
    tr_daemon *daemon = NULL;
    tr_client *client = NULL;
    tr_stream *streams[DOOR_BATCH] = {NULL};
    write_config(&config, server, runs, count);
    options.config_text = config.bytes;
    options.inproc = "inproc://replay";
    int failed = tr_daemon_start(&options, &daemon);
    free(config.bytes);
    if (failed != 0) {
        printf("%s\n", tr_daemon_error());
        return false;
    }
    bool fine = tr_client_open(tr_daemon_url(daemon), &client) == TR_OK;
    for (size_t i = 0; fine && i < count; i++) {
        door_arm(server, i, &runs[i]);
        streams[i] = open_stream(client, &runs[i], i);
        fine = streams[i] != NULL;
    }
    for (size_t i = 0; fine && i < count; i++) {
        read_stream(streams[i], &runs[i], i);
    }
    for (size_t i = 0; i < count; i++) {
        tr_stream_close(streams[i]);
    }
    if (fine && running(client) != 0) {
        printf("requests are left in the daemon\n");
        fine = false;
    }
    tr_client_close(client);
    tr_daemon_stop(daemon);
    return fine;
}
