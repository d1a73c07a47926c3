/*
 * Rate-limit headers. OpenAI and those who follow it: x-ratelimit-{remaining,reset}-{requests,
 * tokens}, resets as Go durations; Azure the same with plain numbers, which are milliseconds (its
 * answers also carry x-ratelimit-renewalperiod-*, by which it is known). Anthropic:
 * anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{remaining,reset}, resets as
 * moments. OpenRouter and many gateways: x-ratelimit-{remaining,reset} alone, the reset as a moment
 * in seconds or milliseconds. Of several budgets of one kind the one with the least left counts.
 * Called by the provider actor, on its shard.
 */
#include "providers/rates.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "providers/http.h"

#define DAY_MS (24LL * 3600 * 1000)
/* Plain numbers: larger ones are moments, not spans. */
#define EPOCH_S_min 1000000000.0
#define EPOCH_MS_min 1000000000000.0

typedef struct budget {
    const char *left, *reset;
    bool tokens;
} budget;

static const budget budgets[] = {
    {"x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", false},
    {"x-ratelimit-remaining", "x-ratelimit-reset", false},
    {"anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset", false},
    {"x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", true},
    {"anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset", true},
    {"anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset", true},
    {"anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset",
     true},
};

/* Days since 1970-01-01 of a date of the Gregorian calendar (Hinnant, days_from_civil). */
static int64_t days_of(int64_t year, int64_t month, int64_t day) {
    year -= month <= 2;
    int64_t era = year / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* `count` digits; -1 when there are others. */
static int64_t digits(const char *at, int count) {
    int64_t number = 0;
    for (int i = 0; i < count; i++) {
        if (at[i] < '0' || at[i] > '9') {
            return -1;
        }
        number = number * 10 + (at[i] - '0');
    }
    return number;
}

/* "+02:00", "-0530", "Z", in minutes. */
static bool zone(const char *at, int64_t *ret) {
    if ((at[0] == 'Z' || at[0] == 'z') && at[1] == '\0') {
        *ret = 0;
        return true;
    }
    size_t size = strlen(at);
    bool colon = size == 6 && at[3] == ':';
    if ((at[0] != '+' && at[0] != '-') || (size != 5 && !colon)) {
        return false;
    }
    int64_t hours = digits(at + 1, 2);
    int64_t minutes = digits(at + (colon ? 4 : 3), 2);
    *ret = (hours * 60 + minutes) * (at[0] == '-' ? -1 : 1);
    return hours >= 0 && minutes >= 0;
}

static bool moment(const char *text, int64_t *ret_ms) {
    if (strlen(text) < 20 || text[4] != '-' || text[7] != '-' || text[13] != ':' ||
        text[16] != ':' || strchr("Tt ", text[10]) == NULL) {
        return false;
    }
    int64_t year = digits(text, 4), month = digits(text + 5, 2), day = digits(text + 8, 2);
    int64_t hour = digits(text + 11, 2), minute = digits(text + 14, 2), s = digits(text + 17, 2);
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || hour > 24 ||
        minute < 0 || minute > 59 || s < 0 || s > 60) {
        return false;
    }
    const char *at = text + 19;
    int64_t ms = 0;
    if (*at == '.') {
        int64_t unit = 100;
        for (at++; *at >= '0' && *at <= '9'; at++) {
            ms += (*at - '0') * unit;
            unit /= 10;
        }
    }
    int64_t offset;
    if (!zone(at, &offset)) {
        return false;
    }
    int64_t minutes = (days_of(year, month, day) * 24 + hour) * 60 + minute - offset;
    *ret_ms = (minutes * 60 + s) * 1000 + ms;
    return true;
}

/* Digits and at most one point: strtod alone would also take "inf", "0x1p3" and "-1". */
static bool number_of(const char *text, const char **ret_end, double *ret) {
    size_t size = strspn(text, "0123456789.");
    if (size == 0 || size > 30 || text[0] == '.') {
        return false;
    }
    char *end;
    *ret = strtod(text, &end);
    *ret_end = text + size;
    return end == *ret_end;
}

