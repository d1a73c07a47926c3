/*
 * The settings of a plan, one row each: name, what it counts, its place in mock_plan and the line
 * of help. Called by server.c for each request; pure.
 */
#include "tools/mock/plan.h"

#include <stddef.h>
#include <string.h>

typedef enum unit { UNIT_COUNT, UNIT_TIME, UNIT_FLAG } unit;

static const struct {
    const char *name;
    unit unit;
    size_t at;
    uint64_t usual;
    const char *help;
} settings[] = {
    {"tokens", UNIT_COUNT, offsetof(mock_plan, tokens), 20, "tokens of the answer"},
    {"bytes", UNIT_COUNT, offsetof(mock_plan, bytes), 0, "bytes of a token; 0 = \"tN \""},
    {"interval", UNIT_TIME, offsetof(mock_plan, interval_us), 0, "between tokens: 20ms, 1s"},
    {"first", UNIT_TIME, offsetof(mock_plan, first_us), 0, "before the status line"},
    {"echo", UNIT_FLAG, offsetof(mock_plan, echo), 0, "the answer is the last message's text"},
    {"json", UNIT_COUNT, offsetof(mock_plan, json), 0,
     "the answer is JSON, {\"n\": 1}; 2 = only when corrected, before {\"n\": \"one\"}; 3 = never"},
    {"reasoning", UNIT_COUNT, offsetof(mock_plan, reasoning), 0, "tokens of reasoning before it"},
    {"tools", UNIT_FLAG, offsetof(mock_plan, tools), 0, "the answer is a tool call"},
    {"converse", UNIT_FLAG, offsetof(mock_plan, converse), 0,
     "call the first tool for each word of the question with a capital, but the first word; then "
     "answer with the results"},
    {"dim", UNIT_COUNT, offsetof(mock_plan, dim), 8, "numbers of an embedding"},
    {"status", UNIT_COUNT, offsetof(mock_plan, status), 200, "an error of this HTTP status"},
    {"times", UNIT_COUNT, offsetof(mock_plan, times), MOCK_NONE,
     "faults for the first N requests of this very plan only"},
    {"retry_after", UNIT_COUNT, offsetof(mock_plan, retry_after), MOCK_NONE, "seconds, a header"},
    {"retry_after_ms", UNIT_COUNT, offsetof(mock_plan, retry_after_ms), MOCK_NONE,
     "the same in ms"},
    {"should_retry", UNIT_COUNT, offsetof(mock_plan, should_retry), MOCK_NONE,
     "a header x-should-retry: 1 = true, 0 = false"},
    {"cut", UNIT_COUNT, offsetof(mock_plan, cut), MOCK_NONE,
     "close after so many bytes of body, in the midst of it"},
    {"reset", UNIT_FLAG, offsetof(mock_plan, reset), 0,
     "let the end of cut=N be a TCP reset; nothing without cut"},
    {"stall", UNIT_COUNT, offsetof(mock_plan, stall), MOCK_NONE,
     "say nothing more after so many bytes of body, and stay open"},
    {"die", UNIT_COUNT, offsetof(mock_plan, die), MOCK_NONE,
     "end the whole server after so many bytes of body"},
    {"error_mid", UNIT_COUNT, offsetof(mock_plan, error_mid), MOCK_NONE,
     "an error event after so many tokens"},
    {"garbage", UNIT_COUNT, offsetof(mock_plan, garbage), MOCK_NONE,
     "an event that is no JSON after so many tokens"},
    {"nodone", UNIT_FLAG, offsetof(mock_plan, nodone), 0, "no [DONE]"},
    {"nofinish", UNIT_FLAG, offsetof(mock_plan, nofinish), 0, "neither finish_reason nor [DONE]"},
    {"nousage", UNIT_FLAG, offsetof(mock_plan, nousage), 0, "no usage"},
    {"crlf", UNIT_FLAG, offsetof(mock_plan, crlf), 0, "lines end with CR LF"},
    {"html", UNIT_FLAG, offsetof(mock_plan, html), 0, "a web page at status 200"},
    {"json_error", UNIT_FLAG, offsetof(mock_plan, json_error), 0,
     "a JSON error at status 200 where a stream was asked for"},
    {"slow_read", UNIT_COUNT, offsetof(mock_plan, slow_read), MOCK_NONE,
     "read the request at so many bytes a millisecond"},
    {"stamp", UNIT_FLAG, offsetof(mock_plan, stamp), 0,
     "a token is the time at which it is written, in us (CLOCK_MONOTONIC)"},
    {"told", UNIT_FLAG, offsetof(mock_plan, told), 0,
     "the last message's text is the rest of the plan"},
    {"split", UNIT_COUNT, offsetof(mock_plan, split), 0, "write in pieces of so many bytes"},
};

