/*
 * The ring of keys.h. An array in the sources' order, small enough to be searched from one end to
 * the other; a turn is the place after the key that was used last. A refused key is not thrown
 * away: a server may refuse for other reasons than the key, so it is tried again by one request
 * after a rest that doubles, and a request that meets a refusal goes on with the next key and loses
 * a round trip, no more.
 *
 * Called by keychain.c under its mutex, and by tests; pure.
 */
#include "providers/keys.h"

#include <string.h>

#define HIDDEN_min 8  /* a shorter text would be found in innocent words */
#define HIDDEN_cut 12 /* as much of a key's beginning is hidden where the rest is missing */

bool tr_key_valid(tr_str text) {
    for (size_t i = 0; i < text.size; i++) {
        if ((unsigned char)text.ptr[i] <= ' ' || (unsigned char)text.ptr[i] >= 0x7f) {
            return false;
        }
    }
    return text.size > 0 && text.size <= TR_KEY_max;
}

static bool is_text(const tr_key *key, tr_str text) {
    return key->size == text.size && memcmp(key->text, text.ptr, text.size) == 0;
}

static void take_out(tr_keys *keys, uint32_t at) {
    for (uint32_t i = at; i + 1 < keys->count; i++) {
        keys->list[i] = keys->list[i + 1];
    }
    keys->count--;
    explicit_bzero(&keys->list[keys->count], sizeof keys->list[0]);
    keys->turn -= keys->turn > at ? 1 : 0;
}

static void put_in(tr_keys *keys, uint32_t at, uint8_t source, tr_str text) {
    for (uint32_t i = keys->count; i > at; i--) {
        keys->list[i] = keys->list[i - 1];
    }
    keys->count++;
    keys->turn += keys->turn > at ? 1 : 0;
    tr_key *key = &keys->list[at];
    explicit_bzero(key, sizeof *key);
    key->id = ++keys->serial;
    key->source = source;
    key->size = (uint16_t)text.size;
    memcpy(key->text, text.ptr, text.size);
}

static bool among(const tr_key *key, const tr_str *texts, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (is_text(key, texts[i])) {
            return true;
        }
    }
    return false;
}

static bool has(const tr_keys *keys, uint8_t source, tr_str text) {
    for (uint32_t i = 0; i < keys->count; i++) {
        if (keys->list[i].source == source && is_text(&keys->list[i], text)) {
            return true;
        }
    }
    return false;
}

bool tr_keys_set(tr_keys *keys, uint8_t source, const tr_str *texts, size_t count, bool afresh) {
    bool whole = true;
    for (uint32_t i = keys->count; i > 0; i--) {
        tr_key *key = &keys->list[i - 1];
        if (key->source == source && (afresh || !among(key, texts, count))) {
            take_out(keys, i - 1);
        }
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t at = 0;
        if (has(keys, source, texts[i])) {
            continue;
        }
        while (at < keys->count && keys->list[at].source <= source) {
            at++;
        }
        if (keys->count == TR_KEYS_max) {
            whole = false;
        } else {
            put_in(keys, at, source, texts[i]);
        }
    }
    return whole;
}

size_t tr_keys_of(const tr_keys *keys, uint8_t source) {
    size_t count = 0;
    for (uint32_t i = 0; i < keys->count; i++) {
        count += keys->list[i].source == source;
    }
    return count;
}

static bool was_tried(const tr_key *key, const uint32_t *tried, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (tried[i] == key->id) {
            return true;
        }
    }
    return false;
}

static uint64_t rest_us(const tr_key *key) {
    uint64_t ms = TR_KEY_REST_MS_min;
    for (uint32_t i = 1; i < key->refusals && ms < TR_KEY_REST_MS_max; i++) {
        ms *= 2;
    }
    return (ms < TR_KEY_REST_MS_max ? ms : TR_KEY_REST_MS_max) * 1000;
}