/* "1h2m3.5s", "6ms", "120us". */
static bool span(const char *text, double *ret_ms) {
    static const struct {
        const char *name;
        double ms;
    } units[] = {{"ms", 1},       {"us", 0.001},  {"µs", 0.001}, {"ns", 0.000001},
                 {"d", 86400000}, {"h", 3600000}, {"m", 60000},  {"s", 1000}};
    double sum = 0;
    while (*text != '\0') {
        double number;
        const char *end;
        if (!number_of(text, &end, &number)) {
            return false;
        }
        size_t i = 0;
        while (i < sizeof units / sizeof *units &&
               strncmp(end, units[i].name, strlen(units[i].name)) != 0) {
            i++;
        }
        if (i == sizeof units / sizeof *units) {
            return false;
        }
        sum += number * units[i].ms;
        text = end + strlen(units[i].name);
    }
    *ret_ms = sum;
    return true;
}

/* A header's value as a C string; cut where it is longer than any that is meant here. */
static void copy(char to[64], tr_str text) {
    while (text.size > 0 && strchr(" \t\r", text.ptr[text.size - 1]) != NULL) {
        text.size--;
    }
    size_t size = text.size < 63 ? text.size : 63;
    if (size > 0) {
        memcpy(to, text.ptr, size);
    }
    to[size] = '\0';
}

/* `plain_ms`: a plain number is milliseconds. */
static bool reset_of(tr_str header, int64_t wall_ms, bool plain_ms, int64_t *ret_ms) {
    char text[64];
    copy(text, header);
    double number, ms;
    const char *end;
    int64_t then;
    if (number_of(text, &end, &number) && *end == '\0') {
        ms = number >= EPOCH_MS_min  ? number - (double)wall_ms
             : number >= EPOCH_S_min ? number * 1000 - (double)wall_ms
             : plain_ms              ? number
                                     : number * 1000;
    } else if (moment(text, &then)) {
        ms = (double)(then - wall_ms);
    } else if (text[0] == '\0' || !span(text, &ms)) {
        return false;
    }
    /* A fraction of a millisecond is a millisecond, and nobody is told to wait for years. */
    *ret_ms = ms <= 0 ? 0 : ms >= (double)(366 * DAY_MS) ? 366 * DAY_MS : (int64_t)(ms + 0.999);
    return true;
}

bool tr_rates_reset(tr_str text, int64_t wall_ms, int64_t *ret_ms) {
    return reset_of(text, wall_ms, false, ret_ms);
}

static bool left_of(tr_str header, int64_t *ret) {
    char text[64];
    copy(text, header);
    double number;
    const char *end;
    if (!number_of(text, &end, &number) || *end != '\0' || number > 1e15) {
        return false;
    }
    *ret = (int64_t)number;
    return true;
}

bool tr_rates_read(tr_str headers, int64_t wall_ms, tr_rates *ret) {
    bool plain_ms = tr_http_header(headers, "x-ratelimit-renewalperiod-requests").size > 0 ||
                    tr_http_header(headers, "x-ratelimit-renewalperiod-tokens").size > 0;
    tr_rates rates = {-1, -1, -1, -1};
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        int64_t left, reset_ms = -1;
        if (!left_of(tr_http_header(headers, budgets[i].left), &left)) {
            continue;
        }
        (void)reset_of(tr_http_header(headers, budgets[i].reset), wall_ms, plain_ms, &reset_ms);
        int64_t *known = budgets[i].tokens ? &rates.tokens_left : &rates.requests_left;
        int64_t *known_ms = budgets[i].tokens ? &rates.tokens_reset_ms : &rates.requests_reset_ms;
        if (*known < 0 || left < *known || (left == *known && reset_ms > *known_ms)) {
            *known = left;
            *known_ms = reset_ms;
        }
    }
    if (rates.requests_left < 0 && rates.tokens_left < 0) {
        return false;
    }
    *ret = rates;
    return true;
}
