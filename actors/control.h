/*
 * Control requests: a SUBMIT whose operation is control and whose body is {"do": "…"}. An actor a
 * request, with the contract of a call (call.h): it answers text DELTAs of one JSON object within
 * the client's credit, then DONE, or FAIL. PROTOCOL.md lists what can be asked.
 */
#ifndef TR_ACTORS_CONTROL_H
#define TR_ACTORS_CONTROL_H

#include "actors/call.h"

/* Spawn it with tr_call_args. */
extern const tr_behaviour tr_control;

#endif
