/*
 * Requests of the anthropic dialect, and the dialect's table. What OpenAI's request says otherwise
 * is said Anthropic's way (max_tokens is required, a tool choice is an object, reasoning effort is
 * thinking, a schema stands in output_config); what Anthropic cannot be told is refused with its
 * name, never dropped. A field under the provider's own name wins over ours; output_config is
 * merged, since two of our options share it.
 *
 * Called by the provider actor on its shard; pure.
 */
#include "providers/anthropic.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "providers/anthropic_internal.h"
#include "providers/codec.h"
#include "providers/inventory.h"

#define MAX_TOKENS_default 4096 /* the server demands one */
#define BUDGET_min 1024         /* of thinking, where it has one */

/* What reasoning_effort comes to at a model. */
typedef struct thinking {
    const char *type; /* NULL = nothing is said */
    int64_t budget;   /* 0 = none */
    tr_str effort;    /* of output_config; NULL = none */
} thinking;

static tr_err encode(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size);
static void check(tri_anthropic_writer *writer);
static void write_body(tri_anthropic_writer *writer);
static void write_sampling(tri_anthropic_writer *writer);
static void write_tools(tri_anthropic_writer *writer);
static void write_choice(tri_anthropic_writer *writer);
static void write_own(tri_anthropic_writer *writer);
static thinking plan_thinking(tri_anthropic_writer *writer);
static bool thinks_adaptively(tr_str model);
static void write_thinking(tri_anthropic_writer *writer, const thinking *plan);
static void write_output(tri_anthropic_writer *writer, const thinking *plan);

static tr_err inquire(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size) {
    return tri_inventory_only_lists(in, "/v1/models?limit=1000", ret, ret_why, why_size);
}

const tr_dialect tr_dialect_anthropic = {
    .name = "anthropic",
    .framing = TR_FRAMING_SSE,
    .counts = true,
    .state_size = sizeof(tri_anthropic),
    .encode = encode,
    .event = tri_anthropic_event,
    .whole = tri_anthropic_whole,
    .eof = tri_anthropic_eof,
    .refusal = tri_anthropic_refusal,
    .fini = tri_anthropic_fini,
    .inquire = inquire,
};

void tri_anthropic_refuse(tri_anthropic_writer *writer, tr_err err, const char *format, ...) {
    va_list args;
    if (writer->err == TR_OK) {
        va_start(args, format);
        vsnprintf(writer->why, writer->why_size, format, args);
        va_end(args);
        writer->err = err;
    }
}

static tr_err encode(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size) {
    tr_json *own = NULL;
    if (in->chat->extra.ptr != NULL) {
        tr_err err = tr_json_parse(in->chat->extra.ptr, in->chat->extra.size, &own, NULL);
        if (err != TR_OK) {
            snprintf(ret_why, why_size, "the provider's own fields are not a JSON object");
            return err;
        }
    }
    tri_anthropic_writer writer = {.in = in,
                                   .own = own == NULL ? NULL : tr_json_root(own),
                                   .why = ret_why,
                                   .why_size = why_size};
    tr_encoded encoded = {0};
    tr_jsonw_init(&writer.w);
    check(&writer);
    if (writer.err == TR_OK) {
        write_body(&writer);
    }
    tr_json_free(own);
    if (writer.err != TR_OK) {
        tr_jsonw_fini(&writer.w);
        return writer.err;
    }
    tr_err err = tr_jsonw_take(&writer.w, &encoded.body, &encoded.body_size);
    if (err != TR_OK) {
        snprintf(ret_why, why_size, "the request cannot be written as JSON: %s", tr_err_text(err));
        return err;
    }
    snprintf(encoded.path, sizeof(encoded.path), "%s",
             in->op == TR_OP_COUNT ? "/v1/messages/count_tokens" : "/v1/messages");
    *ret = encoded;
    return TR_OK;
}

/* A penalty of 0 is none, which is what OpenAI's clients often write. */
static bool asked(double penalty) {
    return !isnan(penalty) && (penalty < 0 || penalty > 0);
}

static bool own_says(const tri_anthropic_writer *writer, const char *name) {
    const tr_json_value *value = tr_json_get(writer->own, name);
    return value != NULL && !tri_is(value, TR_JSON_NULL) && tr_json_bool(value, true);
}

