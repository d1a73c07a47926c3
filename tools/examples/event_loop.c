/*
 * Inside an event loop: poll watches the client's descriptor beside a 10 ms timer, and the answer's
 * chunks come as callbacks on this thread. It reports the longest wait between two ticks.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <troupe.h>
#include <unistd.h>

typedef struct answer {
    int done;
    tr_err err;
} answer;

static void on_chunk(const tr_chunk *chunk, void *arg) {
    (void)arg;
    if (chunk->kind == TR_CHUNK_TEXT) {
        fwrite(chunk->text, 1, chunk->size, stdout);
        fflush(stdout);
    }
}

static void on_done(const tr_result *result, void *arg) {
    answer *a = arg;
    a->done = 1;
    a->err = tr_result_error(result);
    printf("\n");
    if (a->err != TR_OK) {
        fprintf(stderr, "%s\n", tr_result_message(result));
    }
}

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static tr_err turn(tr_client *client, const answer *a) {
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct itimerspec every = {.it_interval = {.tv_nsec = 10000000},
                               .it_value = {.tv_nsec = 10000000}};
    timerfd_settime(timer, 0, &every, NULL);
    struct pollfd polled[2] = {{.fd = tr_client_fd(client), .events = POLLIN},
                               {.fd = timer, .events = POLLIN}};
    double last = now_ms(), longest = 0;
    unsigned ticks = 0;
    tr_err err = TR_OK;
    while (!a->done && err == TR_OK && poll(polled, 2, -1) > 0) {
        unsigned long long expired;
        if (read(timer, &expired, sizeof expired) == (ssize_t)sizeof expired) {
            double now = now_ms();
            longest = now - last > longest ? now - last : longest;
            last = now;
            ticks++;
        }
        if (polled[0].revents != 0) {
            err = tr_client_dispatch(client);
        }
    }
    fprintf(stderr, "%u ticks, the longest wait was %.1f ms\n", ticks, longest);
    close(timer);
    return err;
}

int main(int argc, char **argv) {
    tr_options options = TR_OPTIONS_INIT;
    options.max_tokens = 200;
    tr_client *client = NULL;
    tr_request *request = NULL;
    answer a = {0};
    tr_err err = tr_client_open(NULL, &client);
    if (err == TR_OK) {
        err = tr_request_new(&options, &request);
    }
    if (err == TR_OK) {
        err = tr_request_text(request, "user", argc > 1 ? argv[1] : "What is an actor?");
    }
    if (err == TR_OK) {
        err = tr_client_submit(client, request, on_chunk, on_done, &a, NULL);
    }
    if (err == TR_OK) {
        err = turn(client, &a);
    }
    if (err != TR_OK) {
        fprintf(stderr, "%s\n", tr_client_error());
    }
    tr_request_free(request);
    tr_client_close(client);
    return err == TR_OK && a.err == TR_OK ? 0 : 1;
}
