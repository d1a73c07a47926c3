/*
 * Log lines. A line is built whole in a buffer on the stack and leaves by one write(2), so lines of
 * several threads never mix; what does not fit is cut. A line is at most PIPE_BUF bytes, so that a
 * pipe that has room takes it whole: the log asks first and drops what has none (`trouped 2>&1 |
 * less` must not stop the shards), and the next line that goes out says how many were lost. Another
 * process that writes to the same pipe can still take the room in between; O_NONBLOCK would end
 * that, but it belongs to the open file, which is also that process's. `fields` is always logfmt;
 * the JSON form is made from it by reading the pairs again, so callers write one form. Any thread;
 * the settings are atomics because they change at run time.
 */
#include "runtime/log.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/cell.h"

#define LINE_MAX_BYTES 4096
#define FIELDS_MAX 1024 /* of msg and of the fields, each */

#define ESCAPED_MAX 6 /* bytes that one may become */

/* Relaxed everywhere: each is a setting of its own and orders nothing else. */
static _Atomic int log_fd = STDERR_FILENO;
static _Atomic int log_level = TR_LOG_INFO;
static _Atomic int log_format = TR_LOG_LOGFMT;

/* Held from the question for room to the write, so that no other thread takes the room. */
static pthread_mutex_t out_mtx = PTHREAD_MUTEX_INITIALIZER;
static uint64_t lost; /* guarded by out_mtx: lines since the last that went out */

static const char *const names[TR_LOG_N] = {[TR_LOG_ERROR] = "error",
                                            [TR_LOG_WARN] = "warn",
                                            [TR_LOG_INFO] = "info",
                                            [TR_LOG_DEBUG] = "debug"};

typedef struct line {
    size_t size;
    char bytes[LINE_MAX_BYTES];
} line;
_Static_assert(LINE_MAX_BYTES <= PIPE_BUF, "a pipe with room takes a whole line");

void tr_log_set(tr_log_format format, tr_log_level level, int fd) {
    atomic_store_explicit(&log_format, (int)format, memory_order_relaxed);
    atomic_store_explicit(&log_fd, fd, memory_order_relaxed);
    tr_log_set_level(level);
}