static void check(tri_anthropic_writer *writer) {
    const tr_chat *chat = writer->in->chat;
    const char *provider = writer->in->provider;
    if (writer->in->op == TR_OP_EMBED) {
        tri_anthropic_refuse(writer, TR_ERR_UNSUPPORTED, "provider %s makes no embeddings",
                             provider);
        return;
    }
    const struct {
        bool asked;
        const char *what;
    } options[] = {
        {chat->seed >= 0, "a seed"},
        {!isnan(chat->min_p), "min_p"},
        {asked(chat->frequency_penalty), "frequency_penalty"},
        {asked(chat->presence_penalty), "presence_penalty"},
        {!isnan(chat->repeat_penalty), "repeat_penalty"},
        {chat->repeat_last_n >= 0, "repeat_last_n"},
        {chat->grammar.ptr != NULL, "a grammar"},
        {chat->temperature > 1, "a temperature above 1"},
        {own_says(writer, "logprobs") || own_says(writer, "top_logprobs"), "logprobs"},
        {own_says(writer, "logit_bias"), "logit_bias"},
        {tr_json_int(tr_json_get(writer->own, "n"), 1) != 1, "n: it gives one answer"},
        {chat->schema.ptr != NULL && tri_any_object(chat->schema),
         "response_format json_object: give it a json_schema"},
    };
    bool count = writer->in->op == TR_OP_COUNT; /* none of them changes the count */
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]) && !count; i++) {
        if (options[i].asked) {
            tri_anthropic_refuse(writer, TR_ERR_UNSUPPORTED, "provider %s does not take %s",
                                 provider, options[i].what);
        }
    }
}

/* Whether we write the field: the user did not. */
static bool ours(const tri_anthropic_writer *writer, const char *name) {
    return tr_json_get(writer->own, name) == NULL;
}

static void write_body(tri_anthropic_writer *writer) {
    tr_jsonw *w = &writer->w;
    bool count = writer->in->op == TR_OP_COUNT;
    thinking plan = plan_thinking(writer);
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "model");
    tr_jsonw_str(w, writer->in->model);
    if (!count) {
        int64_t budget = plan.budget;
        if (!ours(writer, "thinking")) {
            budget = (int64_t)tri_count(tr_json_get(writer->own, "thinking"), "budget_tokens");
        }
        int64_t asked_for = writer->in->chat->max_tokens;
        tr_jsonw_name(w, "max_tokens");
        tr_jsonw_int(w, asked_for > 0        ? asked_for
                        : budget < INT32_MAX ? MAX_TOKENS_default + budget
                                             : MAX_TOKENS_default);
    }
    tri_anthropic_messages(writer);
    if (!count) {
        write_sampling(writer);
    }
    write_tools(writer);
    write_thinking(writer, &plan);
    write_output(writer, &plan);
    if (!count) {
        tr_jsonw_name(w, "stream");
        tr_jsonw_bool(w, writer->in->stream);
    }
    write_own(writer);
    tr_jsonw_close(w, '}');
}

static void write_sampling(tri_anthropic_writer *writer) {
    const tr_chat *chat = writer->in->chat;
    tr_jsonw *w = &writer->w;
    tri_write_double(w, writer->own, "temperature", chat->temperature);
    tri_write_double(w, writer->own, "top_p", chat->top_p);
    tri_write_int(w, writer->own, "top_k", chat->top_k);
    if (chat->stop_count > 0 && ours(writer, "stop_sequences")) {
        tr_jsonw_name(w, "stop_sequences");
        tr_jsonw_open(w, '[');
        for (size_t i = 0; i < chat->stop_count; i++) {
            tr_jsonw_str(w, chat->stops[i]);
        }
        tr_jsonw_close(w, ']');
    }
    tr_str user = tr_json_string(tr_json_get(writer->own, "user"));
    if (user.size > 0 && ours(writer, "metadata")) {
        tr_jsonw_name(w, "metadata");
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "user_id");
        tr_jsonw_str(w, user);
        tr_jsonw_close(w, '}');
    }
}

static void write_tools(tri_anthropic_writer *writer) {
    static const char *const reserved[] = {"name", "description", "input_schema", NULL};
    const tr_chat *chat = writer->in->chat;
    tr_jsonw *w = &writer->w;
    if (chat->tool_count > 0) {
        tr_jsonw_name(w, "tools");
        tr_jsonw_open(w, '[');
        for (size_t i = 0; i < chat->tool_count; i++) {
            const tr_tool *tool = &chat->tools[i];
            tr_jsonw_open(w, '{');
            tr_jsonw_name(w, "name");
            tr_jsonw_str(w, tool->name);
            if (tool->description.ptr != NULL) {
                tr_jsonw_name(w, "description");
                tr_jsonw_str(w, tool->description);
            }
            tr_jsonw_name(w, "input_schema");
            tr_jsonw_raw(w, tool->parameters.ptr != NULL ? tool->parameters
                                                         : (tr_str){"{\"type\":\"object\"}", 17});
            tri_anthropic_members(w, tool->function_extra, tool->extra, reserved);
            tr_jsonw_close(w, '}');
        }
        tr_jsonw_close(w, ']');
    }
    write_choice(writer);
}

