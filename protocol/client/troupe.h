/*
 * libtroupe: the client of trouped. One client is one connection, over which any number of requests
 * run at once.
 *
 * Threads: every call may be made from any thread at the same time as any other, except that one
 * tr_request is built by one thread at a time, one tr_stream is read by one thread at a time, and
 * the calls marked "loop thread" belong to one thread. The library starts no thread and installs
 * no signal handler: whoever waits in a call moves the bytes for all who wait. (tls+tcp:// and
 * inproc:// go through NNG, which has threads of its own.) Nothing here may be called from a signal
 * handler.
 * Fork: a client belongs to the process that opened it. In a child every call answers
 * TR_ERR_FORKED, tr_client_close frees memory only, and the child opens its own client. It can do
 * so by ipc:// and tcp:// always, by the other two only if its parent had not used NNG. A callback
 * that forks must not return in the child.
 * Strings are UTF-8 with a NUL at the end. What goes in is copied; what comes out is borrowed from
 * the object it came from, unless "free it with tr_memory_free" is said.
 * Errors: a function that can fail returns tr_err, and tr_client_error() then says in a sentence
 * what happened and what to do. Results are written on success only. What the model or its
 * provider did is in the tr_result, not in the return value.
 */
#ifndef TROUPE_H
#define TROUPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#include "protocol/err.h"

typedef struct tr_client tr_client;
typedef struct tr_request tr_request;
typedef struct tr_stream tr_stream;
typedef struct tr_result tr_result;

/* ---- The connection ------------------------------------------------------------------------- */

/* tr_client_options o = TR_CLIENT_OPTIONS_INIT; NULL and 0 mean the default, in every field. */
typedef struct tr_client_options {
    size_t size;            /* set by the macro: lets the struct grow */
    const char *url;        /* ipc://PATH, tcp://HOST:PORT, tls+tcp://HOST:PORT, inproc://NAME;
                               a path that begins with a slash stands for ipc:// and the path;
                               NULL = this user's socket, where `troupe start` puts it */
    const char *token;      /* what a tcp daemon asks for; 16 to 256 bytes */
    const char *token_file; /* or the file that holds it */
    const char *ca_file;    /* tls+tcp: PEM file with the certificates to trust; required there */
    const char *software;   /* "name/version" for the daemon's log; NULL = libtroupe's own */
    uint32_t connect_ms;    /* for opening and greeting; default 5000 */
    uint32_t reconnect_ms; /* how long requests wait for a lost daemon to come back; default 3000 */
    uint32_t silence_ms;   /* a daemon that says nothing for so long, although asked while requests
                              are open, counts as dead; default 30000 */
} tr_client_options;
#define TR_CLIENT_OPTIONS_INIT                                                                     \
    { sizeof(tr_client_options), NULL, NULL, NULL, NULL, NULL, 0, 0, 0 }

/* Connects and greets. Blocks up to connect_ms. TR_ERR_NO_DAEMON (nobody listens), TR_ERR_AUTH,
 * TR_ERR_VERSION, TR_ERR_TIMEOUT, TR_ERR_PROTOCOL (what answers is no trouped), TR_ERR_INVALID
 * (url), TR_ERR_FORKED (tls+tcp:// and inproc:// in a child whose parent had used one),
 * TR_ERR_NOMEM, TR_ERR_IO. When the connection is lost later, open requests fail once each with
 * TR_ERR_CLOSED, and the next request connects anew, with growing pauses between the attempts. */
TR_MUST_USE tr_err tr_client_open(const char *url, tr_client **ret);
TR_MUST_USE tr_err tr_client_open_with(const tr_client_options *options, tr_client **ret);

/* Ends every open request with TR_ERR_CANCELLED first, then disconnects and frees. Threads that
 * wait return. Done callbacks run inside this call, or, while another thread is in
 * tr_client_dispatch, there, so that no two callbacks run at once. Streams stay valid until
 * tr_stream_close. Does not block. No call on the client may begin at the same time or later, those
 * on streams excepted. May be called from a callback. NULL is fine. */
void tr_client_close(tr_client *client);

/* A descriptor for somebody's event loop: readable = call tr_client_dispatch. The same one through
 * the client's life, also when it reconnects; owned by the client. -1: none could be made. */
int tr_client_fd(tr_client *client);

/* Loop thread. Moves bytes, runs the callbacks of tr_client_submit, keeps time limits. Never
 * blocks; does a bounded amount of work and leaves tr_client_fd readable when there is more. TR_OK
 * also when the daemon is gone (the requests know); TR_ERR_FORKED; TR_ERR_CLOSED after
 * tr_client_close ran in a callback (the client is gone then). */
TR_MUST_USE tr_err tr_client_dispatch(tr_client *client);

