/*
 * One reader for the lists of OpenAI, vLLM, OpenRouter, Mistral, Groq, LM Studio, Ollama, Anthropic
 * and Gemini. Facts that a list gives under several names come out under one; what nobody could use
 * (licences, templates, prices) is left out, so that an answer stays small. An error object is
 * looked for first, since some servers send it at status 200.
 *
 * Called by decoder.c and by the dialects' `inquire`; pure.
 */
#include "providers/inventory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "providers/codec.h"
#include "providers/openai_internal.h"

#define NAMES_max 6

/* A fact and the members that may hold it, the first that does wins; "a.b" looks within an object.
 */
typedef struct fact {
    const char *name;
    tr_json_type type;
    const char *from[NAMES_max];
} fact;

static const fact facts[] = {
    {"bytes", TR_JSON_NUMBER, {"size", "size_bytes"}},
    {"bytes_vram", TR_JSON_NUMBER, {"size_vram"}},
    {"context",
     TR_JSON_NUMBER,
     {"context_length", "max_model_len", "max_context_length", "context_window", "inputTokenLimit",
      "max_input_tokens"}},
    {"parameters", TR_JSON_STRING, {"details.parameter_size", "params_string"}},
    {"quantization",
     TR_JSON_STRING,
     {"details.quantization_level", "quantization.name", "quantization"}},
    {"owned_by", TR_JSON_STRING, {"owned_by", "publisher"}},
    {"expires_at", TR_JSON_STRING, {"expires_at"}},
};

static tr_err report_list(tr_decoding *decoding, const tr_json_value *root);
static void write_model(tr_jsonw *w, const tr_json_value *model);
static void write_instances(tr_jsonw *w, const tr_json_value *model);
static tr_str name_of(const tr_json_value *model);
static const tr_json_value *look(const tr_json_value *object, const char *path);

bool tri_inventory_op(tr_op op) {
    return op == TR_OP_MODELS || op == TR_OP_LOADED || op == TR_OP_LOAD || op == TR_OP_UNLOAD;
}

tr_err tri_inventory_report(tr_decoding *decoding, tr_str body) {
    tr_json *json = NULL;
    tr_err err = tr_json_parse(body.ptr, body.size, &json, NULL);
    if (err != TR_OK) {
        return err == TR_ERR_NOMEM
                   ? err
                   : tri_broken(decoding, TR_ERR_PROTOCOL, "the server's answer is not valid JSON");
    }
    const tr_json_value *root = tr_json_root(json);
    err = tri_openai_error(decoding, root, false);
    if (err == TR_OK && (decoding->op == TR_OP_MODELS || decoding->op == TR_OP_LOADED)) {
        err = report_list(decoding, root);
    }
    tr_json_free(json);
    if (err == TR_OK) {
        decoding->outcome->finish = TR_FINISH_STOP;
    }
    return err == TR_OK ? TR_DONE : err;
}

static tr_err report_list(tr_decoding *decoding, const tr_json_value *root) {
    const tr_json_value *list = tr_json_get(root, "data");
    list = tri_is(list, TR_JSON_ARRAY) ? list : tr_json_get(root, "models");
    list = tri_is(list, TR_JSON_ARRAY) ? list : root; /* Together's is a bare array */
    if (!tri_is(list, TR_JSON_ARRAY)) {
        return tri_broken(decoding, TR_ERR_SERVER, "the server's answer holds no list of models");
    }
    char *text = NULL;
    size_t size = 0;
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '[');
    const tr_json_value *model = tr_json_first(list);
    for (; model != NULL; model = tr_json_next(model)) {
        /* Only LM Studio puts what is loaded into the list of all. */
        const tr_json_value *instances = tr_json_get(model, "loaded_instances");
        if (decoding->op == TR_OP_LOADED && instances != NULL) {
            write_instances(&w, model);
        } else {
            write_model(&w, model);
        }
    }
    tr_jsonw_close(&w, ']');
    tr_err err = tr_jsonw_take(&w, &text, &size);
    if (err != TR_OK) {
        return err;
    }
    err = tri_emit_text(decoding, TR_DELTA_TEXT, 0, (tr_str){text, size});
    free(text);
    return err;
}

