/*
 * `troupe gather`: several prompts at once, printed in their order, each as soon as those before it
 * are printed. Like ask it lives in one poll loop with the client's descriptor and a signalfd,
 * instead of in tr_gather, so that Ctrl-C loses nothing: what is finished is printed, the rest is
 * cancelled upstream and said to be. A second Ctrl-C does not wait for the daemon. One thread.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/limits.h"
#include "tools/troupe/commands.h"

typedef struct gathering gathering;

typedef struct prompt {
    gathering *gathering;
    size_t index;
    char *text;
    tr_request *request;
    uint64_t id;
    char *output; /* what goes to standard output at its turn, or NULL */
    bool done;
    int status;
} prompt;

struct gathering {
    const tri_args *args;
    tr_client *client;
    prompt *prompts;
    size_t count;
    size_t begun, done, printed;
    bool interrupted;
};

static char *render(const prompt *p, const tr_result *result) {
    char *output = NULL;
    if (p->gathering->args->json || p->gathering->args->stream) {
        return tri_result_json(result, (int64_t)p->index);
    }
    if (result != NULL && tr_result_error(result) == TR_OK) {
        size_t size = strlen(p->text) + strlen(tr_result_text(result)) + 8;
        output = malloc(size);
        if (output != NULL) {
            snprintf(output, size, "## %s\n%s", p->text, tr_result_text(result));
        }
    }
    return output;
}

static void print_one(gathering *g, prompt *p) {
    if (p->output != NULL) {
        bool headed = !g->args->json && !g->args->stream;
        printf("%s%s\n", headed && p->index > 0 ? "\n" : "", p->output);
        fflush(stdout);
        free(p->output);
        p->output = NULL;
    }
}

static void print_ready(gathering *g) {
    while (g->printed < g->count && g->prompts[g->printed].done) {
        print_one(g, &g->prompts[g->printed++]);
    }
}

/* `result` NULL: it was cancelled, and the daemon has not said anything about it. */
static void end(prompt *p, const tr_result *result) {
    gathering *g = p->gathering;
    tr_err err = result != NULL ? tr_result_error(result) : TR_ERR_CANCELLED;
    p->done = true;
    g->done++;
    p->status = tri_exit_of(err);
    p->output = render(p, result);
    if (g->args->stream) {
        print_one(g, p); /* in the order in which they end */
    } else {
        print_ready(g);
    }
    if (err != TR_OK) {
        char buf[768];
        fprintf(stderr, "troupe: prompt %zu: %s\n", p->index + 1,
                err == TR_ERR_CANCELLED ? "cancelled"
                                        : tri_message(g->args, result, buf, sizeof buf));
    } else {
        char prefix[48];
        snprintf(prefix, sizeof prefix, "prompt %zu: ", p->index + 1);
        tri_note_answer(g->args, prefix, result);
    }
    if (!g->args->quiet && !g->interrupted) {
        fprintf(stderr, "troupe: %zu of %zu done\n", g->done, g->count);
    }
}

static void one_done(const tr_result *result, void *arg) {
    prompt *p = arg;
    if (!p->done) {
        end(p, result);
    }
}

static tr_err begin_some(gathering *g) {
    size_t at_once = g->args->at_once > 0 ? g->args->at_once : TR_STREAMS_PER_CLIENT_max;
    tr_err err = TR_OK;
    while (err == TR_OK && g->begun < g->count && g->begun - g->done < at_once) {
        prompt *p = &g->prompts[g->begun];
        err = tr_client_submit(g->client, p->request, NULL, one_done, p, &p->id);
        g->begun += err == TR_OK;
    }
    return err;
}

/* What has not begun is over at once; the daemon confirms the rest, or has just ended it. */
static void interrupt(gathering *g, bool at_once) {
    g->interrupted = true;
    for (size_t i = 0; i < g->count; i++) {
        prompt *p = &g->prompts[i];
        if (!p->done && (at_once || i >= g->begun)) {
            end(p, NULL);
        } else if (!p->done) {
            (void)!tr_client_cancel(g->client, p->id);
        }
    }
    g->begun = g->count;
}

static int watch(gathering *g) {
    int interrupts = tri_interrupts_begin();
    while (g->done < g->count) {
        tr_err err = begin_some(g);
        if (err != TR_OK) {
            return tri_fail(err, tr_client_error());
        }
        struct pollfd fds[] = {{.fd = tr_client_fd(g->client), .events = POLLIN},
                               {.fd = interrupts, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            return tri_fail(TR_ERR_IO, strerror(errno));
        }
        if ((fds[1].revents & POLLIN) != 0) {
            char info[128];
            (void)!read(interrupts, info, sizeof info);
            interrupt(g, g->interrupted);
        }
        err = tr_client_dispatch(g->client);
        if (err != TR_OK) {
            return tri_fail(err, tr_client_error());
        }
    }
    close(interrupts);
    for (size_t i = 0; i < g->count && !g->interrupted; i++) {
        if (g->prompts[i].status != TRI_EXIT_OK) {
            return g->prompts[i].status;
        }
    }
    return g->interrupted ? TRI_EXIT_INTERRUPTED : TRI_EXIT_OK;
}

static bool prepare(gathering *g, int *ret_status) {
    g->prompts = calloc(g->count, sizeof *g->prompts);
    if (g->prompts == NULL) {
        *ret_status = tri_fail(TR_ERR_NOMEM, "");
        return false;
    }
    for (size_t i = 0; i < g->count; i++) {
        prompt *p = &g->prompts[i];
        *p = (prompt){.gathering = g, .index = i, .text = tri_text(g->args->rest[i])};
        p->request = p->text != NULL ? tri_request(g->args, p->text, ret_status) : NULL;
        if (p->request == NULL) {
            return false;
        }
    }
    return true;
}

int tri_cmd_gather(const tri_args *args) {
    gathering g = {.args = args, .count = (size_t)args->rest_count};
    int status = TRI_EXIT_USAGE;
    if (g.count == 0) {
        return tri_usage("gather", "gather needs at least one prompt");
    }
    if (prepare(&g, &status) && tri_connect(args, &g.client, &status)) {
        status = watch(&g);
        tr_client_close(g.client); /* may call one_done */
    }
    for (size_t i = 0; g.prompts != NULL && i < g.count; i++) {
        free(g.prompts[i].text);
        free(g.prompts[i].output);
        tr_request_free(g.prompts[i].request);
    }
    free(g.prompts);
    return status;
}
