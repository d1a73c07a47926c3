/*
 * The grammar of an answer with tools: text in which no call begins, then calls and nothing else;
 * with tool_choice required or a name, calls from the first byte. So the model is free until it
 * opens a call, and from there on writes nothing but a whole one, whose arguments follow the tool's
 * schema, or are a JSON object where it has none. Text without the opening tag is the automaton of
 * Knuth, Morris and Pratt (1977), a rule a state; being right-recursive it costs no stack. Blanks
 * are allowed where models write them, one each, so that nobody writes blanks for ever.
 */
#include "inference/engine_tools.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/engine.h"
#include "inference/engine_schema.h"
#include "protocol/schema_grammar.h"
#include "runtime/memory.h"

typedef struct choice {
    bool none, required;
    size_t only; /* the one tool that must be called; SIZE_MAX = any */
    bool parallel;
} choice;

static const char any_object[] =
    "obj ::= \"{\" sp (pair (\",\" sp pair)*)? \"}\"\n"
    "pair ::= str \":\" sp val sp\n"
    "val ::= obj | arr | str | num | \"true\" | \"false\" | \"null\"\n"
    "arr ::= \"[\" sp (val sp (\",\" sp val sp)*)? \"]\"\n"
    "str ::= \"\\\"\" ([^\"\\\\\\x00-\\x1f\\x7f] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" hex hex hex "
    "hex))* "
    "\"\\\"\"\n"
    "hex ::= [0-9a-fA-F]\n"
    "num ::= \"-\"? (\"0\" | [1-9] [0-9]{0,15}) (\".\" [0-9]{1,16})? ([eE] [+-]? [0-9]{1,3})?\n";

static bool same(tr_str a, const char *b) {
    return a.size == strlen(b) && memcmp(a.ptr, b, a.size) == 0;
}

static tr_err refuse(char *ret_why, const char *why) {
    snprintf(ret_why, TR_ENGINE_WHY_size, "%s", why);
    return TR_ERR_INVALID;
}

/* --- what may be called --- */

static tr_err read_named(const tr_chat *chat, const tr_json_value *value, choice *ret,
                         char *ret_why) {
    tr_str name = tr_json_string(tr_json_get(tr_json_get(value, "function"), "name"));
    for (size_t i = 0; i < chat->tool_count && name.ptr != NULL; i++) {
        if (name.size == chat->tools[i].name.size &&
            memcmp(name.ptr, chat->tools[i].name.ptr, name.size) == 0) {
            ret->only = i;
            ret->required = true;
            return TR_OK;
        }
    }
    if (name.ptr == NULL) {
        return refuse(ret_why, "tool_choice: expected auto, none, required or "
                               "{\"type\":\"function\",\"function\":{\"name\":…}}");
    }
    snprintf(ret_why, TR_ENGINE_WHY_size, "tool_choice: there is no tool \"%.*s\"",
             (int)(name.size < 64 ? name.size : 64), name.ptr);
    return TR_ERR_INVALID;
}

static tr_err read_choice(const tr_chat *chat, choice *ret, char *ret_why) {
    tr_json *json = NULL;
    *ret = (choice){.only = SIZE_MAX, .parallel = true};
    if (chat->extra.ptr != NULL) {
        if (tr_json_parse(chat->extra.ptr, chat->extra.size, &json, NULL) != TR_OK) {
            return TR_ERR_NOMEM; /* it was read before */
        }
        ret->parallel = tr_json_bool(tr_json_get(tr_json_root(json), "parallel_tool_calls"), true);
        tr_json_free(json);
    }
    if (chat->tool_choice.ptr == NULL) {
        return TR_OK;
    }
    if (tr_json_parse(chat->tool_choice.ptr, chat->tool_choice.size, &json, NULL) != TR_OK) {
        return TR_ERR_NOMEM;
    }
    tr_str word = tr_json_string(tr_json_root(json));
    tr_err err = TR_OK;
    ret->none = same(word, "none");
    ret->required = same(word, "required");
    if (!ret->none && !ret->required && !same(word, "auto")) {
        err = read_named(chat, tr_json_root(json), ret, ret_why);
    }
    tr_json_free(json);
    return err;
}

