/*
 * What is asked when an answer shall be JSON: the request is read once, for its schema; for a
 * provider that cannot hold answers to it, the request is written anew, with the schema in the
 * system message, and with the answer to be corrected and what is wrong with it at the end. All
 * other members go on byte for byte.
 *
 * Called by the call, on its shard.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/call_shape.h"
#include "actors/call_shape_internal.h"
#include "protocol/json.h"
#include "runtime/memory.h"

static const char any_object[] = "{\"type\":\"object\"}";

static bool equals(tr_str text, const char *word) {
    return text.ptr != NULL && text.size == strlen(word) && memcmp(text.ptr, word, text.size) == 0;
}

static bool is_instructed(const tr_target *target) {
    return target->structured != TR_STRUCTURED_GRAMMAR &&
           target->structured != TR_STRUCTURED_NATIVE;
}

static bool all_by_grammar(const tri_call *c) {
    for (uint32_t i = 0; i < c->targets.count; i++) {
        if (c->targets.items[i].structured != TR_STRUCTURED_GRAMMAR) {
            return false;
        }
    }
    return true;
}

static bool one_is_instructed(const tri_call *c) {
    for (uint32_t i = 0; i < c->targets.count; i++) {
        if (is_instructed(&c->targets.items[i])) {
            return true;
        }
    }
    return false;
}

/* --- reading the schema --- */

static tr_err read_schema(struct tri_shape *s, tr_str text) {
    char why[TR_SCHEMA_WHY_size] = "";
    tr_err err =
        tr_schema_parse(text.ptr, text.size, TR_SCHEMA_STRICT, &s->schema, why, sizeof why);
    s->understood = err == TR_OK;
    if (err != TR_OK && err != TR_ERR_NOMEM) {
        snprintf(s->why, sizeof s->why,
                 "response_format: this provider cannot hold an answer to a schema, and Troupe "
                 "cannot check this one: %s",
                 why);
        err = tr_schema_parse(text.ptr, text.size, TR_SCHEMA_LENIENT, &s->schema, why, sizeof why);
    }
    return err == TR_ERR_NOMEM ? err : TR_OK;
}

static tr_err take_format(tri_call *c, const tr_json_value *format) {
    tr_str type = tr_json_string(tr_json_get(format, "type"));
    const tr_json_value *schema = tr_json_get(tr_json_get(format, "json_schema"), "schema");
    bool has_schema =
        equals(type, "json_schema") && schema != NULL && tr_json_type_of(schema) == TR_JSON_OBJECT;
    if (!has_schema && !equals(type, "json_object")) {
        return TR_OK;
    }
    struct tri_shape *s = tr_zalloc(sizeof *s);
    if (s == NULL) {
        return TR_ERR_NOMEM;
    }
    c->shape = s;
    s->is_object = !has_schema || equals(tr_json_string(tr_json_get(schema, "type")), "object");
    if (!has_schema) {
        return read_schema(s, (tr_str){any_object, sizeof any_object - 1});
    }
    tr_str raw = tr_json_raw(schema);
    s->source = (tr_str){tr_strndup(raw.ptr, raw.size), raw.size};
    return s->source.ptr != NULL ? read_schema(s, raw) : TR_ERR_NOMEM;
}

tr_err tri_shape_begin(tri_call *c) {
    static const char name[] = "\"response_format\"";
    if (c->head.op != TR_OP_CHAT || all_by_grammar(c) ||
        memmem(c->body->bytes, c->body->size, name, sizeof name - 1) == NULL) {
        return TR_OK;
    }
    tr_json *json = NULL;
    tr_err err = tr_json_parse_max(c->body->bytes, c->body->size, TR_CHAT_VALUES_max, &json, NULL);
    if (err != TR_OK) {
        return err == TR_ERR_NOMEM ? err : TR_OK; /* the backend says what is wrong with it */
    }
    err = take_format(c, tr_json_get(tr_json_root(json), "response_format"));
    if (c->shape != NULL && one_is_instructed(c)) {
        c->shape->request = json;
    } else {
        tr_json_free(json);
    }
    return err;
}

void tri_shape_free(struct tri_shape *s) {
    if (s != NULL) {
        tri_shape_reset(s);
        tr_schema_free(s->schema);
        tr_json_free(s->request);
        tr_msg_free(s->terminal);
        tr_free((void *)s->source.ptr);
        tr_free(s->others);
        tr_free(s->text);
        tr_free(s->wrong);
        tr_free(s);
    }
}

/* --- writing the request --- */

/* The instruction as a JSON string's content, behind `before`. */
static void write_instruction(tr_jsonw *w, const struct tri_shape *s, tr_str before) {
    static const char object[] = "Answer with one JSON object and nothing else: no explanation "
                                 "and no Markdown.";
    static const char head[] = "Answer with one JSON value and nothing else: no explanation and no "
                               "Markdown. It must follow this JSON schema:\n";
    size_t size = before.size + sizeof object + sizeof head + s->source.size + 3;
    char *text = tr_alloc(size);
    if (text == NULL) {
        w->err = w->err == TR_OK ? TR_ERR_NOMEM : w->err;
        return;
    }
    int used =
        snprintf(text, size, "%.*s%s%s%.*s", (int)before.size, before.size > 0 ? before.ptr : "",
                 before.size > 0 ? "\n\n" : "", s->source.ptr != NULL ? head : object,
                 (int)s->source.size, s->source.ptr != NULL ? s->source.ptr : "");
    tr_jsonw_str(w, (tr_str){text, (size_t)used});
    tr_free(text);
}

