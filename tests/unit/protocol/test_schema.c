/* JSON schemas: what is read, what is refused and how, and what a text must be to follow one. */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "protocol/limits.h"
#include "protocol/schema.h"
#include "protocol/schema_grammar.h"

static char why[TR_SCHEMA_WHY_size];

static tr_schema *schema_of(const char *text, tr_schema_mode mode) {
    tr_schema *schema = NULL;
    tr_err err = tr_schema_parse(text, strlen(text), mode, &schema, why, sizeof why);
    if (err != TR_OK) {
        printf("refused: %s: %s\n", text, why);
        CU_FAIL_FATAL("a schema was refused");
    }
    return schema;
}

static tr_err validate(const char *schema_text, const char *text) {
    tr_schema *schema = schema_of(schema_text, TR_SCHEMA_STRICT);
    why[0] = '\0';
    tr_err err = tr_schema_validate(schema, text, strlen(text), why, sizeof why);
    tr_schema_free(schema);
    return err;
}

static void follows(const char *schema, const char *text) {
    if (validate(schema, text) != TR_OK) {
        printf("%s does not follow %s: %s\n", text, schema, why);
        CU_FAIL("a text that follows was refused");
    }
}

static void fails(const char *schema, const char *text, const char *sentence) {
    if (validate(schema, text) != TR_ERR_INVALID || strcmp(why, sentence) != 0) {
        printf("%s against %s: got \"%s\", expected \"%s\"\n", text, schema, why, sentence);
        CU_FAIL("a text was not refused as expected");
    }
}

static void refused(const char *schema_text, tr_err expected, const char *sentence) {
    tr_schema *schema = NULL;
    why[0] = '\0';
    tr_err err = tr_schema_parse(schema_text, strlen(schema_text), TR_SCHEMA_STRICT, &schema, why,
                                 sizeof why);
    if (err != expected || strncmp(why, sentence, strlen(sentence)) != 0) {
        printf("%s: %s, \"%s\", expected \"%s\"\n", schema_text, tr_err_name(err), why, sentence);
        CU_FAIL("a schema was not refused as expected");
    }
    if (err == TR_OK) {
        tr_schema_free(schema);
    }
}

static void a_text_that_does_not_follow_is_told_where_and_why(void) {
    static const char person[] =
        "{\"type\":\"object\",\"properties\":{\"items\":{\"type\":\"array\",\"items\":{\"type\":"
        "\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"}},"
        "\"required\":[\"name\"],\"additionalProperties\":false},\"minItems\":1,\"maxItems\":2}},"
        "\"required\":[\"items\"]}";
    follows(person, "{\"items\":[{\"name\":\"x\"},{\"n\":1.0,\"name\":\"y\"}],\"more\":1}");
    fails(person, "{\"items\":[{\"name\":1}]}", "at /items/0/name: expected string, got number");
    fails(person, "{\"items\":[{\"name\":\"\",\"n\":1.5}]}",
          "at /items/0/n: expected integer, got number");
    fails(person, "{\"items\":[{}]}", "at /items/0: the property \"name\" is missing");
    fails(person, "{\"items\":[{\"name\":\"\",\"x\":1}]}",
          "at /items/0: the property \"x\" is not allowed");
    fails(person, "{\"items\":[]}", "at /items: expected at least 1 items, got 0");
    fails(person, "{\"items\":[{\"name\":\"\"},{\"name\":\"\"},{\"name\":\"\"}]}",
          "at /items: expected at most 2 items, got 3");
    fails(person, "[]", "at the top: expected object, got array");
    fails(person, "{\"items\":", "it is no JSON: not a JSON value at byte 9");
    fails("{\"enum\":[\"red\",2,null]}", "\"blue\"",
          "at the top: expected one of \"red\", 2, null, got \"blue\"");
    fails("{\"const\":{\"a\":[1]}}", "{\"a\":[2]}",
          "at the top: expected {\"a\":[1]}, got {\"a\":[2]}");
    follows("{\"const\":{\"a\":1,\"b\":2}}", "{\"b\":2.0,\"a\":10e-1}");
    fails("{\"minLength\":2}", "\"ä\"", "at the top: expected at least 2 characters, got 1");
    fails("{\"maxLength\":1}", "\"ab\"", "at the top: expected at most 1 characters, got 2");
    follows("{\"maxLength\":1,\"type\":[\"string\",\"null\"]}", "null");
    fails("{\"uniqueItems\":true}", "[1,2,1.0]",
          "at the top: expected items that are all different, got item 0 twice");
    fails("{\"prefixItems\":[true,{\"type\":\"null\"}],\"items\":false}", "[1,2]",
          "at /1: expected null, got number");
    fails("{\"prefixItems\":[true],\"items\":false}", "[1,2]",
          "at the top: expected at most 1 items, got 2");
    fails("{\"minProperties\":1,\"maxProperties\":2}", "{}",
          "at the top: expected at least 1 properties, got 0");
    fails("{\"properties\":{\"a\":false}}", "{\"a\":1}", "at /a: nothing is allowed here");
}