/* This thread's last failure as a sentence: what, where, what to do. "" before the first. */
const char *tr_client_error(void);

/* What the connection is: TR_OK while connected, else why not. Does not block. */
tr_err tr_client_state(tr_client *client);

/* ---- Requests: built once, sent any number of times ----------------------------------------- */

typedef struct tr_options {
    size_t size;             /* set by the macro */
    const char *model;       /* "provider/name", an alias, a local model; NULL = the default */
    const char *provider;    /* names the provider apart from the model, or NULL */
    const char *base_url;    /* an OpenAI-compatible server without configuration, or NULL */
    const char *system;      /* the system turn, or NULL */
    const char *json_schema; /* the answer shall follow this JSON schema, or NULL */
    const char *grammar;     /* the answer shall follow this GBNF grammar, or NULL */
    const char *extra_json;  /* an object whose fields go to the provider as they are, or NULL */
    const char *const *stop; /* stop strings, at most 16 of 256 bytes */
    size_t stop_count;
    double temperature, top_p, min_p; /* NAN = the model's own, here and in the next line */
    double repeat_penalty, frequency_penalty, presence_penalty;
    int64_t seed;        /* -1 = the daemon chooses */
    int32_t top_k;       /* -1 = the model's own */
    int32_t priority;    /* -128 to 127; greater goes first */
    uint32_t max_tokens; /* 0 = the model's own */
    uint32_t retries;    /* by the daemon, before the first token: 0 to 19 attempts more, over all
                            targets of an alias; TR_RETRIES_DEFAULT = as it is configured */
    uint32_t connect_ms; /* 0 = the daemon's default, here and in the next three */
    uint32_t first_token_ms;
    uint32_t idle_ms; /* between two chunks, while they are read */
    uint32_t total_ms;
    uint32_t window_messages; /* what may wait unread in one stream: 0 = 256 chunks ... */
    uint32_t window_bytes;    /* ... 0 = 256 KiB; least 40 KiB; both are limits at once */
    bool whole;               /* ask the provider for one whole answer instead of a stream */
    bool forget;              /* streams only: the result shall not repeat the text of the chunks */
    bool hedge;               /* make it a second time when its first token is later than those of
                                 95 in 100 requests of that name; the first to answer serves */
    bool one_tool_call;       /* at most one call of a tool in an answer */
    const char *tool_choice;  /* "auto", "none", "required", or the name of the tool to be called;
                                 NULL = auto when there are tools */
    bool show;                /* send nothing: the answer's text is the request that the provider
                                 would get (key struck out), or a local model's prompt */
    const char *reasoning_effort; /* "none", "minimal", "low", "medium", "high", as the provider's
                                     model has them; NULL = its own */
} tr_options;
#define TR_NAN __builtin_nan("")
#define TR_RETRIES_DEFAULT UINT32_MAX
#define TR_OPTIONS_INIT                                                                            \
    {                                                                                              \
        sizeof(tr_options), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, TR_NAN, TR_NAN,     \
            TR_NAN, TR_NAN, TR_NAN, TR_NAN, -1, -1, 0, 0, TR_RETRIES_DEFAULT, 0, 0, 0, 0, 0, 0,    \
            false, false, false, false, NULL, false, NULL                                          \
    }

/* `options` NULL = all defaults. TR_ERR_INVALID says which option; TR_ERR_NOMEM. No I/O. */
TR_MUST_USE tr_err tr_request_new(const tr_options *options, tr_request **ret);
void tr_request_free(tr_request *request); /* also while it runs; NULL is fine */

/* Appends a turn; role: "system", "user", "assistant". TR_ERR_INVALID, TR_ERR_NOMEM. */
TR_MUST_USE tr_err tr_request_text(tr_request *request, const char *role, const char *text);

/* Adds an image to the last turn when it is the user's, else begins one. A path is read now (PNG,
 * JPEG, GIF, WebP; at most 20 MiB; blocks on the file), an http(s):// or data: URL goes as it is.
 * TR_ERR_INVALID, TR_ERR_TOO_LARGE, TR_ERR_IO, TR_ERR_NOMEM. */
TR_MUST_USE tr_err tr_request_image(tr_request *request, const char *path_or_url);

/* A tool that the model may call; `schema_json` of its arguments, or NULL for none. */
TR_MUST_USE tr_err tr_request_tool(tr_request *request, const char *name, const char *description,
                                   const char *schema_json);
/* The same as JSON, `{"type":"function","function":{…}}` or an array of such: as it is written, so
 * with the provider's own fields ("strict", "cache_control"). TR_ERR_INVALID, TR_ERR_NOMEM. */
