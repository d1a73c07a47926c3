/*
 * How a chain comes about: each token has a vector of signs drawn from a hash, two such vectors are
 * almost orthogonal, and the layers do next to nothing, so that what reaches the output is the last
 * token's own vector. The output row of a token is the sum of its predecessors' vectors. Random
 * models have real layers, and output rows for printable characters only.
 */
#include "tests/gguf/tiny_gguf.h"

#include <ggml.h>
#include <gguf.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    dim = 96,
    heads = 3,
    kv_heads = 1,
    head_dim = dim / heads,
    feed_forward = 160,
    layers = 2,
    unknown = 0,
    begin = 1,
    end = 2,
    first_byte = 3,
    blank = first_byte + 256,
    first_char = blank + 1, /* '!' */
    char_count = 127 - 33,
    turn_start = first_char + char_count,
    turn_end,
    vocabulary,
};

static const char chatml[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
    "}}{% endif %}";

typedef struct writer {
    struct ggml_context *tensors;
    struct gguf_context *file;
    uint64_t state;
} writer;

int32_t tr_tiny_token(char c) {
    return c == ' ' ? blank : first_char + c - '!';
}

/* SplitMix64. */
static uint64_t next_random(writer *w) {
    uint64_t z = w->state += 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

/* Near enough to a normal distribution: a sum of four uniform numbers. */
static float spread(writer *w, float width) {
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        sum += (float)(next_random(w) >> 40) / (float)(1 << 24) - 0.5F;
    }
    return sum * width * 1.7F;
}

static float *add(writer *w, const char *name, int64_t columns, int64_t rows, float mean,
                  float width) {
    struct ggml_tensor *tensor = rows > 0
                                     ? ggml_new_tensor_2d(w->tensors, GGML_TYPE_F32, columns, rows)
                                     : ggml_new_tensor_1d(w->tensors, GGML_TYPE_F32, columns);
    float *data = tensor->data;
    ggml_set_name(tensor, name);
    for (int64_t i = 0; i < columns * (rows > 0 ? rows : 1); i++) {
        data[i] = mean + (width > 0 ? spread(w, width) : 0);
    }
    gguf_add_tensor(w->file, tensor);
    return data;
}

static void add_vocabulary(writer *w) {
    static char texts[vocabulary][16];
    const char *names[vocabulary];
    float scores[vocabulary] = {0};
    int32_t types[vocabulary];
    for (int i = 0; i < vocabulary; i++) {
        names[i] = texts[i];
        types[i] = 1;                 /* normal */
        scores[i] = -(float)i / 1000; /* the tokeniser wants them to differ, and no more */
    }
    snprintf(texts[unknown], 16, "<unk>");
    snprintf(texts[begin], 16, "<s>");
    snprintf(texts[end], 16, "</s>");
    for (int byte = 0; byte < 256; byte++) {
        snprintf(texts[first_byte + byte], 16, "<0x%02X>", (unsigned)byte);
        types[first_byte + byte] = 6;
    }
    snprintf(texts[blank], 16, "\xe2\x96\x81"); /* how the tokeniser spells a blank */
    for (int i = 0; i < char_count; i++) {
        texts[first_char + i][0] = (char)('!' + i);
    }
    snprintf(texts[turn_start], 16, "<|im_start|>");
    snprintf(texts[turn_end], 16, "<|im_end|>");
    types[unknown] = 2;
    types[begin] = types[end] = types[turn_start] = types[turn_end] = 3; /* control */
    gguf_set_val_str(w->file, "tokenizer.ggml.model", "llama");
    gguf_set_val_str(w->file, "tokenizer.ggml.pre", "default");
    gguf_set_arr_str(w->file, "tokenizer.ggml.tokens", names, vocabulary);
    gguf_set_arr_data(w->file, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores, vocabulary);
    gguf_set_arr_data(w->file, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types, vocabulary);
    gguf_set_val_u32(w->file, "tokenizer.ggml.unknown_token_id", unknown);
    gguf_set_val_u32(w->file, "tokenizer.ggml.bos_token_id", begin);
    gguf_set_val_u32(w->file, "tokenizer.ggml.eos_token_id", end);
    gguf_set_val_u32(w->file, "tokenizer.ggml.eot_token_id", turn_end);
    gguf_set_val_bool(w->file, "tokenizer.ggml.add_bos_token", true);
    gguf_set_val_bool(w->file, "tokenizer.ggml.add_space_prefix", false);
}

static void add_settings(writer *w, const tr_tiny_spec *spec) {
    gguf_set_val_str(w->file, "general.architecture", "llama");
    gguf_set_val_str(w->file, "general.name", spec->kind == TR_TINY_CHAIN ? "chain" : "random");
    gguf_set_val_u32(w->file, "llama.vocab_size", vocabulary);
    gguf_set_val_u32(w->file, "llama.context_length", 8192);
    gguf_set_val_u32(w->file, "llama.embedding_length", dim);
    gguf_set_val_u32(w->file, "llama.block_count", layers);
    gguf_set_val_u32(w->file, "llama.feed_forward_length", feed_forward);
    gguf_set_val_u32(w->file, "llama.attention.head_count", heads);
    gguf_set_val_u32(w->file, "llama.attention.head_count_kv", kv_heads);
    gguf_set_val_u32(w->file, "llama.rope.dimension_count", head_dim);
    gguf_set_val_f32(w->file, "llama.attention.layer_norm_rms_epsilon", 1e-5F);
    if (spec->chat_template == NULL || spec->chat_template[0] != '\0') {
        gguf_set_val_str(w->file, "tokenizer.chat_template",
                         spec->chat_template != NULL ? spec->chat_template : chatml);
    }
}

static void add_layers(writer *w, float width) {
    const struct {
        const char *name;
        int64_t columns, rows;
    } parts[] = {
        {"attn_norm", dim, 0},
        {"attn_q", dim, dim},
        {"attn_k", dim, head_dim * kv_heads},
        {"attn_v", dim, head_dim * kv_heads},
        {"attn_output", dim, dim},
        {"ffn_norm", dim, 0},
        {"ffn_gate", dim, feed_forward},
        {"ffn_up", dim, feed_forward},
        {"ffn_down", feed_forward, dim},
    };
    for (int layer = 0; layer < layers; layer++) {
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            char name[64];
            bool norm = parts[i].rows == 0;
            snprintf(name, sizeof name, "blk.%d.%s.weight", layer, parts[i].name);
            add(w, name, parts[i].columns, parts[i].rows, norm ? 1 : 0, norm ? 0 : width);
        }
    }
}