static void numbers_are_compared_exactly(void) {
    follows("{\"minimum\":9007199254740993}", "9007199254740993");
    fails("{\"minimum\":9007199254740993}", "9007199254740992",
          "at the top: expected at least 9007199254740993, got 9007199254740992");
    follows("{\"maximum\":0.1}", "1e-1");
    fails("{\"maximum\":0.1}", "0.10000000000000000001",
          "at the top: expected at most 0.1, got 0.10000000000000000001");
    fails("{\"exclusiveMinimum\":0}", "-0", "at the top: expected more than 0, got -0");
    fails("{\"exclusiveMaximum\":-1e3}", "-1000.0",
          "at the top: expected less than -1e3, got -1000.0");
    follows("{\"exclusiveMaximum\":1e400}", "9.9e399");
    follows("{\"type\":\"integer\",\"exclusiveMinimum\":0,\"maximum\":10}", "10");
    follows("{\"type\":\"integer\"}", "1e30");
    follows("{\"type\":\"integer\"}", "0.0e-99999999999999999999");
    fails("{\"type\":\"integer\"}", "1e-1", "at the top: expected integer, got number");
    follows("{\"enum\":[100]}", "1.00e2");
}

static void alternatives_tell_of_the_one_that_came_closest(void) {
    static const char shapes[] =
        "{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"object\",\"properties\":{\"r\":{\"type\":"
        "\"number\"}},\"required\":[\"r\"]},{\"$ref\":\"#/$defs/square\"}],\"$defs\":{\"square\":"
        "{\"type\":\"object\",\"properties\":{\"side\":{\"$ref\":\"#/$defs/length\"}},\"required\":"
        "[\"side\"]},\"length\":{\"type\":\"number\",\"minimum\":0}}}";
    follows(shapes, "null");
    follows(shapes, "{\"r\":1}");
    follows(shapes, "{\"side\":1}");
    fails(shapes, "{\"side\":-1}", "at /side: expected at least 0, got -1");
    fails(shapes, "7", "at the top: expected one of 3 alternatives, and 7 fits none");
    static const char one[] = "{\"oneOf\":[{\"type\":\"integer\"},{\"minimum\":2}]}";
    follows(one, "1");
    follows(one, "2.5");
    fails(one, "3", "at the top: expected what fits one of the 2 alternatives, got what fits 2");
    fails("{\"allOf\":[{\"minimum\":1},{\"maximum\":2}]}", "3",
          "at the top: expected at most 2, got 3");
}

static void a_schema_may_contain_itself(void) {
    static const char tree[] =
        "{\"$ref\":\"#/definitions/node\",\"definitions\":{\"node\":{\"type\":\"object\","
        "\"properties\":{\"v\":{\"type\":\"integer\"},\"children\":{\"type\":\"array\",\"items\":"
        "{\"$ref\":\"#/definitions/node\"}}},\"required\":[\"v\"]}}}";
    follows(tree, "{\"v\":1,\"children\":[{\"v\":2,\"children\":[]},{\"v\":3}]}");
    fails(tree, "{\"v\":1,\"children\":[{\"v\":2,\"children\":[{\"v\":\"x\"}]}]}",
          "at /children/0/children/0/v: expected integer, got string");
    follows("{\"properties\":{\"a/b\":{\"type\":\"null\"},\"c\":{\"$ref\":\"#/properties/a~1b\"}}}",
            "{\"c\":null}");
    follows("{\"items\":{\"$ref\":\"#\"},\"type\":[\"array\",\"null\"]}", "[[null,[]]]");
}

