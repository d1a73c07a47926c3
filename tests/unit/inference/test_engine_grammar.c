/* Grammars that libllama would choke on are told from those that it can work with. */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "inference/engine.h"
#include "inference/engine_grammar.h"
#include "tests/unit/inference/engine_rig.h"

static const char json_grammar[] =
    "root   ::= object # as llama.cpp's json.gbnf\n"
    "value  ::= object | array | string | number | (\"true\" | \"false\" | \"null\") ws\n\n"
    "object ::=\n  \"{\" ws (\n    string \":\" ws value\n    (\",\" ws string \":\" ws value)*\n"
    "  )? \"}\" ws\n"
    "array  ::= \"[\" ws ( value (\",\" ws value)* )? \"]\" ws\n"
    "string ::= \"\\\"\" ( [^\"\\\\\\x7F\\x00-\\x1F] | \"\\\\\" ([\"\\\\bfnrt] | \"u\" "
    "[0-9a-fA-F]{4}) )* \"\\\"\" ws\n"
    "number ::= (\"-\"? ([0-9] | [1-9] [0-9]{0,15})) (\".\" [0-9]+)? ([eE] [-+]? [0-9] "
    "[1-9]{0,15})? ws\n"
    "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n";

static tri_grammar_verdict verdict_of(const char *text) {
    const char *why = NULL;
    tri_grammar_verdict verdict = tri_grammar_check((tr_str){text, strlen(text)}, &why);
    CU_ASSERT_EQUAL(why != NULL, verdict == TRI_GRAMMAR_EXPLOSIVE);
    return verdict;
}

static void ordinary_grammars_pass(void) {
    static const char *const fine[] = {
        json_grammar,
        "root ::= \"yes\" | \"no\"",
        "root ::= \"0\" [0-9]*",
        "root ::= (\"(\" [a-m]+ \") \")*",
        "root ::= .*",
        "root ::= [^\\n]{1,400} \"\\n\"",
        "root ::= \"a\"{2000}",
        "root ::= (expr \"=\" ws term \"\\n\")+\nexpr ::= term ([-+*/] term)*\n"
        "term ::= ident | num | \"(\" ws expr \")\" ws\nident ::= [a-z] [a-z0-9_]* ws\n"
        "num ::= [0-9]+ ws\nws ::= [ \\t\\n]*",
        "root ::= item+\nitem ::= \"- \" [^\\r\\n\\x0b\\x0c\\x85\\u2028\\u2029]+ \"\\n\"",
        "root ::= (r|r|r|r)+\nr ::= [a-z]+",
        "root ::= <|im_end|> | !<[5]> \"\\U0001F600\"+",
        "ws ::= ([ \\t\\n] ws)?\nroot ::= ws \"a\" ws",
        "root ::= (\"a\" \",\")? (\"b\" \",\")? (\"c\" \",\")? (\"d\" \",\")? (\"e\" \",\")? \"z\"",
        "root ::= \"\"",
    };
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        if (verdict_of(fine[i]) != TRI_GRAMMAR_FINE) {
            printf("not fine: %s\n", fine[i]);
            CU_FAIL("an ordinary grammar was refused");
        }
    }
}

