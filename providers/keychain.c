/*
 * The keychain. One mutex around a small object, because its owners live on several shards: a
 * message to one owner would cost every request two hops for what takes a microsecond, and copies a
 * shard would learn of a refused key one after the other. The mutex is held for a few hundred
 * bytes of work, and for reading a file when that has changed.
 *
 * Keys lie in pages that core dumps leave out (madvise(2), MADV_DONTDUMP) and are overwritten when
 * they go. What is handed out to send a request is a copy, which its taker wipes.
 *
 * Called by provider actors, the runner of commands, and the daemon at start and reload.
 */
#include "providers/keychain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "protocol/assert.h"
#include "providers/catalog.h"
#include "providers/keychain_internal.h"
#include "runtime/memory.h"

#define AGAIN_US 5000000U /* a command runs again after it, not sooner */

static const char *const prefixes[] = {
    [TRI_KEY_ENV] = "env:", [TRI_KEY_FILE] = "file:", [TRI_KEY_COMMAND] = "command:"};

static const char *env_text(const char *name) {
    const char *text = name == NULL ? NULL : getenv(name);
    return text == NULL || *text == '\0' ? NULL : text;
}

/* The kind and the text behind its prefix. */
static bool split(const char *text, tri_source_kind *ret_kind, const char **ret_name) {
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t size = strlen(prefixes[i]);
        if (strncmp(text, prefixes[i], size) == 0 && text[size] != '\0') {
            *ret_kind = (tri_source_kind)i;
            *ret_name = text + size;
            return true;
        }
    }
    return false;
}

bool tr_key_source_valid(const char *text, char *ret_why, size_t why_size) {
    tri_source_kind kind;
    const char *name;
    if (!split(text, &kind, &name)) {
        snprintf(ret_why, why_size,
                 "expected a reference env:NAME, file:/PATH or command:WORDS; keys themselves do "
                 "not belong in this file");
        return false;
    }
    if (strlen(name) > TR_KEY_SOURCE_max) {
        snprintf(ret_why, why_size, "a reference has at most %d bytes", TR_KEY_SOURCE_max);
        return false;
    }
    if (kind == TRI_KEY_ENV && (strpbrk(name, "= \t\n") != NULL || strlen(name) > 100)) {
        snprintf(ret_why, why_size, "this is no name of a variable");
        return false;
    }
    if (kind == TRI_KEY_FILE && name[0] != '/') {
        snprintf(ret_why, why_size, "file: expected a whole path, which begins with /");
        return false;
    }
    return true;
}

/* --- sources --- */

static void add_source(tr_keychain *chain, tri_source_kind kind, const char *name) {
    TR_ASSERT(chain->count < TR_KEY_SOURCES_max);
    tri_source *source = &chain->sources[chain->count++];
    *source = (tri_source){.kind = kind};
    snprintf(source->name, sizeof source->name, "%s", name);
}

static tr_err set_sources_locked(tr_keychain *chain, const char *const *sources, size_t count) {
    char why[160];
    if (count > TR_KEY_SOURCES_max) {
        return TR_ERR_INVALID;
    }
    for (size_t i = 0; i < count; i++) {
        if (!tr_key_source_valid(sources[i], why, sizeof why)) {
            return TR_ERR_INVALID;
        }
    }
    tr_keys_wipe(&chain->vault->keys);
    chain->count = 0;
    chain->configured = count > 0;
    for (size_t i = 0; i < count; i++) {
        tri_source_kind kind;
        const char *name;
        if (split(sources[i], &kind, &name)) {
            add_source(chain, kind, name);
        }
    }
    if (count == 0 && chain->store_file != NULL) {
        add_source(chain, TRI_KEY_FILE, chain->store_file);
        chain->sources[0].store = true;
    }
    for (size_t i = 0; count == 0 && i < sizeof chain->variables / sizeof *chain->variables; i++) {
        if (chain->variables[i] != NULL) {
            add_source(chain, TRI_KEY_ENV, chain->variables[i]);
        }
    }
    return TR_OK;
}

static void read_env(tr_keychain *chain, uint8_t index) {
    tri_source *source = &chain->sources[index];
    const char *text = env_text(source->name);
    tr_str key = {text, text != NULL ? strlen(text) : 0};
    /* A key read from a file often brings its line's end. */
    while (key.size > 0 && strchr("\n\r \t", key.ptr[key.size - 1]) != NULL) {
        key.size--;
    }
    bool valid = tr_key_valid(key);
    (void)tr_keys_set(&chain->vault->keys, index, &key, valid ? 1 : 0, false);
    if (!valid) {
        snprintf(source->why, sizeof source->why,
                 key.size > 0
                     ? "%.100s in the daemon's environment holds characters that no key has"
                     : "the daemon's environment lacks %.100s",
                 source->name);
    }
}

