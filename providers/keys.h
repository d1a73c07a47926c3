/*
 * The keys of one provider and which of them is used next: in turn, those that the server has
 * refused or limited left out for a while. Pure: time comes in, nothing is read, nobody is locked
 * out (keychain.h does both). Keys come from numbered sources, whose keys are replaced together.
 */
#ifndef TR_PROVIDERS_KEYS_H
#define TR_PROVIDERS_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/limits.h"
#include "protocol/wire.h"

typedef enum tr_key_state {
    TR_KEY_GOOD,
    TR_KEY_LIMITED, /* its rate limit or quota is used up, until `until_us` */
    TR_KEY_REFUSED, /* the server knows no such key; tried again once at `until_us` */
} tr_key_state;

typedef struct tr_key {
    uint32_t id;       /* never used again for another */
    uint32_t refusals; /* in a row */
    uint64_t until_us;
    tr_key_state state;
    uint16_t size;
    uint8_t source;
    bool probed; /* refused, and one request tries it again */
    char text[TR_KEY_max + 1];
} tr_key;

typedef struct tr_keys {
    uint32_t count;
    uint32_t serial;
    uint32_t turn;            /* where the search for the next begins */
    tr_key list[TR_KEYS_max]; /* by source, in its order */
} tr_keys;

/* Whether it can be one: 1 to TR_KEY_max bytes that may stand in a header, no blank among them. */
bool tr_key_valid(tr_str text);

/* From now on `source` has these keys, which are valid. One that it had already keeps its state,
 * unless `afresh`. False: they are more than there is room for, the last ones are left out. */
bool tr_keys_set(tr_keys *keys, uint8_t source, const tr_str *texts, size_t count, bool afresh);
size_t tr_keys_of(const tr_keys *keys, uint8_t source);

/* The next key for a request that has been sent with `tried` already; NULL = no more. Among good
 * ones each has its turn; a refused one whose rest is over is one of them, once. A limited one is
 * better than none for a request that has tried none, and so is an only one. */
const tr_key *tr_keys_next(tr_keys *keys, uint64_t now_us, const uint32_t *tried,
                           size_t tried_count);

/* What the server said to a request with that key; an id that is gone changes nothing. */
void tr_keys_refused(tr_keys *keys, uint32_t id, uint64_t now_us);
void tr_keys_limited(tr_keys *keys, uint32_t id, uint64_t until_us);
void tr_keys_fine(tr_keys *keys, uint32_t id);
/* All are as if they had just come. */
void tr_keys_forgive(tr_keys *keys);

/* How many are in a state at `now_us`. */
size_t tr_keys_in(const tr_keys *keys, tr_key_state state, uint64_t now_us);
/* Milliseconds until the first that is in `state` may be used again; 0 = none is. */
uint32_t tr_keys_wait_ms(const tr_keys *keys, tr_key_state state, uint64_t now_us);

/* Puts `*` in place of each key in `text`, and of the beginning of one that was cut. */
void tr_keys_hide(const tr_keys *keys, char *text);
/* Overwrites them all. */
void tr_keys_wipe(tr_keys *keys);

#endif