/* What people write by hand and what tools make of JSON schemas. */
static void grammars_of_daily_use_pass(void) {
    static const char string_rule[] =
        "char ::= [^\"\\\\\\x7F\\x00-\\x1F] | [\\\\] ([\"\\\\bfnrt] | \"u\" [0-9a-fA-F]{4})\n"
        "string ::= \"\\\"\" char* \"\\\"\" space\nspace ::= | \" \" | \"\\n\"{1,2} [ \\t]{0,20}\n";
    static const char *const fine[] = {
        /* JSON by hand, any blanks, by recursion and by repetition */
        "root ::= ws value ws\nvalue ::= object | array | string | number | \"true\" | \"false\" | "
        "\"null\"\nobject ::= \"{\" ws (pair (\",\" ws pair)*)? \"}\" ws\n"
        "pair ::= string ws \":\" ws value ws\narray ::= \"[\" ws (value ws (\",\" ws value ws)*)? "
        "\"]\" ws\nstring ::= \"\\\"\" ([^\"\\\\] | \"\\\\\" .)* \"\\\"\"\n"
        "number ::= \"-\"? (\"0\" | [1-9] [0-9]*) (\".\" [0-9]+)? ([eE] [-+]? [0-9]+)?\n"
        "ws ::= ([ \\t\\n] ws)?",
        "root ::= \"{\" ws \"\\\"name\\\"\" ws \":\" ws str ws \",\" ws \"\\\"age\\\"\" ws \":\" "
        "ws "
        "[0-9]{1,3} ws \"}\"\nstr ::= \"\\\"\" [^\"]{0,100} \"\\\"\"\nws ::= [ \\t\\n]*",
        /* lists */
        "root ::= item (\", \" item)*\nitem ::= [a-zA-Z]+ (\" \" [a-zA-Z]+)*",
        "root ::= (\"- \" [^\\n]+ \"\\n\"){1,10}",
        "root ::= ([1-9] [0-9]? \". \" [^\\n]{1,80} \"\\n\")+",
        /* words and sentences */
        "root ::= [a-z]{1,200}",
        "root ::= word (\" \" word){0,30} [.!?]\nword ::= [A-Za-z] [a-z']{0,20}",
        /* arithmetic, by recursion and by repetition */
        "root ::= expr \"\\n\"\nexpr ::= term (ws [-+] ws term)*\nterm ::= factor (ws [*/] ws "
        "factor)*\nfactor ::= [0-9]+ (\".\" [0-9]+)? | \"(\" ws expr ws \")\"\nws ::= \" \"*",
        "root ::= num | \"(\" root op root \")\"\nnum ::= [0-9]+\nop ::= \" \"? [-+*/] \" \"?",
        /* forms: a date, a hex colour, a mail address, a phone number, a move at chess */
        "root ::= [0-9]{4} \"-\" (\"0\" [1-9] | \"1\" [0-2]) \"-\" ([0-2] [0-9] | \"3\" [01])",
        "root ::= \"#\" ([0-9a-f]{3} | [0-9a-f]{6})",
        "root ::= [a-z0-9._-]+ \"@\" [a-z0-9-]+ (\".\" [a-z0-9-]+)+",
        "root ::= (\"+\" [0-9]{1,3} \" \")? [0-9]{2,4} ([ -]? [0-9]{2,4}){1,4}",
        "root ::= \"1. \" move \" \" move \"\\n\" ([1-9] [0-9]? \". \" move \" \" move \"\\n\")+\n"
        "move ::= (pawn | nonpawn | castle) [+#]?\nnonpawn ::= [NBKQR] [a-h]? [1-8]? \"x\"? [a-h] "
        "[1-8]\npawn ::= ([a-h] \"x\")? [a-h] [1-8] (\"=\" [NBKQR])?\ncastle ::= \"O-O\" \"-O\"?",
        /* a call of a function, XML, a table of CSV */
        "root ::= \"get_weather(\" arg (\", \" arg)* \")\"\narg ::= [a-z_]+ \"=\" ([0-9]+ | "
        "\"\\\"\" [^\"]* \"\\\"\")",
        "root ::= element\nelement ::= \"<\" name \">\" (text | element)* \"</\" name \">\"\n"
        "name ::= [a-z]+\ntext ::= [^<>]",
        "root ::= (cell (\",\" cell){3} \"\\n\")+\ncell ::= [^,\"\\n]* | \"\\\"\" ([^\"] | "
        "\"\\\"\\\"\")* \"\\\"\"",
    };
    static const char *const schemas[] = {
        "root ::= \"{\" space a-kv (\",\" space ( b-kv b-rest | c-kv ) )? \"}\" space\n"
        "a-kv ::= \"\\\"a\\\"\" space \":\" space string\nb-kv ::= \"\\\"b\\\"\" space \":\" space "
        "string\n"
        "b-rest ::= (\",\" space c-kv)?\nc-kv ::= \"\\\"c\\\"\" space \":\" space integer\n"
        "integer ::= (\"-\"? integral-part) space\nintegral-part ::= [0] | [1-9] [0-9]{0,15}\n",
        "root ::= \"[\" space (string (\",\" space string){0,49})? \"]\" space\n",
        "root ::= \"\\\"\" char{1,200} \"\\\"\" space\n",
    };
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        if (verdict_of(fine[i]) != TRI_GRAMMAR_FINE) {
            printf("not fine: %s\n", fine[i]);
            CU_FAIL("a grammar of daily use was refused");
        }
    }
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        char text[2048];
        snprintf(text, sizeof text, "%s%s", schemas[i], string_rule);
        if (verdict_of(text) != TRI_GRAMMAR_FINE) {
            printf("not fine: %s\n", text);
            CU_FAIL("a schema's grammar was refused");
        }
    }
}

static void explosive_grammars_are_refused(void) {
    static const char *const explosive[] = {
        "root ::= x{2000}\nx ::= \"a\"?",
        "root ::= x{200}\nx ::= \"a\"?",
        "root ::= \"0123456789 and so on and on\" x{200} \"b\"\nx ::= \"a\"?",
        "root ::= \"no\" | [0-9]{20} (\"a\"? | \"a\"*){100}",
        "root ::= (x|x|x|x|x|x|x|x)*\nx ::= [a-z]*",
        "root ::= root \"a\" | \"a\"",
        "root ::= x root \"a\" | \"a\"\nx ::= \"b\"?",
        "root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"a\" root \"d\" | \"d\"",
        "root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"d\"",
        "root ::= \"a\"{99999999999999999999}",
        "root ::= \"a\"{1000}{1000}",
    };
    for (size_t i = 0; i < sizeof explosive / sizeof *explosive; i++) {
        if (verdict_of(explosive[i]) != TRI_GRAMMAR_EXPLOSIVE) {
            printf("not explosive: %s\n", explosive[i]);
            CU_FAIL("an explosive grammar was let in");
        }
    }
}

