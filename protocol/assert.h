/*
 * TR_ASSERT: stays on in every build and is for bugs only, never for bad input. Prints the place
 * and the condition, and aborts.
 */
#ifndef TR_PROTOCOL_ASSERT_H
#define TR_PROTOCOL_ASSERT_H

#include <stdio.h>
#include <stdlib.h>

#define TR_ASSERT(condition)                                                                       \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0)) {                                                   \
            fprintf(stderr, "%s:%d: %s: bug: %s\n", __FILE__, __LINE__, __func__, #condition);     \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#endif
