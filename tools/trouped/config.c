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
#include "tools/trouped/config_table.h"

#define FILE_BYTES_max (1024U * 1024U)

typedef struct block {
    struct block *next;
    _Alignas(16) char bytes[];
} block;

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

__attribute__((format(printf, 3, 4))) static tr_err fault(reader *r, const yaml_node_t *node,
                                                          const char *format, ...) {
    int used = node != NULL ? snprintf(r->why, TR_CONFIG_WHY_size, "%s:%zu:%zu: ", r->name,
                                       node->start_mark.line + 1, node->start_mark.column + 1)
                            : snprintf(r->why, TR_CONFIG_WHY_size, "%s: ", r->name);
    if (used > 0 && used < TR_CONFIG_WHY_size) {
        va_list args;
        va_start(args, format);
        vsnprintf(r->why + used, TR_CONFIG_WHY_size - (size_t)used, format, args);
        va_end(args);
    }
    return TR_ERR_INVALID;
}

static const char *text_of(const yaml_node_t *node) {
    return (const char *)node->data.scalar.value;
}

static bool is_null(const yaml_node_t *node) {
    const char *text = text_of(node);
    return node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
}

static bool choice_has(const char *choices, const char *text) {
    size_t size = strlen(text);
    for (const char *at = choices; at != NULL; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
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
            char max[32];
            tri_time_format(field->max, max, sizeof max);
            return fault(r, node, "%s: %s is out of range: at most %s%s", field->name, text, max,
                         field->min > 0 ? ", more than 0" : "");
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
        items[i] = copy(r->config, text_of(one), strlen(text_of(one)));
        if (items[i] == NULL) {
            return TR_ERR_NOMEM;
        }
    }
    tr_config_strings strings = {.items = items, .count = count};
    memcpy(item + field->offset, &strings, sizeof strings);
    return TR_OK;
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

static void list_keys(const tri_section *section, char *buf, size_t size) {
    size_t used = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < section->count && used < size; i++) {
        used += (size_t)snprintf(buf + used, size - used, "%s%s", i > 0 ? ", " : "",
                                 section->fields[i].name);
    }
}

static tr_err read_section(reader *r, yaml_node_t *node, const tri_section *section,
                           const char *name, char *item);

/* Checks that no key stands twice in a mapping; libyaml lets it through. */
static tr_err check_keys(reader *r, const yaml_node_t *node) {
    const yaml_node_pair_t *pairs = node->data.mapping.pairs.start;
    size_t count = (size_t)(node->data.mapping.pairs.top - pairs);
    for (size_t i = 0; i < count; i++) {
        const yaml_node_t *key = yaml_document_get_node(&r->document, pairs[i].key);
        if (key->type != YAML_SCALAR_NODE) {
            return fault(r, key, "a key must be a plain text");
        }
        for (size_t j = 0; j < i; j++) {
            const yaml_node_t *other = yaml_document_get_node(&r->document, pairs[j].key);
            if (strcmp(text_of(key), text_of(other)) == 0) {
                return fault(r, key, "%s: the key stands here again; first in line %zu",
                             text_of(key), other->start_mark.line + 1);
            }
        }
    }
    return TR_OK;
}

