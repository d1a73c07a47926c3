/* Every key of the table: its example is taken and printed again, what is of another type or out of
 * its range is refused at its place. */
#include <CUnit/Basic.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/trouped/config_table.h"

static tr_config config;
static char why[TR_CONFIG_WHY_size];
static unsigned seen;

/* The file that sets one key, with its sections and, where it has one, its entry around it. */
static void write_file(const char *const *path, int depth, const char *value, char *buf,
                       size_t size) {
    size_t used = 0;
    for (int i = 0; i < depth; i++) {
        used += (size_t)snprintf(buf + used, size - used, "%*s%s:%s", 2 * i, "", path[i],
                                 i + 1 < depth ? "\n" : " ");
    }
    snprintf(buf + used, size - used, "%s\n", value);
}

static tr_err parse(const char *text) {
    return tr_config_parse(text, strlen(text), "t.yaml", &config, why);
}

static void refused(const char *const *path, int depth, const char *value) {
    char text[512];
    char place[64];
    write_file(path, depth, value, text, sizeof text);
    tr_err err = parse(text);
    snprintf(place, sizeof place, "t.yaml:%d:%zu: %s: ", depth,
             2 * (size_t)(depth - 1) + strlen(path[depth - 1]) + 3, path[depth - 1]);
    if (err != TR_ERR_INVALID || strncmp(why, place, strlen(place)) != 0) {
        printf("\n    %s: \"%s\" gave %d, \"%s\"\n", path[depth - 1], value, (int)err, why);
        CU_FAIL("not refused at its place");
    }
    if (err == TR_OK) {
        tr_config_fini(&config);
    }
}

static void taken(const char *const *path, int depth, const char *value, const char *printed) {
    char text[512];
    char line[256];
    char *all = NULL;
    size_t size = 0;
    write_file(path, depth, value, text, sizeof text);
    if (parse(text) != TR_OK) {
        printf("\n    %s: %s\n", value, why);
        CU_FAIL("refused");
        return;
    }
    FILE *out = open_memstream(&all, &size);
    tr_config_print(&config, out);
    fclose(out);
    tr_config_fini(&config);
    snprintf(line, sizeof line, "%s: %s\n", path[depth - 1], printed);
    if (strstr(all, line) == NULL) {
        printf("\n    printed no \"%s\"\n", line);
        CU_FAIL("not printed");
    }
    free(all);
}

/* [a, b] as it is printed: ["a", "b"]. */
static void quote_list(const char *list, char *buf, size_t size) {
    size_t used = 0;
    for (const char *at = list; *at != '\0'; at++) {
        const char *as = *at == '[' ? "[\"" : *at == ']' ? "\"]" : *at == ',' ? "\"," : NULL;
        used += as != NULL     ? (size_t)snprintf(buf + used, size - used, "%s", as)
                : at[0] == ' ' ? (size_t)snprintf(buf + used, size - used, " \"")
                               : (size_t)snprintf(buf + used, size - used, "%c", *at);
    }
}

static void try_example(const tri_field *field, const char *const *path, int depth) {
    char quoted[256];
    const char *value = field->example;
    CU_ASSERT_PTR_NOT_NULL_FATAL(value);
    CU_ASSERT_STRING_NOT_EQUAL(value, field->otherwise);
    if (field->type == TRI_FIELD_TEXT || field->type == TRI_FIELD_CHOICE) {
        snprintf(quoted, sizeof quoted, "\"%s\"", value);
    } else if (field->type == TRI_FIELD_TEXTS) {
        quote_list(value, quoted, sizeof quoted);
    } else {
        snprintf(quoted, sizeof quoted, "%s", value);
    }
    taken(path, depth, value, quoted);
}

static void try_limits(const tri_field *field, const char *const *path, int depth) {
    char text[32];
    bool time = field->type == TRI_FIELD_TIME;
    const char *unit = time ? "ms" : "";
    const uint64_t inside[] = {field->min, field->max};
    for (size_t i = 0; i < 2; i++) {
        char printed[32];
        snprintf(text, sizeof text, "%" PRIu64 "%s", inside[i], unit);
        snprintf(printed, sizeof printed, "%s", text);
        if (time) {
            tri_time_format(inside[i], printed, sizeof printed);
        }
        taken(path, depth, text, printed);
    }
    snprintf(text, sizeof text, "%" PRIu64 "%s", field->max + 1, unit);
    refused(path, depth, text);
    if (field->min > 0) {
        snprintf(text, sizeof text, "%" PRIu64 "%s", field->min - 1, unit);
        refused(path, depth, text);
    }
    static const char *const wrong[] = {"many", "-1",   "1.5",  "0x10", "1e3",
                                        "''",   "true", "1 ms", "10x",  "99999999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        refused(path, depth, wrong[i]);
    }
    refused(path, depth, time ? "10" : "10s");
}

static void try_field(const tri_field *field, const char *const *path, int depth) {
    seen++;
    try_example(field, path, depth);
    refused(path, depth, "{a: b}");
    switch (field->type) {
    case TRI_FIELD_TEXTS:
        refused(path, depth, "{}");
        return;
    case TRI_FIELD_TEXT:
        break;
    case TRI_FIELD_CHOICE:
        refused(path, depth, "''");
        refused(path, depth, "nonsense");
        refused(path, depth, field->choices); /* all of them at once */
        break;
    case TRI_FIELD_SWITCH:
        refused(path, depth, "yes");
        refused(path, depth, "1");
        break;
    case TRI_FIELD_NUMBER:
    case TRI_FIELD_TIME:
        try_limits(field, path, depth);
        break;
    case TRI_FIELD_SECTION:
    case TRI_FIELD_ENTRIES:
        return;
    }
    refused(path, depth, "[a]");
}

static void walk(const tri_section *section, const char **path, int depth) {
    for (size_t i = 0; i < section->count; i++) {
        const tri_field *field = &section->fields[i];
        path[depth] = field->name;
        if (field->inner == NULL) {
            try_field(field, path, depth + 1);
        } else if (field->type == TRI_FIELD_ENTRIES) {
            path[depth + 1] = "some";
            walk(field->inner, path, depth + 2);
        } else {
            walk(field->inner, path, depth + 1);
        }
    }
}

static void each_key_takes_its_example_and_nothing_else(void) {
    const char *path[8];
    seen = 0;
    walk(&tri_config_root, path, 0);
    CU_ASSERT_EQUAL(seen, 51);
}

static void each_section_takes_keys_only(void) {
    for (size_t i = 0; i < tri_config_root.count; i++) {
        const tri_field *field = &tri_config_root.fields[i];
        if (field->inner != NULL) {
            refused(&field->name, 1, "[a]");
            refused(&field->name, 1, "text");
        }
    }
}

int main(void) {
    CU_TestInfo tests[] = {
        {"each_key_takes_its_example_and_nothing_else",
         each_key_takes_its_example_and_nothing_else},
        {"each_section_takes_keys_only", each_section_takes_keys_only},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"config_keys", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
