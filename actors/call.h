/*
 * A call: the one owner of a request, an actor a request, on the shard of its door. It is spawned
 * by the door, gets the door's SUBMIT as its first message and answers with DELTAs and exactly one
 * DONE or FAIL with the SUBMIT's ref; CREDIT and CANCEL come from the door. It asks a gate, submits
 * to the backend that is granted, counts credit on both sides, goes on with another worker when one
 * dies, tries again or elsewhere when an attempt fails before its first DELTA, and ends everything
 * it opened by one path (docs/architecture/requests.md).
 */
#ifndef TR_ACTORS_CALL_H
#define TR_ACTORS_CALL_H

#include "actors/services.h"

typedef struct tr_call_args {
    tr_services *services;
} tr_call_args;

/* Only after tr_services_enter said TR_OK: the call leaves when it ends. */
extern const tr_behaviour tr_call;

#endif