static void write_message(tr_jsonw *w, const char *role, tr_str content) {
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "role");
    tr_jsonw_text(w, role);
    tr_jsonw_name(w, "content");
    tr_jsonw_str(w, content);
    tr_jsonw_close(w, '}');
}

/* A system message that stands first anyhow is joined: some servers take but one. */
static void write_system(tr_jsonw *w, const struct tri_shape *s, const tr_json_value *first) {
    tr_jsonw_open(w, '{');
    if (first == NULL) {
        tr_jsonw_name(w, "role");
        tr_jsonw_text(w, "system");
        tr_jsonw_name(w, "content");
        write_instruction(w, s, (tr_str){NULL, 0});
    }
    for (const tr_json_value *one = tr_json_first(first); one != NULL; one = tr_json_next(one)) {
        tr_jsonw_name_str(w, tr_json_name(one));
        if (equals(tr_json_name(one), "content")) {
            write_instruction(w, s, tr_json_string(one));
        } else {
            tr_jsonw_raw(w, tr_json_raw(one));
        }
    }
    tr_jsonw_close(w, '}');
}

static void write_correction(tr_jsonw *w, const struct tri_shape *s) {
    char text[TR_SCHEMA_WHY_size + 128];
    if (s->wrong_size > 0) {
        write_message(w, "assistant", (tr_str){s->wrong, s->wrong_size});
    }
    snprintf(text, sizeof text,
             "This answer is not valid: %s. Answer again with the corrected JSON and nothing else.",
             s->fault);
    write_message(w, "user", (tr_str){text, strlen(text)});
}

static void write_messages(tr_jsonw *w, const struct tri_shape *s, const tr_json_value *messages) {
    const tr_json_value *first = tr_json_first(messages);
    tr_str role = tr_json_string(tr_json_get(first, "role"));
    bool joined = (equals(role, "system") || equals(role, "developer")) &&
                  tr_json_string(tr_json_get(first, "content")).ptr != NULL;
    tr_jsonw_open(w, '[');
    write_system(w, s, joined ? first : NULL);
    for (const tr_json_value *one = joined ? tr_json_next(first) : first; one != NULL;
         one = tr_json_next(one)) {
        tr_jsonw_raw(w, tr_json_raw(one));
    }
    if (s->corrected) {
        write_correction(w, s);
    }
    tr_jsonw_close(w, ']');
}

static void write_request(tr_jsonw *w, const tri_call *c, const tr_json_value *root) {
    const struct tri_shape *s = c->shape;
    tr_jsonw_open(w, '{');
    for (const tr_json_value *one = tr_json_first(root); one != NULL; one = tr_json_next(one)) {
        tr_str name = tr_json_name(one);
        if (equals(name, "response_format")) {
            continue;
        }
        tr_jsonw_name_str(w, name);
        if (equals(name, "messages") && tr_json_type_of(one) == TR_JSON_ARRAY) {
            write_messages(w, s, one);
        } else {
            tr_jsonw_raw(w, tr_json_raw(one));
        }
    }
    if (s->is_object && tri_call_target(c)->structured == TR_STRUCTURED_OBJECT) {
        tr_jsonw_name(w, "response_format");
        tr_jsonw_raw(w, (tr_str){"{\"type\":\"json_object\"}", 22});
    }
    tr_jsonw_close(w, '}');
}

static tr_body *written_anew(const tri_call *c) {
    tr_jsonw w;
    char *text = NULL;
    size_t size = 0;
    tr_jsonw_init(&w);
    write_request(&w, c, tr_json_root(c->shape->request));
    tr_err err = tr_jsonw_take(&w, &text, &size);
    tr_body *body = err == TR_OK ? tr_body_new(size) : NULL;
    if (body != NULL) {
        memcpy(body->bytes, text, size);
    }
    free(text);
    return body;
}

bool tri_shape_instructs(const tri_call *c) {
    switch (tri_call_target(c)->structured) {
    case TR_STRUCTURED_OBJECT:
    case TR_STRUCTURED_INSTRUCT:
        return true;
    case TR_STRUCTURED_SCHEMA:
        return c->shape->source.ptr == NULL;
    case TR_STRUCTURED_NATIVE:
    case TR_STRUCTURED_GRAMMAR:
        break;
    }
    return false;
}

tr_body *tri_shape_body(tri_call *c) {
    if (c->shape == NULL) {
        return tr_body_ref(c->body);
    }
    tri_shape_reset(c->shape);
    bool instructs = tri_shape_instructs(c);
    c->shape->holds = instructs && (c->head.flags & TR_SUBMIT_SHOW) == 0;
    return instructs ? written_anew(c) : tr_body_ref(c->body);
}