static tr_err check(const tr_chat *chat, const choice *how, char *ret_why) {
    if (how->required && chat->tool_count == 0) {
        return refuse(ret_why, "tool_choice: there is no tool to call");
    }
    if (chat->tool_count > TRI_TOOLS_max) {
        return refuse(ret_why, "tools: a local model takes at most 128");
    }
    if (chat->tool_count > 0 && !how->none && chat->grammar.ptr != NULL) {
        return refuse(ret_why, "grammar: it cannot be held to together with tools, unless "
                               "tool_choice is none");
    }
    return TR_OK;
}

/* --- the grammar --- */

/* Inside a literal. */
static void write_literal(tri_write *w, tr_str text) {
    for (size_t i = 0; i < text.size; i++) {
        if (text.ptr[i] == '"' || text.ptr[i] == '\\') {
            tri_write_text(w, "\\");
        }
        tri_write_str(w, (tr_str){text.ptr + i, 1});
    }
}

/* Text in which neither a call nor a result begins: a rule for each part of "<tool_" that may stand
 * at its end; t6 is up to who uses them. A model that wrote results would believe them. */
#define TEXT_RULES                                                                                 \
    "t0 ::= ([^<] t0 | \"<\" t1)?\n"                                                               \
    "t1 ::= ([^<t] t0 | \"<\" t1 | \"t\" t2)?\n"                                                   \
    "t2 ::= ([^<o] t0 | \"<\" t1 | \"o\" t3)?\n"                                                   \
    "t3 ::= ([^<o] t0 | \"<\" t1 | \"o\" t4)?\n"                                                   \
    "t4 ::= ([^<l] t0 | \"<\" t1 | \"l\" t5)?\n"                                                   \
    "t5 ::= ([^<_] t0 | \"<\" t1 | \"_\" t6)?\n"
static const char text_alone[] = "root ::= t0\n" TEXT_RULES "t6 ::= ([^<cr] t0 | \"<\" t1)?\n";

/* Text that the opening tag of a call ends. */
static void write_text(tri_write *w) {
    static const char tag[] = TRI_CALL_OPEN, common[] = "<tool_";
    tri_write_text(w, TEXT_RULES "t6 ::= ([^<cr] t0 | \"<\" t1 | \"c\" t7)?\n");
    for (size_t i = sizeof common; i < sizeof tag - 1; i++) {
        bool last = i + 1 == sizeof tag - 1;
        tri_write_format(w, "t%zu ::= ([^<%c] t0 | \"<\" t1 | \"%c\" ", i, tag[i], tag[i]);
        if (last) {
            tri_write_text(w, "call)?\n");
        } else {
            tri_write_format(w, "t%zu)?\n", i + 1);
        }
    }
}

/* `call` is what follows the first tag: a call, and more of them. */
static void write_calls(tri_write *w, const choice *how) {
    static const char rest[] = "nl \"{\\\"name\\\":\" sp \"\\\"\" body nl \"" TRI_CALL_CLOSE "\"";
    bool more = how->parallel && how->only == SIZE_MAX;
    tri_write_format(w, "call ::= %s%s\n", rest, more ? " m1" : "");
    for (int i = 1; more && i < TRI_PARALLEL_max; i++) {
        tri_write_format(w, "m%d ::= (nl \"" TRI_CALL_OPEN "\" %s", i, rest);
        if (i + 1 < TRI_PARALLEL_max) {
            tri_write_format(w, " m%d", i + 1);
        }
        tri_write_text(w, ")?\n");
    }
}

/* Whether the tool's schema is one of an object with named properties; what else it may be is any
 * object to us. */
