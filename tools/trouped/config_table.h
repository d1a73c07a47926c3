/* The table behind config.h, shared by its reader and its printers. Internal to tools/trouped. */
#ifndef TR_TOOLS_TROUPED_CONFIG_TABLE_H
#define TR_TOOLS_TROUPED_CONFIG_TABLE_H

#include "actors/route.h"
#include "tools/trouped/config.h"

typedef enum tri_field_type {
    TRI_FIELD_TEXT,
    TRI_FIELD_CHOICE,  /* one of `choices` */
    TRI_FIELD_NUMBER,  /* min to max */
    TRI_FIELD_TIME,    /* milliseconds; written 500ms, 10s, 5m, 1h */
    TRI_FIELD_SWITCH,  /* true or false */
    TRI_FIELD_TEXTS,   /* a list of texts, or one */
    TRI_FIELD_SECTION, /* keys of `inner`, in the same struct */
    TRI_FIELD_ENTRIES, /* names, each with the keys of `inner`, in a struct of their own */
} tri_field_type;

typedef struct tri_section tri_section;

typedef struct tri_field {
    const char *name;
    tri_field_type type;
    bool at_reload; /* SIGHUP applies it; otherwise it takes a restart */
    size_t offset;
    const char *otherwise; /* the default, as it would be written; NULL for sections */
    uint64_t min, max;
    const char *choices; /* "a|b" */
    const tri_section *inner;
    const char *text;
    const char *example; /* a value that differs from the default; NULL for sections */
} tri_field;

struct tri_section {
    const tri_field *fields;
    size_t count;
    size_t item_size;      /* of an entry's struct */
    bool models;           /* its entries are named provider/model */
    const char *short_key; /* the key that a plain text instead of a mapping sets, or NULL */
};

extern const tri_section tri_config_root;

/* Writes "file:line:column: " and the sentence into `why` (TR_CONFIG_WHY_size): the place of the
 * value whose address in `config` is `member` (of an entry's name: the entry's), without line and
 * column when it is a default. TR_ERR_INVALID. */
tr_err tri_config_fault(const tr_config *config, const void *member, char *why, const char *format,
                        ...) __attribute__((format(printf, 4, 5)));
/* The line of that value, 0 for a default. */
size_t tri_config_line(const tr_config *config, const void *member);

/* Calls `fn` for each key whose value differs, as `local.qwen.file`, or `local.qwen` for an entry
 * that only one of them has, and whether SIGHUP applies it. `implied`: entries of that name mean
 * something with all defaults where they are not listed. */
#define TRI_KEY_size 160
typedef void tri_change_fn(void *arg, const char *key, bool at_reload);
void tri_config_diff(const tr_config *a, const tr_config *b, bool (*implied)(const char *name),
                     tri_change_fn *fn, void *arg);

/* config_alias.c. The aliases for the routes, borrowed from `config`: `ret_list` has room for all.
 */
void tri_config_aliases(const tr_config *config, tr_alias *ret_list);
/* The first fault of an alias, TR_ERR_INVALID as tri_config_fault; `routes` are the config's. */
TR_MUST_USE tr_err tri_config_check_aliases(const tr_config *config, const tr_routes *routes,
                                            char *why);

/* config_local.c. The first fault of a local model, as above; and what keeps a managed server from
 * being started, but may come later. */
TR_MUST_USE tr_err tri_config_check_locals(const tr_config *config, char *why);
void tri_config_warn_server(const tr_config *config, const tr_config_local *local,
                            void (*fn)(void *arg, const char *sentence), void *arg);

/* config_models.c. What the configuration says of models, as the aliases above; the first fault. */
void tri_config_models(const tr_config *config, tr_model_own *ret_list);
TR_MUST_USE tr_err tri_config_check_models(const tr_config *config, char *why);

/* "10s" and the like; false when it is none. */
bool tri_time_parse(const char *text, uint64_t *ret_ms);
void tri_time_format(uint64_t ms, char *buf, size_t size);

#endif
