/*
 * The whole path as a program with libtroupe sees it: client library, daemon, the mock and back.
 * Prints one JSON line; bench_peer prints the bare libraries' beside it, path.py compares.
 *
 *   bench_path unary SOCKET MODEL COUNT RATE      tr_ask, so many times, so many a second
 *   bench_path load SOCKET MODEL AT_ONCE COUNT    so many requests open until COUNT have ended
 *   bench_path streams SOCKET MODEL AT_ONCE COUNT the same with streams; how old their tokens are
 *   bench_path steady SOCKET MODEL AT_ONCE COUNT  the same, the first begun over a second
 *   bench_path open SOCKET MODEL STREAMS 1        opens so many and holds them until a line comes
 *   bench_path storm SOCKET MODEL AT_ONCE COUNT   faults of every kind, exactly accounted
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/path.h"

#define OPENING_max 64U /* `open`: handshakes under way at once */

typedef struct run {
    bench_clients clients;
    tr_request *request;
    size_t left, open, done, failed, chunks;
    size_t opening; /* `open`: without a first token */
    int streams, ending;
    tr_err first_failure;
    bench_set added;
} run;

typedef struct stream {
    run *run;
    size_t client;
    int heard;
} stream;

void bench_must(tr_err err) {
    if (err != TR_OK) {
        fprintf(stderr, "bench_path: %s\n", tr_client_error());
        exit(1);
    }
}

void bench_open_clients(bench_clients *clients, const char *socket, size_t count) {
    clients->count = count < BENCH_CLIENTS_max ? count : BENCH_CLIENTS_max;
    for (size_t i = 0; i < clients->count; i++) {
        bench_must(tr_client_open(socket, &clients->items[i]));
    }
}

void bench_turn(bench_clients *clients, int ms) {
    struct pollfd polled[BENCH_CLIENTS_max];
    for (size_t i = 0; i < clients->count; i++) {
        polled[i] = (struct pollfd){.fd = tr_client_fd(clients->items[i]), .events = POLLIN};
    }
    int ready = poll(polled, clients->count, ms);
    for (size_t i = 0; i < clients->count && ready > 0; i++) {
        if (polled[i].revents != 0) {
            bench_must(tr_client_dispatch(clients->items[i]));
        }
    }
}

void bench_close_clients(bench_clients *clients) {
    for (size_t i = 0; i < clients->count; i++) {
        tr_client_close(clients->items[i]);
    }
    clients->count = 0;
}

tr_request *bench_request(const char *model, const char *text, int whole) {
    tr_options options = TR_OPTIONS_INIT;
    tr_request *request;
    options.model = model;
    options.whole = whole;
    options.forget = !whole;
    bench_must(tr_request_new(&options, &request));
    bench_must(tr_request_text(request, "user", text));
    return request;
}

static int unary(const char *socket, const char *model, size_t count, double rate) {
    bench_clients clients = {0};
    bench_set times = {0};
    bench_open_clients(&clients, socket, 1);
    tr_request *request = bench_request(model, "hello", 1);
    int beat = bench_beat(rate);
    double cpu = bench_cpu_us();
    for (size_t i = 0; i < count + 10; i++) {
        tr_result *result;
        bench_wait_beat(beat);
        double begun = bench_now_us();
        bench_must(tr_send_request(clients.items[0], request, &result));
        double ended = bench_now_us();
        if (tr_result_error(result) != TR_OK) {
            fprintf(stderr, "bench_path: %s\n", tr_result_message(result));
            return 1;
        }
        tr_result_free(result);
        if (i >= 10) {
            bench_add(&times, ended - begun);
        }
    }
    cpu = (bench_cpu_us() - cpu) / (double)(count + 10);
    tr_request_free(request);
    bench_close_clients(&clients);
    printf("{\"bench\":\"path unary\",\"count\":%zu,\"p50_us\":%.1f,\"p99_us\":%.1f,"
           "\"cpu_us\":%.1f}\n",
           count, bench_at(&times, 0.5), bench_at(&times, 0.99), cpu);
    bench_fini(&times);
    return 0;
}

static void submit(stream *s);

static void on_chunk(const tr_chunk *chunk, void *arg) {
    stream *s = arg;
    size_t before = s->run->added.count;
    bench_add_stamps(&s->run->added, chunk->text, chunk->size, bench_now_us());
    s->run->chunks += s->run->added.count - before;
    s->run->opening -= !s->heard && s->run->opening > 0;
    s->heard = 1;
}

static void on_done(const tr_result *result, void *arg) {
    stream *s = arg;
    run *r = s->run;
    r->done++;
    r->open--;
    if (tr_result_error(result) != TR_OK && !r->ending && r->failed++ == 0) {
        r->first_failure = tr_result_error(result);
        fprintf(stderr, "bench_path: %s\n", tr_result_message(result));
    }
    if (r->left > 0) {
        submit(s);
    }
}