void tr_log_set_level(tr_log_level level) {
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

tr_log_level tr_log_level_now(void) {
    return (tr_log_level)atomic_load_explicit(&log_level, memory_order_relaxed);
}

tr_log_format tr_log_format_now(void) {
    return (tr_log_format)atomic_load_explicit(&log_format, memory_order_relaxed);
}

bool tr_log_on(tr_log_level level) {
    return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

const char *tr_log_level_name(tr_log_level level) {
    return (unsigned)level < TR_LOG_N ? names[level] : "unknown";
}

bool tr_log_level_parse(const char *name, tr_log_level *ret) {
    for (int i = 0; i < TR_LOG_N; i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret = (tr_log_level)i;
            return true;
        }
    }
    return false;
}

/* How `c`, an ASCII character, stands inside quotes; the same in logfmt and JSON. */
static size_t escape(unsigned char c, char out[7]) {
    static const char hex[] = "0123456789abcdef";
    static const char from[] = "\"\\\n\r\t";
    static const char to[] = "\"\\nrt";
    const char *found = c != '\0' ? strchr(from, c) : NULL;
    if (found != NULL) {
        out[0] = '\\';
        out[1] = to[found - from];
        return 2;
    }
    if (c < 0x20 || c == 0x7f) {
        out[0] = '\\';
        out[1] = 'u';
        out[2] = '0';
        out[3] = '0';
        out[4] = hex[c >> 4];
        out[5] = hex[c & 15];
        return 6;
    }
    out[0] = (char)c;
    return 1;
}

/* Bytes of the UTF-8 character at `text`; 0 = none begins there. */
static size_t character(const char *text, size_t size) {
    for (size_t count = 2; count <= 4 && count <= size; count++) {
        if (tr_utf8_valid(text, count)) {
            return count;
        }
    }
    return 0;
}

const char *tr_log_quote(const char *text, size_t text_size, char *buf, size_t size) {
    size_t used = 0;
    if (size < 3) {
        if (size > 0) {
            buf[0] = '\0';
        }
        return buf;
    }
    buf[used++] = '"';
    for (size_t i = 0; i < text_size;) {
        char escaped[7] = "\\ufffd"; /* what is no UTF-8 would make the line none */
        size_t count = 6;
        size_t taken = 1;
        if ((unsigned char)text[i] < 0x80) {
            count = escape((unsigned char)text[i], escaped);
        } else if (character(text + i, text_size - i) > 0) {
            taken = character(text + i, text_size - i);
            count = taken;
            memcpy(escaped, text + i, count);
        }
        if (used + count + 2 > size) {
            break;
        }
        memcpy(buf + used, escaped, count);
        used += count;
        i += taken;
    }
    buf[used++] = '"';
    buf[used] = '\0';
    return buf;
}

static void add(line *to, const char *bytes, size_t size) {
    size_t room = sizeof to->bytes - 1 - to->size; /* 1 for the newline */
    size_t count = size < room ? size : room;
    memcpy(to->bytes + to->size, bytes, count);
    to->size += count;
}

static void add_text(line *to, const char *text) {
    add(to, text, strlen(text));
}

static void add_quoted(line *to, const char *text, size_t size) {
    char quoted[FIELDS_MAX + 3];
    add_text(to, tr_log_quote(text, size, quoted, sizeof quoted));
}

/* key=value or key="value" at *at; false at the end. */
static bool next_pair(const char **at, tr_str *ret_key, tr_str *ret_value, bool *ret_quoted) {
    const char *c = *at + strspn(*at, " ");
    size_t key = strcspn(c, "= ");
    if (key == 0 || c[key] != '=') {
        return false;
    }
    *ret_key = (tr_str){c, key};
    c += key + 1;
    *ret_quoted = *c == '"';
    if (!*ret_quoted) {
        size_t value = strcspn(c, " ");
        *ret_value = (tr_str){c, value};
        *at = c + value;
        return true;
    }
    const char *end = c + 1;
    while (*end != '\0' && *end != '"') {
        end += end[0] == '\\' && end[1] != '\0' ? 2 : 1;
    }
    *ret_value = (tr_str){c + 1, (size_t)(end - c - 1)};
    if (*end == '\0' && end > c + 1 && end[-1] == '\\') {
        ret_value->size--; /* an escape that was cut */
    }
    *at = *end == '"' ? end + 1 : end;
    return true;
}

static bool is_number(tr_str value) {
    if (value.size == 0 || value.size > 15 || (value.size > 1 && value.ptr[0] == '0')) {
        return false;
    }
    for (size_t i = 0; i < value.size; i++) {
        if (value.ptr[i] < '0' || value.ptr[i] > '9') {
            return false;
        }
    }
    return true;
}

static void add_json_fields(line *to, const char *fields) {
    tr_str key;
    tr_str value;
    bool quoted;
    while (next_pair(&fields, &key, &value, &quoted)) {
        if (to->size + key.size * ESCAPED_MAX + value.size * (quoted ? 1 : ESCAPED_MAX) + 16 >
            sizeof to->bytes) {
            return; /* a line that is cut must still be JSON */
        }
        add_text(to, ",");
        add_quoted(to, key.ptr, key.size);
        add_text(to, ":");
        if (quoted) {
            add_text(to, "\""); /* its escapes are JSON's as well */
            add(to, value.ptr, value.size);
            add_text(to, "\"");
        } else if (is_number(value)) {
            add(to, value.ptr, value.size);
        } else {
            add_quoted(to, value.ptr, value.size);
        }
    }
}

static void add_head(line *to, bool json, tr_log_level level, const tr_self *self) {
    struct timespec now;
    struct tm utc;
    char stamp[48];
    char id[TR_ID_FMT_size];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t size = strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(stamp + size, sizeof stamp - size, ".%03ldZ", now.tv_nsec / 1000000);
    add_text(to, json ? "{\"ts\":\"" : "ts=");
    add_text(to, stamp);
    add_text(to, json ? "\",\"level\":\"" : " level=");
    add_text(to, tr_log_level_name(level));
    if (self != NULL) {
        add_text(to, json ? "\",\"actor\":\"" : " actor=");
        add_text(to, self->behaviour->name);
        add_text(to, json ? "\",\"id\":\"" : " id=");
        add_text(to, tr_id_format(self->id, id));
    }
    add_text(to, json ? "\",\"msg\":" : " msg=");
}

static bool has_room(int fd) {
    struct pollfd ask = {.fd = fd, .events = POLLOUT};
    return poll(&ask, 1, 0) == 1 && (ask.revents & POLLOUT) != 0;
}

static bool put(int fd, const line *out) {
    return has_room(fd) && write(fd, out->bytes, out->size) == (ssize_t)out->size;
}

static void build(line *out, tr_log_level level, const tr_self *self, const char *msg,
                  const char *fields) {
    out->size = 0;
    bool json = atomic_load_explicit(&log_format, memory_order_relaxed) == TR_LOG_JSON;
    add_head(out, json, level, self);
    add_quoted(out, msg, strlen(msg));
    if (json) {
        add_json_fields(out, fields);
        add_text(out, "}");
    } else if (fields[0] != '\0') {
        add_text(out, " ");
        add_text(out, fields);
    }
    out->bytes[out->size++] = '\n';
}

static bool tell_lost(int fd) {
    char fields[48];
    line out;
    snprintf(fields, sizeof fields, "lines=%llu", (unsigned long long)lost);
    build(&out, TR_LOG_WARN, NULL, "log lines were lost: nobody read them in time", fields);
    return put(fd, &out);
}

void tr_log(tr_log_level level, const tr_self *self, const char *msg, const char *fields, ...) {
    if (!tr_log_on(level)) {
        return;
    }
    char text[FIELDS_MAX];
    va_list args;
    va_start(args, fields);
    vsnprintf(text, sizeof text, fields, args);
    va_end(args);
    text[tr_utf8_mend(text, strlen(text))] = '\0';
    for (char *at = text; *at != '\0'; at++) {
        *at = (unsigned char)*at < 0x20 ? '?' : *at; /* a name from outside may not begin a line */
    }
    line out;
    build(&out, level, self, msg, text);
    int fd = atomic_load_explicit(&log_fd, memory_order_relaxed);
    pthread_mutex_lock(&out_mtx);
    if (lost > 0 && tell_lost(fd)) {
        lost = 0;
    }
    /* A log that cannot be written must not stop the work. Order is kept: no line before the word
     * about those that are missing. */
    if (lost > 0 || !put(fd, &out)) {
        lost++;
    }
    pthread_mutex_unlock(&out_mtx);
}
