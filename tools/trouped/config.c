/*
 * Reading the configuration: libyaml composes the document, whose nodes carry line and column; the
 * table (config_table.c) says what may stand where. Defaults are applied first, by the same code
 * that reads values, so a default that its own rules refuse fails every test. What is read lives in
 * one chain of blocks that tr_config_fini frees. Called once at start and at each reload.
 */
#include "tools/trouped/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "protocol/limits.h"
#include "protocol/near.h"
#include "protocol/utf8.h"
#include "tools/trouped/config_table.h"

#define FILE_BYTES_max (1024U * 1024U)
#define ENTRIES_max 1024 /* of a named section */
#define DEPTH_max 16     /* of lists and mappings in each other; the table needs 4 */

typedef struct block {
    struct block *next;
    _Alignas(16) char bytes[];
} block;

/* Where a value stands. The configuration itself moves to its caller, so its own values are known
 * by their offset, those of entries by their address. */
typedef struct mark {
    struct mark *next;
    const char *item; /* NULL = the configuration itself */
    size_t offset;
    size_t line, column;
} mark;

typedef struct reader {
    yaml_document_t document;
    const char *name;
    tr_config *config;
    char *why;
} reader;

static void *take(tr_config *config, size_t size) {
    block *fresh = calloc(1, sizeof(block) + size);
    if (fresh == NULL) {
        return NULL;
    }
    fresh->next = config->strings;
    config->strings = fresh;
    return fresh->bytes;
}

static const char *copy(tr_config *config, const char *text, size_t size) {
    char *bytes = take(config, size + 1);
    if (bytes != NULL) {
        memcpy(bytes, text, size);
    }
    return bytes;
}

static tr_err keep_mark(reader *r, const yaml_node_t *node, const char *item, size_t offset) {
    mark *fresh = take(r->config, sizeof *fresh);
    if (fresh == NULL) {
        return TR_ERR_NOMEM;
    }
    *fresh = (mark){.next = r->config->marks,
                    .item = item == (const char *)r->config ? NULL : item,
                    .offset = offset,
                    .line = node->start_mark.line + 1,
                    .column = node->start_mark.column + 1};
    r->config->marks = fresh;
    return TR_OK;
}

static const mark *mark_of(const tr_config *config, const void *member) {
    uintptr_t at = (uintptr_t)member;
    uintptr_t base = (uintptr_t)config;
    for (const mark *m = config->marks; m != NULL; m = m->next) {
        if (at == (m->item == NULL ? base : (uintptr_t)m->item) + m->offset) {
            return m;
        }
    }
    return NULL;
}

size_t tri_config_line(const tr_config *config, const void *member) {
    const mark *m = mark_of(config, member);
    return m != NULL ? m->line : 0;
}

/* Behind the place, which has `used` bytes. What is wrong may be a name: it must move no cursor,
 * and one that is shown shortened may have been cut inside a character. */
static tr_err say(char *why, int used, const char *format, va_list args) {
    if (used > 0 && used < TR_CONFIG_WHY_size) {
        vsnprintf(why + used, TR_CONFIG_WHY_size - (size_t)used, format, args);
    }
    why[tr_utf8_plain(why, strlen(why))] = '\0';
    return TR_ERR_INVALID;
}

tr_err tri_config_fault(const tr_config *config, const void *member, char *why, const char *format,
                        ...) {
    const mark *m = mark_of(config, member);
    int used = m != NULL ? snprintf(why, TR_CONFIG_WHY_size, "%s:%zu:%zu: ", config->origin,
                                    m->line, m->column)
                         : snprintf(why, TR_CONFIG_WHY_size, "%s: ", config->origin);
    va_list args;
    va_start(args, format);
    tr_err err = say(why, used, format, args);
    va_end(args);
    return err;
}

__attribute__((format(printf, 3, 4))) static tr_err fault(reader *r, const yaml_node_t *node,
                                                          const char *format, ...) {
    int used = node != NULL ? snprintf(r->why, TR_CONFIG_WHY_size, "%s:%zu:%zu: ", r->name,
                                       node->start_mark.line + 1, node->start_mark.column + 1)
                            : snprintf(r->why, TR_CONFIG_WHY_size, "%s: ", r->name);
    va_list args;
    va_start(args, format);
    tr_err err = say(r->why, used, format, args);
    va_end(args);
    return err;
}

