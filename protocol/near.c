/*
 * Near names, by the number of letters to change (Levenshtein). Called for faults only: by routing
 * for models and providers, by the configuration for keys and kinds.
 */
#include "protocol/near.h"

#include <stdio.h>
#include <string.h>

#define NEAR_max 3 /* names that are suggested */

/* At most `max` + 1. */
static size_t distance(tr_str a, tr_str b, size_t max) {
    size_t row[64];
    if (a.size > 60 || b.size > 60 || (a.size > b.size ? a.size - b.size : b.size - a.size) > max) {
        return max + 1;
    }
    for (size_t j = 0; j <= b.size; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a.size; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.size; j++) {
            size_t above = row[j];
            size_t best = corner + (a.ptr[i - 1] != b.ptr[j - 1]);
            best = above + 1 < best ? above + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            corner = above;
            row[j] = best;
        }
    }
    return row[b.size];
}

void tr_near_init(tr_near *near, tr_str wanted, char *out, size_t size) {
    *near = (tr_near){.wanted = wanted, .out = out, .size = size};
    out[0] = '\0';
}

void tr_near_consider(tr_near *near, const char *name) {
    tr_str other = {name, strlen(name)};
    size_t max = near->wanted.size < 4 ? 1 : near->wanted.size < 8 ? 2 : 3;
    bool begins = near->wanted.size >= 3 && strncmp(name, near->wanted.ptr, near->wanted.size) == 0;
    for (size_t more = 0; near->wanted.size >= 5 && !begins && more <= 1; more++) {
        tr_str start = {name, near->wanted.size + more};
        begins = start.size <= other.size && distance(near->wanted, start, 1) <= 1;
    }
    if (near->count == NEAR_max || !(begins || distance(near->wanted, other, max) <= max)) {
        return;
    }
    size_t room = near->size - near->used;
    int wrote = snprintf(near->out + near->used, room, "%s%s",
                         near->count == 0 ? "; did you mean " : " or ", name);
    if (wrote > 0 && (size_t)wrote < room) {
        near->used += (size_t)wrote;
        near->count++;
    } else {
        near->out[near->used] = '\0'; /* whole names only */
    }
}
