/*
 * Every maximum in one place: what a queue, a buffer, a retry or a body may grow to. Bytes unless
 * the name says otherwise. A limit that a user may change in the configuration has its default here
 * and its hard maximum beside it.
 */
#ifndef TR_PROTOCOL_LIMITS_H
#define TR_PROTOCOL_LIMITS_H

/* The wire. */
#define TR_FRAME_HEADER_size 24
#define TR_FRAME_INLINE_max (64 * 1024)      /* the fixed part and its strings */
#define TR_FRAME_BODY_max (32 * 1024 * 1024) /* a SUBMIT's JSON: images travel inside it */
#define TR_FRAME_max (TR_FRAME_HEADER_size + TR_FRAME_INLINE_max + TR_FRAME_BODY_max)
#define TR_TOKEN_max 256 /* the shared secret of a tcp listener */
#define TR_NAME_max 255  /* a target, provider, model, tool or worker name */
#define TR_URL_max 2047
#define TR_MESSAGE_max 2047 /* the sentence of a FAIL */

/* Streams. */
#define TR_DELTA_TEXT_max (32 * 1024) /* one DELTA's text, split at a character */
#define TR_DELTA_TOKENS_max 1024      /* one DELTA's token ids */
#define TR_DELTA_max (40 * 1024)      /* one DELTA's whole inline part: text, tokens, id, name */
#define TR_CREDIT_MESSAGES_default 256
#define TR_CREDIT_BYTES_default (256 * 1024)
#define TR_CREDIT_BYTES_min TR_DELTA_max /* less could never be filled by the largest DELTA */
#define TR_CREDIT_MESSAGES_max (64 * 1024)
#define TR_CREDIT_BYTES_max (16 * 1024 * 1024)
#define TR_RESUME_TOKENS_max 15000 /* what fits a SUBMIT's inline part beside its strings */

/* Requests. */
#define TR_STREAMS_PER_CLIENT_max 4096
#define TR_RESULT_max (64 * 1024 * 1024) /* what the client library collects of one answer */
#define TR_IMAGE_max (20 * 1024 * 1024)  /* an image file that it reads */
#define TR_INPUTS_max 2048               /* texts of one embed request */
#define TR_REQUESTS_max 65536            /* calls alive in one daemon */
#define TR_BODIES_max                                                                              \
    (1024ULL * 1024 * 1024) /* bytes of SUBMITs' bodies that running requests hold */
#define TR_BODIES_PER_CLIENT_max (256ULL * 1024 * 1024) /* of them, by one connection's */
#define TR_ATTEMPTS_default 3
#define TR_ATTEMPTS_max 20
#define TR_TARGETS_max 8   /* of one alias, those of aliases in it counted */
#define TR_WEIGHT_max 1000 /* of a target */
#define TR_STOP_max 16     /* stop strings of a request */
#define TR_STOP_TEXT_max 256
#define TR_JSON_DEPTH_max 64
#define TR_JSON_VALUES_max (8 * 1024 * 1024) /* of one text: embeddings are many numbers */
#define TR_CHAT_VALUES_max (128 * 1024)      /* of one request: a shard reads it in one go */
#define TR_CONTROL_BODY_max (16 * 1024)      /* the JSON of a control request */
#define TR_CONTROLS_PER_CLIENT_max 64        /* of the streams of one connection */
#define TR_PAUSE_MS_default 1000             /* an unread stream gives its sequence back */
#define TR_RATE_max 1000000000               /* requests or tokens a minute */
#define TR_TIMEOUT_MS_max (24U * 3600U * 1000U)

/* Providers' keys. */
#define TR_KEY_max 2048                 /* one key */
#define TR_KEYS_max 16                  /* of one provider, all its sources together */
#define TR_KEY_SOURCES_max 8            /* of one provider */
#define TR_KEY_SOURCE_max 511           /* the text that names a source */
#define TR_KEY_FILE_max (64 * 1024)     /* a file with keys, or what a command prints */
#define TR_KEY_COMMAND_MS_max 30000U    /* a command that prints keys */
#define TR_KEY_REST_MS_min 10000U       /* a refused key is tried again after it, then later … */
#define TR_KEY_REST_MS_max 300000U      /* … and later, up to this */
#define TR_KEY_LIMITED_MS_default 5000U /* at its rate limit, and nobody says how long */

/* Actors. */
#define TR_SHARDS_max 64
#define TR_MAILBOX_default 4096 /* messages; control messages bypass it */
#define TR_ACTORS_PER_SHARD_max (1U << 24)
#define TR_ACTOR_NAME_max 63
#define TR_CONNECTIONS_max 4096 /* clients of one daemon */
#define TR_LINK_BUFFER_max (64 * 1024)

/* Supervision. */
#define TR_RESTARTS_default 1 /* OTP's intensity and period */
#define TR_PERIOD_MS_default 5000
#define TR_WORKER_RESTARTS 10
#define TR_WORKER_PERIOD_MS 60000
#define TR_RESUMES_WITHOUT_TOKEN_max                                                               \
    3 /* a request that kills this many workers in a row without a token is at fault */

#endif