static const char *text_of(const yaml_node_t *node) {
    return (const char *)node->data.scalar.value;
}

/* A YAML text may hold a zero byte ("\0"), behind which C would not look. */
static tr_err check_text(reader *r, const yaml_node_t *node) {
    return strlen(text_of(node)) == node->data.scalar.length
               ? TR_OK
               : fault(r, node, "a text must not hold a zero byte");
}

static bool is_null(const yaml_node_t *node) {
    const char *text = text_of(node);
    return node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
}

static bool choice_has(const char *choices, const char *text) {
    size_t size = strcspn(text, "|");
    for (const char *at = text[size] == '|' ? NULL : choices; at != NULL;
         at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
        if (strncmp(at, text, size) == 0 && (at[size] == '|' || at[size] == '\0')) {
            return true;
        }
    }
    return false;
}

static tr_err set_number(reader *r, const yaml_node_t *node, const tri_field *field,
                         const char *text, uint64_t *ret) {
    if (field->type == TRI_FIELD_TIME) {
        uint64_t ms;
        if (!tri_time_parse(text, &ms)) {
            return fault(r, node, "%s: \"%s\" is not a time such as 500ms, 10s, 5m or 1h",
                         field->name, text);
        }
        if (ms < field->min || ms > field->max) {
            char min[32];
            char max[32];
            tri_time_format(field->min, min, sizeof min);
            tri_time_format(field->max, max, sizeof max);
            return fault(r, node, "%s: %s is out of range: %s to %s", field->name, text, min, max);
        }
        *ret = ms;
        return TR_OK;
    }
    if (field->min == 0 && field->otherwise[0] == '0' && strcmp(text, "auto") == 0) {
        text = "0";
    }
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) {
        return fault(r, node, "%s: \"%s\" is not a whole number", field->name, text);
    }
    if (number < field->min || number > field->max) {
        return fault(r, node, "%s: %s is out of range: %" PRIu64 " to %" PRIu64, field->name, text,
                     field->min, field->max);
    }
    *ret = number;
    return TR_OK;
}

