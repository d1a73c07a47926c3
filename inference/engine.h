/*
 * The engine: one model, one libllama context, many sequences at once (continuous batching). It
 * knows neither processes nor links: requests go in by calls, their DELTAs and terminals come out
 * through `emit`. Everything of one engine is called from one thread, but tr_engine_read and
 * tr_engine_abort.
 *
 * Text: a DELTA carries whole tokens and exactly their text. A token is held back while its text
 * ends inside a character or may begin a stop string. Bytes that are no UTF-8 become U+FFFD.
 * Sampling: token i's random number is a function of the seed and i alone, so a stream resumes
 * exactly from its token ids; docs/local-models.md says what is reproducible and what is not.
 */
#ifndef TR_INFERENCE_ENGINE_H
#define TR_INFERENCE_ENGINE_H

#include "protocol/chat.h"
#include "runtime/msg.h"

#define TR_ENGINE_SEQUENCES_max 256 /* libllama's own limit */
#define TR_ENGINE_REQUESTS_max 1024 /* running and waiting; more get FAIL overloaded */
#define TR_ENGINE_GRAMMAR_max (64 * 1024)
#define TR_ENGINE_WHY_size 1024

typedef struct tr_engine tr_engine;

typedef struct tr_engine_spec {
    const char *model_file;
    const char *model_name;    /* the target that DONE names */
    const char *chat_template; /* one of libllama's names ("chatml"); NULL = the model's own */
    uint32_t sequences;        /* in parallel; 0 = 4 */
    uint32_t context;   /* tokens a sequence, at most what the model was trained on; 0 = that */
    uint32_t threads;   /* 0 = one a processor */
    int32_t gpu_layers; /* negative = all */
    /* Load progress, 0 to 100; false stops the load (TR_ERR_CANCELLED). NULL = not wanted. */
    bool (*progress)(void *arg, uint32_t percent);
    /* A decode gets on: many times in each, on the thread that decodes (where libllama's backend
     * asks whether it is to go on; others are quick). NULL = not wanted. */
    void (*tick)(void *arg);
    /* Takes a DELTA, DONE or FAIL with ref set. Called from the functions below. */
    void (*emit)(void *arg, tr_msg *msg);
    void *arg;
} tr_engine_spec;

typedef struct tr_engine_info {
    uint32_t sequences;
    uint32_t context;
    uint32_t active; /* requests that are not yet answered */
    uint64_t decodes;
    uint64_t tokens_in, tokens_cached, tokens_out; /* of all requests so far */
    bool chats, embeds;
} tr_engine_info;

/* libllama's version as it runs ("0.5.0-dev"), or "unknown". Any thread. */
const char *tr_engine_version(void);

/* Reads the head of a GGUF file: TR_OK when it could be a model. `ret_context`: its training
 * context. On failure `ret_why` (>= TR_ENGINE_WHY_size) is a sentence with the file's name. */
TR_MUST_USE tr_err tr_engine_peek(const char *model_file, uint32_t *ret_context, char *ret_why);

/* Loads the model; blocks. On failure `ret_why` (>= TR_ENGINE_WHY_size) says what and what to do:
 * TR_ERR_NOT_FOUND (no file), TR_ERR_INVALID (not a model, corrupt), TR_ERR_UNSUPPORTED (chat
 * template, kind of model), TR_ERR_VERSION, TR_ERR_NOMEM, TR_ERR_CANCELLED. */
TR_MUST_USE tr_err tr_engine_new(const tr_engine_spec *spec, tr_engine **ret, char *ret_why);
/* Frees all; requests that still run get no terminal. NULL is fine. */
void tr_engine_free(tr_engine *engine);

/* Starts a request: `chat` is taken over, also when it fails. `resume`: the tokens sent so far by
 * another engine with the same model. Exactly one DONE or FAIL{ref} follows, perhaps from within.
 * CHAT, EMBED, COUNT; the JSON of COUNT is {"tokens": N, "context": M}. `ref` must be new. */
void tr_engine_add(tr_engine *engine, uint64_t ref, const tr_submit *submit, const int32_t *resume,
                   tr_chat *chat);
/* As tr_engine_add with a SUBMIT message that passed tr_wire_check; takes it. One with a ref that
 * is in use is dropped: its one answer comes from the request that has it. */
void tr_engine_submit(tr_engine *engine, tr_msg *submit);

/* The same in three steps, since reading a long request (its JSON, its tokens) takes as long as
 * many decodes: begin takes the message, and from then on cancel and credit know the request;
 * read, on any thread, does the work; end lets it run, or drops it when it was cancelled meanwhile.
 * Every reading that begin returns must be ended, before the engine is freed. */
typedef struct tr_engine_reading tr_engine_reading;
/* NULL: it was answered already, or dropped. */
tr_engine_reading *tr_engine_begin(tr_engine *engine, tr_msg *submit);
void tr_engine_read(tr_engine_reading *reading);
void tr_engine_end(tr_engine *engine, tr_engine_reading *reading);
/* For whoever keeps it in a queue; any thread. */
bool tr_engine_reading_cancelled(const tr_engine_reading *reading);
tr_engine_reading **tr_engine_reading_next(tr_engine_reading *reading);
/* FAIL cancelled now, and the slot is free for the next decode. An unknown ref is fine. */
void tr_engine_cancel(tr_engine *engine, uint64_t ref);
void tr_engine_cancel_all(tr_engine *engine);
/* More credit; an unknown ref is fine. */
void tr_engine_credit(tr_engine *engine, uint64_t ref, uint32_t messages, uint32_t bytes);

/* One decode (or one embedding) with everything that can run. False: nothing can run until one of
 * the calls above. */
TR_MUST_USE bool tr_engine_step(tr_engine *engine);

/* Makes a decode that runs now, and every later one, return early: for the end of the process. The
 * one call that any thread may make. */
void tr_engine_abort(tr_engine *engine);

void tr_engine_info_get(const tr_engine *engine, tr_engine_info *ret);

#endif