static bool matches(const char *pattern, const char *text) {
    char schema[512], json[512];
    tr_jsonw w;
    char *written = NULL;
    size_t size = 0;
    tr_jsonw_init(&w);
    tr_jsonw_text(&w, pattern);
    CU_ASSERT_EQUAL_FATAL(tr_jsonw_take(&w, &written, &size), TR_OK);
    snprintf(schema, sizeof schema, "{\"pattern\":%s}", written);
    free(written);
    tr_jsonw_init(&w);
    tr_jsonw_text(&w, text);
    CU_ASSERT_EQUAL_FATAL(tr_jsonw_take(&w, &written, &size), TR_OK);
    snprintf(json, sizeof json, "%s", written);
    free(written);
    return validate(schema, json) == TR_OK;
}

static void patterns_match_as_regular_expressions(void) {
    static const struct {
        const char *pattern, *yes, *no;
    } cases[] = {
        {"b+c", "abbcd", "abd"},
        {"^b", "bc", "ab"},
        {"b$", "ab", "ba"},
        {"^$", "", "a"},
        {"^(ab|cd)*$", "abcdab", "abc"},
        {"^[a-c_-]{2,3}$", "a-c", "abca"},
        {"^[^a-c]+$", "xyz", "xyb"},
        {"^\\d{4}-(0[1-9]|1[0-2])-\\d\\d$", "2026-11-25", "2026-13-25"},
        {"^\\w+@\\w+\\.[a-z]{2,}$", "me@example.org", "me@example"},
        {"^\\S+\\s\\S+$", "two words", "one"},
        {"^.\\u00e9$", "x\xc3\xa9", "\n\xc3\xa9"},
        {"^(?:a?){20}$", "aaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaaaa"},
        {"^(a*)*b$", "aaaaaaaaaaaaaaaaaaaaaaaaab", "aaaaaaaaaaaaaaaaaaaaaaaaaa"},
        {"^\\$\\{\\}\\\\$", "${}\\", "${}"},
        {"^[\\d.,]+?$", "1.000,5", "1;0"},
        {"^a{0}$", "", "a"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (!matches(cases[i].pattern, cases[i].yes) || matches(cases[i].pattern, cases[i].no)) {
            printf("%s: %s\n", cases[i].pattern, why);
            CU_FAIL("a pattern matches wrongly");
        }
    }
    fails("{\"pattern\":\"^a$\"}", "\"b\"",
          "at the top: expected a string that matches \"^a$\", got \"b\"");
    static const char *const unknown[] = {
        "(?=a)",
        "(?<n>a)",
        "\\\\bword",
        "(a)\\\\1",
        "a^b",
        "a$b",
        "^a|b$",
        "[b-a]",
        "(a",
        "a)",
        "a{2001}",
        "*a",
        "a{3,2}",
        "((((a{99}){99}){99}){99})",
        "[^\\\\D]",
        "\\\\ud800",
        "((((){1000}){1000}){1000}){1000}",
    };
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        char schema[256];
        snprintf(schema, sizeof schema, "{\"pattern\":\"%s\"}", unknown[i]);
        refused(schema, TR_ERR_UNSUPPORTED, "/pattern: ");
    }
}

static void what_is_outside_the_subset_is_named_with_its_place(void) {
    refused("{\"properties\":{\"a\":{\"not\":{}}}}", TR_ERR_UNSUPPORTED, "/properties/a/not: ");
    refused("{\"items\":{\"$ref\":\"#/$defs/x\"},\"$defs\":{\"x\":{\"anyOf\":[{\"if\":{}}]}}}",
            TR_ERR_UNSUPPORTED, "/$defs/x/anyOf/0/if: ");
    refused("{\"$ref\":\"https://example.com/s.json\"}", TR_ERR_UNSUPPORTED, "/$ref: ");
    refused("{\"$ref\":\"#/$defs/none\"}", TR_ERR_INVALID, "/$ref: there is no schema at ");
    refused("{\"type\":\"strin\"}", TR_ERR_INVALID, "/type: expected null, boolean");
    refused("{\"type\":\"string\",\"nullable\":true}", TR_ERR_UNSUPPORTED, "/nullable: ");
    refused("{\"minItems\":-1}", TR_ERR_INVALID, "/minItems: expected a whole number");
    refused("{\"minimum\":\"1\"}", TR_ERR_INVALID, "/minimum: expected a number");
    refused("{\"exclusiveMinimum\":true}", TR_ERR_INVALID, "/exclusiveMinimum: expected a number");
    refused("{\"required\":true}", TR_ERR_INVALID, "/required: expected an array");
    refused("{\"enum\":[]}", TR_ERR_INVALID, "/enum: expected");
    refused("{\"anyOf\":[]}", TR_ERR_INVALID, "/anyOf: expected");
    refused("{\"properties\":{\"a\":3}}", TR_ERR_INVALID, "/properties: expected a schema");
    refused("[]", TR_ERR_INVALID, "/: expected a schema");
    refused("{\"type\":", TR_ERR_INVALID, "the schema is no JSON: ");
}

