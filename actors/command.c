/* One pass over the text, a character at a time. Called by the configuration, which checks it, and
 * by a managed server when it starts; any thread. */
#include "actors/command.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct writer {
    const tr_command_values *values;
    tr_command *to;
    size_t used, words;
    bool in_word;
    char *why;
    size_t why_size;
} writer;

static tr_err put(writer *w, const char *text, size_t size) {
    if (size > sizeof w->to->text - w->used) {
        snprintf(w->why, w->why_size, "the command is longer than %d bytes", TR_COMMAND_TEXT_max);
        return TR_ERR_INVALID;
    }
    memcpy(w->to->text + w->used, text, size);
    w->used += size;
    return TR_OK;
}

static tr_err begin_word(writer *w) {
    if (w->in_word) {
        return TR_OK;
    }
    if (w->words == TR_COMMAND_WORDS_max) {
        snprintf(w->why, w->why_size, "the command has more than %d words", TR_COMMAND_WORDS_max);
        return TR_ERR_INVALID;
    }
    w->to->words[w->words++] = w->to->text + w->used;
    w->in_word = true;
    return TR_OK;
}

static tr_err end_word(writer *w) {
    tr_err err = w->in_word ? put(w, "", 1) : TR_OK;
    w->in_word = false;
    return err;
}

/* How long the name in {name} is; 0 = no name stands here, and the brace means itself. */
static size_t name_size(const char *brace) {
    size_t size = strspn(brace + 1, "abcdefghijklmnopqrstuvwxyz_");
    return brace[1 + size] == '}' ? size : 0;
}

static bool is(const char *text, size_t size, const char *name) {
    return strlen(name) == size && memcmp(text, name, size) == 0;
}

static tr_err put_value(writer *w, const char *name, size_t size) {
    const tr_command_values *v = w->values;
    char number[24];
    uint64_t value = 0;
    if (is(name, size, "model")) {
        return put(w, v->model, strlen(v->model));
    }
    if (is(name, size, "host")) {
        return put(w, v->host, strlen(v->host));
    }
    if (is(name, size, "port")) {
        value = v->port;
    } else if (is(name, size, "context")) {
        value = v->context;
    } else if (is(name, size, "sequences")) {
        value = v->sequences;
    } else if (is(name, size, "cache")) {
        value = (uint64_t)v->context * v->sequences;
    } else {
        snprintf(w->why, w->why_size,
                 "{%.*s} is nothing that is known; there are {model}, {host}, {port}, {context}, "
                 "{sequences} and {cache}",
                 (int)(size < 40 ? size : 40), name);
        return TR_ERR_INVALID;
    }
    int digits = snprintf(number, sizeof number, "%" PRIu64, value);
    return put(w, number, (size_t)digits);
}

/* One character, or a {name}, of a word. */
static tr_err take(writer *w, const char **at) {
    size_t size = **at == '{' ? name_size(*at) : 0;
    tr_err err = begin_word(w);
    if (err != TR_OK) {
        return err;
    }
    err = size > 0 ? put_value(w, *at + 1, size) : put(w, *at, 1);
    *at += size > 0 ? size + 2 : 1;
    return err;
}

tr_err tr_command_read(const char *command, const tr_command_values *values, tr_command *ret,
                       char *why, size_t why_size) {
    writer w = {.values = values, .to = ret, .why = why, .why_size = why_size};
    char quote = '\0';
    tr_err err = TR_OK;
    for (const char *at = command; err == TR_OK && *at != '\0';) {
        if (quote == '\0' && strchr(" \t\r\n", *at) != NULL) {
            err = end_word(&w);
            at++;
        } else if (quote != '\0' && *at == quote) {
            quote = '\0';
            at++;
        } else if (quote == '\0' && (*at == '"' || *at == '\'')) {
            quote = *at++;
            err = begin_word(&w); /* "" is a word too */
        } else if (*at == '\\' && quote != '\'' && at[1] != '\0') {
            err = begin_word(&w);
            err = err == TR_OK ? put(&w, at + 1, 1) : err;
            at += 2;
        } else {
            err = take(&w, &at);
        }
    }
    err = err == TR_OK ? end_word(&w) : err;
    if (err == TR_OK && quote != '\0') {
        snprintf(why, why_size, "a %c is not closed", quote);
        return TR_ERR_INVALID;
    }
    if (err == TR_OK && (w.words == 0 || ret->words[0][0] == '\0')) {
        snprintf(why, why_size, "no program is named");
        return TR_ERR_INVALID;
    }
    ret->words[w.words] = NULL;
    return err;
}

bool tr_command_has(const char *command, const char *name) {
    for (const char *at = command; (at = strchr(at, '{')) != NULL; at++) {
        if (is(at + 1, name_size(at), name)) {
            return true;
        }
    }
    return false;
}

bool tr_command_find(const char *program, char *buf, size_t size) {
    if (strchr(program, '/') != NULL) {
        return snprintf(buf, size, "%s", program) < (int)size;
    }
    const char *path = getenv("PATH");
    while (path != NULL && *path != '\0') {
        size_t part = strcspn(path, ":");
        int used = snprintf(buf, size, "%.*s/%s", (int)part, path, program);
        if (part > 0 && used > 0 && (size_t)used < size && access(buf, X_OK) == 0) {
            return true;
        }
        path += part + (path[part] == ':');
    }
    return false;
}