#define SETTINGS (sizeof(settings) / sizeof(settings[0]))

static uint64_t *field(mock_plan *plan, size_t i) {
    return (uint64_t *)(void *)((char *)plan + settings[i].at);
}

void mock_plan_init(mock_plan *plan) {
    for (size_t i = 0; i < SETTINGS; i++) {
        *field(plan, i) = settings[i].usual;
    }
}

/* Digits and, for times, a unit: us, ms (the default) or s. */
static bool read_number(tr_str text, unit unit, uint64_t *ret) {
    uint64_t number = 0;
    size_t i = 0;
    for (; i < text.size && text.ptr[i] >= '0' && text.ptr[i] <= '9'; i++) {
        if (number > UINT32_MAX) {
            return false;
        }
        number = number * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    if (i == 0) {
        return false;
    }
    tr_str rest = {text.ptr + i, text.size - i};
    if (unit != UNIT_TIME) {
        *ret = number;
        return rest.size == 0;
    }
    bool us = rest.size == 2 && memcmp(rest.ptr, "us", 2) == 0;
    bool ms = rest.size == 0 || (rest.size == 2 && memcmp(rest.ptr, "ms", 2) == 0);
    bool s = rest.size == 1 && *rest.ptr == 's';
    *ret = us ? number : ms ? number * 1000 : number * 1000000;
    return us || ms || s;
}

bool mock_time_read(tr_str text, uint64_t *ret_us) {
    return read_number(text, UNIT_TIME, ret_us);
}

static bool read_setting(mock_plan *plan, tr_str name, tr_str value, bool has_value) {
    for (size_t i = 0; i < SETTINGS; i++) {
        if (strlen(settings[i].name) != name.size ||
            memcmp(settings[i].name, name.ptr, name.size) != 0) {
            continue;
        }
        if (!has_value) {
            /* Alone it means: at once, or as soon as it can be. */
            *field(plan, i) = settings[i].unit == UNIT_FLAG ? 1 : 0;
            return true;
        }
        return read_number(value, settings[i].unit, field(plan, i));
    }
    return false;
}

bool mock_plan_read(mock_plan *plan, tr_str text, char *why, size_t why_size) {
    while (text.size > 0) {
        const char *comma = memchr(text.ptr, ',', text.size);
        size_t size = comma == NULL ? text.size : (size_t)(comma - text.ptr);
        const char *equals = memchr(text.ptr, '=', size);
        tr_str name = {text.ptr, equals == NULL ? size : (size_t)(equals - text.ptr)};
        tr_str value = {name.ptr + name.size + 1, equals == NULL ? 0 : size - name.size - 1};
        if (size > 0 && !read_setting(plan, name, value, equals != NULL)) {
            snprintf(why, why_size, "the mock does not know \"%.*s\"",
                     (int)(size < 100 ? size : 100), text.ptr);
            return false;
        }
        size_t used = comma == NULL ? size : size + 1;
        text.ptr += used;
        text.size -= used;
    }
    return true;
}

void mock_plan_help(FILE *out) {
    for (size_t i = 0; i < SETTINGS; i++) {
        fprintf(out, "  %-15s %s\n", settings[i].name, settings[i].help);
    }
}
