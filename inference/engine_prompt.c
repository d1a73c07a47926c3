/*
 * A chat becomes tokens in two steps: libllama's template code writes one text, and that text is
 * tokenised with its control tokens read. What a user wrote must never become a control token
 * ("<|im_end|>" in a prompt), so the control tokens found are compared with those of the template
 * alone, rendered with place-holders where the texts go. When they are the same, the text was
 * tokenised as llama.cpp's own programs would do it. When not, somebody wrote one: the template's
 * pieces and the user's texts are tokenised apart, the latter without control tokens. Place-holders
 * cannot be confused with user text: no user text is in the rendering that is searched for them.
 * It takes a second a megabyte: called by engine_read.c, on any thread (libllama's vocabulary is
 * read-only, and its tokeniser keeps its state on the stack).
 */
#include <stdio.h>
#include <string.h>

#include "inference/engine_internal.h"
#include "inference/engine_turns.h"
#include "protocol/assert.h"
#include "protocol/limits.h"
#include "runtime/memory.h"

typedef struct rendering {
    struct llama_chat_message *messages;
    char **texts; /* one a turn, owned */
    size_t count;
} rendering;

static void rendering_fini(rendering *r) {
    for (size_t i = 0; i < r->count; i++) {
        tr_free(r->texts[i]);
    }
    tr_free(r->texts);
    tr_free(r->messages);
}

/* The turns with their texts, or with a place-holder for each: STX, its number, ETX. */
static tr_err rendering_init(rendering *r, const tri_lines *lines, bool placeholders) {
    *r = (rendering){.messages = tr_zalloc(lines->count * sizeof *r->messages),
                     .texts = tr_zalloc(lines->count * sizeof *r->texts)};
    if (r->messages == NULL || r->texts == NULL) {
        return TR_ERR_NOMEM;
    }
    for (size_t i = 0; i < lines->count; i++) {
        char placeholder[32];
        snprintf(placeholder, sizeof placeholder, "\x02%zu\x03", i);
        const char *text = placeholders ? placeholder : lines->items[i].text;
        r->texts[i] = tr_strndup(text, strlen(text));
        r->count = i + 1;
        if (r->texts[i] == NULL) {
            return TR_ERR_NOMEM;
        }
        r->messages[i] =
            (struct llama_chat_message){.role = lines->items[i].role, .content = r->texts[i]};
    }
    return TR_OK;
}

static tr_err render(const tr_engine *engine, const rendering *r, char **ret_text,
                     size_t *ret_size) {
    int32_t room = 1024;
    for (size_t i = 0; i < r->count; i++) {
        room += (int32_t)strlen(r->texts[i]) + 64;
    }
    for (int attempt = 0; attempt < 2; attempt++) {
        char *text = tr_alloc((size_t)room + 1);
        if (text == NULL) {
            return TR_ERR_NOMEM;
        }
        int32_t size = llama_chat_apply_template(engine->template_text, r->messages, r->count, true,
                                                 text, room);
        if (size >= 0 && size <= room) {
            text[size] = '\0';
            *ret_text = text;
            *ret_size = (size_t)size;
            return TR_OK;
        }
        tr_free(text);
        if (size < 0) {
            return TR_ERR_UNSUPPORTED;
        }
        room = size;
    }
    return TR_ERR_BUG;
}

/* Appends the tokens of `text`. */
tr_err tri_engine_tokenize(const tr_engine *engine, tr_str text, bool first, bool special,
                           llama_token **tokens, size_t *count) {
    if (text.size > INT32_MAX / 2) {
        return TR_ERR_TOO_LARGE;
    }
    int32_t room = (int32_t)text.size + 8;
    for (int attempt = 0; attempt < 2; attempt++) {
        llama_token *grown = tr_realloc(*tokens, (*count + (size_t)room) * sizeof *grown);
        if (grown == NULL) {
            return TR_ERR_NOMEM;
        }
        *tokens = grown;
        int32_t added = llama_tokenize(engine->vocab, text.ptr, (int32_t)text.size, grown + *count,
                                       room, first, special);
        if (added >= 0) {
            *count += (size_t)added;
            return TR_OK;
        }
        room = -added;
    }
    return TR_ERR_BUG;
}

/* Tokenises the template's pieces with control tokens; the user's texts without, when wanted. */
static tr_err tokenize_apart(const tr_engine *engine, const char *pieces, const rendering *texts,
                             bool with_texts, llama_token **tokens, size_t *count) {
    bool first = true;
    const char *at = pieces;
    for (;;) {
        const char *holder = strchr(at, '\x02');
        size_t size = holder != NULL ? (size_t)(holder - at) : strlen(at);
        if (size > 0 || first) {
            tr_err err =
                tri_engine_tokenize(engine, (tr_str){at, size}, first, true, tokens, count);
            if (err != TR_OK) {
                return err;
            }
        }
        first = false;
        if (holder == NULL) {
            return TR_OK;
        }
        size_t index;
        if (sscanf(holder + 1, "%zu", &index) != 1 || index >= texts->count) {
            return TR_ERR_BUG;
        }
        const char *text = texts->texts[index];
        if (with_texts && text[0] != '\0') {
            tr_err err = tri_engine_tokenize(engine, (tr_str){text, strlen(text)}, false, false,
                                             tokens, count);
            if (err != TR_OK) {
                return err;
            }
        }
        const char *end = strchr(holder, '\x03');
        TR_ASSERT(end != NULL);
        at = end + 1;
    }
}

