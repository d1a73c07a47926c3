/*
 * JSON schemas as grammars: whatever the grammar allows follows the schema, which random sentences
 * and a model that says anything show; and the engine holds its models to them.
 */
#include "inference/engine_grammar_internal.h"
#include "inference/engine_schema.h"
#include "protocol/schema_grammar.h"
#include "tests/unit/inference/engine_rig.h"

#define PERSON                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":12},"        \
    "\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":130},\"mood\":{\"enum\":[\"good\","   \
    "\"bad\",null,1.50]},\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\","             \
    "\"minLength\""                                                                                \
    ":1,\"maxLength\":3},\"minItems\":1,\"maxItems\":3},\"home\":{\"type\":[\"object\",\"null\"]," \
    "\"properties\":{\"street "                                                                    \
    "\\\"x\\\\y\\n\":{\"type\":\"boolean\"},\"zip\":{\"type\":\"number\","                         \
    "\"exclusiveMinimum\":-2,\"maximum\":12}},\"required\":[\"zip\"]}},\"required\":[\"name\","    \
    "\"tags\",\"home\"],\"additionalProperties\":false}"

static const char *const schemas[] = {
    PERSON,
    "{}",
    "true",
    "{\"type\":\"object\"}",
    "{\"type\":[\"string\",\"integer\",\"boolean\",\"null\",\"array\",\"number\"]}",
    "{\"enum\":[\"a\",\"b\",{\"x\": [1, 2]},7]}",
    "{\"enum\":[\"a\",\"bcd\",7],\"type\":\"string\",\"maxLength\":2}",
    "{\"const\":\"\\u00e9\\n\\\"\"}",
    "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"maxItems\":0}",
    "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":2,\"maxItems\":2}",
    "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":3}",
    "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"maxItems\":1}",
    "{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"maxItems\":100000}",
    "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"string\"},{\"type\":\"integer\"}],\"items\":"
    "false,\"minItems\":2}",
    "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"string\"},{\"type\":\"integer\"}],\"items\":"
    "{\"type\":\"null\"},\"minItems\":1,\"maxItems\":4}",
    "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"string\"},false]}",
    "{\"type\":\"integer\",\"minimum\":-15,\"maximum\":1234}",
    "{\"type\":\"integer\",\"exclusiveMinimum\":7,\"exclusiveMaximum\":9}",
    "{\"type\":\"integer\",\"minimum\":0.5}",
    "{\"type\":\"integer\",\"maximum\":-1}",
    "{\"type\":\"integer\",\"minimum\":100,\"maximum\":99999}",
    "{\"type\":\"integer\",\"minimum\":-1e3,\"maximum\":-999}",
    "{\"type\":\"integer\",\"minimum\":19,\"maximum\":1910}",
    "{\"type\":\"number\",\"minimum\":0,\"maximum\":1}",
    "{\"type\":\"number\",\"exclusiveMinimum\":0,\"exclusiveMaximum\":1}",
    "{\"type\":\"number\",\"exclusiveMinimum\":-1,\"exclusiveMaximum\":0}",
    "{\"type\":\"number\",\"exclusiveMinimum\":-20,\"maximum\":-3}",
    "{\"type\":\"number\",\"minimum\":5}",
    "{\"type\":\"number\",\"maximum\":99}",
    "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"}}",
    "{\"type\":\"object\",\"additionalProperties\":false}",
    "{\"type\":\"object\",\"required\":[\"anything\"]}",
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"},\"b\":{\"type\":\"null\"},"
    "\"c\":{\"type\":\"null\"},\"d\":{\"type\":\"null\"}},\"required\":[\"c\"]}",
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"},\"b\":{\"type\":\"null\"},"
    "\"c\":false},\"minProperties\":0,\"maxProperties\":2}",
    "{\"$ref\":\"#/$defs/node\",\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{\"value\":"
    "{\"type\":\"integer\"},\"left\":{\"$ref\":\"#/$defs/node\"},\"right\":{\"anyOf\":[{\"$ref\":"
    "\"#/$defs/node\"},{\"type\":\"null\"}]}},\"required\":[\"value\",\"right\"]}}}",
    "{\"anyOf\":[{\"type\":\"string\",\"minLength\":1},{\"type\":\"array\",\"items\":{\"$ref\":"
    "\"#\"},\"maxItems\":3}]}",
    "{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"kind\":{\"const\":\"circle\"},\"r\":"
    "{\"type\":\"number\"}},\"required\":[\"kind\",\"r\"]},{\"type\":\"object\",\"properties\":"
    "{\"kind\":{\"enum\":[\"square\"]},\"side\":{\"type\":\"number\"}},\"required\":[\"kind\"]},"
    "{\"type\":\"null\"}]}",
    "{\"allOf\":[{\"type\":\"boolean\"}],\"title\":\"x\"}",
    "{\"minLength\":2,\"maxLength\":4}",
    "{\"type\":\"string\",\"minLength\":2}",
    "{\"properties\":{\"a\":{\"items\":{\"minimum\":3}}}}",
    "{\"type\":\"string\",\"pattern\":\"^[a-z]+-\\\\d{2,4}$\"}",
    "{\"type\":\"string\",\"pattern\":\"^[^a-z]{1,5}(\\\"|\\\\\\\\|\\\\n)?.?$\"}",
    "{\"type\":\"string\",\"pattern\":\"^(ab|c\\\\s)*\\\\W$\"}",
    "{\"type\":\"string\",\"pattern\":\"x\"}",
    "{\"type\":\"string\",\"pattern\":\"^$\"}",
};

