/* UTF-8 (RFC 3629): what texts on the wire must be, and where they may be cut. Pure; any thread. */
#ifndef TR_PROTOCOL_UTF8_H
#define TR_PROTOCOL_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* The longest prefix of `text`, at most `max` bytes, that splits no UTF-8 character. */
size_t tr_utf8_cut(const char *text, size_t size, size_t max);
/* Makes a text of anywhere valid UTF-8, in place: a character that was cut off at the end goes, and
 * any other byte that belongs to none, or a NUL, becomes a '?'. Returns the new size. */
size_t tr_utf8_mend(char *text, size_t size);
/* The same for a sentence that ends on a terminal: control characters, and those that turn the
 * direction of writing, become blanks too, so that whoever is quoted in it moves no cursor. Lines
 * and tabs stay: a log quotes them. */
size_t tr_utf8_plain(char *text, size_t size);
/* Whether `text` is valid UTF-8 (RFC 3629); a NUL byte is not accepted. */
bool tr_utf8_valid(const char *text, size_t size);

#endif
