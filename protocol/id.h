/*
 * Actor ids: where an actor lives and which life it is. Never a pointer, so an id may be kept after
 * its actor is gone: a message to it is dropped and a monitor answers at once. A slot's generation
 * grows with each life and is never 0, so TR_ID_NONE is no actor.
 *
 *     63      56 55      48 47                    24 23                     0
 *     +---------+---------+------------------------+------------------------+
 *     |  node   |  shard  |          slot          |       generation       |
 *     +---------+---------+------------------------+------------------------+
 */
#ifndef TR_PROTOCOL_ID_H
#define TR_PROTOCOL_ID_H

#include <stdint.h>

typedef uint64_t tr_id;

#define TR_ID_NONE ((tr_id)0)
#define TR_ID_FMT_size 40 /* what tr_id_format writes at most, its NUL included */

static inline tr_id tr_id_make(uint32_t node, uint32_t shard, uint32_t slot, uint32_t generation) {
    return ((tr_id)(node & 0xffU) << 56) | ((tr_id)(shard & 0xffU) << 48) |
           ((tr_id)(slot & 0xffffffU) << 24) | (generation & 0xffffffU);
}

static inline uint32_t tr_id_node(tr_id id) {
    return (uint32_t)(id >> 56);
}

static inline uint32_t tr_id_shard(tr_id id) {
    return (uint32_t)(id >> 48) & 0xffU;
}

static inline uint32_t tr_id_slot(tr_id id) {
    return (uint32_t)(id >> 24) & 0xffffffU;
}

static inline uint32_t tr_id_generation(tr_id id) {
    return (uint32_t)id & 0xffffffU;
}

/* Writes "<node.shard.slot.generation>" as people and logs see it. Returns `buf`. Any thread. */
const char *tr_id_format(tr_id id, char buf[TR_ID_FMT_size]);

#endif
