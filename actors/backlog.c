/*
 * What is unread is known only as one sum, the link's pending bytes, and a stream that has ended
 * leaves no row behind. So bytes are counted in epochs: an epoch is over when all that was queued
 * before it has been written; then what the epoch before it had queued no longer waits. The two
 * counts together are never less than what waits of their sort, and soon forget what is read.
 * Called by connection.c for each frame, on its shard.
 */
#include "actors/backlog.h"

#include "protocol/limits.h"

/* A DELTA's frame is at most twice what it pays: its header is no longer than its fixed part. */
#define FRAME_PER_CREDIT 2U

void tr_backlog_grant(tr_backlog *b, tr_backlog_stream *stream, uint32_t bytes) {
    stream->open += bytes;
    if (stream->open > TR_CREDIT_BYTES_max) {
        stream->open = TR_CREDIT_BYTES_max;
    }
    if (stream->open > stream->window) {
        b->windows += stream->open - stream->window;
        stream->window = stream->open;
    }
}

void tr_backlog_queued(tr_backlog *b, tr_backlog_stream *stream, size_t size, size_t credit,
                       size_t pending) {
    if (b->queued + size - pending >= b->mark) {
        b->plain[1] = b->plain[0];
        b->ended[1] = b->ended[0];
        b->plain[0] = 0;
        b->ended[0] = 0;
        b->mark = b->queued;
    }
    b->queued += size;
    if (stream == NULL) {
        b->plain[0] += size;
    } else {
        stream->sent += size;
        stream->open -= credit < stream->open ? credit : stream->open;
    }
}

void tr_backlog_ended(tr_backlog *b, const tr_backlog_stream *stream) {
    uint64_t may = stream->window * FRAME_PER_CREDIT;
    b->windows -= stream->window;
    b->ended[0] += stream->sent < may ? stream->sent : may;
}

bool tr_backlog_exceeds(const tr_backlog *b, size_t pending) {
    if (pending <= TR_BACKLOG_ALLOWANCE) {
        return false;
    }
    uint64_t ended = b->ended[0] + b->ended[1];
    ended = ended < TR_BACKLOG_ENDED_max ? ended : TR_BACKLOG_ENDED_max;
    return b->plain[0] + b->plain[1] > TR_BACKLOG_ALLOWANCE ||
           pending > TR_BACKLOG_ALLOWANCE + b->windows * FRAME_PER_CREDIT + ended;
}
