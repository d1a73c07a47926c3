/*
 * How many tokens a prompt has, estimated where nobody counts them exactly: before a request goes
 * to a provider (a limiter's reservation), and where a provider has no counting endpoint. No
 * tokenizer: a text's letters, digits, ideographs and signs are counted by what they cost on
 * average in the vocabularies of current models. Pure; any thread; one pass, no memory.
 *
 * Error, against the usage that providers reported for prompts whose text was at hand, most of them
 * English (tests/unit/protocol/test_tokens.c): within a quarter. Other scripts, tools and images
 * were not measured, and are rougher: a provider adds instructions of its own to tools (some
 * hundreds of tokens) and scales images.
 */
#ifndef TR_PROTOCOL_TOKENS_H
#define TR_PROTOCOL_TOKENS_H

#include "protocol/wire.h"

/* An image, whatever its size; one whose detail is "low". */
#define TR_TOKENS_OF_IMAGE 800U
#define TR_TOKENS_OF_LOW_IMAGE 85U
/* Bytes of an answer that are a token, where it went by and only its size is known. */
#define TR_TOKENS_BYTES 4U

/* Of a UTF-8 text alone. */
uint64_t tr_tokens_of_text(tr_str text);
/* Of a request's body as chat.h reads it: messages, tools, the answer's schema, or the inputs of an
 * embed request. Of what is no such JSON, what was understood of it. At least 1. */
uint64_t tr_tokens_of_body(const char *body, size_t size);

#endif
