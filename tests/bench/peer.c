/*
 * The bare peers that Troupe's way is measured against, each as its library's own loop and nothing
 * around it; they print one JSON line.
 *
 *   bench_peer unary URL MODEL COUNT RATE       an NNG stream ping-pong over ipc, then a libcurl
 *                                               request, so many times, so many a second
 *   bench_peer load URL MODEL AT_ONCE COUNT     a curl multi loop, so many requests open
 *                                               (peer_multi.c)
 *   bench_peer streams URL MODEL AT_ONCE COUNT  the same with streams, each event read by cJSON
 *   bench_peer steady URL MODEL AT_ONCE COUNT   the same, the first begun over a second
 */
#include <curl/curl.h>
#include <nng/nng.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/peer.h"

#define PING_size 256U /* about a small request's frame */

static void must(int error) {
    if (error != 0) {
        fprintf(stderr, "bench_peer: %s\n", nng_strerror(error));
        exit(1);
    }
}

/* Moves all of the bytes: sends and receives may be short. */
static void move(nng_stream *stream, nng_aio *aio, char *bytes, bool out) {
    for (size_t at = 0; at < PING_size;) {
        nng_iov part = {.iov_buf = bytes + at, .iov_len = PING_size - at};
        must(nng_aio_set_iov(aio, 1, &part));
        if (out) {
            nng_stream_send(stream, aio);
        } else {
            nng_stream_recv(stream, aio);
        }
        nng_aio_wait(aio);
        must(nng_aio_result(aio));
        at += nng_aio_count(aio);
    }
}

/* Answers each ping; in a process of its own, forked before NNG was used. */
static void serve(const char *url, int ready) {
    nng_stream_listener *listener;
    nng_aio *aio;
    char bytes[PING_size];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    must(nng_stream_listener_alloc(&listener, url));
    must(nng_aio_alloc(&aio, NULL, NULL));
    must(nng_stream_listener_listen(listener));
    (void)!write(ready, "r", 1);
    nng_stream_listener_accept(listener, aio);
    nng_aio_wait(aio);
    must(nng_aio_result(aio));
    nng_stream *stream = nng_aio_get_output(aio, 0);
    for (;;) {
        move(stream, aio, bytes, false);
        move(stream, aio, bytes, true);
    }
}

static nng_stream *dial(const char *url, nng_aio *aio) {
    nng_stream_dialer *dialer;
    must(nng_stream_dialer_alloc(&dialer, url));
    nng_stream_dialer_dial(dialer, aio);
    nng_aio_wait(aio);
    must(nng_aio_result(aio));
    return nng_aio_get_output(aio, 0);
}

static int unary(const char *url, const char *model, size_t count, double rate) {
    char folder[] = "/tmp/troupe-bench-peer-XXXXXX", ipc[80], ping[PING_size] = {0};
    bench_set pings = {0}, requests = {0}, sums = {0};
    int ready[2];
    if (mkdtemp(folder) == NULL || pipe(ready) != 0) {
        return 1;
    }
    snprintf(ipc, sizeof ipc, "ipc://%s/s", folder);
    pid_t child = fork();
    if (child == 0) {
        serve(ipc, ready[1]);
    }
    (void)!read(ready[0], ping, 1);
    nng_aio *aio;
    must(nng_aio_alloc(&aio, NULL, NULL));
    nng_stream *stream = dial(ipc, aio);
    bench_transfer transfer = {0};
    bench_transfer_init(&transfer, url, model, false);
    int beat = bench_beat(rate);
    double cpu = bench_cpu_us();
    for (size_t i = 0; i < count + 10; i++) {
        bench_wait_beat(beat);
        double begun = bench_now_us();
        move(stream, aio, ping, true);
        move(stream, aio, ping, false);
        double between = bench_now_us();
        if (curl_easy_perform(transfer.easy) != CURLE_OK) {
            return 1;
        }
        double ended = bench_now_us();
        if (i >= 10) { /* the first ones connect */
            bench_add(&pings, between - begun);
            bench_add(&requests, ended - between);
            bench_add(&sums, ended - begun);
        }
    }
    cpu = (bench_cpu_us() - cpu) / (double)(count + 10);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    unlink(ipc + strlen("ipc://"));
    rmdir(folder);
    printf("{\"bench\":\"peer unary\",\"count\":%zu,\"p50_us\":%.1f,\"p99_us\":%.1f,"
           "\"ping_p50_us\":%.1f,\"ping_p99_us\":%.1f,\"curl_p50_us\":%.1f,\"curl_p99_us\":%.1f,"
           "\"cpu_us\":%.1f}\n",
           count, bench_at(&sums, 0.5), bench_at(&sums, 0.99), bench_at(&pings, 0.5),
           bench_at(&pings, 0.99), bench_at(&requests, 0.5), bench_at(&requests, 0.99), cpu);
    bench_transfer_fini(&transfer);
    bench_fini(&pings);
    bench_fini(&requests);
    bench_fini(&sums);
    return 0;
}

int main(int argc, char **argv) {
    const char *what = argc == 6 ? argv[1] : "";
    if (strcmp(what, "unary") == 0) {
        return unary(argv[2], argv[3], bench_number(argv[4], 1000000),
                     (double)bench_number(argv[5], 100000));
    }
    bool steady = strcmp(what, "steady") == 0;
    bool streams = steady || strcmp(what, "streams") == 0;
    if (streams || strcmp(what, "load") == 0) {
        return bench_multi(argv[2], argv[3], bench_number(argv[4], 10000),
                           bench_number(argv[5], 10000000), streams, steady ? 1e6 : 0);
    }
    fputs("usage: bench_peer unary URL MODEL COUNT RATE | load URL MODEL AT_ONCE COUNT |\n"
          "       streams|steady URL MODEL AT_ONCE COUNT\n",
          stderr);
    return 2;
}
