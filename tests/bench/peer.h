/* The bare peer's parts: one transfer, and the multi loop. One thread. */
#ifndef TR_TESTS_BENCH_PEER_H
#define TR_TESTS_BENCH_PEER_H

#include <curl/curl.h>
#include <stdbool.h>

#include "tests/bench/figures.h"

typedef struct bench_transfer {
    CURL *easy;
    struct curl_slist *headers;
    char body[512];
    char line[8192]; /* of a stream, as far as it has come */
    size_t line_size;
    size_t chunks, bytes;
    bench_set *added; /* of a stream's tokens; NULL = not asked for */
} bench_transfer;

void bench_transfer_init(bench_transfer *transfer, const char *url, const char *model, bool stream);
void bench_transfer_fini(bench_transfer *transfer);
/* Runs `count` requests, `at_once` at a time, the first begun over `over_us`, and prints their
 * line. The exit status. */
int bench_multi(const char *url, const char *model, size_t at_once, size_t count, bool streams,
                double over_us);

#endif