static void read_file(tr_keychain *chain, uint8_t index) {
    tri_source *source = &chain->sources[index];
    tr_key_stamp before = source->stamp;
    tr_str keys[TR_KEYS_max];
    size_t count = 0;
    char why[128];
    if (tr_key_file_same(source->name, &before)) {
        return;
    }
    tr_err err = tr_key_file_read(source->name, chain->vault->file, keys, TR_KEYS_max, &count,
                                  &source->stamp, why, sizeof why);
    source->why[0] = '\0';
    if (err != TR_OK) {
        count = 0;
        snprintf(source->why, sizeof source->why, "%s", why);
    } else if (count == 0) {
        snprintf(source->why, sizeof source->why, "it holds no key");
    }
    /* One that is only looked at once more, to be sure, has not changed. */
    bool afresh = before.inode != source->stamp.inode || before.size != source->stamp.size ||
                  before.changed_ns != source->stamp.changed_ns;
    if (!tr_keys_set(&chain->vault->keys, index, keys, count, afresh)) {
        snprintf(source->why, sizeof source->why, "with it there are more than %d keys",
                 TR_KEYS_max);
    }
    if (source->stamp.there) {
        explicit_bzero(chain->vault->file, sizeof chain->vault->file);
    }
}

void tri_keychain_refresh_locked(tr_keychain *chain) {
    bool found = false;
    for (uint8_t i = 0; i < (uint8_t)chain->count; i++) {
        tri_source *source = &chain->sources[i];
        source->idle = found && !chain->configured;
        if (source->idle) { /* another one has the keys already */
            (void)tr_keys_set(&chain->vault->keys, i, NULL, 0, false);
            source->stamp = (tr_key_stamp){0};
            continue;
        }
        switch (source->kind) {
        case TRI_KEY_ENV:
            source->why[0] = '\0';
            read_env(chain, i);
            break;
        case TRI_KEY_FILE:
            read_file(chain, i);
            break;
        case TRI_KEY_COMMAND:
            break;
        }
        found = found || tr_keys_of(&chain->vault->keys, i) > 0;
    }
}

/* --- life --- */

tr_err tr_keychain_new(const tr_keychain_spec *spec, tr_keychain **ret) {
    const tr_catalog_row *row = tr_catalog_find(spec->kind);
    if (row == NULL) {
        return TR_ERR_NOT_FOUND;
    }
    tr_keychain *chain = tr_zalloc(sizeof *chain);
    if (chain == NULL) {
        return TR_ERR_NOMEM;
    }
    pthread_mutex_init(&chain->chain_mtx, NULL);
    snprintf(chain->provider, sizeof chain->provider, "%s", spec->provider);
    chain->variables[0] = row->key_env_first;
    chain->variables[1] = row->key_env;
    chain->variables[2] = row->token_env;
    chain->token = row->token_env;
    tr_err err = TR_ERR_NOMEM;
    void *pages =
        mmap(NULL, sizeof(tri_vault), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages != MAP_FAILED) {
        (void)!madvise(pages, sizeof(tri_vault), MADV_DONTDUMP);
        chain->vault = pages;
        err = TR_OK;
    }
    if (err == TR_OK && spec->store_file != NULL) {
        chain->store_file = tr_strndup(spec->store_file, strlen(spec->store_file));
        err = chain->store_file != NULL ? TR_OK : TR_ERR_NOMEM;
    }
    if (err == TR_OK) {
        err = set_sources_locked(chain, spec->sources, spec->source_count);
    }
    if (err != TR_OK) {
        tr_keychain_free(chain);
        return err;
    }
    *ret = chain;
    return TR_OK;
}

void tr_keychain_free(tr_keychain *chain) {
    if (chain == NULL) {
        return;
    }
    if (chain->vault != NULL) {
        tr_keys_wipe(&chain->vault->keys);
        munmap(chain->vault, sizeof(tri_vault));
    }
    pthread_mutex_destroy(&chain->chain_mtx);
    tr_free(chain->store_file);
    tr_free(chain);
}

