/*
 * Planted bugs, for the simulator's own test: a simulation that does not find them proves nothing.
 * They exist only in builds with TROUPE_PLANTED_BUGS; elsewhere TR_PLANTED is the constant false.
 */
#ifndef TR_RUNTIME_PLANTED_H
#define TR_RUNTIME_PLANTED_H

typedef enum tr_planted_bug {
    TR_BUG_NONE,
    TR_BUG_LOST_WAKE,       /* a shard sleeps without looking at its inbox once more */
    TR_BUG_SECOND_TERMINAL, /* a door forgets that it has answered, and answers again */
    TR_BUG_SLOT_LEAK,       /* a limiter keeps the slot of a call that did not end well */
    TR_BUG_N
} tr_planted_bug;

#ifdef TR_PLANTED_BUGS
extern tr_planted_bug tr_planted_bug_now;
#define TR_PLANTED(bug) (tr_planted_bug_now == (bug))
#else
#define TR_PLANTED(bug) 0
#endif

#endif