/* --- random sentences of a grammar --- */

enum { endless = 1000 };

typedef struct speaker {
    tri_grammar grammar;
    uint32_t *heights; /* of rules: how deep the shallowest sentence is */
    char text[1 << 18];
    size_t size;
    uint64_t random;
    uint32_t depth;
} speaker;

static uint32_t draw(speaker *s, uint32_t below) {
    s->random = s->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(s->random >> 33) % below;
}

static uint32_t sequence_height(const speaker *s, uint32_t node);

static uint32_t alternatives_height(const speaker *s, uint32_t alt) {
    uint32_t least = endless;
    for (; alt != 0; alt = s->grammar.nodes[alt].next) {
        uint32_t height = sequence_height(s, s->grammar.nodes[alt].first);
        least = height < least ? height : least;
    }
    return least;
}

static uint32_t node_height(const speaker *s, const tri_gnode *node) {
    switch (node->kind) {
    case TRI_GNODE_RULE:
        return s->heights[node->first] + 1;
    case TRI_GNODE_GROUP:
        return alternatives_height(s, node->first);
    case TRI_GNODE_REPEAT:
        return node->min > 0 ? node_height(s, &s->grammar.nodes[node->first]) : 0;
    case TRI_GNODE_CHAR:
    case TRI_GNODE_ALT:
        break;
    }
    return 0;
}

static uint32_t sequence_height(const speaker *s, uint32_t node) {
    uint32_t most = 0;
    for (; node != 0; node = s->grammar.nodes[node].next) {
        uint32_t height = node_height(s, &s->grammar.nodes[node]);
        most = height > most ? height : most;
    }
    return most < endless ? most : endless;
}

static void say_char(speaker *s, const tri_gnode *node) {
    const tri_grange *range = &s->grammar.ranges[node->first + draw(s, node->count)];
    CU_ASSERT_FALSE_FATAL(node->negated);
    uint32_t code = range->low + draw(s, range->high - range->low + 1);
    char *out = s->text + s->size;
    if (code < 0x80) {
        s->size += (size_t)snprintf(out, 5, "%c", (char)code);
    } else if (code < 0x800) {
        s->size += (size_t)snprintf(out, 5, "%c%c", (char)(0xc0 | code >> 6),
                                    (char)(0x80 | (code & 0x3f)));
    } else if (code < 0x10000) {
        s->size +=
            (size_t)snprintf(out, 5, "%c%c%c", (char)(0xe0 | code >> 12),
                             (char)(0x80 | (code >> 6 & 0x3f)), (char)(0x80 | (code & 0x3f)));
    } else {
        s->size += (size_t)snprintf(
            out, 5, "%c%c%c%c", (char)(0xf0 | code >> 18), (char)(0x80 | (code >> 12 & 0x3f)),
            (char)(0x80 | (code >> 6 & 0x3f)), (char)(0x80 | (code & 0x3f)));
    }
}