static bool name_fits(const char *name) {
    size_t size = strlen(name);
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
    if (!name_fits(name)) {
        return fault(r, key, "%s: a name has 1 to 48 letters, digits and . _ - :", name);
    }
    tr_err err = set_defaults(r, section, item);
    if (err != TR_OK) {
        return err;
    }
    if (value->type == YAML_SCALAR_NODE && section->short_key != NULL && !is_null(value)) {
        return set_text(r, value, field_of(section, section->short_key), text_of(value), item);
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
    tr_err err = check_keys(r, node);
    if (err != TR_OK) {
        return err;
    }
    const yaml_node_pair_t *pairs = node->data.mapping.pairs.start;
    list.count = (size_t)(node->data.mapping.pairs.top - pairs);
    list.items = take(r->config, (list.count + 1) * field->inner->item_size);
    if (list.items == NULL) {
        return TR_ERR_NOMEM;
    }
    for (size_t i = 0; i < list.count; i++) {
        err = read_entry(r, yaml_document_get_node(&r->document, pairs[i].key),
                         yaml_document_get_node(&r->document, pairs[i].value), field->inner,
                         (char *)list.items + i * field->inner->item_size);
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
    return set_text(r, node, field, is_null(node) ? field->otherwise : text_of(node), item);
}

static tr_err read_section(reader *r, yaml_node_t *node, const tri_section *section,
                           const char *name, char *item) {
    if (node->type == YAML_SCALAR_NODE && is_null(node)) {
        return TR_OK;
    }
    if (node->type != YAML_MAPPING_NODE) {
        return fault(r, node, "%s: expected keys with values", name);
    }
    tr_err err = check_keys(r, node);
    const yaml_node_pair_t *pairs = node->data.mapping.pairs.start;
    const yaml_node_pair_t *end = node->data.mapping.pairs.top;
    for (; pairs < end && err == TR_OK; pairs++) {
        const yaml_node_t *key = yaml_document_get_node(&r->document, pairs->key);
        const tri_field *field = field_of(section, text_of(key));
        if (field == NULL) {
            char keys[256];
            list_keys(section, keys, sizeof keys);
            return fault(r, key, "%s: there is no such key%s%s; there are %s", text_of(key),
                         name[0] != '\0' ? " in " : "", name, keys);
        }
        err = read_field(r, yaml_document_get_node(&r->document, pairs->value), field, item);
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

static tr_err check_whole(reader *r) {
    const tr_config *config = r->config;
    if (config->tcp[0] != '\0' && config->token_file[0] == '\0') {
        return fault(r, NULL,
                     "listen: tcp needs a token_file: who can reach the port could use it");
    }
    if (strncmp(config->tcp, "tls+tcp://", 10) == 0 && config->cert_file[0] == '\0') {
        return fault(r, NULL, "listen: tls+tcp needs a cert_file with certificate and key");
    }
    if (config->tcp[0] != '\0' && strncmp(config->tcp, "tls+tcp://", 10) != 0 &&
        strncmp(config->tcp, "tcp://", 6) != 0) {
        return fault(r, NULL, "listen: tcp: \"%s\" begins neither with tcp:// nor with tls+tcp://",
                     config->tcp);
    }
    if (strcmp(config->socket, "default") != 0 && strcmp(config->socket, "off") != 0 &&
        strncmp(config->socket, "ipc://", 6) != 0) {
        return fault(r, NULL, "listen: socket: \"%s\" is neither ipc://PATH nor default nor off",
                     config->socket);
    }
    const tr_config_provider *providers = config->providers.items;
    for (size_t i = 0; i < config->providers.count; i++) {
        const tr_config_strings *keys = &providers[i].keys;
        if (keys->count > 1 || (keys->count == 1 && strncmp(keys->items[0], "env:", 4) != 0)) {
            return fault(r, NULL,
                         "providers: %s: keys: expected one reference env:NAME; keys themselves do "
                         "not belong in this file",
                         providers[i].name);
        }
    }
    return TR_OK;
}

tr_err tr_config_parse(const char *text, size_t size, const char *name, tr_config *ret, char *why) {
    tr_config config = {0};
    reader r = {.name = name, .config = &config, .why = why};
    snprintf(why, TR_CONFIG_WHY_size, "%s: out of memory", name);
    tr_err err = set_defaults(&r, &tri_config_root, (char *)&config);
    bool has_local = false;
    yaml_parser_t parser;
    if (err == TR_OK && yaml_parser_initialize(&parser)) {
        yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
        if (yaml_parser_load(&parser, &r.document)) {
            err = read_document(&r, &has_local);
            yaml_document_delete(&r.document);
        } else {
            snprintf(why, TR_CONFIG_WHY_size, "%s:%zu:%zu: not YAML: %s", name,
                     parser.problem_mark.line + 1, parser.problem_mark.column + 1,
                     parser.problem != NULL ? parser.problem : "cannot be read");
            err = parser.error == YAML_MEMORY_ERROR ? TR_ERR_NOMEM : TR_ERR_INVALID;
        }
        yaml_parser_delete(&parser);
    } else if (err == TR_OK) {
        err = TR_ERR_NOMEM;
    }
    if (err == TR_OK && !has_local) {
        err = add_default_local(&r);
    }
    if (err == TR_OK) {
        err = check_whole(&r);
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
    bool failed = ferror(file) != 0;
    fclose(file);
    tr_err err;
    if (text == NULL) {
        err = TR_ERR_NOMEM;
        snprintf(why, TR_CONFIG_WHY_size, "%s: out of memory", path);
    } else if (failed || size > FILE_BYTES_max) {
        err = TR_ERR_INVALID;
        snprintf(why, TR_CONFIG_WHY_size, "%s: %s", path,
                 failed ? "cannot be read" : "larger than 1 MiB");
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
