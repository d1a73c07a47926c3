/*
 * A provider's keychain: where its keys come from, and the ring of them (keys.h) that its actors on
 * all shards share. Sources are read again when they have changed, whenever a key is taken:
 *
 *     env:NAME        a variable of this process's environment
 *     file:/PATH      key_file.h
 *     command:WORDS   what `/bin/sh -c WORDS` prints; run by key_commands.h, never here
 *
 * Configured sources are used together and alone. Without any, the keys are those of the store's
 * file, else of the first of the catalog's variables that is set. Any thread: a mutex guards it,
 * and no function waits for anything but a small file.
 */
#ifndef TR_PROVIDERS_KEYCHAIN_H
#define TR_PROVIDERS_KEYCHAIN_H

#include "protocol/json.h"
#include "providers/keys.h"

typedef struct tr_keychain tr_keychain;

typedef struct tr_keychain_spec {
    const char *provider; /* its name */
    const char *kind;     /* a row of the catalog */
    const char *const *sources;
    size_t source_count;    /* 0 = store and catalog */
    const char *store_file; /* NULL = none */
} tr_keychain_spec;

/* Whether `text` names a source; else `ret_why` (>= 160 bytes) says what is expected. Pure. */
bool tr_key_source_valid(const char *text, char *ret_why, size_t why_size);

/* Copies the spec. TR_ERR_INVALID (a source; too many), TR_ERR_NOT_FOUND (the kind), TR_ERR_NOMEM.
 */
TR_MUST_USE tr_err tr_keychain_new(const tr_keychain_spec *spec, tr_keychain **ret);
void tr_keychain_free(tr_keychain *chain); /* NULL is fine */
/* Other sources, or the same: all are read anew, commands run again when a key is wanted, and no
 * key counts as refused any more. */
TR_MUST_USE tr_err tr_keychain_configure(tr_keychain *chain, const char *const *sources,
                                         size_t source_count);

typedef enum tr_keychain_answer {
    TR_KEYCHAIN_TAKEN,
    TR_KEYCHAIN_NONE,  /* no source has any */
    TR_KEYCHAIN_OUT,   /* every one is refused, or has been tried */
    TR_KEYCHAIN_AWAIT, /* a command must run first */
} tr_keychain_answer;

typedef struct tr_keychain_key {
    uint32_t id;
    bool bearer; /* a token in place of a key: goes as Bearer whatever the row says */
    uint16_t size;
    char text[TR_KEY_max + 1]; /* to be wiped */
} tr_keychain_key;

tr_keychain_answer tr_keychain_take(tr_keychain *chain, uint64_t now_us, const uint32_t *tried,
                                    size_t tried_count, tr_keychain_key *ret);
/* One key, whatever its state; false when it is gone. */
bool tr_keychain_take_one(tr_keychain *chain, uint32_t id, tr_keychain_key *ret);
/* The ids of all, at most `room`. */
size_t tr_keychain_ids(tr_keychain *chain, uint32_t *ret_ids, size_t room);
/* As in keys.h. */
void tr_keychain_refused(tr_keychain *chain, uint32_t id, uint64_t now_us);
void tr_keychain_limited(tr_keychain *chain, uint32_t id, uint64_t until_us);
void tr_keychain_fine(tr_keychain *chain, uint32_t id);
void tr_keychain_hide(tr_keychain *chain, char *text);
/* Milliseconds until a limited key is free again; 0 when some key is good. */
uint32_t tr_keychain_limited_ms(tr_keychain *chain, uint64_t now_us);

const char *tr_keychain_provider(const tr_keychain *chain);
/* Whether sources were configured: then a key is wanted, also where it is optional. */
bool tr_keychain_configured(tr_keychain *chain);
/* Whether some source has a key, or is a command that may print one. */
bool tr_keychain_has(tr_keychain *chain);
/* The variable that holds the key, or should; in `buf`. False: none of the sources is one. */
bool tr_keychain_variable(tr_keychain *chain, char *buf, size_t size);

/* For people. Where a key comes from: "key 2 of file:/k", or "" when it is gone. */
void tr_keychain_place(tr_keychain *chain, uint32_t id, char *buf, size_t size);
/* Why there is none: a clause a source. */
void tr_keychain_lacks(tr_keychain *chain, char *buf, size_t size);
/* That all are refused: how many, where from, and when they are tried again. */
void tr_keychain_is_out(tr_keychain *chain, uint64_t now_us, char *buf, size_t size);
/* Members "key" (present, missing, refused, not needed) and "keys" of the object that is open;
 * needs no key: `optional`. */
void tr_keychain_write(tr_keychain *chain, uint64_t now_us, bool optional, tr_jsonw *w);

/* For key_commands.h: the next command that is wanted, which runs from now on, with its ticket;
 * false when there is none. Then one `ran` with the ticket: what it printed, or `why` it failed. */
bool tr_keychain_wants_command(tr_keychain *chain, uint64_t now_us);
bool tr_keychain_next_command(tr_keychain *chain, uint64_t now_us,
                              char ret_command[TR_KEY_SOURCE_max + 1], uint32_t *ret_ticket);
void tr_keychain_ran(tr_keychain *chain, uint32_t ticket, tr_str printed, const char *why,
                     uint64_t now_us);
/* Whoever ran commands is gone: those that ran are wanted again. */
void tr_keychain_runner_lost(tr_keychain *chain);

#endif
