/*
 * Log lines on stderr, one write(2) a line: logfmt (`ts=… level=info actor=call id=<0.0.4.1>
 * msg="…" key=value`) or JSON. Only actors and tools log; libraries return. A request's lines carry
 * its id. Never prompts, never keys. A log that nobody reads blocks nobody: lines are lost then,
 * and the next one says how many.
 */
#ifndef TR_RUNTIME_LOG_H
#define TR_RUNTIME_LOG_H

#include "runtime/actor.h"

typedef enum tr_log_level {
    TR_LOG_ERROR,
    TR_LOG_WARN,
    TR_LOG_INFO,
    TR_LOG_DEBUG,
    TR_LOG_N
} tr_log_level;
typedef enum tr_log_format { TR_LOG_LOGFMT, TR_LOG_JSON } tr_log_format;

/* Process-wide; any thread, at run time. */
void tr_log_set(tr_log_format format, tr_log_level level, int fd);
void tr_log_set_level(tr_log_level level);
tr_log_level tr_log_level_now(void);
tr_log_format tr_log_format_now(void);
bool tr_log_on(tr_log_level level);
const char *tr_log_level_name(tr_log_level level);
TR_MUST_USE bool tr_log_level_parse(const char *name, tr_log_level *ret);

/* One line. `self` names the actor (NULL outside actors). `fields` is a printf format of logfmt
 * pairs that follow msg, such as "request=%s err=%s"; values with blanks must be quoted by the
 * caller with tr_log_quote. */
void tr_log(tr_log_level level, const tr_self *self, const char *msg, const char *fields, ...)
    __attribute__((format(printf, 4, 5)));
/* `text` as a quoted logfmt value, control characters escaped, cut to `size`. Returns buf. */
const char *tr_log_quote(const char *text, size_t text_size, char *buf, size_t size);

#endif
