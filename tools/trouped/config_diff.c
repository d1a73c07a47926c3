/*
 * What differs between two configurations, key by key, by the same table that reads them. A reload
 * asks it which changed keys it cannot apply. An entry of a named section that only one side has is
 * one change, unless its name means something with all defaults where it is not listed (a provider
 * of the catalog): then it is compared with those.
 */
#include <stdlib.h>
#include <string.h>

#include "protocol/assert.h"
#include "tools/trouped/config_table.h"

typedef struct differ {
    bool (*implied)(const char *name);
    tri_change_fn *fn;
    void *arg;
} differ;

static const char *text_at(const tri_field *field, const char *item) {
    const char *text;
    memcpy(&text, item + field->offset, sizeof text);
    return text;
}

static uint64_t number_at(const tri_field *field, const char *item) {
    uint64_t number;
    if (item != NULL) {
        memcpy(&number, item + field->offset, sizeof number);
    } else if (field->type != TRI_FIELD_TIME || !tri_time_parse(field->otherwise, &number)) {
        number = strtoull(field->otherwise, NULL, 10);
    }
    return number;
}

static bool switch_at(const tri_field *field, const char *item) {
    bool on;
    if (item == NULL) {
        return strcmp(field->otherwise, "true") == 0;
    }
    memcpy(&on, item + field->offset, sizeof on);
    return on;
}

static tr_config_strings texts_at(const tri_field *field, const char *item) {
    tr_config_strings texts = {NULL, 0};
    if (item != NULL) {
        memcpy(&texts, item + field->offset, sizeof texts);
    }
    return texts;
}

/* NULL is an item with all defaults. */
static bool same_value(const tri_field *field, const char *a, const char *b) {
    switch (field->type) {
    case TRI_FIELD_TEXT:
    case TRI_FIELD_CHOICE:
        return strcmp(a != NULL ? text_at(field, a) : field->otherwise,
                      b != NULL ? text_at(field, b) : field->otherwise) == 0;
    case TRI_FIELD_NUMBER:
    case TRI_FIELD_TIME:
        return number_at(field, a) == number_at(field, b);
    case TRI_FIELD_SWITCH:
        return switch_at(field, a) == switch_at(field, b);
    case TRI_FIELD_TEXTS: {
        tr_config_strings x = texts_at(field, a);
        tr_config_strings y = texts_at(field, b);
        bool same = x.count == y.count;
        for (size_t i = 0; same && i < x.count; i++) {
            same = strcmp(x.items[i], y.items[i]) == 0;
        }
        return same;
    }
    case TRI_FIELD_SECTION:
    case TRI_FIELD_ENTRIES:
        break;
    }
    return true;
}

static bool all_at_reload(const tri_section *section) {
    for (size_t i = 0; i < section->count; i++) {
        if (!section->fields[i].at_reload) {
            return false;
        }
    }
    return true;
}

static void diff_section(const differ *d, const tri_section *section, const char *path,
                         const char *a, const char *b);

static const char *entry_named(const tri_field *field, const tr_config_list *list,
                               const char *name) {
    for (size_t i = 0; i < list->count; i++) {
        const char *item = (const char *)list->items + i * field->inner->item_size;
        const char *its;
        memcpy(&its, item, sizeof its); /* the first member of every entry */
        if (strcmp(its, name) == 0) {
            return item;
        }
    }
    return NULL;
}

/* The entries of `list`, each beside its namesake in `other`; those that both have only once. */
static void diff_entries(const differ *d, const tri_field *field, const char *path,
                         const tr_config_list *list, const tr_config_list *other, bool lone_only) {
    for (size_t i = 0; i < list->count; i++) {
        const char *item = (const char *)list->items + i * field->inner->item_size;
        const char *name;
        char key[TRI_KEY_size];
        memcpy(&name, item, sizeof name);
        const char *namesake = entry_named(field, other, name);
        snprintf(key, sizeof key, "%s.%s", path, name);
        if (namesake == NULL && !d->implied(name)) {
            d->fn(d->arg, key, all_at_reload(field->inner));
        } else if (namesake == NULL || !lone_only) {
            strncat(key, ".", sizeof key - strlen(key) - 1);
            diff_section(d, field->inner, key, item, namesake);
        }
    }
}

static void diff_section(const differ *d, const tri_section *section, const char *path,
                         const char *a, const char *b) {
    for (size_t i = 0; i < section->count; i++) {
        const tri_field *field = &section->fields[i];
        char key[TRI_KEY_size];
        snprintf(key, sizeof key, "%s%s", path, field->name);
        if (field->type == TRI_FIELD_SECTION) {
            strncat(key, ".", sizeof key - strlen(key) - 1);
            diff_section(d, field->inner, key, a, b);
        } else if (field->type == TRI_FIELD_ENTRIES) {
            tr_config_list x, y;
            TR_ASSERT(a != NULL && b != NULL); /* no entry has entries of its own */
            memcpy(&x, a + field->offset, sizeof x);
            memcpy(&y, b + field->offset, sizeof y);
            diff_entries(d, field, key, &x, &y, false);
            diff_entries(d, field, key, &y, &x, true);
        } else if (!same_value(field, a, b)) {
            d->fn(d->arg, key, field->at_reload);
        }
    }
}

void tri_config_diff(const tr_config *a, const tr_config *b, bool (*implied)(const char *name),
                     tri_change_fn *fn, void *arg) {
    differ d = {implied, fn, arg};
    diff_section(&d, &tri_config_root, "", (const char *)a, (const char *)b);
}