static char *long_text(const char *head, const char *format, int count, const char *end) {
    char *text = malloc(TR_ENGINE_GRAMMAR_max + 1);
    size_t used = (size_t)snprintf(text, TR_ENGINE_GRAMMAR_max, "%s", head);
    for (int i = 0; i < count; i++) {
        used +=
            (size_t)snprintf(text + used, TR_ENGINE_GRAMMAR_max - used, format, i, i + 1, i + 1);
        CU_ASSERT_FATAL(used < TR_ENGINE_GRAMMAR_max);
    }
    snprintf(text + used, TR_ENGINE_GRAMMAR_max - used, "%s", end);
    return text;
}

static void long_grammars_are_judged_in_less_than_a_second(void) {
    struct {
        char *text;
        tri_grammar_verdict verdict;
    } grammars[] = {
        {long_text("root ::= r0\n", "r%d ::= r%d r%d | \"\"\n", 30, "r30 ::= \"a\" | \"\""),
         TRI_GRAMMAR_EXPLOSIVE},
        {long_text("root ::= \"a\" root", " | \"a\" root", 5000, ""), TRI_GRAMMAR_EXPLOSIVE},
        {long_text("root ::= \"z\"", " | \"word%d\"", 500, ""), TRI_GRAMMAR_FINE},
        {long_text("root ::= r0\n", "r%d ::= r%d\n", 3000, "r3000 ::= \"a\""), TRI_GRAMMAR_FINE},
        {long_text("root ::= \"z\"", " x", 30000, "\nx ::= [a-z]"), TRI_GRAMMAR_FINE},
        {long_text("root ::= \"z\"", " x?", 20000, "\nx ::= [a-z]"), TRI_GRAMMAR_EXPLOSIVE},
        {long_text("root ::= \"z\"", " \"a\"{9}", 6000, ""), TRI_GRAMMAR_FINE},
    };
    for (size_t i = 0; i < sizeof grammars / sizeof *grammars; i++) {
        clock_t before = clock();
        CU_ASSERT_EQUAL(verdict_of(grammars[i].text), grammars[i].verdict);
        double s = (double)(clock() - before) / CLOCKS_PER_SEC;
        printf("[%zu: %.3f s] ", i, s);
        CU_ASSERT_TRUE(s < 1);
        free(grammars[i].text);
    }
}

static void what_is_no_gbnf_is_left_to_libllama(void) {
    static const char *const bad[] = {"",
                                      "#",
                                      "root ::=[",
                                      "root ::= \"abc",
                                      "root ::= \"\\",
                                      "root ::= [\\",
                                      "root ::= x",
                                      "x ::= \"a\"",
                                      "root ::= )",
                                      "root ::= *",
                                      "root ::= \"a\"{-1}",
                                      "root ::= \"a\"{2",
                                      "root ::= (\"a\"",
                                      "root = \"a\"",
                                      "root ::= <[0]",
                                      "root ::= \"\\u12\""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (verdict_of(bad[i]) != TRI_GRAMMAR_UNREADABLE) {
            printf("not unreadable: %s\n", bad[i]);
            CU_FAIL("something that is no GBNF was read");
        }
    }
}

static void an_explosive_grammar_fails_alone_and_at_once(void) {
    rig r;
    rig_open(&r, TR_TINY_CHAIN, 2, 256);
    rig_submit(&r, 1, &rig_plenty, NULL,
               "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"max_tokens\":20}");
    rig_stream *s = rig_ask(&r, 2,
                            "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"grammar\":"
                            "\"root ::= x{2000}\\nx ::= \\\"a\\\"?\"}");
    CU_ASSERT_EQUAL(s->err, TR_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(s->message, "grammar: it can read the same text in too many"));
    CU_ASSERT_EQUAL(rig_of(&r, 1)->err, TR_OK);
    CU_ASSERT_EQUAL(rig_of(&r, 1)->terminals, 1);
    rig_close(&r);
}

int main(void) {
    CU_TestInfo tests[] = {
#define T(name) {#name, name}
        T(ordinary_grammars_pass),
        T(grammars_of_daily_use_pass),
        T(explosive_grammars_are_refused),
        T(long_grammars_are_judged_in_less_than_a_second),
        T(what_is_no_gbnf_is_left_to_libllama),
        T(an_explosive_grammar_fails_alone_and_at_once),
        CU_TEST_INFO_NULL,
    };
    return rig_main("engine_grammar", tests);
}
