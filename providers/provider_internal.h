/*
 * What a provider actor is made of. Everything belongs to its shard's thread. Internal to
 * providers/provider*.c.
 */
#ifndef TR_PROVIDERS_PROVIDER_INTERNAL_H
#define TR_PROVIDERS_PROVIDER_INTERNAL_H

#include "providers/catalog.h"
#include "providers/decoder.h"
#include "providers/pieces.h"
#include "providers/provider.h"
#include "providers/slots.h"

typedef struct tri_request {
    tr_id caller;
    uint64_t ref;
    uint64_t monitor;
    uint64_t http_ref; /* its serial number, and its slot in the lower 16 bits */
    tr_decoder *decoder;
    tri_pieces pieces;
    tr_msg *abort; /* made beforehand: to close a transfer must not need memory */
    uint32_t credit_messages, credit_bytes;
    uint32_t owed; /* bytes used and not yet given back to the door's window */
    uint64_t started_us, first_us;
    uint32_t retry_after_ms;
    uint16_t status;
    uint16_t retry_flags; /* what the server says of another attempt: TR_FAIL_RETRY_YES or _NO */
    bool has_retry_after;
    bool transfer_open; /* the door still sends */
    bool ended;         /* the terminal follows as soon as the pieces are out */
    tr_err err;         /* of the end, where the decoder does not tell */
    char message[512];  /* of the same */
    char request_id[128];
    char target[TR_NAME_max + 1];
} tri_request;

typedef struct tri_provider {
    tr_provider_spec spec;
    const tr_catalog_row *row;
    const tr_dialect *dialect;
    tr_id http; /* the shard's door; TR_ID_NONE = to be looked up */
    uint64_t http_monitor;
    tri_request **requests; /* by slot; NULL = free */
    uint32_t room;
    uint32_t open;
    tri_slots slots; /* (caller, ref) to slot */
    uint64_t serial;
    uint64_t done, failed; /* since the start */
} tri_provider;

/* provider_start.c: everything between a SUBMIT and the START that it becomes. On an error, `why`
 * (>= 512 bytes) is the sentence for the FAIL. */
typedef struct tri_outgoing {
    bool stream;
    bool get; /* GET, else POST */
    char url[TR_URL_max + 1];
    char headers[4096]; /* with the key: wiped by the caller */
    tr_body *body;
} tri_outgoing;
TR_MUST_USE tr_err tri_provider_prepare(const tri_provider *provider, const tr_msg *submit,
                                        tri_outgoing *ret, char *why, size_t why_size);
/* The key in the environment, its blanks at the end left out; size 0 when there is none. */
tr_str tri_provider_key(const tri_provider *provider);
/* The server that the key is meant for: as configured, else of the environment, else the row's; in
 * `buf` or borrowed; NULL = none. */
const char *tri_provider_base_url(const tri_provider *provider, char buf[TR_URL_max + 1]);

#endif
