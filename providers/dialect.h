/*
 * What a dialect is: the pure codec between Troupe's requests and one vendor's HTTP API. A dialect
 * is one file pair that defines one tr_dialect; the provider actor and the tests drive it through
 * decoder.h and know no vendor. Everything here is pure: no I/O, no clock, no environment.
 */
#ifndef TR_PROVIDERS_DIALECT_H
#define TR_PROVIDERS_DIALECT_H

#include "protocol/chat.h"
#include "protocol/limits.h"
#include "protocol/wire.h"

/* How a server differs from the dialect's reference; a catalog row says which apply. */
enum {
    TR_QUIRK_MAX_COMPLETION_TOKENS = 1 << 0, /* max_tokens is refused by its newer models */
    TR_QUIRK_NO_STREAM_OPTIONS = 1 << 1,     /* refuses stream_options, sends usage by itself */
    TR_QUIRK_RANDOM_SEED = 1 << 2,           /* the seed's name is random_seed */
    TR_QUIRK_NO_SEED = 1 << 3,
    TR_QUIRK_NO_SCHEMA = 1 << 4,          /* cannot hold an answer to a JSON schema */
    TR_QUIRK_TOP_K = 1 << 5,              /* takes top_k */
    TR_QUIRK_MIN_P = 1 << 6,              /* takes min_p */
    TR_QUIRK_REPEAT_PENALTY = 1 << 7,     /* takes repeat_penalty */
    TR_QUIRK_REPETITION_PENALTY = 1 << 8, /* takes it under that name */
    TR_QUIRK_REPEAT_LAST_N = 1 << 9,
    TR_QUIRK_GRAMMAR = 1 << 10,            /* takes GBNF as `grammar` */
    TR_QUIRK_STRUCTURED_OUTPUTS = 1 << 11, /* takes it as structured_outputs.grammar */
    TR_QUIRK_NO_EMBED = 1 << 12,
    TR_QUIRK_STOP_4 = 1 << 13,       /* at most four stop strings */
    TR_QUIRK_LMSTUDIO_API = 1 << 14, /* lists, loads and unloads models by LM Studio's own API */
    TR_QUIRK_AZURE_URL = 1 << 15,    /* a model is a deployment in the path (azure.h) */
    TR_QUIRK_TOKENIZE = 1 << 16,     /* counts a prompt's tokens, by vLLM's /tokenize */
    TR_QUIRK_NO_JSON_MODE = 1 << 17, /* knows schemas, but not "any object" */
};

typedef struct tr_encode {
    tr_op op;            /* chat, embed or count; of `inquire` one of those behind control */
    const tr_chat *chat; /* NULL for `inquire` */
    tr_str model;
    bool stream;
    uint32_t quirks;
    const char *provider; /* for sentences */
} tr_encode;

typedef struct tr_encoded {
    char path[832]; /* below the base URL, begins with a slash */
    bool from_root; /* the path stands in place of the base URL's own */
    bool get;       /* GET and no body; else POST */
    char *body;     /* to be freed by free(); NULL = none */
    size_t body_size;
} tr_encoded;

/* A piece of the answer; borrowed until the sink returns. A text is whole UTF-8 characters of any
 * length (the provider splits it). */
typedef struct tr_piece {
    tr_delta_kind kind;
    uint32_t choice;
    uint32_t tool;
    tr_str id, name, text;
} tr_piece;

/* TR_OK, or an error that ends the decoding. */
typedef tr_err tr_piece_fn(void *arg, const tr_piece *piece);

/* How the answer ended. */
typedef struct tr_outcome {
    tr_err err;     /* TR_OK = the answer is complete */
    uint8_t finish; /* tr_finish, 0 = the server never said */
    bool has_usage;
    tr_usage_wire usage;              /* times are the provider actor's business */
    uint32_t retry_after_ms;          /* of the body; 0 = none */
    char message[TR_MESSAGE_max + 1]; /* of a failure: the server's words */
    char id[128];                     /* the answer's own id */
    char model[TR_NAME_max + 1];      /* the model that says it answered */
} tr_outcome;

typedef enum tr_framing { TR_FRAMING_SSE, TR_FRAMING_NDJSON } tr_framing;

/* What a dialect's functions get while an answer is decoded. */
typedef struct tr_decoding {
    tr_op op;
    uint16_t status; /* of HTTP */
    tr_piece_fn *fn;
    void *arg;
    tr_outcome *outcome;
    void *state; /* the dialect's, state_size zeroed bytes */
} tr_decoding;

typedef struct tr_dialect {
    const char *name;
    tr_framing framing;
    /* The vendor counts a prompt's tokens, as does a server with TR_QUIRK_TOKENIZE; else they are
     * estimated. */
    bool counts;
    size_t state_size;
    /* TR_ERR_INVALID or TR_ERR_UNSUPPORTED with a sentence in `ret_why` (>= 160 bytes), or
     * TR_ERR_NOMEM. */
    tr_err (*encode)(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size);
    /* One event of a stream. TR_OK: go on. TR_DONE: the answer is complete. Else it has failed, and
     * the outcome's message may say how. */
    tr_err (*event)(tr_decoding *decoding, tr_str type, tr_str data, bool last);
    /* A whole JSON body of a 2xx answer: TR_DONE or a failure. */
    tr_err (*whole)(tr_decoding *decoding, tr_str body);
    /* The stream ended without TR_DONE, `cut` when the transfer was broken off: TR_DONE when what
     * came is complete all the same, else TR_ERR_TRUNCATED. */
    tr_err (*eof)(tr_decoding *decoding, bool cut);
    /* The body of an answer that is not 2xx: the failure, never TR_OK. */
    tr_err (*refusal)(tr_decoding *decoding, tr_str body);
    void (*fini)(tr_decoding *decoding);
    /* What concerns the provider's models and no prompt: TR_OP_MODELS to TR_OP_UNLOAD. Errors as
     * of `encode`; NULL = the vendor has nothing of the kind. Its answer is read by
     * tri_inventory_report. */
    tr_err (*inquire)(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size);
} tr_dialect;

/* By name, or NULL. */
const tr_dialect *tr_dialect_find(const char *name);

#endif