TR_MUST_USE tr_err tr_request_tools_json(tr_request *request, const char *json);
/* Replaces tr_options.tool_choice from the next time on that `request` is sent, and changes nothing
 * of what runs: "required" for the first turn, NULL (the model decides) for the answer. `choice` is
 * copied. TR_ERR_INVALID ("", too long, or extra_json has a tool_choice): the old one stays;
 * TR_ERR_NOMEM. That there is no such tool is said when it is sent. */
TR_MUST_USE tr_err tr_request_tool_choice(tr_request *request, const char *choice);
/* Appends what a tool gave for the call `call_id`. */
TR_MUST_USE tr_err tr_request_tool_result(tr_request *request, const char *call_id,
                                          const char *text);
/* Appends the assistant's turn as it came: text, tool calls, the provider's own fields. */
TR_MUST_USE tr_err tr_request_answer(tr_request *request, const tr_result *result);
/* The body as it will travel: JSON; free it with tr_memory_free. */
TR_MUST_USE tr_err tr_request_json(const tr_request *request, char **ret);

/* ---- Results -------------------------------------------------------------------------------- */

typedef struct tr_tool_call {
    const char *id, *name, *arguments_json;
} tr_tool_call;

typedef struct tr_usage {
    uint64_t in, out, cached, reasoning; /* tokens; in and out 0 = nobody said (a failure) */
    double cost;                         /* NAN = unknown */
    uint32_t queue_ms, first_token_ms, total_ms;
} tr_usage;

tr_err tr_result_error(const tr_result *result);        /* TR_OK, or why there is no whole answer */
const char *tr_result_message(const tr_result *result); /* a sentence; "" when there is no error */
const char *tr_result_text(const tr_result *result);    /* so far, when it failed; never NULL */
const char *tr_result_reasoning(const tr_result *result);  /* never NULL */
const char *tr_result_finish(const tr_result *result);     /* "stop", "length", "tool_calls",
                                                              "content_filter", "other"; "" */
const char *tr_result_target(const tr_result *result);     /* who served it: "provider/model"; "" */
const char *tr_result_request_id(const tr_result *result); /* the provider's; "" */
uint32_t tr_result_attempts(const tr_result *result);      /* given to a model so often */
bool tr_result_fallback(const tr_result *result); /* served, but not by the target asked first */
bool tr_result_hedged(const tr_result *result);   /* the second of two that were asked served */
uint32_t tr_result_retry_after_ms(const tr_result *result); /* 0 = nobody said */
uint32_t tr_result_status(const tr_result *result);         /* the provider's HTTP status, or 0 */
tr_usage tr_result_usage(const tr_result *result);
/* The provider did not say what was used: the usage's tokens are the daemon's estimate. */
bool tr_result_estimated(const tr_result *result);
size_t tr_result_choices(const tr_result *result); /* 1, unless the request asked for more */
const char *tr_result_choice(const tr_result *result, size_t choice); /* its text, or NULL */
size_t tr_result_tool_calls(const tr_result *result);
tr_tool_call tr_result_tool_call(const tr_result *result, size_t i); /* all NULL beyond the end */
/* A provider's own field of the answer, as JSON, or NULL. */
const char *tr_result_opaque(const tr_result *result, const char *name);
void tr_result_free(tr_result *result); /* NULL is fine */

/* ---- One answer, many answers: these block --------------------------------------------------- */

/* One user turn. TR_OK also when the model failed: ask the result, which the caller frees.
 * TR_ERR_INVALID, TR_ERR_TOO_LARGE (over 32 MiB of body), TR_ERR_NOMEM, TR_ERR_FORKED. */
TR_MUST_USE tr_err tr_ask(tr_client *client, const tr_options *options, const char *prompt,
                          tr_result **ret);
TR_MUST_USE tr_err tr_send_request(tr_client *client, const tr_request *request, tr_result **ret);

/* Called on the thread that gathers, after result `i` was written: `done` of `total` are ready.
 * May call the library, tr_client_close excepted. */
typedef void tr_progress_fn(size_t done, size_t total, size_t i, const tr_result *result,
                            void *arg);
/* Runs all `n`, at most `at_once` (0 = as many as the daemon allows) at a time. Each gets its own
 * result; a failed one does not stop the others. TR_OK: all of ret_n[0..n) are set, the caller
 * frees each. Otherwise none is set: as tr_ask. `fn` may be NULL. */
TR_MUST_USE tr_err tr_gather(tr_client *client, const tr_request *const *requests, size_t n,
                             size_t at_once, tr_result **ret_n, tr_progress_fn *fn, void *arg);

/* ---- A stream, pulled ------------------------------------------------------------------------ */

