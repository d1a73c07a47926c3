/*
 * Loading: everything that can be wrong with a model file is found here, before the first request,
 * and said in a sentence with what to do about it. libllama says why it refuses a file only in its
 * log, so the log is caught. The KV cache: one stream a sequence, keys F16 and values BF16 with
 * flash attention, a pair for which ggml's processor code has a single kernel: the same token then
 * gets the same bits whatever else is in the batch and however the prompt is cut, which resuming
 * relies on (docs/local-models.md); it is no slower than F16 for both. Called by the engine's
 * thread; the log's buffers are each thread's own.
 */
#include <errno.h>
#include <gguf.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inference/engine_internal.h"
#include "protocol/assert.h"
#include "runtime/memory.h"

#ifndef TR_LLAMA_BUILT_VERSION
#define TR_LLAMA_BUILT_VERSION ""
#endif

enum {
    prompt_tokens_max = 512, /* of one decode */
    context_unknown = 4096,  /* of a model that does not say what it was trained on */
    embed_tokens_max = 2048, /* of one input: its logits are computed as well, which takes memory */
};

/* A thread's own, since requests are read beside the decodes, and each wants its own reason. */
static _Thread_local char log_first[512];

static void on_log(enum ggml_log_level level, const char *text, void *arg) {
    (void)arg;
    if (level != GGML_LOG_LEVEL_ERROR) {
        return;
    }
    if (log_first[0] == '\0') {
        snprintf(log_first, sizeof log_first, "%s", text);
        log_first[strcspn(log_first, "\n")] = '\0';
    }
}

static void catch_log(void) {
    llama_log_set(on_log, NULL);
}

void tri_engine_log_clear(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT; /* it is process-wide, and has no lock */
    pthread_once(&once, catch_log);
    log_first[0] = '\0';
}

const char *tri_engine_log_first(char *buf, size_t size) {
    size_t length = tr_utf8_cut(log_first, strlen(log_first), size - 1);
    memcpy(buf, log_first, length);
    buf[length] = '\0';
    return buf;
}

/* --- versions --- */

const char *tr_engine_version(void) {
#ifdef TR_LLAMA_HAS_VERSION
    return llama_version();
#else
    return "unknown";
#endif
}

/* A field that moved between two versions of a structure is silent memory corruption, so headers
 * and library must agree as far as either says what it is. */
static tr_err check_version(char *ret_why) {
    const char *built = TR_LLAMA_BUILT_VERSION, *runs = tr_engine_version();
    int built_major, built_minor, major, minor;
    if (sscanf(built, "%d.%d", &built_major, &built_minor) != 2 ||
        sscanf(runs, "%d.%d", &major, &minor) != 2) {
        return TR_OK;
    }
    if (built_major == major && built_minor == minor) {
        return TR_OK;
    }
    snprintf(ret_why, TR_ENGINE_WHY_size,
             "troupe-worker was built with libllama %s and runs with %s: build it again", built,
             runs);
    return TR_ERR_VERSION;
}

/* --- the file --- */

static tr_err check_file(const char *file, char *ret_why) {
    struct stat st;
    char magic[4];
    if (stat(file, &st) != 0) {
        snprintf(ret_why, TR_ENGINE_WHY_size,
                 "%s: %s: the configuration's local.NAME.file says which GGUF file a model is; "
                 "tools/setup fetches the default one",
                 file, strerror(errno));
        return errno == ENOENT || errno == ENOTDIR ? TR_ERR_NOT_FOUND : TR_ERR_IO;
    }
    if (!S_ISREG(st.st_mode)) {
        snprintf(ret_why, TR_ENGINE_WHY_size, "%s: it is no file", file);
        return TR_ERR_INVALID;
    }
    FILE *in = fopen(file, "rb");
    if (in == NULL) {
        snprintf(ret_why, TR_ENGINE_WHY_size, "%s: %s", file, strerror(errno));
        return TR_ERR_IO;
    }
    bool is_gguf = fread(magic, 1, 4, in) == 4 && memcmp(magic, "GGUF", 4) == 0;
    fclose(in);
    if (!is_gguf) {
        snprintf(ret_why, TR_ENGINE_WHY_size,
                 "%s: it is no GGUF file (other formats are turned into GGUF by llama.cpp's "
                 "convert_hf_to_gguf.py)",
                 file);
        return TR_ERR_INVALID;
    }
    return TR_OK;
}

/* libllama's log is all that tells an intact file for which there is no memory from a broken one:
 * what the kernel and ggml say of it. */