static bool is_control(const tr_engine *engine, llama_token token) {
    return llama_vocab_is_control(engine->vocab, token) || llama_vocab_is_eog(engine->vocab, token);
}

/* Whether both hold the same control tokens in the same order. */
static bool same_controls(const tr_engine *engine, const llama_token *a, size_t a_count,
                          const llama_token *b, size_t b_count) {
    size_t i = 0, j = 0;
    for (;;) {
        while (i < a_count && !is_control(engine, a[i])) {
            i++;
        }
        while (j < b_count && !is_control(engine, b[j])) {
            j++;
        }
        if (i == a_count || j == b_count) {
            return i == a_count && j == b_count;
        }
        if (a[i++] != b[j++]) {
            return false;
        }
    }
}

static tr_err tokenize_chat(const tr_engine *engine, const rendering *texts, const char *whole,
                            size_t whole_size, const char *pieces, llama_token **tokens,
                            size_t *count) {
    llama_token *controls = NULL;
    size_t control_count = 0;
    tr_err err =
        tri_engine_tokenize(engine, (tr_str){whole, whole_size}, true, true, tokens, count);
    if (err == TR_OK) {
        err = tokenize_apart(engine, pieces, texts, false, &controls, &control_count);
    }
    if (err == TR_OK && !same_controls(engine, *tokens, *count, controls, control_count)) {
        *count = 0;
        err = tokenize_apart(engine, pieces, texts, true, tokens, count);
    }
    tr_free(controls);
    return err;
}

bool tri_engine_too_long(const tr_engine *engine, size_t bytes, size_t limit, size_t *ret_least) {
    size_t most = engine->token_bytes_max;
    *ret_least = most > 0 ? bytes / most + (bytes % most != 0) : 0;
    return *ret_least > limit;
}

/* What a model without eyes or a template cannot take. */
static tr_err check_can(const tr_engine *engine, const tr_chat *chat, char *ret_why) {
    const char *what = NULL;
    if (engine->template_text == NULL) {
        what = "this model has no chat template: name one with chat_template (--chat-template)";
    }
    for (size_t i = 0; i < chat->turn_count && what == NULL; i++) {
        const tr_turn *turn = &chat->turns[i];
        for (size_t j = 0; j < turn->part_count && what == NULL; j++) {
            if (turn->parts[j].kind != TR_PART_TEXT) {
                what = "messages: local models take text only, no images: name a model that sees, "
                       "at a provider (`troupe models`) or at a server of your own "
                       "(docs/local-models.md)";
            }
        }
    }
    if (what == NULL) {
        return TR_OK;
    }
    snprintf(ret_why, TR_ENGINE_WHY_size, "%s", what);
    return TR_ERR_UNSUPPORTED;
}

static tr_err tokenize_lines(const tr_engine *engine, const tri_lines *lines,
                             llama_token **ret_tokens, size_t *ret_count) {
    rendering texts = {0}, holders = {0};
    char *whole = NULL, *pieces = NULL;
    size_t whole_size = 0, pieces_size = 0;
    tr_err err = rendering_init(&texts, lines, false);
    if (err == TR_OK) {
        err = rendering_init(&holders, lines, true);
    }
    if (err == TR_OK) {
        err = render(engine, &texts, &whole, &whole_size);
    }
    if (err == TR_OK) {
        err = render(engine, &holders, &pieces, &pieces_size);
    }
    if (err == TR_OK) {
        err = tokenize_chat(engine, &texts, whole, whole_size, pieces, ret_tokens, ret_count);
    }
    /* Some templates write the first token that the tokeniser adds as well. */
    llama_token bos = llama_vocab_bos(engine->vocab);
    if (err == TR_OK && *ret_count > 1 && (*ret_tokens)[0] == bos && (*ret_tokens)[1] == bos) {
        memmove(*ret_tokens, *ret_tokens + 1, --*ret_count * sizeof **ret_tokens);
    }
    tr_free(whole);
    tr_free(pieces);
    rendering_fini(&texts);
    rendering_fini(&holders);
    return err;
}

tr_err tri_engine_prompt(const tr_engine *engine, const tr_chat *chat, const tri_tools *tools,
                         llama_token **ret_tokens, size_t *ret_count, char *ret_why) {
    tr_err err = check_can(engine, chat, ret_why);
    tri_lines lines = {0};
    if (err == TR_OK) {
        err = tri_lines_init(&lines, chat, tools, ret_why);
    }
    if (err == TR_OK) {
        err = tokenize_lines(engine, &lines, ret_tokens, ret_count);
        if (err != TR_OK) {
            snprintf(ret_why, TR_ENGINE_WHY_size,
                     "the prompt could not be put into the chat template: %s", tr_err_text(err));
        }
    }
    tri_lines_fini(&lines);
    return err;
}
