/*
 * Who is due first: a binary heap of entries that lie in what they belong to, so that any of them
 * can be taken out again. For deadlines of those who wait. One thread.
 */
#ifndef TR_RUNTIME_DUES_H
#define TR_RUNTIME_DUES_H

#include <stdint.h>

#include "protocol/err.h"

typedef struct tr_due {
    uint64_t us;
    uint32_t place; /* the heap's */
} tr_due;

/* Zeroed, it is empty. */
typedef struct tr_dues {
    tr_due **heap;
    uint32_t count, room;
} tr_dues;

/* `due->us` is set before. TR_ERR_NOMEM: it is not in the heap. */
TR_MUST_USE tr_err tr_dues_add(tr_dues *dues, tr_due *due);
/* Of one that is in the heap. */
void tr_dues_remove(tr_dues *dues, tr_due *due);
/* The earliest; NULL = the heap is empty. */
tr_due *tr_dues_first(const tr_dues *dues);
void tr_dues_fini(tr_dues *dues);

#endif
