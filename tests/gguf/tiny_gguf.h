/*
 * Models small enough to be written at test time (under a megabyte), with answers that a test can
 * state. Vocabulary: every byte, each printable ASCII character, the chatml control tokens.
 *
 * A chain answers "abcdefghijklmnopqrstuvwxyz" and ends, at temperature 0; led by a grammar or by
 * resumed tokens to '0' it counts "0123456789" round and round without end, and to 'A' it goes on
 * with "é€B" (bytes, five tokens and one) and ends. Random weights give text that depends on all
 * that was before, and never end.
 */
#ifndef TR_TESTS_TINY_GGUF_H
#define TR_TESTS_TINY_GGUF_H

#include <stdbool.h>
#include <stdint.h>

typedef enum tr_tiny_kind { TR_TINY_CHAIN, TR_TINY_RANDOM } tr_tiny_kind;

typedef struct tr_tiny_spec {
    tr_tiny_kind kind;
    uint32_t seed;
    const char *chat_template; /* NULL = chatml's; "" = none */
} tr_tiny_spec;

bool tr_tiny_gguf_write(const tr_tiny_spec *spec, const char *file);

/* The token of a printable ASCII character or of a blank. */
int32_t tr_tiny_token(char c);

#endif
