/*
 * What a provider actor is made of. Everything belongs to its shard's thread. Internal to
 * providers/provider*.c.
 */
#ifndef TR_PROVIDERS_PROVIDER_INTERNAL_H
#define TR_PROVIDERS_PROVIDER_INTERNAL_H

#include "providers/catalog.h"
#include "providers/decoder.h"
#include "providers/http.h"
#include "providers/pieces.h"
#include "providers/provider.h"
#include "providers/slots.h"

/* What it takes to send a request once more, with another key. Kept until the server has taken it.
 */
typedef struct tri_again {
    tr_http_start start;
    tr_body *body;
    uint32_t tried[TR_KEYS_max]; /* keys, by id */
    size_t tried_count;
    bool trusted;        /* it goes to the server that the keys are meant for */
    bool limited;        /* one of them is good but at its limit */
    bool waited;         /* for a command, once */
    uint32_t pinned;     /* to be sent with this key and no other; 0 = with the next */
    tr_keychain_key key; /* the one it was sent with */
    const char *headers; /* without a key; behind the URL */
    char url[];
} tri_again;

/* provider_check.c: one question to the server a key. */
typedef struct tri_check tri_check;

typedef struct tri_request {
    tr_id caller;
    uint64_t ref;
    uint64_t monitor;
    uint64_t http_ref; /* its serial number, and its slot in the lower 16 bits */
    tr_op op;
    tr_decoder *decoder;
    tri_pieces pieces;
    tri_again *again; /* NULL = it went without a key, or is under way */
    uint32_t key;     /* the id of its key; 0 = none */
    tri_check *check; /* its end goes there and not to the caller; NULL = none */
    bool untrusted;   /* it goes to a server that the keys are not meant for */
    bool shown;       /* what would be sent is its answer */
    bool waits;       /* for a command that prints keys */
    tr_msg *abort;    /* made beforehand: to close a transfer must not need memory */
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
    char site[256]; /* the URL that was asked, without its query */
} tri_request;

typedef struct tri_provider {
    tr_provider_spec spec;
    const tr_catalog_row *row;
    const tr_dialect *dialect;
    tr_id http; /* the shard's door; TR_ID_NONE = to be looked up */
    uint64_t http_monitor;
    tr_keychain *own_chain;  /* the spec names none */
    uint64_t runner_monitor; /* of the runner of commands; 0 = it has not been asked */
    tri_request **requests;  /* by slot; NULL = free */
    uint32_t room;
    uint32_t open;
    uint32_t free_from;  /* no slot before it is free */
    tri_slots slots;     /* (caller, ref) to slot */
    tri_slots monitored; /* (caller, monitor) to slot */
    uint64_t serial;
    uint64_t done, failed; /* since the start */
} tri_provider;

/* provider_start.c: everything between a SUBMIT and the START that it becomes. On an error, `why`
 * (>= 512 bytes) is the sentence for the FAIL. */
typedef struct tri_outgoing {
    bool stream;
    bool get; /* GET, else POST */
    char url[TR_URL_max + 1];
    bool trusted;       /* it goes to the server that the key is meant for */
    char headers[4096]; /* without the key */
    tr_body *body;
    char *answer; /* what is answered here and now, nothing being sent; NULL = it is sent */
    size_t answer_size;
} tri_outgoing;
TR_MUST_USE tr_err tri_provider_prepare(const tri_provider *provider, const tr_msg *submit,
                                        tri_outgoing *ret, char *why, size_t why_size);
/* provider_own.c: the answer of a request that goes nowhere: how many tokens its prompt has, by
 * estimate; and, in place of its START, what that would say. */
TR_MUST_USE tr_err tri_provider_estimate(const tr_msg *submit, tri_outgoing *out, char *why,
                                         size_t why_size);
TR_MUST_USE tr_err tri_provider_show(tri_request *request, tr_str headers);
/* UNLOAD: the door closes what is open to the provider's server and nobody uses, and answers for
 * us. */
tr_err tri_provider_close_idle(tr_self *self, tri_provider *provider, const tr_msg *msg);
/* The server that the key is meant for: as configured, else of the environment, else the row's; in
 * `buf` or borrowed; NULL = none. */
const char *tri_provider_base_url(const tri_provider *provider, char buf[TR_URL_max + 1]);

/* provider_keys.c. Keeps what `out` says in request->again and takes its body. */
TR_MUST_USE tr_err tri_again_keep(tri_request *request, tri_outgoing *out,
                                  const tr_http_start *start);
void tri_again_free(tri_request *request);
/* START with the next key, or waits for one; an error with `why` (>= 512 bytes) when there is none.
 */
TR_MUST_USE tr_err tri_provider_send(tr_self *self, tri_provider *provider, tri_request *request,
                                     char *why, size_t why_size);
/* The server has taken the request. */
void tri_provider_taken(tri_provider *provider, tri_request *request);
/* The server has failed it before its first piece: true when it goes on with another key. What the
 * keychain learns of it is told in any case. */
bool tri_provider_goes_on(tr_self *self, tri_provider *provider, tri_request *request, tr_err err);
/* The request that waits under that number, or NULL. */
tri_request *tri_provider_waiting(const tri_provider *provider, uint64_t http_ref);
/* No key in it any more. */
void tri_provider_hide(const tri_provider *provider, const tri_request *request, char *text);
/* Adds to a FAIL's sentence which key was refused, or that none was sent. */
void tri_provider_tell_key(tr_self *self, const tri_provider *provider, const tri_request *request,
                           char text[TR_MESSAGE_max + 1]);

/* provider_check.c. KEY_CHECK; and the end of one of its requests, or its loss. */
tr_err tri_provider_check(tr_self *self, tri_provider *provider, const tr_msg *msg);
tr_err tri_check_ended(tr_self *self, tri_provider *provider, tri_request *request, tr_err err,
                       const char *message);
void tri_check_lost(tri_request *request);

/* provider.c, for the others. A request that is not sent yet; on an error *ret must be forgotten,
 * or is NULL. Takes out->body on success. */
TR_MUST_USE tr_err tri_provider_begin(tr_self *self, tri_provider *provider, const tr_msg *msg,
                                      tri_outgoing *out, tri_request **ret);
void tri_provider_forget(tr_self *self, tri_provider *provider, tri_request *request);
/* The shard's HTTP door is known, or TR_ERR_CONNECT. */
TR_MUST_USE tr_err tri_provider_find_http(tr_self *self, tri_provider *provider);
/* The decoder of a new transfer, and the message that ends it. */
TR_MUST_USE tr_err tri_provider_renew(tri_provider *provider, tri_request *request);

#endif
