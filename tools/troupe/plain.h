/* Texts of others on a terminal. Pure. */
#ifndef TR_TOOLS_TROUPE_PLAIN_H
#define TR_TOOLS_TROUPE_PLAIN_H

#include <stddef.h>

/* Makes a JSON text such that no string in it holds a control character or one that turns the
 * direction of writing, raw or escaped, in place: each becomes a blank. A name with a line's end
 * would begin a row of its own in a table. Returns the new size; `text` need not be valid JSON. */
size_t tri_plain_json(char *text, size_t size);

#endif