typedef enum tr_chunk_kind {
    TR_CHUNK_TEXT = 1,
    TR_CHUNK_REASONING,
    TR_CHUNK_TOOL_START, /* `id` and `name` of call number `tool` */
    TR_CHUNK_TOOL_ARGS,  /* `text`: a piece of the arguments' JSON of call number `tool` */
    TR_CHUNK_OPAQUE,     /* a provider's own field: `name`, and `text` as JSON or bytes */
} tr_chunk_kind;

typedef struct tr_chunk {
    tr_chunk_kind kind;
    uint32_t choice; /* 0, unless the request asked for several */
    uint32_t tool;
    const char *text; /* whole characters, NOT NUL-terminated; "" when there is none */
    size_t size;
    const char *id, *name; /* NUL-terminated; "" when there is none */
} tr_chunk;

/* Sends the request. Does not wait for an answer: that nobody answers is told by tr_stream_next.
 * Holds at most its window; not reading slows only this stream. Errors as tr_ask. */
TR_MUST_USE tr_err tr_stream_open(tr_client *client, const tr_request *request, tr_stream **ret);

/* The next chunk: blocks up to `timeout_ms` (-1 = without limit, 0 = not at all). TR_OK: *ret is
 * valid until the next call on this stream. TR_DONE: the answer is complete. TR_ERR_TIMEOUT with
 * tr_stream_result() NULL: nothing came within timeout_ms; call again. Any other error: the stream
 * has failed (said once and for all: calling again gives the same). */
TR_MUST_USE tr_err tr_stream_next(tr_stream *stream, int timeout_ms, tr_chunk *ret);

/* After the end, TR_DONE or a failure: text so far, usage; borrowed from the stream. NULL before.
 */
const tr_result *tr_stream_result(const tr_stream *stream);

/* Asks the daemon to stop; what is unread is dropped, tr_stream_next then gives TR_ERR_CANCELLED as
 * soon as the daemon has confirmed, or after 2 s. Any thread, does not block. */
void tr_stream_cancel(tr_stream *stream);

/* Cancels when still open, and frees. Does not block. NULL is fine. */
void tr_stream_close(tr_stream *stream);

/* ---- A stream, pushed: for event loops ------------------------------------------------------- */

/* Both run inside tr_client_dispatch (or tr_client_close), never elsewhere, and may call the
 * library (blocking calls too, if the loop can bear it). What they are given lasts until they
 * return. `done` comes exactly once and nothing after it. */
typedef void tr_chunk_fn(const tr_chunk *chunk, void *arg);
typedef void tr_done_fn(const tr_result *result, void *arg);

/* Sends without waiting. When it fails, no callback comes; errors as tr_ask. `on_chunk` may be NULL
 * when only the result matters. `ret_id` (may be NULL) is for tr_client_cancel. */
TR_MUST_USE tr_err tr_client_submit(tr_client *client, const tr_request *request,
                                    tr_chunk_fn *on_chunk, tr_done_fn *on_done, void *arg,
                                    uint64_t *ret_id);
/* Asks the daemon to stop; no chunk comes after it, `done` still does, once. Not blocking.
 * TR_ERR_NOT_FOUND: it has ended already. */
TR_MUST_USE tr_err tr_client_cancel(tr_client *client, uint64_t id);

/* ---- Embeddings, counting, models, control: these block -------------------------------------- */

/* Embeds `n` texts, 1 or more, in as many requests as the provider's limits make of them, side by
 * side: *ret is n rows of *ret_dim floats in the texts' order; free it with tr_memory_free. A
 * failure of the model is returned (there is no result to ask), and its sentence names the texts
 * that it is about when there were several requests; otherwise as tr_ask. */
TR_MUST_USE tr_err tr_embed(tr_client *client, const tr_options *options, const char *const *texts,
                            size_t n, float **ret, size_t *ret_dim);
/* The tokens of the prompt; *ret_exact false = estimated. Errors as tr_embed. */
TR_MUST_USE tr_err tr_count_tokens(tr_client *client, const tr_request *request, uint64_t *ret,
                                   bool *ret_exact);
/* One control request as PROTOCOL.md lists them, such as {"do":"tree"}; *ret is the answer's JSON,
 * free it with tr_memory_free. TR_ERR_NOT_FOUND and the like as the daemon says. */
TR_MUST_USE tr_err tr_control_json(tr_client *client, const char *request_json, char **ret);
TR_MUST_USE tr_err tr_models_json(tr_client *client, char **ret);
/* A local model, or provider/model at a provider that loads models itself (ollama, lmstudio; else
 * TR_ERR_UNSUPPORTED). tr_load returns when it is loaded. */
TR_MUST_USE tr_err tr_load(tr_client *client, const char *model);
TR_MUST_USE tr_err tr_unload(tr_client *client, const char *model);

/* Frees what the library gave away. NULL is fine. */
void tr_memory_free(void *memory);

/* "0.1.0", of the library that is loaded. */
const char *tr_version(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
