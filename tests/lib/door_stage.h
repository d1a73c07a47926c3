/*
 * For tests of the real transport: a host that listens and a guest that dials, actors on two shards
 * of a real node, and a fresh directory. What both write down lies under their probes' mutexes.
 */
#ifndef TR_TESTS_LIB_DOOR_STAGE_H
#define TR_TESTS_LIB_DOOR_STAGE_H

#include "runtime/transport.h"
#include "tests/lib/probe.h"

#define TR_DOORS_STREAMS_max 512

typedef struct tr_doors_end {
    tr_stream *stream;
    size_t received;
    uint32_t sum;
    uint32_t sent;
    tr_body *body; /* what it sent last */
    bool closed;   /* by the peer */
} tr_doors_end;

/* One actor's streams. A host echoes what it gets, one answer at a time. */
typedef struct tr_doors_side {
    tr_probe *probe;
    tr_transport *transport;
    bool echoes;
    bool deaf; /* attaches to nothing: drops the news of new streams */
    tr_listener *listener;
    tr_doors_end ends[TR_DOORS_STREAMS_max];
    uint32_t count;
    uint32_t opened; /* ACCEPTED, or DIALED well */
    uint32_t failed; /* DIALED with an error */
    tr_err dial_err;
    uint32_t gone; /* CLOSED */
    uint32_t awaited;
} tr_doors_side;

typedef struct tr_doors_stage {
    tr_node *node;
    tr_doors_side host, guest;
    char folder[64];
    char url[128];
    char path[100];
} tr_doors_stage;

void tr_doors_set_up(tr_doors_stage *s);
void tr_doors_set_up_listening(tr_doors_stage *s);
void tr_doors_tear_down(tr_doors_stage *s);
/* Has other functions handle what the two actors get from now on; before anything has come. */
void tr_doors_take_over(tr_doors_stage *s, tr_probe_fn *fn, void *host, void *guest);

typedef struct tr_doors_listening {
    tr_doors_side *s;
    tr_listen_spec spec;
    tr_err err;
    char why[256];
    char url[128];
} tr_doors_listening;
tr_doors_listening tr_doors_listen(tr_doors_side *who, const char *url, const char *cert_file);
void tr_doors_do_unlisten(tr_self *self, void *arg);
tr_err tr_doors_dial(tr_doors_side *s, const char *url, const char *ca_file, uint32_t count);
/* Each end from `from` up to `to` sends `size` bytes. */
void tr_doors_send(tr_doors_side *s, uint32_t from, uint32_t to, size_t size);
void tr_doors_do_close_all(tr_self *self, void *arg);

/* Conditions on a side, and the wait for one with its number. */
bool tr_doors_opened(void *arg);
bool tr_doors_gone(void *arg);
bool tr_doors_received(void *arg); /* by each end that is open */
bool tr_doors_sent(void *arg);
bool tr_doors_await(tr_doors_side *s, bool (*met)(void *arg), uint32_t number);

/* One dial whose bytes come back: the host is well. */
void tr_doors_check_well(tr_doors_stage *s);
/* Two seconds at less than 1 % of a processor. */
void tr_doors_check_idle(tr_doors_stage *s);

/* -1: refused. */
int tr_doors_raw_connect(const char *path);
void tr_doors_write_file(const tr_doors_stage *s, const char *name, const char *one,
                         const char *two, char *ret_path, size_t size);

#endif