static bool lacks_memory(const char *logged) {
    static const char *const said[] = {"Cannot allocate memory", "failed to allocate",
                                       "unable to allocate", "std::bad_alloc", "out of memory"};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        if (strcasestr(logged, said[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* In MiB; 0 = nobody knows. Within the process's own limit, if it has one. */
static unsigned long long memory_left_mib(void) {
    unsigned long long left = 0, pages = 0;
    char line[128];
    FILE *in = fopen("/proc/meminfo", "re");
    while (in != NULL && fgets(line, sizeof line, in) != NULL) {
        if (sscanf(line, "MemAvailable: %llu kB", &left) == 1) {
            left >>= 10;
            break;
        }
    }
    if (in != NULL) {
        fclose(in);
    }
    struct rlimit limit;
    in = fopen("/proc/self/statm", "re");
    if (in != NULL && fscanf(in, "%llu", &pages) == 1 && getrlimit(RLIMIT_AS, &limit) == 0 &&
        limit.rlim_cur != RLIM_INFINITY) {
        unsigned long long used = pages * (unsigned long long)sysconf(_SC_PAGESIZE);
        unsigned long long own = limit.rlim_cur > used ? (limit.rlim_cur - used) >> 20 : 0;
        left = own < left ? own : left;
    }
    if (in != NULL) {
        fclose(in);
    }
    return left;
}

static tr_err no_memory(const char *file, const char *logged, char *ret_why) {
    struct stat st;
    unsigned long long size_mib = stat(file, &st) == 0 ? (unsigned long long)st.st_size >> 20 : 0;
    snprintf(ret_why, TR_ENGINE_WHY_size,
             "%s: there is not enough memory for it: the model takes %llu MiB and its sequences "
             "more, and %llu MiB are left%s%s%s (raise the limit on memory, stop what else needs "
             "it, run fewer workers or sequences or a smaller context, or take a smaller model)",
             file, size_mib, memory_left_mib(), logged[0] != '\0' ? " (" : "", logged,
             logged[0] != '\0' ? ")" : "");
    return TR_ERR_NOMEM;
}

static tr_err corrupt(const char *file, char *ret_why) {
    char logged[400];
    tri_engine_log_first(logged, sizeof logged);
    if (lacks_memory(logged)) {
        return no_memory(file, logged, ret_why);
    }
    snprintf(ret_why, TR_ENGINE_WHY_size,
             "%s: the file is truncated or corrupt, or of a kind that libllama %s does not know%s%s"
             " (compare its size and checksum with its source's, and fetch it again)",
             file, tr_engine_version(), logged[0] != '\0' ? ": " : "", logged);
    return TR_ERR_INVALID;
}

tr_err tr_engine_peek(const char *model_file, uint32_t *ret_context, char *ret_why) {
    tr_err err = check_file(model_file, ret_why);
    if (err != TR_OK) {
        return err;
    }
    tri_engine_log_clear();
    struct gguf_context *gguf =
        gguf_init_from_file(model_file, (struct gguf_init_params){.no_alloc = true, .ctx = NULL});
    if (gguf == NULL) {
        return corrupt(model_file, ret_why);
    }
    char key[256];
    int64_t at = gguf_find_key(gguf, "general.architecture");
    bool named = at >= 0 && gguf_get_kv_type(gguf, at) == GGUF_TYPE_STRING;
    if (named) {
        snprintf(key, sizeof key, "%s.context_length", gguf_get_val_str(gguf, at));
        at = gguf_find_key(gguf, key);
        *ret_context = at >= 0 && gguf_get_kv_type(gguf, at) == GGUF_TYPE_UINT32
                           ? gguf_get_val_u32(gguf, at)
                           : 0;
    }
    gguf_free(gguf);
    return named ? TR_OK : corrupt(model_file, ret_why);
}

static bool on_progress(float progress, void *arg) {
    tr_engine *engine = arg;
    return engine->spec.progress == NULL ||
           engine->spec.progress(engine->spec.arg, (uint32_t)(progress * 100));
}

static tr_err load_model(tr_engine *engine, char *ret_why) {
    const char *file = engine->spec.model_file;
    uint32_t trained;
    tr_err err = tr_engine_peek(file, &trained, ret_why);
    if (err != TR_OK) {
        return err;
    }
    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = engine->spec.gpu_layers;
    params.check_tensors = true;
    params.progress_callback = on_progress;
    params.progress_callback_user_data = engine;
    tri_engine_log_clear();
    engine->model = llama_model_load_from_file(file, params);
    if (engine->model == NULL) {
        char logged[400];
        tri_engine_log_first(logged, sizeof logged);
        if (logged[0] == '\0' || strstr(logged, "cancel") != NULL) {
            snprintf(ret_why, TR_ENGINE_WHY_size, "%s: the load was stopped", file);
            return TR_ERR_CANCELLED;
        }
        return corrupt(file, ret_why);
    }
    engine->vocab = llama_model_get_vocab(engine->model);
    if (llama_model_has_encoder(engine->model) && llama_model_has_decoder(engine->model)) {
        snprintf(ret_why, TR_ENGINE_WHY_size,
                 "%s: encoder-decoder models (T5) are not supported: use a decoder-only one", file);
        return TR_ERR_UNSUPPORTED;
    }
    return TR_OK;
}

/* --- the chat template --- */

static bool template_works(const char *text) {
    struct llama_chat_message message = {.role = "user", .content = "x"};
    char buf[4096];
    return llama_chat_apply_template(text, &message, 1, true, buf, sizeof buf) > 0;
}

/* Behind the sentence; as many whole names as there is room for. */
static void list_templates(char *ret_why, size_t used) {
    static const char more[] = " \u2026";
    const char *known[128];
    int32_t count = llama_chat_builtin_templates(known, 128);
    for (int32_t i = 0; i < count && i < 128; i++) {
        size_t room = TR_ENGINE_WHY_size - sizeof more;
        if (used + 1 + strlen(known[i]) > room) {
            if (used <= room) {
                memcpy(ret_why + used, more, sizeof more);
            }
            return;
        }
        used += (size_t)snprintf(ret_why + used, TR_ENGINE_WHY_size - used, " %s", known[i]);
    }
}

/* A model without a template still embeds and counts; one with a template that libllama does not
 * know would answer nonsense, so it is refused. */
static tr_err choose_template(tr_engine *engine, char *ret_why) {
    const char *asked = engine->spec.chat_template;
    const char *own = llama_model_chat_template(engine->model, NULL);
    const char *text = asked != NULL && asked[0] != '\0' ? asked : own;
    if (text == NULL) {
        return TR_OK;
    }
    if (!template_works(text)) {
        int used = snprintf(ret_why, TR_ENGINE_WHY_size,
                            "%s: libllama does not know %s chat template: name one like it with "
                            "chat_template (--chat-template), one of:",
                            engine->spec.model_file, text == own ? "the model's" : "that");
        list_templates(ret_why, used > 0 ? (size_t)used : 0);
        return TR_ERR_UNSUPPORTED;
    }
    engine->template_text = tr_strndup(text, strlen(text));
    return engine->template_text != NULL ? TR_OK : TR_ERR_NOMEM;
}

/* --- contexts --- */

static uint32_t processors(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count > 0 ? (uint32_t)count : 1;
}

static bool on_abort(void *arg) {
    tr_engine *engine = arg;
    if (engine->spec.tick != NULL) {
        engine->spec.tick(engine->spec.arg);
    }
    /* Relaxed: nothing but the flag itself is read. */
    return atomic_load_explicit(&engine->aborted, memory_order_relaxed);
}

static struct llama_context_params common_params(tr_engine *engine) {
    struct llama_context_params params = llama_context_default_params();
    uint32_t threads = engine->spec.threads > 0 ? engine->spec.threads : processors();
    params.n_threads = params.n_threads_batch = (int32_t)threads;
    params.abort_callback = on_abort;
    params.abort_callback_data = engine;
    params.no_perf = true;
    return params;
}

static tr_err open_context(tr_engine *engine, char *ret_why) {
    struct llama_context_params params = common_params(engine);
    params.n_ctx = engine->context_max * engine->sequences;
    params.n_seq_max = engine->sequences;
    params.n_batch = prompt_tokens_max + TR_ENGINE_SEQUENCES_max;
    params.n_ubatch = params.n_batch;
    params.kv_unified = false;
    bool on_gpu = engine->spec.gpu_layers != 0 && llama_supports_gpu_offload();
    if (!on_gpu) {
        params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
        params.type_v = GGML_TYPE_BF16;
    }
    tri_engine_log_clear();
    engine->context = llama_init_from_model(engine->model, params);
    if (engine->context == NULL && !on_gpu) {
        /* Some architectures have no flash attention. */
        params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_AUTO;
        params.type_v = GGML_TYPE_F16;
        engine->context = llama_init_from_model(engine->model, params);
    }
    if (engine->context == NULL) {
        char logged[400];
        tri_engine_log_first(logged, sizeof logged);
        snprintf(ret_why, TR_ENGINE_WHY_size,
                 "%s: no context of %u sequences of %u tokens could be made%s%s: lower sequences "
                 "or context",
                 engine->spec.model_file, engine->sequences, engine->context_max,
                 logged[0] != '\0' ? ": " : "", logged);
        return TR_ERR_NOMEM;
    }
    if (llama_get_memory(engine->context) == NULL) {
        llama_free(engine->context); /* an embedding model */
        engine->context = NULL;
        return TR_OK;
    }
    uint32_t has = llama_n_ctx_seq(engine->context); /* it rounds up, or down */
    engine->context_max = has < engine->context_max ? has : engine->context_max;
    engine->can_trim =
        !llama_model_is_recurrent(engine->model) && !llama_model_is_hybrid(engine->model);
    return TR_OK;
}

tr_err tri_engine_open_embed(tr_engine *engine, char *ret_why) {
    struct llama_context_params params = common_params(engine);
    params.n_ctx = engine->embed_max;
    params.n_seq_max = 1;
    /* A pooled sequence must fit one piece. */
    params.n_batch = params.n_ubatch = engine->embed_max;
    params.embeddings = true;
    tri_engine_log_clear();
    engine->embed_context = llama_init_from_model(engine->model, params);
    if (engine->embed_context != NULL &&
        llama_pooling_type(engine->embed_context) == LLAMA_POOLING_TYPE_NONE) {
        llama_free(engine->embed_context);
        params.pooling_type = LLAMA_POOLING_TYPE_MEAN;
        engine->embed_context = llama_init_from_model(engine->model, params);
    }
    if (engine->embed_context == NULL) {
        snprintf(ret_why, TR_ENGINE_WHY_size, "there is not enough memory for embeddings");
        return TR_ERR_NOMEM;
    }
    engine->embed_batch = llama_batch_init((int32_t)engine->embed_max, 0, 1);
    return engine->embed_batch.token != NULL ? TR_OK : TR_ERR_NOMEM;
}

/* Of the sorts of vocabulary whose tokens stand for all of a text: others drop blanks, or have one
 * token for any unknown word. As written there (a blank may be three bytes), it is never less than
 * what the token stands for. */
static size_t longest_token(const struct llama_vocab *vocab) {
    enum llama_vocab_type type = llama_vocab_type(vocab);
    if (type != LLAMA_VOCAB_TYPE_SPM && type != LLAMA_VOCAB_TYPE_BPE) {
        return 0;
    }
    size_t longest = 1;
    for (int32_t i = 0; i < llama_vocab_n_tokens(vocab); i++) {
        const char *text = llama_vocab_get_text(vocab, i);
        size_t size = text != NULL ? strlen(text) : 0;
        longest = size > longest ? size : longest;
    }
    return longest;
}

tr_err tri_engine_load(tr_engine *engine, char *ret_why) {
    tr_err err = check_version(ret_why);
    if (err == TR_OK) {
        err = load_model(engine, ret_why);
    }
    if (err == TR_OK) {
        err = choose_template(engine, ret_why);
    }
    if (err != TR_OK) {
        return err;
    }
    int32_t trained = llama_model_n_ctx_train(engine->model);
    uint32_t asked = engine->spec.context;
    uint32_t limit = trained > 0 ? (uint32_t)trained : context_unknown;
    engine->context_max = asked != 0 && asked < limit ? asked : limit;
    err = open_context(engine, ret_why);
    if (err != TR_OK) {
        return err;
    }
    engine->embed_max =
        engine->context_max < embed_tokens_max ? engine->context_max : embed_tokens_max;
    engine->token_bytes_max = longest_token(engine->vocab);
    engine->batch_room = prompt_tokens_max + TR_ENGINE_SEQUENCES_max;
    engine->batch = llama_batch_init((int32_t)engine->batch_room, 0, 1);
    engine->scratch.size = (size_t)llama_vocab_n_tokens(engine->vocab);
    engine->scratch.candidates = tr_alloc(engine->scratch.size * sizeof(llama_token_data));
    engine->scratch.times = tr_zalloc(engine->scratch.size * sizeof *engine->scratch.times);
    engine->slots = tr_zalloc(engine->sequences * sizeof *engine->slots);
    return engine->batch.token != NULL && engine->scratch.candidates != NULL &&
                   engine->scratch.times != NULL && engine->slots != NULL
               ? TR_OK
               : TR_ERR_NOMEM;
}