const tr_key *tr_keys_next(tr_keys *keys, uint64_t now_us, const uint32_t *tried,
                           size_t tried_count) {
    tr_key *soonest = NULL;
    for (uint32_t n = 0; n < keys->count; n++) {
        uint32_t at = (keys->turn + n) % keys->count;
        tr_key *key = &keys->list[at];
        if (was_tried(key, tried, tried_count)) {
            continue;
        }
        if (keys->count == 1) {
            key->probed = true;
            return key; /* nobody is served by leaving it out; the server says best what is wrong */
        }
        if (key->state == TR_KEY_GOOD || key->until_us <= now_us) {
            keys->turn = (at + 1) % keys->count;
            if (key->state == TR_KEY_REFUSED) {
                key->probed = true;
                key->until_us = now_us + rest_us(key); /* the next request does not try it too */
            } else {
                key->state = TR_KEY_GOOD;
            }
            return key;
        }
        if (key->state == TR_KEY_LIMITED &&
            (soonest == NULL || key->until_us < soonest->until_us)) {
            soonest = key;
        }
    }
    return tried_count == 0 ? soonest : NULL;
}

static tr_key *find(tr_keys *keys, uint32_t id) {
    for (uint32_t i = 0; i < keys->count; i++) {
        if (keys->list[i].id == id) {
            return &keys->list[i];
        }
    }
    return NULL;
}

void tr_keys_refused(tr_keys *keys, uint32_t id, uint64_t now_us) {
    tr_key *key = find(keys, id);
    /* Many requests may have been under way with it: their refusals are one. */
    if (key != NULL && (key->state != TR_KEY_REFUSED || key->probed)) {
        key->refusals++;
        key->probed = false;
        key->state = TR_KEY_REFUSED;
        key->until_us = now_us + rest_us(key);
    }
}

void tr_keys_limited(tr_keys *keys, uint32_t id, uint64_t until_us) {
    tr_key *key = find(keys, id);
    if (key != NULL && key->state != TR_KEY_REFUSED &&
        (key->state == TR_KEY_GOOD || until_us > key->until_us)) {
        key->state = TR_KEY_LIMITED;
        key->until_us = until_us;
    }
}

void tr_keys_fine(tr_keys *keys, uint32_t id) {
    tr_key *key = find(keys, id);
    if (key != NULL && key->state == TR_KEY_REFUSED) {
        key->state = TR_KEY_GOOD;
        key->refusals = 0;
        key->probed = false;
    }
}

void tr_keys_forgive(tr_keys *keys) {
    for (uint32_t i = 0; i < keys->count; i++) {
        keys->list[i].state = TR_KEY_GOOD;
        keys->list[i].refusals = 0;
        keys->list[i].probed = false;
    }
}

static tr_key_state state_at(const tr_key *key, uint64_t now_us) {
    return key->state == TR_KEY_LIMITED && key->until_us <= now_us ? TR_KEY_GOOD : key->state;
}

size_t tr_keys_in(const tr_keys *keys, tr_key_state state, uint64_t now_us) {
    size_t count = 0;
    for (uint32_t i = 0; i < keys->count; i++) {
        count += state_at(&keys->list[i], now_us) == state;
    }
    return count;
}

uint32_t tr_keys_wait_ms(const tr_keys *keys, tr_key_state state, uint64_t now_us) {
    uint64_t least_us = 0;
    for (uint32_t i = 0; i < keys->count; i++) {
        const tr_key *key = &keys->list[i];
        if (state_at(key, now_us) == state && state != TR_KEY_GOOD) {
            uint64_t left_us = key->until_us > now_us ? key->until_us - now_us : 1;
            least_us = least_us == 0 || left_us < least_us ? left_us : least_us;
        }
    }
    uint64_t ms = (least_us + 999) / 1000;
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

static size_t hidden_at(const tr_key *key, const char *at) {
    size_t size = 0;
    while (size < key->size && at[size] == key->text[size]) {
        size++;
    }
    bool enough = size == key->size ? size >= HIDDEN_min : size >= HIDDEN_cut;
    return enough ? size : 0;
}

void tr_keys_hide(const tr_keys *keys, char *text) {
    while (*text != '\0') {
        size_t most = 0;
        for (uint32_t i = 0; i < keys->count; i++) {
            size_t size = hidden_at(&keys->list[i], text);
            most = size > most ? size : most;
        }
        memset(text, '*', most);
        text += most > 0 ? most : 1;
    }
}

void tr_keys_wipe(tr_keys *keys) {
    uint32_t serial = keys->serial;
    explicit_bzero(keys, sizeof *keys);
    keys->serial = serial;
}
