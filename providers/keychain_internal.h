/* What a keychain is made of; shared by keychain.c and keychain_words.c. Internal to them. */
#ifndef TR_PROVIDERS_KEYCHAIN_INTERNAL_H
#define TR_PROVIDERS_KEYCHAIN_INTERNAL_H

#include <pthread.h>

#include "providers/key_file.h"
#include "providers/keychain.h"

typedef enum tri_source_kind { TRI_KEY_ENV, TRI_KEY_FILE, TRI_KEY_COMMAND } tri_source_kind;
typedef enum tri_command_state { TRI_COMMAND_DUE, TRI_COMMAND_RUNS, TRI_COMMAND_RAN } tri_run_state;

typedef struct tri_source {
    tri_source_kind kind;
    bool store;                       /* the store's file: no fault when it is not there */
    bool idle;                        /* one before it has the keys */
    char name[TR_KEY_SOURCE_max + 1]; /* variable, path or command */
    char why[192];                    /* it has no key, or not all of them */
    tr_key_stamp stamp;               /* of a file; a command that runs has its ticket as inode */
    tri_run_state run;
    uint64_t ran_us;
} tri_source;

/* In pages of their own, which no core dump holds. */
typedef struct tri_vault {
    tr_keys keys;
    char file[TR_KEY_FILE_max + 1];
} tri_vault;

struct tr_keychain {
    /* set at init */
    char provider[TR_NAME_max + 1];
    const char *variables[3]; /* the catalog's, the first that is set counts; NULL = none */
    const char *token;        /* the one of them that holds a token */
    char *store_file;
    /* guarded by chain_mtx */
    pthread_mutex_t chain_mtx;
    tri_vault *vault;
    bool configured;
    size_t count;
    uint32_t tickets; /* so many commands have been begun */
    tri_source sources[TR_KEY_SOURCES_max];
};

/* Under the mutex: brings the ring up to date. */
void tri_keychain_refresh_locked(tr_keychain *chain);
/* The source as people write it, a command cut to its first word: the others may be secret. */
void tri_keychain_name(const tri_source *source, char *buf, size_t size);

#endif
