/*
 * The dialect of Anthropic's Messages API, and of servers that speak it: chat and the counting of
 * tokens. What it maps and what it refuses stands in docs/providers.md. Source:
 * docs.anthropic.com/en/api/messages, and recorded answers.
 */
#ifndef TR_PROVIDERS_ANTHROPIC_H
#define TR_PROVIDERS_ANTHROPIC_H

#include "providers/dialect.h"

extern const tr_dialect tr_dialect_anthropic;

#endif
