/*
 * What the doors over NNG share: the translation of NNG's errors and the reaper, a thread that
 * frees what must not be freed on an NNG callback's own thread (nng_aio_free waits for the
 * callback) and blocks too long for a shard. Internal to runtime/.
 */
#ifndef TR_RUNTIME_TRANSPORT_NNG_H
#define TR_RUNTIME_TRANSPORT_NNG_H

#include "runtime/stream.h"

/* Embedded in what is to be freed; `fn` runs once on the reaper's thread. */
typedef struct tri_reap {
    struct tri_reap *next;
    void (*fn)(struct tri_reap *reap);
} tri_reap;

/* Before the first use; idempotent. */
void tri_reaper_start(void);
/* Any thread; never fails, never blocks. */
void tri_reap_later(tri_reap *reap);

/* An NNG error number as ours; `rv` is not 0. */
tr_err tri_nng_err(int rv);

/* A stream over `nng`, which it takes, also on failure; the receive is armed. Any thread. */
struct nng_stream;
TR_MUST_USE tr_err tri_nng_stream_new(struct nng_stream *nng, tri_stream **ret);
bool tri_nng_peer_uid(tr_stream *stream, uint32_t *ret_uid);

/* runtime/transport_nng_inproc.c: the same table for inproc:// URLs. */
tr_transport *tri_transport_inproc(void);

#endif