tr_err tr_keychain_configure(tr_keychain *chain, const char *const *sources, size_t source_count) {
    pthread_mutex_lock(&chain->chain_mtx);
    tr_err err = set_sources_locked(chain, sources, source_count);
    pthread_mutex_unlock(&chain->chain_mtx);
    return err;
}

/* --- taking --- */

static bool is_due(const tr_keychain *chain, uint8_t index, uint64_t now_us) {
    const tri_source *source = &chain->sources[index];
    bool empty = tr_keys_of(&chain->vault->keys, index) == 0;
    return source->kind == TRI_KEY_COMMAND &&
           (source->run == TRI_COMMAND_DUE ||
            (source->run == TRI_COMMAND_RAN && empty && now_us >= source->ran_us + AGAIN_US));
}

static bool may_bring_one(const tr_keychain *chain, uint64_t now_us) {
    for (uint8_t i = 0; i < (uint8_t)chain->count; i++) {
        const tri_source *source = &chain->sources[i];
        if (source->kind == TRI_KEY_COMMAND &&
            (source->run == TRI_COMMAND_RUNS || is_due(chain, i, now_us))) {
            return true;
        }
    }
    return false;
}

static void hand_out(const tr_keychain *chain, const tr_key *key, tr_keychain_key *ret) {
    const tri_source *source = &chain->sources[key->source];
    ret->id = key->id;
    ret->size = key->size;
    ret->bearer = source->kind == TRI_KEY_ENV && chain->token != NULL &&
                  strcmp(source->name, chain->token) == 0;
    memcpy(ret->text, key->text, (size_t)key->size + 1);
}

tr_keychain_answer tr_keychain_take(tr_keychain *chain, uint64_t now_us, const uint32_t *tried,
                                    size_t tried_count, tr_keychain_key *ret) {
    tr_keychain_answer answer = TR_KEYCHAIN_TAKEN;
    pthread_mutex_lock(&chain->chain_mtx);
    tri_keychain_refresh_locked(chain);
    tr_keys *keys = &chain->vault->keys;
    const tr_key *key = tr_keys_next(keys, now_us, tried, tried_count);
    if (key != NULL) {
        hand_out(chain, key, ret);
    } else if (may_bring_one(chain, now_us)) {
        answer = TR_KEYCHAIN_AWAIT;
    } else {
        answer = keys->count > 0 ? TR_KEYCHAIN_OUT : TR_KEYCHAIN_NONE;
    }
    pthread_mutex_unlock(&chain->chain_mtx);
    return answer;
}

bool tr_keychain_take_one(tr_keychain *chain, uint32_t id, tr_keychain_key *ret) {
    bool found = false;
    pthread_mutex_lock(&chain->chain_mtx);
    const tr_keys *keys = &chain->vault->keys;
    for (uint32_t i = 0; i < keys->count && !found; i++) {
        found = keys->list[i].id == id;
        if (found) {
            hand_out(chain, &keys->list[i], ret);
        }
    }
    pthread_mutex_unlock(&chain->chain_mtx);
    return found;
}

size_t tr_keychain_ids(tr_keychain *chain, uint32_t *ret_ids, size_t room) {
    size_t count = 0;
    pthread_mutex_lock(&chain->chain_mtx);
    tri_keychain_refresh_locked(chain);
    for (; count < chain->vault->keys.count && count < room; count++) {
        ret_ids[count] = chain->vault->keys.list[count].id;
    }
    pthread_mutex_unlock(&chain->chain_mtx);
    return count;
}

/* A command's key that was refused may have been exchanged where the command finds it. */
static void run_again_locked(tr_keychain *chain, uint32_t id, uint64_t now_us) {
    const tr_keys *keys = &chain->vault->keys;
    for (uint32_t i = 0; i < keys->count; i++) {
        tri_source *source = &chain->sources[keys->list[i].source];
        if (keys->list[i].id == id && source->run == TRI_COMMAND_RAN &&
            now_us >= source->ran_us + AGAIN_US) {
            source->run = TRI_COMMAND_DUE;
        }
    }
}

void tr_keychain_refused(tr_keychain *chain, uint32_t id, uint64_t now_us) {
    pthread_mutex_lock(&chain->chain_mtx);
    tr_keys_refused(&chain->vault->keys, id, now_us);
    run_again_locked(chain, id, now_us);
    pthread_mutex_unlock(&chain->chain_mtx);
}