/* Anthropic's name of a choice, or NULL. */
static const char *choice_type(tr_str word) {
    return tri_same(word, "auto")                                ? "auto"
           : tri_same(word, "none")                              ? "none"
           : tri_same(word, "required") || tri_same(word, "any") ? "any"
                                                                 : NULL;
}

/* "auto" | "required" | "none" | {type: function, function: {name}}, or Anthropic's own object,
 * which goes on as it is. OpenAI's parallel_tool_calls is a member of it. */
static void write_choice(tri_anthropic_writer *writer) {
    const tr_chat *chat = writer->in->chat;
    tr_jsonw *w = &writer->w;
    bool one = !tr_json_bool(tr_json_get(writer->own, "parallel_tool_calls"), true);
    tr_str raw = chat->tool_choice.ptr != NULL ? chat->tool_choice : (tr_str){"\"auto\"", 6};
    tr_json *json = NULL;
    if (chat->tool_choice.ptr == NULL && (!one || chat->tool_count == 0)) {
        return;
    }
    tr_err err = tr_json_parse(raw.ptr, raw.size, &json, NULL);
    if (err != TR_OK) {
        tri_anthropic_refuse(writer, err, "tool_choice: is not JSON");
        return;
    }
    const tr_json_value *root = tr_json_root(json);
    tr_str type = tr_json_string(tr_json_get(root, "type"));
    tr_str name = tr_json_string(tr_json_get(tr_json_get(root, "function"), "name"));
    bool function = tri_same(type, "function") && name.size > 0;
    const char *word = choice_type(tr_json_string(root));
    tr_jsonw_name(w, "tool_choice");
    if (function || word != NULL) {
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "type");
        tr_jsonw_text(w, function ? "tool" : word);
        if (function) {
            tr_jsonw_name(w, "name");
            tr_jsonw_str(w, name);
        }
        if (one && (word == NULL || strcmp(word, "none") != 0)) {
            tr_jsonw_name(w, "disable_parallel_tool_use");
            tr_jsonw_bool(w, true);
        }
        tr_jsonw_close(w, '}');
    } else if (tri_same(type, "tool") || choice_type(type) != NULL) {
        tr_jsonw_raw(w, raw);
    } else {
        tri_anthropic_refuse(writer, TR_ERR_INVALID,
                             "tool_choice: expected auto, required, none or a function's name");
    }
    tr_json_free(json);
}

/* The request's own fields; counting takes only those that change the count. */
static void write_own(tri_anthropic_writer *writer) {
    static const char *const reserved[] = {"model",
                                           "messages",
                                           "stream",
                                           "output_config",
                                           "parallel_tool_calls",
                                           "user",
                                           "logprobs",
                                           "top_logprobs",
                                           "n",
                                           "logit_bias",
                                           NULL};
    static const char *const counted[] = {"system", "thinking", "cache_control",
                                          "context_management", "mcp_servers"};
    tr_jsonw *w = &writer->w;
    if (writer->in->op != TR_OP_COUNT) {
        tri_write_members(w, writer->own, reserved);
        return;
    }
    for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++) {
        const tr_json_value *value = tr_json_get(writer->own, counted[i]);
        if (value != NULL) {
            tr_jsonw_name(w, counted[i]);
            tr_jsonw_raw(w, tr_json_raw(value));
        }
    }
}

/* Models up to 4.5 think within a budget of tokens, which must be less than max_tokens; later ones
 * adapt, and are told an effort. */
