/* What the benches of the whole path share: several connections on one thread. */
#ifndef TR_TESTS_BENCH_PATH_H
#define TR_TESTS_BENCH_PATH_H

#include <troupe.h>

#include "tests/bench/figures.h"

#define BENCH_CLIENTS_max 16

typedef struct bench_clients {
    tr_client *items[BENCH_CLIENTS_max];
    size_t count;
} bench_clients;

/* Ends the program with the library's sentence when it fails. */
void bench_must(tr_err err);
void bench_open_clients(bench_clients *clients, const char *socket, size_t count);
/* Waits for something to happen on any of them, and for at most `ms` (-1 = for ever). */
void bench_turn(bench_clients *clients, int ms);
void bench_close_clients(bench_clients *clients);
/* `model`'s plan told by the question's text. */
tr_request *bench_request(const char *model, const char *text, int whole);

/* path_storm.c: the exit status. */
int bench_storm(const char *socket, const char *model, size_t at_once, size_t count);

#endif