void tr_keychain_limited(tr_keychain *chain, uint32_t id, uint64_t until_us) {
    pthread_mutex_lock(&chain->chain_mtx);
    tr_keys_limited(&chain->vault->keys, id, until_us);
    pthread_mutex_unlock(&chain->chain_mtx);
}

void tr_keychain_fine(tr_keychain *chain, uint32_t id) {
    pthread_mutex_lock(&chain->chain_mtx);
    tr_keys_fine(&chain->vault->keys, id);
    pthread_mutex_unlock(&chain->chain_mtx);
}

void tr_keychain_hide(tr_keychain *chain, char *text) {
    pthread_mutex_lock(&chain->chain_mtx);
    tr_keys_hide(&chain->vault->keys, text);
    pthread_mutex_unlock(&chain->chain_mtx);
}

uint32_t tr_keychain_limited_ms(tr_keychain *chain, uint64_t now_us) {
    pthread_mutex_lock(&chain->chain_mtx);
    const tr_keys *keys = &chain->vault->keys;
    uint32_t ms = tr_keys_in(keys, TR_KEY_GOOD, now_us) > 0
                      ? 0
                      : tr_keys_wait_ms(keys, TR_KEY_LIMITED, now_us);
    pthread_mutex_unlock(&chain->chain_mtx);
    return ms;
}

/* --- commands --- */

bool tr_keychain_wants_command(tr_keychain *chain, uint64_t now_us) {
    bool wants = false;
    pthread_mutex_lock(&chain->chain_mtx);
    for (uint8_t i = 0; i < (uint8_t)chain->count; i++) {
        wants = wants || is_due(chain, i, now_us);
    }
    pthread_mutex_unlock(&chain->chain_mtx);
    return wants;
}

bool tr_keychain_next_command(tr_keychain *chain, uint64_t now_us,
                              char ret_command[TR_KEY_SOURCE_max + 1], uint32_t *ret_ticket) {
    bool found = false;
    pthread_mutex_lock(&chain->chain_mtx);
    for (uint8_t i = 0; i < (uint8_t)chain->count && !found; i++) {
        found = is_due(chain, i, now_us);
        if (found) {
            tri_source *source = &chain->sources[i];
            source->run = TRI_COMMAND_RUNS;
            source->stamp.inode = ++chain->tickets; /* a command has no other stamp */
            *ret_ticket = chain->tickets;
            memcpy(ret_command, source->name, sizeof source->name);
        }
    }
    pthread_mutex_unlock(&chain->chain_mtx);
    return found;
}

static void took_output(tr_keychain *chain, uint8_t index, tr_str printed, const char *why) {
    tri_source *source = &chain->sources[index];
    tr_str keys[TR_KEYS_max];
    size_t count = 0;
    char reason[128];
    source->why[0] = '\0';
    if (why != NULL) { /* what it printed before is still the best there is */
        snprintf(source->why, sizeof source->why, "%s", why);
    } else if (tr_key_lines(printed.ptr, printed.size, keys, TR_KEYS_max, &count, reason,
                            sizeof reason) != TR_OK) {
        snprintf(source->why, sizeof source->why, "what it printed: %s", reason);
    } else if (count == 0) {
        snprintf(source->why, sizeof source->why, "it printed no key");
    } else if (!tr_keys_set(&chain->vault->keys, index, keys, count, false)) {
        snprintf(source->why, sizeof source->why, "with it there are more than %d keys",
                 TR_KEYS_max);
    }
}

void tr_keychain_ran(tr_keychain *chain, uint32_t ticket, tr_str printed, const char *why,
                     uint64_t now_us) {
    pthread_mutex_lock(&chain->chain_mtx);
    for (uint8_t i = 0; i < (uint8_t)chain->count; i++) {
        tri_source *source = &chain->sources[i];
        /* Another ticket: the sources were configured anew while it ran. */
        if (source->run == TRI_COMMAND_RUNS && source->stamp.inode == ticket) {
            source->run = TRI_COMMAND_RAN;
            source->ran_us = now_us;
            took_output(chain, i, printed, why);
        }
    }
    pthread_mutex_unlock(&chain->chain_mtx);
}

void tr_keychain_runner_lost(tr_keychain *chain) {
    pthread_mutex_lock(&chain->chain_mtx);
    for (size_t i = 0; i < chain->count; i++) {
        if (chain->sources[i].run == TRI_COMMAND_RUNS) {
            chain->sources[i].run = TRI_COMMAND_DUE;
        }
    }
    pthread_mutex_unlock(&chain->chain_mtx);
}