/* `to` becomes what follows `from`. */
static void follow(float *output, const float *vectors, int from, int to) {
    for (int i = 0; i < dim; i++) {
        output[to * dim + i] += vectors[from * dim + i];
    }
}

static void add_chain(float *output, float *vectors, writer *w) {
    for (int i = 0; i < vocabulary * dim; i++) {
        vectors[i] = (next_random(w) >> 63) != 0 ? 1 : -1;
        output[i] = 0;
    }
    /* A grammar may lead to a character's byte as well: the same goes on from there. */
    for (int c = '!'; c < 127; c++) {
        memcpy(vectors + (first_byte + c) * dim, vectors + tr_tiny_token((char)c) * dim,
               sizeof(float) * dim);
    }
    for (char c = 'a'; c < 'z'; c++) {
        follow(output, vectors, tr_tiny_token(c), tr_tiny_token((char)(c + 1)));
    }
    for (char c = '0'; c < '9'; c++) {
        follow(output, vectors, tr_tiny_token(c), tr_tiny_token((char)(c + 1)));
    }
    follow(output, vectors, first_byte + '\n', tr_tiny_token('a'));
    follow(output, vectors, tr_tiny_token('z'), end);
    follow(output, vectors, tr_tiny_token('9'), tr_tiny_token('0'));
    static const unsigned char bytes[] = {0xc3, 0xa9, 0xe2, 0x82, 0xac};
    int from = tr_tiny_token('A');
    for (size_t i = 0; i < sizeof bytes; i++) {
        follow(output, vectors, from, first_byte + bytes[i]);
        from = first_byte + bytes[i];
    }
    follow(output, vectors, from, tr_tiny_token('B'));
    follow(output, vectors, tr_tiny_token('B'), end);
}

bool tr_tiny_gguf_write(const tr_tiny_spec *spec, const char *file) {
    writer w = {
        .tensors = ggml_init((struct ggml_init_params){.mem_size = 8U << 20}),
        .file = gguf_init_empty(),
        .state = spec->seed + 1,
    };
    bool chain = spec->kind == TR_TINY_CHAIN;
    add_settings(&w, spec);
    add_vocabulary(&w);
    float *vectors = add(&w, "token_embd.weight", dim, vocabulary, 0, 1);
    add(&w, "output_norm.weight", dim, 0, 1, 0);
    float *output = add(&w, "output.weight", dim, vocabulary, 0, 0.5F);
    add_layers(&w, chain ? 0.001F : 0.2F);
    if (chain) {
        add_chain(output, vectors, &w);
    } else {
        memset(output, 0, sizeof(float) * dim * blank);
        memset(output + (size_t)turn_start * dim, 0, sizeof(float) * dim * 2);
    }
    bool ok = gguf_write_to_file(w.file, file, false);
    gguf_free(w.file);
    ggml_free(w.tensors);
    return ok;
}
