/*
 * The dialect of Anthropic's Messages API, and of servers that speak it: chat and the counting of
 * tokens. What it maps and what it refuses stands in docs/providers.md. Source:
 * docs.anthropic.com/en/api/messages, and recorded answers.
 */
#ifndef TR_PROVIDERS_ANTHROPIC_H
#define TR_PROVIDERS_ANTHROPIC_H

#include "providers/dialect.h"

/* What an answer hands on, and its message brings back: the blocks that are neither text nor tool
 * calls; and what an answer says only once. */
#define TR_ANTHROPIC_BLOCKS "content_blocks"
#define TR_ANTHROPIC_FACTS                                                                         \
    "stop_reason", "stop_sequence", "stop_details", "container", "cache_creation_input_tokens"

extern const tr_dialect tr_dialect_anthropic;

#endif
