/* UTF-8 (RFC 3629): validity, mending and cutting at a character. Called on every text that enters
 * and on every piece that is sent on, so runs of ASCII are checked eight bytes at a time. */
#include "protocol/utf8.h"

#include <stdint.h>
#include <string.h>

/* The length of the valid character at `at`, or 0: Table 3-7 of the Unicode standard. */
static size_t character(const uint8_t *at, size_t size) {
    uint8_t first = at[0];
    if (first < 0x80) {
        return 1;
    }
    if (first < 0xc2 || first > 0xf4) {
        return 0;
    }
    size_t length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (size < length) {
        return 0;
    }
    uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (at[1] < low || at[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return length;
}

/* Whether the eight bytes are all ASCII and none is NUL. */
static bool plain(const uint8_t *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    const uint64_t ones = 0x0101010101010101ULL;
    const uint64_t tops = ones << 7;
    return (word & tops) == 0 && ((word - ones) & ~word & tops) == 0;
}

bool tr_utf8_valid(const char *text, size_t size) {
    if (size == 0) {
        return true; /* also of NULL, to which nothing may be added */
    }
    const uint8_t *at = (const uint8_t *)text;
    const uint8_t *end = at + size;
    while (at < end) {
        if (end - at >= 8 && plain(at)) {
            at += 8;
            continue;
        }
        size_t length = *at != 0 ? character(at, (size_t)(end - at)) : 0;
        if (length == 0) {
            return false;
        }
        at += length;
    }
    return true;
}

size_t tr_utf8_cut(const char *text, size_t size, size_t max) {
    if (size <= max) {
        return size;
    }
    size_t cut = max;
    /* A character has at most three continuation bytes. */
    for (int i = 0; i < 3 && cut > 0 && ((uint8_t)text[cut] & 0xc0) == 0x80; i++) {
        cut--;
    }
    return ((uint8_t)text[cut] & 0xc0) == 0x80 ? max : cut;
}

/* Whether the text's last bytes are a character's first ones. */
static bool is_cut(const uint8_t *at, size_t size) {
    size_t length = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    if (at[0] < 0xc2 || at[0] > 0xf4 || size >= length) {
        return false;
    }
    for (size_t i = 1; i < size; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return false;
        }
    }
    return true;
}

size_t tr_utf8_mend(char *text, size_t size) {
    uint8_t *at = (uint8_t *)text;
    for (size_t i = 0; i < size;) {
        size_t length = at[i] != 0 ? character(at + i, size - i) : 0;
        if (length > 0) {
            i += length;
        } else if (is_cut(at + i, size - i)) {
            return i;
        } else {
            at[i++] = '?';
        }
    }
    return size;
}

/* Bytes of the control character that begins here, in valid UTF-8; 0: there is none. */
static size_t control(const uint8_t *at, size_t size) {
    if ((at[0] < 0x20 && at[0] != '\n' && at[0] != '\t') || at[0] == 0x7f) {
        return 1;
    }
    if (at[0] == 0xc2 && size >= 2 && at[1] < 0xa0) {
        return 2; /* U+0080 to U+009F: terminals take them as ESC and a letter */
    }
    bool turns = at[0] == 0xe2 && size >= 3 &&
                 ((at[1] == 0x80 && at[2] >= 0xaa && at[2] <= 0xae) || /* U+202A to U+202E */
                  (at[1] == 0x81 && at[2] >= 0xa6 && at[2] <= 0xa9));  /* U+2066 to U+2069 */
    return turns ? 3 : 0;
}

size_t tr_utf8_plain(char *text, size_t size) {
    size = tr_utf8_mend(text, size);
    for (size_t i = 0; i < size; i++) {
        size_t length = control((const uint8_t *)text + i, size - i);
        for (size_t k = 0; k < length; k++) {
            text[i + k] = ' ';
        }
    }
    return size;
}
