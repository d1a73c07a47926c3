/*
 * Names and sentences that come from a configuration, a provider or a model server end on a
 * terminal, in tables: an escape sequence in a model's name must not move the cursor or hide what
 * stands there. All of it comes in answers of the daemon, so that one place is enough: the
 * answer's text, before it is read. With --json it stays as it came. One thread.
 */
#include "tools/troupe/plain.h"

#include <stdbool.h>
#include <stdint.h>

#include "protocol/utf8.h"

static int digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* As tr_utf8_plain has it, and lines and tabs too. */
static bool is_harmful(uint32_t c) {
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

/* Bytes of the escape at `at` ("\n", "\u001b") when it stands for such a character, else 0. */
static size_t harmful(const char *at, size_t size) {
    switch (size > 1 ? at[1] : '\0') {
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return 2;
    case 'u':
        break;
    default:
        return 0;
    }
    uint32_t character = 0;
    for (size_t i = 2; i < 6; i++) {
        int value = i < size ? digit(at[i]) : -1;
        if (value < 0) {
            return 0;
        }
        character = character * 16 + (uint32_t)value;
    }
    return is_harmful(character) ? 6 : 0;
}

size_t tri_plain_json(char *text, size_t size) {
    size_t used = 0;
    size = tr_utf8_plain(text, size);
    for (size_t i = 0; i < size;) {
        size_t length = text[i] == '\\' ? harmful(text + i, size - i) : 0;
        if (length > 0) {
            text[used++] = ' ';
            i += length;
        } else {
            bool pair = text[i] == '\\' && i + 1 < size; /* "\\n" is a backslash and an n */
            text[used++] = text[i++];
            if (pair) {
                text[used++] = text[i++];
            }
        }
    }
    return used;
}
