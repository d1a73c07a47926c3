/*
 * What the engine's files share. A request (tri_seq) holds all its tokens in one array: the prompt,
 * then those sent before a resume, then those generated; the first `fed` of them are in the KV
 * cache of its slot. Feeding until fed = count and then sampling one more token is all that a
 * sequence ever does, whichever part of the array it is in.
 */
#ifndef TR_INFERENCE_ENGINE_INTERNAL_H
#define TR_INFERENCE_ENGINE_INTERNAL_H

#include <llama.h>
#include <stdatomic.h>

#include "inference/engine.h"
#include "inference/engine_sample.h"
#include "inference/engine_text.h"
#include "inference/engine_tools.h"

typedef enum tri_seq_state {
    TRI_SEQ_READING = 1, /* its text is being read: see engine_read.c */
    TRI_SEQ_WAITING,     /* for a slot, or for its embedding's turn */
    TRI_SEQ_FEEDING,     /* its prompt goes in */
    TRI_SEQ_RUNNING,     /* one token a decode, unless it has no credit */
    TRI_SEQ_ENDING,      /* its last text waits for credit, then its DONE */
} tri_seq_state;

typedef struct tri_seq {
    struct tri_seq *next;              /* in order of arrival */
    struct tr_engine_reading *reading; /* while READING */
    uint64_t ref;
    tr_op op;
    tri_seq_state state;
    tr_chat *chat;
    int32_t slot; /* -1 = none */
    llama_token *tokens;
    size_t count, room;
    size_t prompt_count;
    size_t fed;
    size_t feeding; /* of them in this decode */
    bool shared;    /* other slots' caches have been looked at */
    size_t cached;  /* of the prompt: found in the KV cache */
    size_t max;     /* count when it is at max_tokens or at the end of its context */
    int32_t row;    /* of its logits in this decode's batch; -1 = none */
    tri_sampler sampler;
    tri_text text;
    tri_tools *tools; /* NULL = the model knows of none */
    uint32_t credit_messages, credit_bytes;
    uint32_t delta_seq;
    tr_finish finish;
    llama_token **inputs; /* of an EMBED: one array an input */
    size_t *input_counts;
    size_t embedded;       /* inputs answered */
    float *embedding;      /* the one that waits for credit, or NULL */
    size_t embedding_at;   /* how much of it is sent */
    size_t embedding_skip; /* of the next one, sent before a resume */
    int64_t arrived_us, first_us;
} tri_seq;

typedef struct tri_slot {
    tri_seq *seq;        /* NULL = free */
    llama_token *cached; /* of a free slot: what its KV cache holds */
    size_t cached_count;
    int64_t used_us;
} tri_slot;

struct tr_engine {
    tr_engine_spec spec;
    struct llama_model *model;
    const struct llama_vocab *vocab;
    struct llama_context *context;       /* NULL when the model only embeds */
    struct llama_context *embed_context; /* made at the first embedding */
    struct llama_batch batch, embed_batch;
    uint32_t batch_room;
    char *template_text; /* for llama_chat_apply_template; NULL = none */
    char *model_name;
    uint32_t sequences, context_max; /* tokens a sequence */
    uint32_t embed_max;              /* tokens an input */
    size_t token_bytes_max; /* no token stands for more of a text; 0 = there is no such bound */
    bool can_trim;          /* the KV cache can drop a sequence's tail */
    tri_slot *slots;
    tri_seq *first, **last; /* all requests */
    uint32_t active;
    tri_sampler_scratch scratch;
    tr_engine_info totals;
    atomic_bool aborted; /* set by any thread, read by the decode; nothing is published by it */
};

/* engine_model.c */
tr_err tri_engine_load(tr_engine *engine, char *ret_why);
tr_err tri_engine_open_embed(tr_engine *engine, char *ret_why);
void tri_engine_log_clear(void);
/* The first error that libllama logged since then, or "". */
const char *tri_engine_log_first(char *buf, size_t size);

/* engine_prompt.c: the request's turns in the model's own format, as tokens. */
tr_err tri_engine_prompt(const tr_engine *engine, const tr_chat *chat, const tri_tools *tools,
                         llama_token **ret_tokens, size_t *ret_count, char *ret_why);
/* Text of that size certainly has more than `limit` tokens; *ret_least: at least so many. */
bool tri_engine_too_long(const tr_engine *engine, size_t bytes, size_t limit, size_t *ret_least);
tr_err tri_engine_tokenize(const tr_engine *engine, tr_str text, bool first, bool special,
                           llama_token **tokens, size_t *count);

/* engine_slot.c */
/* Gives the request a free slot, the one whose cache begins most like it. False: none is free. */
bool tri_slot_assign(tr_engine *engine, tri_seq *seq);
/* Before its first token goes in: takes over what another slot has computed of the same prefix. */
void tri_slot_share(tr_engine *engine, tri_seq *seq);
/* Frees it, keeping its cache for a later request unless `spoilt`. No slot is fine. */
void tri_slot_release(tr_engine *engine, tri_seq *seq, bool spoilt);

/* engine_emit.c: everything that leaves a request. */
/* With tools a DELTA may end inside a token. A number below 0 among the token ids says of those
 * before it: -1 - N = the last N bytes of their text are not said yet; the other: they are, also
 * those that were held back at the answer's end. Only the last such mark counts. */
#define TRI_MARK_FLUSHED INT32_MIN
void tri_emit_fail(tr_engine *engine, const tri_seq *seq, tr_err err, uint16_t flags,
                   const char *why);
void tri_emit_done(tr_engine *engine, const tri_seq *seq);
/* Sends what may be sent. False: it waits for credit. */
bool tri_emit_text(tr_engine *engine, tri_seq *seq);
bool tri_emit_embedding(tr_engine *engine, tri_seq *seq);

/* engine_embed.c: turns the inputs into tokens (any thread); computes the request's next embedding,
 * when the one before has been sent. */
tr_err tri_engine_embed_inputs(const tr_engine *engine, tri_seq *seq, const int32_t *resume,
                               uint32_t resume_count, char *ret_why);
tr_err tri_engine_embed(tr_engine *engine, tri_seq *seq, char *ret_why);

/* engine_read.c: the request is gone before it was read. */
void tri_reading_cancel(struct tr_engine_reading *reading);

/* engine_seq.c: the requests themselves. */
tri_seq *tri_seq_find(const tr_engine *engine, uint64_t ref);
/* Checks and prepares the request; on an error `ret_why` says what is wrong. Any thread: it writes
 * to nothing but `seq`, which no list may hold then. */
tr_err tri_seq_prepare(const tr_engine *engine, tri_seq *seq, const tr_submit *submit,
                       const int32_t *resume, char *ret_why);
/* A token of the answer, sent before or sampled now: grammar, text, array. TR_ERR_INVALID: the
 * grammar forbids it. */
tr_err tri_seq_accept(const tr_engine *engine, tri_seq *seq, llama_token token);
void tri_seq_finish(tri_seq *seq, tr_finish finish);
/* Frees what it holds. */
void tri_seq_fini(tri_seq *seq);
/* Takes it off the list and frees it. */
void tri_seq_remove(tr_engine *engine, tri_seq *seq, bool spoilt);

#endif