static void say_sequence(speaker *s, uint32_t node);

static void say_alternatives(speaker *s, uint32_t first) {
    uint32_t count = 0, least = endless + 1;
    for (uint32_t alt = first; alt != 0; alt = s->grammar.nodes[alt].next) {
        uint32_t height = sequence_height(s, s->grammar.nodes[alt].first);
        least = height < least ? height : least;
        count++;
    }
    bool hurry = s->depth > 40 || s->size > sizeof s->text / 4;
    for (;;) {
        uint32_t alt = first;
        for (uint32_t skip = draw(s, count); skip > 0; skip--) {
            alt = s->grammar.nodes[alt].next;
        }
        if (!hurry || sequence_height(s, s->grammar.nodes[alt].first) == least) {
            say_sequence(s, s->grammar.nodes[alt].first);
            return;
        }
    }
}

/* Its `next` is not followed. */
static void say_node(speaker *s, const tri_gnode *node) {
    CU_ASSERT_TRUE_FATAL(s->size + 8 < sizeof s->text);
    s->depth++;
    if (node->kind == TRI_GNODE_CHAR) {
        say_char(s, node);
    } else if (node->kind == TRI_GNODE_RULE) {
        say_alternatives(s, s->grammar.rules[node->first - 1].alts);
    } else if (node->kind == TRI_GNODE_GROUP) {
        say_alternatives(s, node->first);
    } else if (node->kind == TRI_GNODE_REPEAT) {
        uint32_t more = node->max == TRI_GNODE_ENDLESS ? 3 : node->max - node->min;
        bool hurry = s->depth > 40 || s->size > sizeof s->text / 4;
        uint32_t times = node->min + (hurry ? 0 : draw(s, 4) == 0 ? more : draw(s, more + 1));
        for (uint32_t i = 0; i < times; i++) {
            say_sequence(s, node->first);
        }
    }
    s->depth--;
}

static void say_sequence(speaker *s, uint32_t node) {
    for (; node != 0; node = s->grammar.nodes[node].next) {
        say_node(s, &s->grammar.nodes[node]);
    }
}

static void find_heights(speaker *s) {
    s->heights = malloc((s->grammar.rule_count + 1) * sizeof *s->heights);
    for (uint32_t i = 0; i <= s->grammar.rule_count; i++) {
        s->heights[i] = endless;
    }
    for (bool more = true; more;) {
        more = false;
        for (uint32_t i = 1; i <= s->grammar.rule_count; i++) {
            uint32_t height = alternatives_height(s, s->grammar.rules[i - 1].alts);
            more = more || height < s->heights[i];
            s->heights[i] = height;
        }
    }
}

static speaker *speaker_of(const char *schema_text) {
    static char *text;
    char why[TR_ENGINE_WHY_size] = "";
    size_t size = 0;
    free(text);
    text = NULL;
    tr_err err =
        tri_schema_to_grammar((tr_str){schema_text, strlen(schema_text)}, &text, &size, why);
    if (err != TR_OK) {
        printf("%s: %s\n", schema_text, why);
    }
    CU_ASSERT_EQUAL_FATAL(err, TR_OK);
    const char *explosive = NULL;
    if (tri_grammar_check((tr_str){text, size}, &explosive) != TRI_GRAMMAR_FINE) {
        printf("%s\nfor %s\n", text, schema_text);
        CU_FAIL("the engine refuses a schema's grammar");
    }
    speaker *s = calloc(1, sizeof *s);
    CU_ASSERT_EQUAL_FATAL(tri_grammar_read(&s->grammar, (tr_str){text, size}), TRI_GRAMMAR_FINE);
    find_heights(s);
    return s;
}