/* Sets one plain value. `node` is NULL for a default. */
static tr_err set_text(reader *r, const yaml_node_t *node, const tri_field *field, const char *text,
                       char *item) {
    void *member = item + field->offset;
    switch (field->type) {
    case TRI_FIELD_CHOICE:
        if (!choice_has(field->choices, text)) {
            return fault(r, node, "%s: \"%s\" is none of %s", field->name, text, field->choices);
        }
        __attribute__((fallthrough));
    case TRI_FIELD_TEXT: {
        const char *kept = copy(r->config, text, strlen(text));
        if (kept == NULL) {
            return TR_ERR_NOMEM;
        }
        memcpy(member, &kept, sizeof kept);
        return TR_OK;
    }
    case TRI_FIELD_NUMBER:
    case TRI_FIELD_TIME: {
        uint64_t number = 0;
        tr_err err = set_number(r, node, field, text, &number);
        if (err == TR_OK) {
            memcpy(member, &number, sizeof number);
        }
        return err;
    }
    case TRI_FIELD_SWITCH: {
        bool on = strcmp(text, "true") == 0;
        if (!on && strcmp(text, "false") != 0) {
            return fault(r, node, "%s: \"%s\" is neither true nor false", field->name, text);
        }
        memcpy(member, &on, sizeof on);
        /* Every text hangs in the configuration's list, of which the analyser loses sight here.
         * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
        return TR_OK;
    }
    case TRI_FIELD_TEXTS:
    case TRI_FIELD_SECTION:
    case TRI_FIELD_ENTRIES:
        break;
    }
    return fault(r, node, "%s: a text cannot stand here", field->name);
}

static tr_err set_texts(reader *r, yaml_node_t *node, const tri_field *field, char *item) {
    size_t count = 1;
    if (node->type == YAML_SEQUENCE_NODE) {
        count = (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
    }
    const char **items = take(r->config, (count + 1) * sizeof *items);
    if (items == NULL) {
        return TR_ERR_NOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        const yaml_node_t *one = node;
        if (node->type == YAML_SEQUENCE_NODE) {
            one = yaml_document_get_node(&r->document, node->data.sequence.items.start[i]);
        }
        if (one->type != YAML_SCALAR_NODE) {
            return fault(r, one, "%s: each entry must be a text", field->name);
        }
        tr_err err = check_text(r, one);
        if (err != TR_OK) {
            return err;
        }
        items[i] = copy(r->config, text_of(one), strlen(text_of(one)));
        if (items[i] == NULL) {
            return TR_ERR_NOMEM;
        }
    }
    tr_config_strings strings = {.items = items, .count = count};
    memcpy(item + field->offset, &strings, sizeof strings);
    return keep_mark(r, node, item, field->offset);
}

static tr_err set_defaults(reader *r, const tri_section *section, char *item) {
    for (size_t i = 0; i < section->count; i++) {
        const tri_field *field = &section->fields[i];
        tr_err err = TR_OK;
        if (field->type == TRI_FIELD_SECTION) {
            err = set_defaults(r, field->inner, item);
        } else if (field->type != TRI_FIELD_ENTRIES && field->type != TRI_FIELD_TEXTS) {
            err = set_text(r, NULL, field, field->otherwise, item);
        }
        if (err != TR_OK) {
            return err;
        }
    }
    return TR_OK;
}

static const tri_field *field_of(const tri_section *section, const char *name) {
    for (size_t i = 0; i < section->count; i++) {
        if (strcmp(section->fields[i].name, name) == 0) {
            return &section->fields[i];
        }
    }
    return NULL;
}

static tr_err unknown_key(reader *r, const yaml_node_t *key, const tri_section *section,
                          const char *name) {
    char keys[256];
    char meant[128];
    size_t used = 0;
    tr_near near;
    tr_near_init(&near, (tr_str){text_of(key), strlen(text_of(key))}, meant, sizeof meant);
    keys[0] = '\0';
    for (size_t i = 0; i < section->count && used < sizeof keys; i++) {
        used += (size_t)snprintf(keys + used, sizeof keys - used, "%s%s", i > 0 ? ", " : "",
                                 section->fields[i].name);
        tr_near_consider(&near, section->fields[i].name);
    }
    return fault(r, key, "%.64s: there is no such key%s%s%s; there are %s", text_of(key),
                 name[0] != '\0' ? " in " : "", name, meant, keys);
}

static tr_err read_field(reader *r, yaml_node_t *node, const tri_field *field, char *item);
static tr_err read_section(reader *r, yaml_node_t *node, const tri_section *section,
                           const char *name, char *item);

static tr_err check_key(reader *r, const yaml_node_t *key) {
    return key->type == YAML_SCALAR_NODE ? check_text(r, key)
                                         : fault(r, key, "a key must be a plain text");
}

/* Checks that the `i`th key of a mapping does not stand before; libyaml lets it through. The keys
 * before it are few: known ones of a section, or names within their limit. */
static tr_err check_unique(reader *r, const yaml_node_pair_t *pairs, size_t i) {
    const yaml_node_t *key = yaml_document_get_node(&r->document, pairs[i].key);
    for (size_t j = 0; j < i; j++) {
        const yaml_node_t *other = yaml_document_get_node(&r->document, pairs[j].key);
        if (strcmp(text_of(key), text_of(other)) == 0) {
            return fault(r, key, "%s: the key stands here again; first in line %zu", text_of(key),
                         other->start_mark.line + 1);
        }
    }
    return TR_OK;
}

/* A provider's model is called what its provider calls it. */
static bool name_fits(const tri_section *section, const char *name) {
    size_t size = strlen(name);
    if (section->models) {
        return size <= 2 * TR_NAME_max + 1 && strpbrk(name, " \t\n") == NULL;
    }
    return size > 0 && size <= 48 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:") ==
               size;
}

static tr_err read_entry(reader *r, const yaml_node_t *key, yaml_node_t *value,
                         const tri_section *section, char *item) {
    const char *name = copy(r->config, text_of(key), strlen(text_of(key)));
    if (name == NULL) {
        return TR_ERR_NOMEM;
    }
    memcpy(item, &name, sizeof name); /* the first member of every entry */
    if (!name_fits(section, name)) {
        return fault(r, key, "%.64s: a name has %s", name,
                     section->models ? "no blanks: write provider/model"
                                     : "1 to 48 letters, digits and . _ - :");
    }
    tr_err err = keep_mark(r, key, item, 0);
    if (err == TR_OK) {
        err = set_defaults(r, section, item);
    }
    if (err != TR_OK) {
        return err;
    }
    bool plain =
        value->type == YAML_SEQUENCE_NODE || (value->type == YAML_SCALAR_NODE && !is_null(value));
    if (plain && section->short_key != NULL) {
        return read_field(r, value, field_of(section, section->short_key), item);
    }
    return read_section(r, value, section, name, item);
}

static tr_err read_entries(reader *r, yaml_node_t *node, const tri_field *field, char *item) {
    tr_config_list list = {NULL, 0};
    if (node->type == YAML_SCALAR_NODE && is_null(node)) {
        memcpy(item + field->offset, &list, sizeof list);
        return TR_OK;
    }
    if (node->type != YAML_MAPPING_NODE) {
        return fault(r, node, "%s: expected names, each with its own keys", field->name);
    }
    const yaml_node_pair_t *pairs = node->data.mapping.pairs.start;
    list.count = (size_t)(node->data.mapping.pairs.top - pairs);
    if (list.count > ENTRIES_max) {
        return fault(r, node, "%s: %zu names; at most %d are possible", field->name, list.count,
                     ENTRIES_max);
    }
    list.items = take(r->config, (list.count + 1) * field->inner->item_size);
    if (list.items == NULL) {
        return TR_ERR_NOMEM;
    }
    for (size_t i = 0; i < list.count; i++) {
        const yaml_node_t *key = yaml_document_get_node(&r->document, pairs[i].key);
        tr_err err = check_key(r, key);
        if (err == TR_OK) {
            err = check_unique(r, pairs, i);
        }
        if (err == TR_OK) {
            err = read_entry(r, key, yaml_document_get_node(&r->document, pairs[i].value),
                             field->inner, (char *)list.items + i * field->inner->item_size);
        }
        if (err != TR_OK) {
            return err;
        }
    }
    memcpy(item + field->offset, &list, sizeof list);
    return TR_OK;
}

static tr_err read_field(reader *r, yaml_node_t *node, const tri_field *field, char *item) {
    switch (field->type) {
    case TRI_FIELD_SECTION:
        return read_section(r, node, field->inner, field->name, item);
    case TRI_FIELD_ENTRIES:
        return read_entries(r, node, field, item);
    case TRI_FIELD_TEXTS:
        return set_texts(r, node, field, item);
    case TRI_FIELD_TEXT:
    case TRI_FIELD_CHOICE:
    case TRI_FIELD_NUMBER:
    case TRI_FIELD_TIME:
    case TRI_FIELD_SWITCH:
        break;
    }
    if (node->type != YAML_SCALAR_NODE) {
        return fault(r, node, "%s: expected a single value, not a list or a mapping", field->name);
    }
    tr_err err = check_text(r, node);
    if (err == TR_OK) {
        err = set_text(r, node, field, is_null(node) ? field->otherwise : text_of(node), item);
    }
    return err == TR_OK ? keep_mark(r, node, item, field->offset) : err;
}

static tr_err read_section(reader *r, yaml_node_t *node, const tri_section *section,
                           const char *name, char *item) {
    if (node->type == YAML_SCALAR_NODE && is_null(node)) {
        return TR_OK;
    }
    if (node->type != YAML_MAPPING_NODE && name[0] == '\0') {
        return fault(r, node, "expected keys with values");
    }
    if (node->type != YAML_MAPPING_NODE) {
        return fault(r, node, "%.64s: expected keys with values, as in %.64s: {%s: ...}", name,
                     name, section->fields[0].name);
    }
    const yaml_node_pair_t *pairs = node->data.mapping.pairs.start;
    size_t count = (size_t)(node->data.mapping.pairs.top - pairs);
    tr_err err = TR_OK;
    for (size_t i = 0; i < count && err == TR_OK; i++) {
        const yaml_node_t *key = yaml_document_get_node(&r->document, pairs[i].key);
        err = check_key(r, key);
        const tri_field *field = err == TR_OK ? field_of(section, text_of(key)) : NULL;
        if (err == TR_OK && field == NULL) {
            err = unknown_key(r, key, section, name);
        }
        if (err == TR_OK) {
            err = check_unique(r, pairs, i);
        }
        if (err == TR_OK) {
            err = read_field(r, yaml_document_get_node(&r->document, pairs[i].value), field, item);
        }
    }
    return err;
}

/* Without a `local` section there is one model, the default one. */
static tr_err add_default_local(reader *r) {
    tr_config_local *local = take(r->config, sizeof *local);
    if (local == NULL) {
        return TR_ERR_NOMEM;
    }
    local->name = "smollm2-135m";
    r->config->locals = (tr_config_list){.items = local, .count = 1};
    return set_defaults(r, field_of(&tri_config_root, "local")->inner, (char *)local);
}

static tr_err read_document(reader *r, bool *ret_has_local) {
    yaml_node_t *root = yaml_document_get_root_node(&r->document);
    *ret_has_local = false;
    if (root == NULL) {
        return TR_OK; /* an empty file: all defaults */
    }
    tr_err err = read_section(r, root, &tri_config_root, "", (char *)r->config);
    if (err == TR_OK && root->type == YAML_MAPPING_NODE) {
        const yaml_node_pair_t *pair = root->data.mapping.pairs.start;
        for (; pair < root->data.mapping.pairs.top; pair++) {
            const yaml_node_t *key = yaml_document_get_node(&r->document, pair->key);
            *ret_has_local = *ret_has_local || strcmp(text_of(key), "local") == 0;
        }
    }
    return err;
}

/* libyaml's own words, with the place and what a person may have done. */
static tr_err not_yaml(reader *r, const yaml_parser_t *parser, const char *text, size_t size) {
    size_t line = parser->problem_mark.line + 1;
    size_t column = parser->problem_mark.column + 1;
    const char *hint = "";
    if (parser->error == YAML_MEMORY_ERROR) {
        return TR_ERR_NOMEM;
    }
    if (parser->error == YAML_READER_ERROR) {
        line = 1;
        column = 1;
        for (size_t i = 0; i < parser->problem_offset && i < size; i++) {
            column = text[i] == '\n' ? 1 : column + 1;
            line += text[i] == '\n';
        }
        hint = "; is this a text file in UTF-8?";
    } else {
        size_t start = 0;
        for (size_t at = 1; at < line && start < size; start++) {
            at += text[start] == '\n';
        }
        size_t blanks = 0;
        bool tab = false;
        for (; start + blanks < size && strchr(" \t", text[start + blanks]) != NULL &&
               text[start + blanks] != '\0';
             blanks++) {
            tab = tab || text[start + blanks] == '\t';
        }
        hint = tab ? "; the line is indented with a tab: YAML takes spaces only" : "";
    }
    snprintf(r->why, TR_CONFIG_WHY_size, "%s:%zu:%zu: not YAML: %s%s", r->name, line, column,
             parser->problem != NULL ? parser->problem : "cannot be read", hint);
    return TR_ERR_INVALID;
}

/* libyaml's time grows with the square of the depth: the events, which come one by one, are looked
 * at before a document is composed. */
static tr_err check_depth(reader *r, const char *text, size_t size) {
    yaml_parser_t parser;
    yaml_event_t event;
    size_t depth = 0;
    tr_err err = TR_OK;
    if (!yaml_parser_initialize(&parser)) {
        return TR_ERR_NOMEM;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    for (bool end = false; !end && err == TR_OK;) {
        if (!yaml_parser_parse(&parser, &event)) {
            err = not_yaml(r, &parser, text, size);
            break;
        }
        depth += event.type == YAML_SEQUENCE_START_EVENT || event.type == YAML_MAPPING_START_EVENT;
        depth -= event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT;
        if (depth > DEPTH_max) {
            snprintf(r->why, TR_CONFIG_WHY_size,
                     "%s:%zu:%zu: lists and mappings stand in each other more than %d deep",
                     r->name, event.start_mark.line + 1, event.start_mark.column + 1, DEPTH_max);
            err = TR_ERR_INVALID;
        }
        end = event.type == YAML_STREAM_END_EVENT || event.type == YAML_NO_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return err;
}

/* A file is one document: what stands behind "---" would be ignored otherwise. */
static tr_err check_end(reader *r, yaml_parser_t *parser, const char *text, size_t size) {
    if (!yaml_parser_load(parser, &r->document)) {
        return not_yaml(r, parser, text, size);
    }
    const yaml_node_t *root = yaml_document_get_root_node(&r->document);
    tr_err err = root == NULL
                     ? TR_OK
                     : fault(r, root, "a second document begins here; the file may hold one only");
    yaml_document_delete(&r->document);
    return err;
}

static tr_err read_text(reader *r, const char *text, size_t size, bool *ret_has_local) {
    yaml_parser_t parser;
    tr_err err = check_depth(r, text, size);
    if (err != TR_OK) {
        return err;
    }
    if (!yaml_parser_initialize(&parser)) {
        return TR_ERR_NOMEM;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    if (yaml_parser_load(&parser, &r->document)) {
        bool empty = yaml_document_get_root_node(&r->document) == NULL;
        err = read_document(r, ret_has_local);
        yaml_document_delete(&r->document);
        if (err == TR_OK && !empty) {
            err = check_end(r, &parser, text, size);
        }
    } else {
        err = not_yaml(r, &parser, text, size);
    }
    yaml_parser_delete(&parser);
    return err;
}

tr_err tr_config_parse(const char *text, size_t size, const char *name, tr_config *ret, char *why) {
    tr_config config = {0};
    reader r = {.name = name, .config = &config, .why = why};
    snprintf(why, TR_CONFIG_WHY_size, "%s: out of memory", name);
    bool has_local = false;
    config.origin = copy(&config, name, strlen(name));
    tr_err err =
        config.origin != NULL ? set_defaults(&r, &tri_config_root, (char *)&config) : TR_ERR_NOMEM;
    if (err == TR_OK) {
        err = read_text(&r, text, size, &has_local);
    }
    if (err == TR_OK && !has_local) {
        err = add_default_local(&r);
    }
    if (err != TR_OK) {
        tr_config_fini(&config);
        return err;
    }
    *ret = config;
    return TR_OK;
}

tr_err tr_config_load(const char *path, tr_config *ret, char *why) {
    if (path == NULL) {
        return tr_config_parse("", 0, "defaults", ret, why);
    }
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        snprintf(why, TR_CONFIG_WHY_size, "%s: cannot be read: %s", path, strerror(errno));
        return errno == ENOENT ? TR_ERR_NOT_FOUND : TR_ERR_INVALID;
    }
    char *text = malloc(FILE_BYTES_max + 1);
    size_t size = text != NULL ? fread(text, 1, FILE_BYTES_max + 1, file) : 0;
    int failed = ferror(file) != 0 ? errno : 0;
    fclose(file);
    tr_err err;
    if (text == NULL) {
        err = TR_ERR_NOMEM;
        snprintf(why, TR_CONFIG_WHY_size, "%s: out of memory", path);
    } else if (failed != 0 || size > FILE_BYTES_max) {
        err = TR_ERR_INVALID;
        snprintf(why, TR_CONFIG_WHY_size, "%s: %s%s", path,
                 failed != 0 ? "cannot be read: " : "larger than 1 MiB",
                 failed != 0 ? strerror(failed) : "");
    } else {
        err = tr_config_parse(text, size, path, ret, why);
    }
    free(text);
    return err;
}

void tr_config_fini(tr_config *config) {
    block *at = config->strings;
    while (at != NULL) {
        block *next = at->next;
        free(at);
        at = next;
    }
    *config = (tr_config){0};
}