static void hostile_schemas_are_bounded(void) {
    refused("{\"$ref\":\"#\"}", TR_ERR_INVALID, "/: $ref, anyOf, oneOf and allOf lead back here");
    refused("{\"anyOf\":[{\"$ref\":\"#\"},true]}", TR_ERR_INVALID, "/: $ref, anyOf");
    /* Alternatives that multiply: 2^15 ways to fail. */
    char text[8192] = "{\"$ref\":\"#/$defs/a0\",\"$defs\":{";
    for (int i = 0; i < 13; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used,
                 "\"a%d\":{\"items\":{\"anyOf\":[{\"$ref\":\"#/$defs/a%d\"},{\"$ref\":"
                 "\"#/$defs/a%d\"},{\"$ref\":\"#/$defs/a%d\"},{\"$ref\":\"#/$defs/a%d\"}]}},",
                 i, i + 1, i + 1, i + 1, i + 1);
    }
    size_t end = strlen(text);
    snprintf(text + end, sizeof text - end, "\"a13\":{\"type\":\"null\"}}}");
    CU_ASSERT_EQUAL(validate(text, "[[[[[[[[[[[[[1]]]]]]]]]]]]]"), TR_ERR_TOO_LARGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "takes more than"));
    CU_ASSERT_EQUAL(validate(text, "[[[[[[[[[[[[[null]]]]]]]]]]]]]"), TR_OK);
    /* Too many, too long, too deep. */
    char *many = malloc(TR_SCHEMA_TEXT_max + 64);
    size_t used = (size_t)snprintf(many, 64, "{\"anyOf\":[{}");
    for (int i = 0; i < TR_SCHEMA_NODES_max; i++) {
        used += (size_t)snprintf(many + used, 8, ",{}");
    }
    snprintf(many + used, 8, "]}");
    refused(many, TR_ERR_TOO_LARGE, "/: more than 4096 schemas");
    memset(many, ' ', TR_SCHEMA_TEXT_max + 1);
    many[TR_SCHEMA_TEXT_max + 1] = '\0';
    refused(many, TR_ERR_TOO_LARGE, "a schema has at most");
    free(many);
}

static void a_lenient_reading_leaves_out_what_it_does_not_know(void) {
    tr_schema *schema = schema_of(
        "{\"type\":\"object\",\"patternProperties\":{\"^x\":{}},\"additionalProperties\":false,"
        "\"properties\":{\"a\":{\"not\":{},\"type\":\"string\",\"multipleOf\":2}}}",
        TR_SCHEMA_LENIENT);
    CU_ASSERT_EQUAL(tr_schema_validate(schema, "{\"xy\":1}", 8, why, sizeof why), TR_OK);
    CU_ASSERT_EQUAL(tr_schema_validate(schema, "{\"a\":1}", 7, why, sizeof why), TR_ERR_INVALID);
    CU_ASSERT_STRING_EQUAL(why, "at /a: expected string, got number");
    tr_schema_free(schema);
}

static void annotations_are_left_alone(void) {
    follows("{\"title\":1,\"description\":[],\"default\":{},\"examples\":[],\"format\":\"date\","
            "\"$schema\":\"x\",\"$id\":\"y\",\"$comment\":\"z\",\"deprecated\":true,\"readOnly\":1,"
            "\"writeOnly\":1,\"type\":\"string\"}",
            "\"no date\"");
}

/* Each value was once looked for in the whole list: 10 s for this one, with a model standing still.
 */