static void speaker_free(speaker *s) {
    tri_grammar_fini(&s->grammar);
    free(s->heights);
    free(s);
}

static bool follows(const char *schema_text, const char *text, size_t size) {
    char why[TR_SCHEMA_WHY_size] = "";
    tr_schema *schema = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_schema_parse(schema_text, strlen(schema_text), TR_SCHEMA_STRICT,
                                          &schema, why, sizeof why),
                          TR_OK);
    tr_err err = tr_schema_validate(schema, text, size, why, sizeof why);
    tr_schema_free(schema);
    /* A grammar cannot remember which names it gave. */
    bool good = err == TR_OK || strstr(why, "stands twice") != NULL;
    if (!good) {
        printf("%.*s\ndoes not follow %s: %s\n", (int)size, text, schema_text, why);
    }
    return good;
}

static void every_sentence_of_the_grammar_follows_the_schema(void) {
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        speaker *s = speaker_of(schemas[i]);
        bool good = true;
        for (uint64_t k = 0; k < 300 && good; k++) {
            s->random = k * 77 + i;
            s->size = 0;
            say_alternatives(s, s->grammar.rules[s->grammar.root - 1].alts);
            good = follows(schemas[i], s->text, s->size);
        }
        CU_ASSERT_TRUE(good);
        speaker_free(s);
    }
}

static void grammars_of_bounded_integers_leave_none_out(void) {
    static const struct {
        int low, high;
    } ranges[] = {{0, 0}, {0, 9}, {1, 12}, {7, 105}, {99, 1001}, {-3, 4}, {-120, -9}, {10, 19}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        char schema[128];
        int count = ranges[i].high - ranges[i].low + 1, found = 0;
        char *seen = calloc(1, (size_t)count);
        snprintf(schema, sizeof schema, "{\"type\":\"integer\",\"minimum\":%d,\"maximum\":%d}",
                 ranges[i].low, ranges[i].high);
        speaker *s = speaker_of(schema);
        for (int k = 0; k < 200000 && found < count; k++) {
            s->size = 0;
            say_alternatives(s, s->grammar.rules[s->grammar.root - 1].alts);
            s->text[s->size] = '\0';
            int number = atoi(s->text) - ranges[i].low;
            CU_ASSERT_TRUE_FATAL(number >= 0 && number < count);
            found += seen[number] == 0;
            seen[number] = 1;
        }
        CU_ASSERT_EQUAL(found, count);
        speaker_free(s);
        free(seen);
    }
}

static void what_a_grammar_cannot_say_is_refused_by_place(void) {
    static const struct {
        const char *schema, *sentence;
    } bad[] = {
        {"{\"type\":\"array\",\"uniqueItems\":true}", "/uniqueItems: "},
        {"{\"properties\":{\"a\":{\"type\":\"number\",\"minimum\":0.5}}}",
         "/properties/a/minimum: "},
        {"{\"type\":\"object\",\"minProperties\":1}", "/minProperties: "},
        {"{\"items\":{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}}",
         "/items/oneOf: a value may fit two"},
        {"{\"allOf\":[{\"minimum\":1},{\"maximum\":3}]}", "/allOf: "},
        {"{\"anyOf\":[{\"minimum\":1}],\"type\":\"number\"}", "/anyOf: "},
        {"{\"type\":\"string\",\"minLength\":5,\"maxLength\":4}", "/maxLength: "},
        {"{\"type\":\"array\",\"minItems\":5000}", "/minItems: "},
        {"{\"not\":{}}", "/not: "},
        {"{\"type\":\"string\",\"pattern\":\"a\",\"maxLength\":3}", "/pattern: "},
        {"{\"type\":\"string\",\"pattern\":\"^\\u0001$\"}", "/pattern: it has a character"},
        {"false", "/: no text can follow"},
        {"{\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"],\"type\":\"object\"}",
         "/: no text can follow"},
        {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", "/: no text can follow"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char why[TR_ENGINE_WHY_size] = "";
        char *text = NULL;
        size_t size = 0;
        tr_err err = tri_schema_to_grammar((tr_str){bad[i].schema, strlen(bad[i].schema)}, &text,
                                           &size, why);
        CU_ASSERT_EQUAL(err, TR_ERR_UNSUPPORTED);
        if (strstr(why, bad[i].sentence) == NULL) {
            printf("%s: %s\n", bad[i].schema, why);
            CU_FAIL("the sentence does not name the place");
        }
    }
}

