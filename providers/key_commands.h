/*
 * The runner of commands that print keys: one actor, registered as "keys". Whoever waits for a key
 * (TR_KEYCHAIN_AWAIT) sends WANTED with the provider's name and gets CAME when its commands have
 * run, well or not; the keys are in the keychain then.
 */
#ifndef TR_PROVIDERS_KEY_COMMANDS_H
#define TR_PROVIDERS_KEY_COMMANDS_H

#include "providers/keychain.h"
#include "runtime/process.h"
#include "runtime/supervisor.h"

enum {
    TR_KIND_KEYS_WANTED = 102, /* data = the provider's name; ref */
    TR_KIND_KEYS_CAME = 103,   /* the answer: ref */
};

#define TR_KEY_COMMANDS_NAME "keys"

typedef struct tr_key_commands_args {
    tr_process_table *processes;
    tr_keychain *const *chains; /* outlive the actor */
    size_t chain_count;
} tr_key_commands_args;

extern const tr_behaviour tr_key_commands; /* args: tr_key_commands_args */
tr_child_spec tr_key_commands_child(const tr_key_commands_args *args);

/* NULL when out of memory. */
tr_msg *tr_keys_wanted_msg(const char *provider, uint64_t ref);

#endif
