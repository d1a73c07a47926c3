/*
 * `troupe ask`, `embed` and `tokens`. ask lives in one poll loop with the client's
 * descriptor and a signalfd, so that Ctrl-C cancels upstream, prints nothing half, and says so by
 * its exit status.
 */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/utf8.h"
#include "tools/troupe/commands.h"

typedef struct asking {
    const tri_args *args;
    bool ended;
    bool interrupted;
    bool wrote;
    char last; /* the last byte written, for the closing newline */
    int status;
} asking;

static void chunk_came(const tr_chunk *chunk, void *arg) {
    asking *a = arg;
    if (chunk->kind != TR_CHUNK_TEXT || chunk->choice != 0 || chunk->size == 0 ||
        a->args->no_stream || a->args->json) {
        return;
    }
    fwrite(chunk->text, 1, chunk->size, stdout);
    fflush(stdout); /* whoever reads it wants each piece as it comes */
    a->wrote = true;
    a->last = chunk->text[chunk->size - 1];
}

static void done_came(const tr_result *result, void *arg) {
    asking *a = arg;
    tr_err err = tr_result_error(result);
    a->ended = true;
    if (a->args->json) {
        char *json = tri_result_json(result, -1);
        puts(json != NULL ? json : "{}");
        free(json);
    } else if (a->args->no_stream) {
        const char *text = tr_result_text(result);
        fputs(text, stdout);
        a->wrote = text[0] != '\0';
        a->last = a->wrote ? text[strlen(text) - 1] : '\0';
    }
    if (a->wrote && a->last != '\n') {
        putchar('\n');
    }
    fflush(stdout);
    if (err != TR_OK && !a->interrupted) {
        char buf[768];
        a->status = tri_fail(err, tri_message(a->args, result, buf, sizeof buf));
    }
    tri_note_answer(a->args, "", result);
    tri_note_usage(a->args, result);
    for (size_t i = 0; i < tr_result_tool_calls(result) && !a->args->json; i++) {
        tr_tool_call call = tr_result_tool_call(result, i);
        char *said = NULL;
        if (asprintf(&said, "%s(%s)", call.name, call.arguments_json) >= 0) {
            tr_utf8_plain(said, strlen(said)); /* a model's words */
            fprintf(stderr, "troupe: the model calls %s\n", said);
            free(said);
        }
    }
}

/* Runs the loop until the request has ended. */
static int watch(tr_client *client, asking *a, uint64_t id) {
    int interrupts = tri_interrupts_begin();
    while (!a->ended) {
        struct pollfd fds[] = {{.fd = tr_client_fd(client), .events = POLLIN},
                               {.fd = interrupts, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            return tri_fail(TR_ERR_IO, strerror(errno));
        }
        if ((fds[1].revents & POLLIN) != 0) {
            if (a->interrupted) {
                return TRI_EXIT_INTERRUPTED; /* the second time, without waiting for the daemon */
            }
            char info[128];
            (void)!read(interrupts, info, sizeof info);
            a->interrupted = true;
            if (tr_client_cancel(client, id) != TR_OK) {
                break;
            }
        }
        tr_err err = tr_client_dispatch(client);
        if (err != TR_OK) {
            return tri_fail(err, tr_client_error());
        }
    }
    close(interrupts);
    return a->interrupted ? TRI_EXIT_INTERRUPTED : a->status;
}

int tri_cmd_ask(const tri_args *args) {
    int status = TRI_EXIT_USAGE;
    char *prompt = tri_prompt(args);
    tr_request *request = prompt != NULL ? tri_request(args, prompt, &status) : NULL;
    free(prompt);
    if (request == NULL) {
        return status;
    }
    tr_client *client;
    if (tri_connect(args, &client, &status)) {
        asking a = {.args = args};
        uint64_t id;
        tr_err err = tr_client_submit(client, request, chunk_came, done_came, &a, &id);
        status = err == TR_OK ? watch(client, &a, id) : tri_fail(err, tr_client_error());
        tr_client_close(client);
        tri_note_unread(args);
    }
    tr_request_free(request);
    return status;
}

/* --- embed, tokens --- */

static void print_row(const tri_args *args, size_t index, const float *row, size_t dim) {
    if (args->json) {
        printf("{\"index\":%zu,\"embedding\":", index);
    }
    for (size_t k = 0; k < dim; k++) {
        printf("%c%.9g", k > 0 ? ',' : '[', (double)row[k]);
    }
    puts(args->json ? "]}" : "]");
}

static int embed(const tri_args *args, const char *const *texts, size_t count) {
    tr_options options;
    tr_client *client;
    int status = TRI_EXIT_USAGE;
    if (!tri_options(args, &options) || !tri_connect(args, &client, &status)) {
        return status;
    }
    float *rows = NULL;
    size_t dim = 0;
    tr_err err = tr_embed(client, &options, texts, count, &rows, &dim);
    status = err == TR_OK ? TRI_EXIT_OK : tri_fail_option(args, err);
    for (size_t i = 0; err == TR_OK && i < count; i++) {
        print_row(args, i, rows + i * dim, dim);
    }
    tr_memory_free(rows);
    tr_client_close(client);
    return status;
}

int tri_cmd_embed(const tri_args *args) {
    size_t count = (size_t)args->rest_count;
    if (count == 0) {
        return tri_usage("embed", "embed needs at least one text");
    }
    char **texts = calloc(count, sizeof *texts);
    bool ready = texts != NULL;
    for (size_t i = 0; ready && i < count; i++) {
        texts[i] = tri_text(args->rest[i]);
        ready = texts[i] != NULL;
    }
    int status = ready ? embed(args, (const char *const *)texts, count) : TRI_EXIT_USAGE;
    for (size_t i = 0; texts != NULL && i < count; i++) {
        free(texts[i]);
    }
    free(texts);
    return status;
}

int tri_cmd_tokens(const tri_args *args) {
    int status = TRI_EXIT_USAGE;
    char *prompt = tri_prompt(args);
    tr_request *request = prompt != NULL ? tri_request(args, prompt, &status) : NULL;
    tr_client *client = NULL;
    if (request != NULL && tri_connect(args, &client, &status)) {
        uint64_t tokens;
        bool exact;
        tr_err err = tr_count_tokens(client, request, &tokens, &exact);
        status = err == TR_OK ? TRI_EXIT_OK : tri_fail(err, tr_client_error());
        if (err == TR_OK && args->json) {
            printf("{\"tokens\":%llu,\"exact\":%s}\n", (unsigned long long)tokens,
                   exact ? "true" : "false");
        } else if (err == TR_OK) {
            printf("%llu %s\n", (unsigned long long)tokens, exact ? "exact" : "estimated");
        }
        tr_client_close(client);
        tri_note_unread(args);
    }
    tr_request_free(request);
    free(prompt);
    return status;
}