/* --- through the engine --- */

static rig_stream *ask(rig *r, uint64_t ref, const char *schema, int max_tokens, int seed) {
    char json[4096];
    snprintf(
        json, sizeof json,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"abc\"}],\"temperature\":3,\"seed\":%d,"
        "\"max_tokens\":%d,\"top_k\":0,\"top_p\":1,\"min_p\":0,\"response_format\":%s%s%s}",
        seed, max_tokens,
        schema != NULL ? "{\"type\":\"json_schema\",\"json_schema\":{\"schema\":"
                       : "{\"type\":\"json_object\"",
        schema != NULL ? schema : "", schema != NULL ? "}}" : "}");
    return rig_ask(r, ref, json);
}

static void a_model_that_says_anything_says_what_the_schema_wants(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 2048);
    uint64_t ref = 0;
    int whole = 0;
    const char *some[] = {PERSON, NULL, schemas[4], schemas[14], schemas[23], schemas[36]};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        for (int seed = 1; seed <= 6; seed++) {
            rig_stream *s = ask(&r, ref++, some[i], 1500, seed);
            CU_ASSERT_EQUAL(s->err, TR_OK);
            CU_ASSERT_TRUE(s->finish == TR_FINISH_STOP || s->finish == TR_FINISH_LENGTH);
            if (s->err != TR_OK) {
                printf("%s\n", s->message);
            }
            if (s->finish == TR_FINISH_STOP) {
                whole++;
                CU_ASSERT_TRUE(
                    follows(some[i] != NULL ? some[i] : "{\"type\":\"object\"}", s->text, s->size));
            }
        }
    }
    printf("[%d of %d whole] ", whole, (int)ref);
    CU_ASSERT_TRUE(whole > (int)ref / 2);
    rig_close(&r);
}

static void an_answer_that_is_cut_says_so(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 256);
    CU_ASSERT_EQUAL(ask(&r, 1, PERSON, 3, 1)->finish, TR_FINISH_LENGTH);
    rig_close(&r);
}

static void a_schema_that_no_grammar_says_fails_before_the_model_is_asked(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 1, 256);
    rig_stream *s = ask(&r, 1, "{\"properties\":{\"x\":{\"not\":{}}}}", 10, 1);
    CU_ASSERT_EQUAL(s->err, TR_ERR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(s->message, "/properties/x/not: "));
    s = rig_ask(&r, 2,
                "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"grammar\":\"root ::= "
                "\\\"a\\\"\",\"response_format\":{\"type\":\"json_object\"}}");
    CU_ASSERT_EQUAL(s->err, TR_ERR_INVALID);
    CU_ASSERT_STRING_EQUAL(s->message, "grammar and response_format: give one of them");
    rig_close(&r);
}

int main(void) {
    CU_TestInfo tests[] = {
#define T(name) {#name, name}
        T(every_sentence_of_the_grammar_follows_the_schema),
        T(grammars_of_bounded_integers_leave_none_out),
        T(what_a_grammar_cannot_say_is_refused_by_place),
        T(a_model_that_says_anything_says_what_the_schema_wants),
        T(an_answer_that_is_cut_says_so),
        T(a_schema_that_no_grammar_says_fails_before_the_model_is_asked),
        CU_TEST_INFO_NULL,
    };
    return rig_main("engine_schema", tests);
}
