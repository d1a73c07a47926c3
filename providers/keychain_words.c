/*
 * What is told of a keychain: to people in sentences, to `troupe status` as JSON. Never a key nor a
 * part of one: a key is named by its number in its source, and of a command only the first word is
 * shown, since others may stand in it for secrets.
 *
 * Called by provider actors and by the daemon's report; any thread.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "providers/keychain_internal.h"

static void add(char *buf, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void add(char *buf, size_t size, const char *format, ...) {
    size_t used = strlen(buf);
    va_list args;
    va_start(args, format);
    vsnprintf(buf + used, size - used, format, args);
    va_end(args);
}

void tri_keychain_name(const tri_source *source, char *buf, size_t size) {
    switch (source->kind) {
    case TRI_KEY_ENV:
        snprintf(buf, size, "env:%s", source->name);
        break;
    case TRI_KEY_FILE:
        snprintf(buf, size, "file:%s", source->name);
        break;
    case TRI_KEY_COMMAND: {
        size_t word = strcspn(source->name, " \t");
        bool plain = memchr(source->name, '=', word) == NULL && word < 64;
        snprintf(buf, size, "command:%.*s%s", plain ? (int)word : 0, source->name,
                 plain && source->name[word] == '\0' ? "" : " ...");
        break;
    }
    }
}

const char *tr_keychain_provider(const tr_keychain *chain) {
    return chain->provider;
}

bool tr_keychain_configured(tr_keychain *chain) {
    pthread_mutex_lock(&chain->chain_mtx);
    bool configured = chain->configured;
    pthread_mutex_unlock(&chain->chain_mtx);
    return configured;
}

bool tr_keychain_has(tr_keychain *chain) {
    pthread_mutex_lock(&chain->chain_mtx);
    tri_keychain_refresh_locked(chain);
    bool has = chain->vault->keys.count > 0;
    for (size_t i = 0; i < chain->count; i++) {
        const tri_source *source = &chain->sources[i];
        has = has || (source->kind == TRI_KEY_COMMAND && source->run != TRI_COMMAND_RAN);
    }
    pthread_mutex_unlock(&chain->chain_mtx);
    return has;
}

/* The variable that has the key; else, of those that could, the catalog's own. */
static const tri_source *variable_of(const tr_keychain *chain) {
    const tri_source *first = NULL;
    for (uint8_t i = 0; i < (uint8_t)chain->count; i++) {
        const tri_source *source = &chain->sources[i];
        bool own = chain->configured || source->name[0] == '\0' || chain->variables[1] == NULL ||
                   strcmp(source->name, chain->variables[1]) == 0;
        if (source->kind == TRI_KEY_ENV && tr_keys_of(&chain->vault->keys, i) > 0) {
            return source;
        }
        if (source->kind == TRI_KEY_ENV && own && first == NULL) {
            first = source;
        }
    }
    return first;
}

bool tr_keychain_variable(tr_keychain *chain, char *buf, size_t size) {
    pthread_mutex_lock(&chain->chain_mtx);
    tri_keychain_refresh_locked(chain);
    const tri_source *source = variable_of(chain);
    snprintf(buf, size, "%s", source != NULL ? source->name : "");
    pthread_mutex_unlock(&chain->chain_mtx);
    return source != NULL;
}

void tr_keychain_place(tr_keychain *chain, uint32_t id, char *buf, size_t size) {
    char name[TR_KEY_SOURCE_max + 16];
    buf[0] = '\0';
    pthread_mutex_lock(&chain->chain_mtx);
    const tr_keys *keys = &chain->vault->keys;
    unsigned number = 1;
    for (uint32_t i = 0; i < keys->count; i++) {
        number = i > 0 && keys->list[i].source == keys->list[i - 1].source ? number + 1 : 1;
        if (keys->list[i].id == id) {
            const tri_source *source = &chain->sources[keys->list[i].source];
            tri_keychain_name(source, name, sizeof name);
            if (source->kind == TRI_KEY_ENV) {
                snprintf(buf, size, "the key of %s", name);
            } else {
                snprintf(buf, size, "key %u of %s", number, name);
            }
        }
    }
    pthread_mutex_unlock(&chain->chain_mtx);
}

void tr_keychain_lacks(tr_keychain *chain, char *buf, size_t size) {
    char name[TR_KEY_SOURCE_max + 16];
    buf[0] = '\0';
    pthread_mutex_lock(&chain->chain_mtx);
    for (uint8_t i = 0; i < (uint8_t)chain->count; i++) {
        const tri_source *source = &chain->sources[i];
        if (source->why[0] != '\0' && source->kind == TRI_KEY_ENV) {
            add(buf, size, "%s%s", buf[0] != '\0' ? "; " : "", source->why);
        } else if (source->why[0] != '\0' && !source->store) {
            tri_keychain_name(source, name, sizeof name);
            add(buf, size, "%s%s: %s", buf[0] != '\0' ? "; " : "", name, source->why);
        }
    }
    pthread_mutex_unlock(&chain->chain_mtx);
}

