/*
 * Memory of small messages, kept by each shard's thread from one message to the next: most hops
 * then cost no malloc. Not while a test has its own memory table, and not under a sanitizer, which
 * must see every message end. Internal to runtime/.
 */
#ifndef TR_RUNTIME_MSG_CACHE_H
#define TR_RUNTIME_MSG_CACHE_H

/* The calling thread keeps message memory from now on; close gives it back, before it ends. */
void tri_msg_cache_open(void);
void tri_msg_cache_close(void);

#endif