static void a_long_enum_becomes_a_grammar_at_once(void) {
    enum { VALUES = 20000 };
    static char text[16 * VALUES];
    size_t used = (size_t)snprintf(text, sizeof text, "{\"enum\":[0");
    for (int i = 1; i < VALUES; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, ",%d", i);
    }
    snprintf(text + used, sizeof text - used, "]}");
    tr_schema *schema = schema_of(text, TR_SCHEMA_STRICT);
    char *grammar = NULL;
    size_t size = 0;
    clock_t began = clock();
    CU_ASSERT_EQUAL(tr_schema_grammar(schema, "root", &grammar, &size, why, sizeof why), TR_OK);
    CU_ASSERT(clock() - began < CLOCKS_PER_SEC);
    CU_ASSERT(size > VALUES);
    free(grammar);
    tr_schema_free(schema);
}

/* Optional properties multiply: what has grown too large is given up there and then. */
static void a_grammar_that_is_too_large_is_given_up_at_once(void) {
    enum { PROPERTIES = 4000 };
    static char text[16 * PROPERTIES];
    size_t used = (size_t)snprintf(text, sizeof text, "{\"properties\":{\"p\":{}");
    for (int i = 1; i < PROPERTIES; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, ",\"p%d\":{}", i);
    }
    snprintf(text + used, sizeof text - used, "},\"type\":\"object\"}");
    tr_schema *schema = schema_of(text, TR_SCHEMA_STRICT);
    char *grammar = NULL;
    size_t size = 0;
    clock_t began = clock();
    tr_err err = tr_schema_grammar(schema, "root", &grammar, &size, why, sizeof why);
    CU_ASSERT_EQUAL(err, TR_ERR_UNSUPPORTED);
    CU_ASSERT(clock() - began < CLOCKS_PER_SEC / 2);
    tr_schema_free(schema);
}

/* A correction would not help: it is the text's size that is wrong. */
static void a_text_of_too_many_values_is_too_large(void) {
    static char text[2 * TR_SCHEMA_VALUES_max + 2];
    char why[TR_SCHEMA_WHY_size] = "";
    tr_schema *schema = NULL;
    size_t size = 0;
    CU_ASSERT_EQUAL_FATAL(tr_schema_parse("{}", 2, TR_SCHEMA_STRICT, &schema, why, sizeof why),
                          TR_OK);
    text[size++] = '[';
    for (int i = 1; i < TR_SCHEMA_VALUES_max; i++) { /* the array is one of them */
        text[size++] = '1';
        text[size++] = ',';
    }
    text[size - 1] = ']';
    CU_ASSERT_EQUAL(tr_schema_validate(schema, text, size, why, sizeof why), TR_OK);
    CU_ASSERT_EQUAL(tr_schema_validate(NULL, text, size, why, sizeof why), TR_OK);
    memcpy(text + size - 1, ",1]", 3);
    CU_ASSERT_EQUAL(tr_schema_validate(schema, text, size + 2, why, sizeof why), TR_ERR_TOO_LARGE);
    CU_ASSERT_STRING_EQUAL(why, "it has more than 65536 values, too many to be checked");
    CU_ASSERT_EQUAL(tr_schema_validate(NULL, text, size + 2, why, sizeof why), TR_ERR_TOO_LARGE);
    CU_ASSERT_EQUAL(tr_schema_validate(NULL, "[1", 2, why, sizeof why), TR_ERR_INVALID);
    tr_schema_free(schema);
}

int main(void) {
    CU_TestInfo tests[] = {
#define T(name) {#name, name}
        T(a_text_that_does_not_follow_is_told_where_and_why),
        T(numbers_are_compared_exactly),
        T(alternatives_tell_of_the_one_that_came_closest),
        T(a_schema_may_contain_itself),
        T(what_is_outside_the_subset_is_named_with_its_place),
        T(patterns_match_as_regular_expressions),
        T(hostile_schemas_are_bounded),
        T(a_lenient_reading_leaves_out_what_it_does_not_know),
        T(annotations_are_left_alone),
        {"a_long_enum_becomes_a_grammar_at_once", a_long_enum_becomes_a_grammar_at_once},
        {"a_grammar_that_is_too_large_is_given_up_at_once",
         a_grammar_that_is_too_large_is_given_up_at_once},
        {"a_text_of_too_many_values_is_too_large", a_text_of_too_many_values_is_too_large},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"schema", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    CU_initialize_registry();
    CU_register_suites(suites);
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    int failures = (int)CU_get_number_of_failures();
    CU_cleanup_registry();
    return failures > 0;
}