void tr_keychain_is_out(tr_keychain *chain, uint64_t now_us, char *buf, size_t size) {
    char name[TR_KEY_SOURCE_max + 16];
    pthread_mutex_lock(&chain->chain_mtx);
    const tr_keys *keys = &chain->vault->keys;
    size_t refused = tr_keys_in(keys, TR_KEY_REFUSED, now_us);
    uint32_t ms = tr_keys_wait_ms(keys, TR_KEY_REFUSED, now_us);
    snprintf(buf, size, refused == keys->count ? "%s%zu key%s refused (" : "%s%zu keys%s left (",
             refused == keys->count && keys->count > 1 ? "all "
             : refused == keys->count                  ? "the "
                                                       : "none of ",
             (size_t)keys->count,
             refused != keys->count ? " is"
             : keys->count > 1      ? "s were"
                                    : " was");
    const char *gap = "";
    for (uint8_t i = 0; i < (uint8_t)chain->count; i++) {
        size_t count = tr_keys_of(keys, i);
        if (count > 0) {
            tri_keychain_name(&chain->sources[i], name, sizeof name);
            add(buf, size, "%s%zu of %s", gap, count, name);
            gap = ", ";
        }
    }
    add(buf, size, ")");
    if (ms > 0) {
        add(buf, size,
            "; tried again in %u s, when its source changes, and when the daemon reads its "
            "configuration again (SIGHUP)",
            (unsigned)((ms + 999) / 1000));
    }
    pthread_mutex_unlock(&chain->chain_mtx);
}

static void write_source(const tr_keychain *chain, uint8_t index, uint64_t now_us, tr_jsonw *w) {
    const tri_source *source = &chain->sources[index];
    const tr_keys *keys = &chain->vault->keys;
    char name[TR_KEY_SOURCE_max + 16];
    size_t refused = 0;
    size_t limited = 0;
    for (uint32_t i = 0; i < keys->count; i++) {
        const tr_key *key = &keys->list[i];
        refused += key->source == index && key->state == TR_KEY_REFUSED;
        limited += key->source == index && key->state == TR_KEY_LIMITED && key->until_us > now_us;
    }
    tri_keychain_name(source, name, sizeof name);
    bool waits = source->kind == TRI_KEY_COMMAND && source->run != TRI_COMMAND_RAN;
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "source");
    tr_jsonw_text(w, name);
    tr_jsonw_name(w, "count");
    tr_jsonw_uint(w, tr_keys_of(keys, index));
    tr_jsonw_name(w, "refused");
    tr_jsonw_uint(w, refused);
    tr_jsonw_name(w, "limited");
    tr_jsonw_uint(w, limited);
    if (source->why[0] != '\0' || waits) {
        tr_jsonw_name(w, "why");
        tr_jsonw_text(w, source->why[0] != '\0'            ? source->why
                         : source->run == TRI_COMMAND_RUNS ? "it runs"
                                                           : "it runs when a key is wanted");
    }
    tr_jsonw_close(w, '}');
}

void tr_keychain_write(tr_keychain *chain, uint64_t now_us, bool optional, tr_jsonw *w) {
    pthread_mutex_lock(&chain->chain_mtx);
    tri_keychain_refresh_locked(chain);
    const tr_keys *keys = &chain->vault->keys;
    const tri_source *variable = variable_of(chain);
    bool commands = false;
    for (size_t i = 0; i < chain->count; i++) {
        commands = commands || (chain->sources[i].kind == TRI_KEY_COMMAND &&
                                chain->sources[i].run != TRI_COMMAND_RAN);
    }
    tr_jsonw_name(w, "key_env");
    tr_jsonw_text(w, variable != NULL ? variable->name : NULL);
    tr_jsonw_name(w, "key");
    bool refused = keys->count > 0 && tr_keys_in(keys, TR_KEY_REFUSED, now_us) == keys->count;
    tr_jsonw_text(w, refused                       ? "refused"
                     : keys->count > 0 || commands ? "present"
                     : optional                    ? "not needed"
                                                   : "missing");
    tr_jsonw_name(w, "keys");
    tr_jsonw_open(w, '[');
    for (uint8_t i = 0; i < (uint8_t)chain->count; i++) {
        const tri_source *source = &chain->sources[i];
        if (tr_keys_of(keys, i) > 0 || chain->configured ||
            (source->store && source->why[0] != '\0' && source->stamp.there)) {
            write_source(chain, i, now_us, w);
        }
    }
    tr_jsonw_close(w, ']');
    pthread_mutex_unlock(&chain->chain_mtx);
}