static thinking plan_thinking(tri_anthropic_writer *writer) {
    static const struct {
        const char *word;
        int64_t budget;
        const char *effort; /* NULL = the same word */
    } efforts[] = {{"minimal", 1024, "low"}, {"low", 1024, NULL},    {"medium", 4096, NULL},
                   {"high", 16384, NULL},    {"xhigh", 24576, NULL}, {"max", 24576, NULL}};
    const tr_chat *chat = writer->in->chat;
    tr_str word = chat->reasoning_effort;
    thinking plan = {0};
    if (word.ptr == NULL || !ours(writer, "thinking")) {
        return plan;
    }
    if (tri_same(word, "none")) {
        return (thinking){.type = "disabled"};
    }
    for (size_t i = 0; i < sizeof(efforts) / sizeof(efforts[0]); i++) {
        if (!tri_same(word, efforts[i].word)) {
            continue;
        }
        const char *effort = efforts[i].effort == NULL ? efforts[i].word : efforts[i].effort;
        if (thinks_adaptively(writer->in->model)) {
            return (thinking){.type = "adaptive", .effort = {effort, strlen(effort)}};
        }
        plan = (thinking){.type = "enabled", .budget = efforts[i].budget};
    }
    if (plan.type == NULL) {
        tri_anthropic_refuse(writer, TR_ERR_INVALID,
                             "reasoning_effort: expected none, minimal, low, medium, high, xhigh "
                             "or max");
    } else if (chat->max_tokens > 0 && writer->in->op != TR_OP_COUNT) {
        if (chat->max_tokens <= BUDGET_min) {
            tri_anthropic_refuse(writer, TR_ERR_UNSUPPORTED,
                                 "provider %s reasons with this model only when max_tokens is "
                                 "greater than %d",
                                 writer->in->provider, BUDGET_min);
        }
        int64_t half = chat->max_tokens / 2 > BUDGET_min ? chat->max_tokens / 2 : BUDGET_min;
        plan.budget = plan.budget < chat->max_tokens ? plan.budget : half;
    }
    return plan;
}

/* Of "claude-3-7-sonnet-20250219", "claude-sonnet-4-5", "claude-opus-4-20250514": the first number
 * is the version, a second one of one or two digits its minor. A name without any is taken for a
 * new model's. */
static bool thinks_adaptively(tr_str model) {
    static const char family[] = "claude-";
    const char *at = memmem(model.ptr, model.size, family, sizeof(family) - 1);
    const char *end = model.ptr + model.size;
    int64_t numbers[2] = {-1, -1};
    if (at == NULL) {
        return true;
    }
    at += sizeof(family) - 1;
    for (size_t found = 0; at < end && found < 2;) {
        size_t digits = 0;
        int64_t number = 0;
        while (at + digits < end && at[digits] >= '0' && at[digits] <= '9' && digits < 9) {
            number = number * 10 + (at[digits++] - '0');
        }
        if (digits > 0) {
            numbers[found++] = digits <= 2 ? number : -1;
        }
        at += digits > 0 ? digits : 1;
    }
    int64_t minor = numbers[1] < 0 ? 0 : numbers[1];
    return numbers[0] < 0 || numbers[0] > 4 || (numbers[0] == 4 && minor >= 6);
}

static void write_thinking(tri_anthropic_writer *writer, const thinking *plan) {
    tr_jsonw *w = &writer->w;
    if (plan->type != NULL) {
        tr_jsonw_name(w, "thinking");
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "type");
        tr_jsonw_text(w, plan->type);
        if (plan->budget > 0) {
            tr_jsonw_name(w, "budget_tokens");
            tr_jsonw_int(w, plan->budget);
        }
        tr_jsonw_close(w, '}');
    }
}

static void write_output(tri_anthropic_writer *writer, const thinking *plan) {
    static const char *const none[] = {NULL};
    const tr_chat *chat = writer->in->chat;
    const tr_json_value *own = tr_json_get(writer->own, "output_config");
    tr_jsonw *w = &writer->w;
    bool effort = plan->effort.ptr != NULL && tr_json_get(own, "effort") == NULL;
    bool format = chat->schema.ptr != NULL && !tri_any_object(chat->schema) &&
                  tr_json_get(own, "format") == NULL;
    if (!effort && !format && own == NULL) {
        return;
    }
    tr_jsonw_name(w, "output_config");
    if (!effort && !format) {
        tr_jsonw_raw(w, tr_json_raw(own));
        return;
    }
    tr_jsonw_open(w, '{');
    if (effort) {
        tr_jsonw_name(w, "effort");
        tr_jsonw_str(w, plan->effort);
    }
    if (format) {
        tr_jsonw_name(w, "format");
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "type");
        tr_jsonw_text(w, "json_schema");
        tr_jsonw_name(w, "schema");
        tr_jsonw_raw(w, chat->schema);
        tr_jsonw_close(w, '}');
    }
    tri_write_members(w, own, none);
    tr_jsonw_close(w, '}');
}
