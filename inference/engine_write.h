/* A text that grows: prompts and grammars are put together in it. The first failure (no memory)
 * sticks. Pure. */
#ifndef TR_INFERENCE_ENGINE_WRITE_H
#define TR_INFERENCE_ENGINE_WRITE_H

#include "protocol/wire.h"

typedef struct tri_write {
    char *text; /* NUL-terminated once something was written; tr_free */
    size_t size, room;
    bool failed;
} tri_write;

void tri_write_str(tri_write *w, tr_str text);
void tri_write_text(tri_write *w, const char *text);
/* At most 255 bytes of result. */
void tri_write_format(tri_write *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Gives the text away ("" when nothing was written); NULL = no memory. `w` is empty then. */
char *tri_write_take(tri_write *w);

#endif
