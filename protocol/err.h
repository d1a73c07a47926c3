/*
 * Errors. One table gives each code, its class (what a person does about it), whether the same
 * request may be sent again, and a sentence for people. A function that can fail returns tr_err;
 * what it produces comes out through trailing ret_ parameters, written only on success. The numbers
 * travel on the wire (PROTOCOL.md): append, never renumber.
 */
#ifndef TR_PROTOCOL_ERR_H
#define TR_PROTOCOL_ERR_H

#include <stdbool.h>

/* X(code, number, class, may be sent again, sentence) */
#define TR_ERR_MAP(X)                                                                              \
    X(TR_OK, 0, OK, false, "ok")                                                                   \
    X(TR_DONE, 1, OK, false, "the stream is complete")                                             \
    X(TR_ERR_NOMEM, 2, SERVER, true, "out of memory")                                              \
    X(TR_ERR_INVALID, 3, INVALID_REQUEST, false, "the request is not valid")                       \
    X(TR_ERR_CONTEXT_LENGTH, 4, INVALID_REQUEST, false, "the prompt is longer than the context")   \
    X(TR_ERR_UNSUPPORTED, 5, INVALID_REQUEST, false, "the target cannot do what was asked")        \
    X(TR_ERR_TOO_LARGE, 6, INVALID_REQUEST, false, "a message is larger than its limit")           \
    X(TR_ERR_NOT_FOUND, 7, NOT_FOUND, false, "there is nothing of that name")                      \
    X(TR_ERR_AUTH, 8, AUTH, false, "the key or token was refused")                                 \
    X(TR_ERR_QUOTA, 9, QUOTA, false, "the account's quota is used up")                             \
    X(TR_ERR_RATE_LIMIT, 10, RATE_LIMIT, true, "the rate limit is used up")                        \
    X(TR_ERR_OVERLOADED, 11, OVERLOADED, true, "the target has too much to do")                    \
    X(TR_ERR_TIMEOUT, 12, TIMEOUT, true, "the time limit passed")                                  \
    X(TR_ERR_CONNECT, 13, SERVER, true, "the target cannot be reached")                            \
    X(TR_ERR_SERVER, 14, SERVER, true, "the target failed")                                        \
    X(TR_ERR_TRUNCATED, 15, TRUNCATED, true, "the stream ended before its end")                    \
    X(TR_ERR_CANCELLED, 16, CANCELLED, false, "the request was cancelled")                         \
    X(TR_ERR_NO_DAEMON, 17, NO_DAEMON, true, "no daemon answers")                                  \
    X(TR_ERR_CLOSED, 18, NO_DAEMON, true, "the connection is closed")                              \
    X(TR_ERR_VERSION, 19, NO_DAEMON, false, "the other side speaks another protocol version")      \
    X(TR_ERR_PROTOCOL, 20, SERVER, false, "the other side broke the protocol")                     \
    X(TR_ERR_FULL, 21, OVERLOADED, true, "a mailbox is full")                                      \
    X(TR_ERR_GONE, 22, SERVER, false, "the actor is gone")                                         \
    X(TR_ERR_STALLED, 23, TIMEOUT, false, "the client did not read for too long")                  \
    X(TR_ERR_CRASHED, 24, SERVER, true, "the worker crashed")                                      \
    X(TR_ERR_SHUTDOWN, 25, OVERLOADED, true, "the daemon is shutting down")                        \
    X(TR_ERR_FILTERED, 26, INVALID_REQUEST, false, "the provider's content filter refused")        \
    X(TR_ERR_EXISTS, 27, INVALID_REQUEST, false, "that name is taken")                             \
    X(TR_ERR_FORKED, 28, INVALID_REQUEST, false, "the client was opened by the parent process")    \
    X(TR_ERR_IO, 29, SERVER, false, "the operating system refused")                                \
    X(TR_ERR_BUG, 30, SERVER, false, "an internal error")                                          \
    X(TR_ERR_SCHEMA, 31, SERVER, true, "the answer does not follow the schema")

typedef enum tr_err {
#define TR_ERR_CODE(code, number, class, again, text) code = number,
    TR_ERR_MAP(TR_ERR_CODE)
#undef TR_ERR_CODE
        TR_ERR_N
} tr_err;

/* What kind of trouble: exit codes, HTTP statuses and routing decide by class. */
typedef enum tr_err_class {
    TR_CLASS_OK,
    TR_CLASS_INVALID_REQUEST,
    TR_CLASS_AUTH,
    TR_CLASS_QUOTA,
    TR_CLASS_NOT_FOUND,
    TR_CLASS_RATE_LIMIT,
    TR_CLASS_OVERLOADED,
    TR_CLASS_TIMEOUT,
    TR_CLASS_SERVER,
    TR_CLASS_TRUNCATED,
    TR_CLASS_CANCELLED,
    TR_CLASS_NO_DAEMON,
    TR_CLASS_N
} tr_err_class;

#define TR_MUST_USE __attribute__((warn_unused_result))

/* libtroupe exports these, also under -fvisibility=hidden. */
#pragma GCC visibility push(default)

/* The code as written, "TR_ERR_TIMEOUT"; never NULL. Any thread. */
const char *tr_err_name(tr_err err);

/* The sentence of `err`; never NULL, also for a number from the wire that this version does not
 * know. Any thread. */
const char *tr_err_text(tr_err err);

/* The class of `err`, and the class's name as the wire's JSON has it ("rate_limit"). Any thread. */
tr_err_class tr_err_class_of(tr_err err);
const char *tr_err_class_name(tr_err_class err_class);

/* Whether sending the same request again can help. Any thread. */
bool tr_err_may_retry(tr_err err);

#pragma GCC visibility pop

#endif