static void submit(stream *s) {
    run *r = s->run;
    r->left--;
    r->open++;
    s->heard = 0;
    bench_must(tr_client_submit(r->clients.items[s->client], r->request,
                                r->streams ? on_chunk : NULL, on_done, s, NULL));
}

/* As many connections as the streams need, and a few at least. */
static stream *begin(run *r, const char *socket, const char *model, size_t at_once, int streams) {
    stream *all = calloc(at_once, sizeof *all);
    if (all == NULL) {
        abort();
    }
    r->streams = streams;
    bench_open_clients(&r->clients, socket, at_once / 2500 + 2);
    r->request = bench_request(model, "hello", !streams);
    for (size_t i = 0; i < at_once; i++) {
        all[i] = (stream){.run = r, .client = i % r->clients.count};
    }
    return all;
}

static void end(run *r, stream *all) {
    tr_request_free(r->request);
    bench_close_clients(&r->clients);
    bench_fini(&r->added);
    free(all);
}

/* The first are begun over `over_us`, one after the other. */
static int closed_loop(const char *socket, const char *model, size_t at_once, size_t count,
                       int streams, double over_us) {
    run r = {.left = count};
    stream *all = begin(&r, socket, model, at_once, streams);
    double begun = bench_now_us(), cpu = bench_cpu_us();
    for (size_t i = 0; i < at_once && r.left > 0; i++) {
        while (bench_now_us() < begun + over_us * (double)i / (double)at_once) {
            bench_turn(&r.clients, 1);
        }
        submit(&all[i]);
    }
    while (r.done < count) {
        bench_turn(&r.clients, -1);
    }
    double seconds = (bench_now_us() - begun) / 1e6;
    cpu = bench_cpu_us() - cpu;
    printf("{\"bench\":\"path %s\",\"at_once\":%zu,\"count\":%zu,\"failed\":%zu,"
           "\"seconds\":%.3f,\"per_second\":%.0f,\"cpu_us\":%.2f",
           streams ? "streams" : "load", at_once, count, r.failed, seconds, (double)count / seconds,
           cpu / (double)count);
    if (streams) {
        printf(",\"chunks\":%zu,\"cpu_us_per_chunk\":%.2f,\"added_p50_ms\":%.3f,"
               "\"added_p99_ms\":%.3f,\"added_max_ms\":%.3f",
               r.chunks, cpu / (double)r.chunks, bench_at(&r.added, 0.5) / 1000,
               bench_at(&r.added, 0.99) / 1000, bench_at(&r.added, 1) / 1000);
    }
    puts("}");
    end(&r, all);
    return r.failed > 0;
}

/* Holds them open: says "open" on standard output, ends them at a line or the end of its input. */
static int hold(const char *socket, const char *model, size_t count) {
    run r = {.left = count};
    stream *all = begin(&r, socket, model, count, 1);
    double begun = bench_now_us();
    size_t next = 0;
    while (r.failed == 0 && (next < count || r.opening > 0)) {
        for (; next < count && r.opening < OPENING_max; r.opening++) {
            submit(&all[next++]);
        }
        bench_turn(&r.clients, -1);
    }
    printf("{\"bench\":\"path open\",\"open\":%zu,\"failed\":%zu,\"seconds\":%.1f}\n", r.open,
           r.failed, (bench_now_us() - begun) / 1e6);
    fflush(stdout);
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    while (poll(&input, 1, 0) == 0) {
        bench_turn(&r.clients, 100);
    }
    bool broken = r.failed > 0 || r.open < count;
    r.ending = 1;
    end(&r, all);
    return broken;
}

int main(int argc, char **argv) {
    const char *what = argc == 6 ? argv[1] : "";
    size_t first = argc == 6 ? bench_number(argv[4], 1000000) : 0;
    size_t count = argc == 6 ? bench_number(argv[5], 10000000) : 0;
    if (strcmp(what, "unary") == 0) {
        return unary(argv[2], argv[3], first, (double)count);
    }
    if (strcmp(what, "load") == 0 || strcmp(what, "streams") == 0) {
        return closed_loop(argv[2], argv[3], first, count, strcmp(what, "streams") == 0, 0);
    }
    if (strcmp(what, "steady") == 0) {
        return closed_loop(argv[2], argv[3], first, count, 1, 1e6);
    }
    if (strcmp(what, "open") == 0) {
        return hold(argv[2], argv[3], first);
    }
    if (strcmp(what, "storm") == 0) {
        return bench_storm(argv[2], argv[3], first, count);
    }
    fputs("usage: bench_path unary SOCKET MODEL COUNT RATE\n"
          "       bench_path load|streams|steady|storm SOCKET MODEL AT_ONCE COUNT\n"
          "       bench_path open SOCKET MODEL STREAMS 1\n",
          stderr);
    return 2;
}
