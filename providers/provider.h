/*
 * The provider actor: the backend for one provider on one shard, registered as
 * "provider:<name>:<shard>". It takes SUBMIT (chat or embed; target = the model's name at the
 * provider, base_url where the catalog row allows one), speaks to the shard's HTTP door (http.h)
 * in the provider's dialect, and answers DELTAs within credit and one DONE or FAIL. Out of credit
 * it returns no window to the door, so the provider's server waits. A caller that ends takes its
 * requests with it. A key is taken from the provider's keychain when it is needed, and appears in
 * no answer and no log. One that the server refuses or limits is left out for a while, and the same
 * request goes on with the next. STATUS (protocol/gate.h) is answered with one JSON object.
 */
#ifndef TR_PROVIDERS_PROVIDER_H
#define TR_PROVIDERS_PROVIDER_H

#include <stdatomic.h>

#include "protocol/limits.h"
#include "providers/keychain.h"
#include "runtime/actor.h"
#include "runtime/supervisor.h"

#define TR_PROVIDER_NAME_max 40
#define TR_PROVIDER_REQUESTS_max 16384 /* open at one provider actor */
#define TR_PROVIDER_ACTOR_size 64      /* of the actor's name, its NUL included */

/* Copied whole into the actor. */
typedef struct tr_provider_spec {
    char name[TR_PROVIDER_NAME_max + 1]; /* what users write before the slash */
    char kind[TR_PROVIDER_NAME_max + 1]; /* the catalog row */
    char base_url[512];                  /* "" = the row's */
    char key_env[128];                   /* "" = the row's: where the key is found */
    /* Of a managed server, else NULL: the port on 127.0.0.1 where it is now. Written by the
     * server's actor before it grants a request (relaxed: the message orders it); outlives the
     * node. */
    const _Atomic uint32_t *port;
    char model[TR_NAME_max + 1]; /* what the server calls its only model; "" = as it is asked for */
    tr_keychain *keychain;       /* outlives the actor; NULL = one of its own, of `key_env` alone */
} tr_provider_spec;

/* Fills and checks a spec; `kind` NULL = `name`, `base_url` and `key_env` may be NULL. On
 * TR_ERR_INVALID or TR_ERR_NOT_FOUND, `ret_why` (>= 160 bytes) says what is wrong. Pure. */
TR_MUST_USE tr_err tr_provider_spec_init(const char *name, const char *kind, const char *base_url,
                                         const char *key_env, tr_provider_spec *ret, char *ret_why,
                                         size_t why_size);

/* The same for a managed server of this kind (servers.h), which requests call `model`; its actors
 * are "provider:local/<model>:<shard>". `server_model` as above. */
#define TR_PROVIDER_SERVER_max (TR_PROVIDER_NAME_max - 6) /* of `model` */
TR_MUST_USE tr_err tr_provider_spec_server(const char *kind, const char *model,
                                           const char *server_model, const _Atomic uint32_t *port,
                                           tr_provider_spec *ret, char *ret_why, size_t why_size);

/* Whether no request goes to it without a key: its kind wants one, or the configuration names one.
 */
bool tr_provider_needs_key(const tr_provider_spec *spec);

/* The server that its keys are meant for: as configured, else of the environment, else the row's;
 * in `buf` or borrowed; NULL = none. */
const char *tr_provider_base_url(const tr_provider_spec *spec, char buf[TR_URL_max + 1]);

extern const tr_behaviour tr_provider; /* args: a tr_provider_spec */

/* A child spec; `actor` receives the actor's name. Both `spec` and `actor` must outlive the
 * supervisor's start. Start the shard's HTTP door before. */
tr_child_spec tr_provider_child(const tr_provider_spec *spec, uint32_t shard,
                                char actor[TR_PROVIDER_ACTOR_size]);

#endif
