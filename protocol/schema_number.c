/*
 * Numbers as JSON writes them, compared exactly: 9007199254740993 is more than 9007199254740992,
 * which no double knows. A number is read as 0.ddd × 10^e over its own text, without a copy. Called
 * by the validator and the grammar.
 */
#include "protocol/schema_internal.h"

typedef struct number {
    const char *at, *end; /* digits, and perhaps a point, from the first that is not 0 */
    int64_t exponent;
    int64_t digits; /* up to the last that is not 0 */
    bool negative;
} number;

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static int64_t exponent_of(const char *at, const char *end) {
    bool negative = at < end && *at == '-';
    int64_t exponent = 0;
    for (at += at < end && !is_digit(*at) ? 1 : 0; at < end; at++) {
        exponent = exponent < 1000000000000 ? exponent * 10 + (*at - '0') : exponent;
    }
    return negative ? -exponent : exponent;
}

static number read_number(tr_str text) {
    const char *at = text.ptr, *end = text.ptr + text.size;
    number n = {.negative = at < end && *at == '-'};
    at += n.negative ? 1 : 0;
    const char *stop = at;
    while (stop < end && *stop != 'e' && *stop != 'E') {
        stop++;
    }
    int64_t exponent = stop < end ? exponent_of(stop + 1, end) : 0;
    bool point = false, begun = false;
    int64_t seen = 0;
    n.at = n.end = stop;
    for (; at < stop; at++) {
        if (*at == '.') {
            point = true;
            continue;
        }
        if (!begun && *at == '0') {
            exponent -= point ? 1 : 0;
            continue;
        }
        n.at = begun ? n.at : at;
        begun = true;
        exponent += point ? 0 : 1;
        seen++;
        if (*at != '0') {
            n.digits = seen;
            n.end = at + 1;
        }
    }
    n.exponent = exponent;
    n.negative = n.negative && n.digits > 0;
    return n;
}

static char next_digit(number *n) {
    while (n->at < n->end && *n->at == '.') {
        n->at++;
    }
    return n->at < n->end ? *n->at++ : '0';
}

int tri_number_compare(tr_str left, tr_str right) {
    number a = read_number(left), b = read_number(right);
    if (a.digits == 0 || b.digits == 0 || a.negative != b.negative) {
        int one = a.digits == 0 ? 0 : a.negative ? -1 : 1;
        int other = b.digits == 0 ? 0 : b.negative ? -1 : 1;
        return (one > other) - (one < other);
    }
    int order = (a.exponent > b.exponent) - (a.exponent < b.exponent);
    int64_t digits = a.digits > b.digits ? a.digits : b.digits;
    for (int64_t i = 0; i < digits && order == 0; i++) {
        char one = next_digit(&a), other = next_digit(&b);
        order = (one > other) - (one < other);
    }
    return a.negative ? -order : order;
}

bool tri_number_whole(tr_str text) {
    number n = read_number(text);
    return n.digits == 0 || n.digits <= n.exponent;
}