static bool names_properties(tr_str parameters, tr_err *ret_err) {
    tr_json *json = NULL;
    *ret_err = TR_OK;
    if (parameters.ptr == NULL) {
        return false;
    }
    *ret_err = tr_json_parse(parameters.ptr, parameters.size, &json, NULL);
    const tr_json_value *root = *ret_err == TR_OK ? tr_json_root(json) : NULL;
    bool does = same(tr_json_string(tr_json_get(root, "type")), "object") &&
                tr_json_get(root, "properties") != NULL;
    tr_json_free(json);
    return does;
}

static bool is_strict(const tr_tool *tool) {
    tr_json *json = NULL;
    if (tool->function_extra.ptr == NULL ||
        tr_json_parse(tool->function_extra.ptr, tool->function_extra.size, &json, NULL) != TR_OK) {
        return false;
    }
    bool strict = tr_json_bool(tr_json_get(tr_json_root(json), "strict"), false);
    tr_json_free(json);
    return strict;
}

/* The rule of a tool's arguments. What a grammar cannot say of them is left open, unless the tool
 * is strict. */
static tr_err write_args(tri_write *w, const tr_tool *tool, size_t index, char *ret_why) {
    char why[TR_SCHEMA_WHY_size] = "", rule[32];
    char *text = NULL;
    size_t size = 0;
    tr_schema *schema = NULL;
    tr_err err;
    bool strict = is_strict(tool);
    snprintf(rule, sizeof rule, "a%zu", index);
    if (names_properties(tool->parameters, &err) || (strict && err == TR_OK)) {
        err = tr_schema_parse(tool->parameters.ptr, tool->parameters.size, TR_SCHEMA_STRICT,
                              &schema, why, sizeof why);
        err = err == TR_OK ? tr_schema_grammar(schema, rule, &text, &size, why, sizeof why) : err;
        tr_schema_free(schema);
    }
    if (err != TR_OK && err != TR_ERR_NOMEM && !strict) {
        err = TR_OK;
    }
    if (err != TR_OK) {
        snprintf(ret_why, TR_ENGINE_WHY_size,
                 "tools[%zu]: a local model cannot be held to this schema strictly: %s", index,
                 why);
        return err == TR_ERR_TOO_LARGE ? TR_ERR_INVALID : err;
    }
    if (text == NULL) {
        tri_write_format(w, "%s ::= obj\n", rule);
    } else {
        tri_write_str(w, (tr_str){text, size});
        tri_write_text(w, "\n");
    }
    free(text);
    return TR_OK;
}

/* What the answer must be when it calls nothing: text, or JSON of the request's schema. */
static tr_err write_answer(tri_write *w, const tr_chat *chat, char *ret_why) {
    if (chat->schema.ptr == NULL) {
        tri_write_text(w, "root ::= t0\n");
        write_text(w);
        return TR_OK;
    }
    char why[TR_SCHEMA_WHY_size] = "";
    char *text = NULL;
    size_t size = 0;
    tr_schema *schema = NULL;
    tr_err err = tr_schema_parse(chat->schema.ptr, chat->schema.size, TR_SCHEMA_STRICT, &schema,
                                 why, sizeof why);
    err = err == TR_OK ? tr_schema_grammar(schema, "answer", &text, &size, why, sizeof why) : err;
    tr_schema_free(schema);
    if (err != TR_OK) {
        snprintf(ret_why, TR_ENGINE_WHY_size,
                 "response_format: a local model cannot be held to this schema: %s", why);
        return err == TR_ERR_TOO_LARGE ? TR_ERR_INVALID : err;
    }
    tri_write_text(w, "root ::= answer | \"" TRI_CALL_OPEN "\" call\n");
    tri_write_str(w, (tr_str){text, size});
    tri_write_text(w, "\n");
    free(text);
    return TR_OK;
}

