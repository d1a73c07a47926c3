/*
 * The command line of a program, written as a text. It is split into words here and never goes
 * through a shell: blanks divide words, "…" and '…' keep them together, \ takes the next character
 * as it is (not within '…'). Then {model}, {port} and the like in a word become their values, which
 * are never split. Pure, but for tr_command_find.
 */
#ifndef TR_ACTORS_COMMAND_H
#define TR_ACTORS_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/err.h"

#define TR_COMMAND_WORDS_max 256
#define TR_COMMAND_TEXT_max 16384 /* of all words, a NUL each */

typedef struct tr_command_values {
    const char *model;
    const char *host;
    uint32_t port;
    uint32_t context;   /* tokens of a request */
    uint32_t sequences; /* requests at the same time; {cache} = context × sequences */
} tr_command_values;

typedef struct tr_command {
    const char *words[TR_COMMAND_WORDS_max + 1]; /* NULL ends them */
    char text[TR_COMMAND_TEXT_max];
} tr_command;

/* TR_ERR_INVALID with a sentence in `why` (>= 160 bytes): no word, too many, an open quote, or a
 * {name} that there is not. */
TR_MUST_USE tr_err tr_command_read(const char *command, const tr_command_values *values,
                                   tr_command *ret, char *why, size_t why_size);
/* Whether {name} stands in it. */
bool tr_command_has(const char *command, const char *name);
/* Where the program is: itself when its name has a slash, else what the environment's PATH leads
 * to. False: nowhere. */
bool tr_command_find(const char *program, char *buf, size_t size);

#endif
