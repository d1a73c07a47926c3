/*
 * How much may wait for a client that does not read. Whatever is queued for it must be justified:
 * DELTAs by the windows of its streams (the most credit that a stream had open at one time: who
 * grants more only after reading never has more than that unread), of those that have ended by what
 * they sent, and everything else (terminals, refusals, PONGs) by a fixed allowance. Part of a
 * connection's state; no memory of its own.
 */
#ifndef TR_ACTORS_BACKLOG_H
#define TR_ACTORS_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TR_BACKLOG_ALLOWANCE (4U * 1024 * 1024) /* without credit */
#define TR_BACKLOG_ENDED_max (64U * 1024 * 1024)

/* Of one stream, in bytes of credit. Zeroed at its start. */
typedef struct tr_backlog_stream {
    uint64_t open;   /* granted and not used */
    uint64_t window; /* the most that was open */
    uint64_t sent;   /* bytes of its DELTAs' frames */
} tr_backlog_stream;

/* Zeroed at the start. */
typedef struct tr_backlog {
    uint64_t queued; /* bytes of all frames so far */
    uint64_t mark;   /* `queued` when this epoch began: written up to there, the next begins */
    uint64_t windows;
    /* bytes queued in this epoch and in the one before; what is older has been written */
    uint64_t plain[2];
    uint64_t ended[2]; /* of streams that ended then */
} tr_backlog;

/* Credit of SUBMIT or CREDIT. */
void tr_backlog_grant(tr_backlog *b, tr_backlog_stream *stream, uint32_t bytes);
/* A frame of `size` bytes was queued, after which `pending` wait; `credit` of it was paid for by
 * `stream`, or that is NULL. */
void tr_backlog_queued(tr_backlog *b, tr_backlog_stream *stream, size_t size, size_t credit,
                       size_t pending);
void tr_backlog_ended(tr_backlog *b, const tr_backlog_stream *stream);
/* Whether more waits than is justified. */
bool tr_backlog_exceeds(const tr_backlog *b, size_t pending);

#endif