static tr_err write_grammar(tri_tools *tools, const choice *how, char *ret_why) {
    tri_write w = {0};
    tr_err err = TR_OK;
    if (how->required) {
        tri_write_text(&w, "root ::= \"" TRI_CALL_OPEN "\" call\n");
    } else {
        err = write_answer(&w, tools->chat, ret_why);
    }
    write_calls(&w, how);
    tri_write_text(&w, "body ::= ");
    const char *gap = "";
    for (size_t i = 0; i < tools->count; i++) {
        if (how->only == SIZE_MAX || how->only == i) {
            tri_write_format(&w, "%sb%zu", gap, i);
            gap = " | ";
        }
    }
    tri_write_text(&w, "\n");
    for (size_t i = 0; i < tools->count && err == TR_OK; i++) {
        tri_write_format(&w, "b%zu ::= \"", i);
        write_literal(&w, tools->names[i]);
        tri_write_format(&w, "\\\",\" sp \"\\\"arguments\\\":\" sp a%zu \"}\"\n", i);
        err = write_args(&w, &tools->chat->tools[i], i, ret_why);
    }
    tri_write_text(&w, any_object);
    tri_write_text(&w, "sp ::= \" \"?\nnl ::= \"\\n\"?\n");
    tools->grammar = tri_write_take(&w);
    return err != TR_OK ? err : tools->grammar != NULL ? TR_OK : TR_ERR_NOMEM;
}

/* --- the object --- */

static tr_err copy_names(tri_tools *tools, const tr_chat *chat) {
    tools->names = tr_zalloc(chat->tool_count * sizeof *tools->names);
    if (tools->names == NULL) {
        return TR_ERR_NOMEM;
    }
    for (; tools->count < chat->tool_count; tools->count++) {
        tr_jsonw w;
        char *json = NULL;
        size_t size = 0;
        tr_jsonw_init(&w);
        tr_jsonw_str(&w, chat->tools[tools->count].name);
        tr_err err = tr_jsonw_take(&w, &json, &size);
        if (err != TR_OK) {
            return err;
        }
        char *copy = tr_strndup(json + 1, size - 2); /* without its quotes */
        free(json);
        if (copy == NULL) {
            return TR_ERR_NOMEM;
        }
        tools->names[tools->count] = (tr_str){copy, size - 2};
    }
    return TR_OK;
}

tr_err tri_tools_new(const tr_chat *chat, tri_tools **ret, char *ret_why) {
    choice how;
    tr_err err = read_choice(chat, &how, ret_why);
    if (err == TR_OK) {
        err = check(chat, &how, ret_why);
    }
    *ret = NULL;
    if (err != TR_OK || how.none || chat->tool_count == 0) {
        return err;
    }
    tri_tools *tools = tr_zalloc(sizeof *tools);
    if (tools == NULL) {
        return TR_ERR_NOMEM;
    }
    tools->chat = chat;
    for (size_t i = 0; i < chat->turn_count; i++) {
        tools->calls_before += (uint32_t)chat->turns[i].call_count;
    }
    err = copy_names(tools, chat);
    if (err == TR_OK) {
        err = write_grammar(tools, &how, ret_why);
    }
    if (err != TR_OK) {
        tri_tools_free(tools);
        return err;
    }
    tri_calls_init(&tools->calls, tools->names, tools->count);
    *ret = tools;
    return TR_OK;
}

const char *tri_tools_silence(const tr_chat *chat) {
    bool knows = false;
    for (size_t i = 0; i < chat->turn_count; i++) {
        knows = knows || chat->turns[i].call_count > 0;
    }
    return knows && chat->grammar.ptr == NULL && chat->schema.ptr == NULL ? text_alone : NULL;
}

void tri_tools_free(tri_tools *tools) {
    if (tools == NULL) {
        return;
    }
    for (size_t i = 0; i < tools->count; i++) {
        tr_free((void *)tools->names[i].ptr);
    }
    tr_free(tools->names);
    tr_free(tools->grammar);
    tr_free(tools->piece.text.text);
    tr_free(tools->next.text.text);
    tr_free(tools);
}