static void write_model(tr_jsonw *w, const tr_json_value *model) {
    tr_str name = name_of(model);
    if (name.size == 0) {
        return;
    }
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "name");
    tr_jsonw_str(w, name);
    for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
        const tr_json_value *value = NULL;
        for (size_t k = 0; k < NAMES_max && facts[i].from[k] != NULL && value == NULL; k++) {
            value = look(model, facts[i].from[k]);
            value = tri_is(value, facts[i].type) ? value : NULL;
        }
        if (value != NULL) {
            tr_jsonw_name(w, facts[i].name);
            tr_jsonw_raw(w, tr_json_raw(value));
        }
    }
    tr_jsonw_close(w, '}');
}

/* One model may be loaded several times, under names of their own. */
static void write_instances(tr_jsonw *w, const tr_json_value *model) {
    const tr_json_value *instance = tr_json_first(tr_json_get(model, "loaded_instances"));
    for (; instance != NULL; instance = tr_json_next(instance)) {
        tr_str name = tr_json_string(tr_json_get(instance, "id"));
        const tr_json_value *context = look(instance, "config.context_length");
        if (name.size == 0) {
            continue;
        }
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "name");
        tr_jsonw_str(w, name);
        tr_jsonw_name(w, "model");
        tr_jsonw_str(w, name_of(model));
        if (tri_is(context, TR_JSON_NUMBER)) {
            tr_jsonw_name(w, "context");
            tr_jsonw_raw(w, tr_json_raw(context));
        }
        tr_jsonw_close(w, '}');
    }
}

/* The name that a request would use: "id" of most, "key" of LM Studio, "name" of Ollama and (behind
 * "models/") of Gemini. */
static tr_str name_of(const tr_json_value *model) {
    static const char *const names[] = {"key", "id", "name", "model"};
    static const char prefix[] = "models/";
    tr_str name = {"", 0};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && name.size == 0; i++) {
        name = tr_json_string(tr_json_get(model, names[i]));
    }
    size_t size = sizeof(prefix) - 1;
    if (name.size > size && memcmp(name.ptr, prefix, size) == 0) {
        name = (tr_str){name.ptr + size, name.size - size};
    }
    return name;
}

static const tr_json_value *look(const tr_json_value *object, const char *path) {
    char outer[32];
    const char *dot = strchr(path, '.');
    if (dot == NULL) {
        return tr_json_get(object, path);
    }
    snprintf(outer, sizeof(outer), "%.*s", (int)(dot - path), path);
    return tr_json_get(tr_json_get(object, outer), dot + 1);
}

tr_err tri_inventory_get(const char *path, bool from_root, tr_encoded *ret) {
    tr_encoded encoded = {.from_root = from_root, .get = true};
    snprintf(encoded.path, sizeof(encoded.path), "%s", path);
    *ret = encoded;
    return TR_OK;
}

tr_err tri_inventory_post(const char *path, bool from_root, const char *name, tr_str model,
                          const char *more, tr_encoded *ret) {
    tr_encoded encoded = {.from_root = from_root};
    tr_jsonw w;
    if (model.size == 0) {
        return TR_ERR_INVALID;
    }
    snprintf(encoded.path, sizeof(encoded.path), "%s", path);
    tr_jsonw_init(&w);
    tr_jsonw_str(&w, model);
    char *quoted = NULL;
    size_t size = 0;
    tr_err err = tr_jsonw_take(&w, &quoted, &size);
    if (err != TR_OK) {
        return err;
    }
    int written = asprintf(&encoded.body, "{\"%s\":%s%s}", name, quoted, more);
    free(quoted);
    if (written < 0) {
        return TR_ERR_NOMEM;
    }
    encoded.body_size = (size_t)written;
    *ret = encoded;
    return TR_OK;
}

tr_err tri_inventory_only_lists(const tr_encode *in, const char *path, tr_encoded *ret,
                                char *ret_why, size_t why_size) {
    if (in->op == TR_OP_MODELS) {
        return tri_inventory_get(path, false, ret);
    }
    snprintf(ret_why, why_size, "provider %s cannot be %s", in->provider,
             in->op == TR_OP_LOADED ? "asked which models are loaded"
             : in->op == TR_OP_LOAD ? "told to load a model: it has its models ready, just ask"
                                    : "told to unload a model: it keeps its models by itself");
    return TR_ERR_UNSUPPORTED;
}
