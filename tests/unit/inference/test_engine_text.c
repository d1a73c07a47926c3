/* Bytes to text: what is no UTF-8, what may be a stop string, and where tokens end. */
#include <CUnit/Basic.h>
#include <string.h>

#include "inference/engine_text.h"
#include "inference/worker_internal.h"

#define BAD "\xef\xbf\xbd"

/* All of `pieces`, each a token, and then the end. */
static void check(const char *const *pieces, size_t count, const char *expected) {
    tri_text text;
    size_t tokens, size;
    tri_text_init(&text, NULL, 0);
    for (size_t i = 0; i < count; i++) {
        CU_ASSERT_EQUAL(tri_text_push(&text, (int32_t)i, pieces[i], strlen(pieces[i])), TR_OK);
    }
    tri_text_finish(&text);
    tri_text_ready(&text, &tokens, &size);
    CU_ASSERT_EQUAL(tokens, count);
    CU_ASSERT_EQUAL(size, strlen(expected));
    CU_ASSERT_EQUAL(memcmp(text.bytes, expected, size < strlen(expected) ? size : strlen(expected)),
                    0);
    CU_ASSERT_TRUE(tr_utf8_valid(text.bytes, size));
    tri_text_fini(&text);
}

#define CHECK(expected, ...)                                                                       \
    do {                                                                                           \
        const char *const pieces[] = {__VA_ARGS__};                                                \
        check(pieces, sizeof pieces / sizeof *pieces, expected);                                   \
    } while (0)

static void characters_split_anywhere_come_out_whole(void) {
    CHECK("\xf0\x9f\x8c\x8a!", "\xf0", "\x9f", "\x8c", "\x8a!");
    CHECK("\xe2\x82\xac\xe2\x82\xac", "\xe2\x82", "\xac\xe2", "\x82\xac");
}

static void bytes_that_are_no_text_become_the_replacement_character(void) {
    CHECK("a" BAD "b", "a", "\xff", "b");
    CHECK("a" BAD "b", "a\xe2\x82", "b");       /* broken off */
    CHECK(BAD BAD "x", "\xc0\x80", "x");        /* overlong */
    CHECK(BAD BAD BAD, "\xed\xa0\x80");         /* a surrogate */
    CHECK(BAD BAD BAD BAD, "\xf4\x90\x80\x80"); /* beyond U+10FFFF */
    CHECK(BAD "\xc3\xa9", "\xe2", "\xc3\xa9");  /* one breaks the other off */
}

static void a_nul_byte_is_replaced(void) {
    tri_text text;
    tri_text_init(&text, NULL, 0);
    CU_ASSERT_EQUAL(tri_text_push(&text, 1, "a\0b", 3), TR_OK);
    CU_ASSERT_EQUAL(text.size, 5);
    CU_ASSERT_EQUAL(memcmp(text.bytes, "a" BAD "b", 5), 0);
    tri_text_fini(&text);
}

static void the_first_of_several_stop_strings_ends_the_text(void) {
    const tr_str stops[] = {{"world", 5}, {"lo w", 4}, {"ld", 2}};
    tri_text text;
    size_t tokens, size;
    tri_text_init(&text, stops, 3);
    CU_ASSERT_EQUAL(tri_text_push(&text, 1, "hel", 3), TR_OK);
    tri_text_ready(&text, &tokens, &size);
    CU_ASSERT_EQUAL(tokens, 0); /* its "l" may begin a stop string, and a token goes whole */
    CU_ASSERT_EQUAL(tri_text_push(&text, 2, "lo wor", 6), TR_OK);
    CU_ASSERT_TRUE(text.stopped);
    tri_text_ready(&text, &tokens, &size);
    CU_ASSERT_EQUAL(tokens, 2);
    CU_ASSERT_EQUAL(size, 3);
    tri_text_fini(&text);
}

static void what_was_taken_is_forgotten_and_matching_goes_on(void) {
    const tr_str stops[] = {{"STOP", 4}};
    tri_text text;
    size_t tokens, size;
    tri_text_init(&text, stops, 1);
    CU_ASSERT_EQUAL(tri_text_push(&text, 1, "one ", 4), TR_OK);
    CU_ASSERT_EQUAL(tri_text_push(&text, 2, "ST", 2), TR_OK);
    tri_text_ready(&text, &tokens, &size);
    CU_ASSERT_EQUAL(tokens, 1);
    CU_ASSERT_EQUAL(size, 4);
    tri_text_take(&text, tokens, size);
    CU_ASSERT_EQUAL(tri_text_push(&text, 3, "OP and more", 11), TR_OK);
    CU_ASSERT_TRUE(text.stopped);
    tri_text_ready(&text, &tokens, &size);
    CU_ASSERT_EQUAL(tokens, 2);
    CU_ASSERT_EQUAL(size, 0);
    tri_text_fini(&text);
}

/* The examples of FIPS 180-4: one block, and one whose length needs a second. */
static void sha256_agrees_with_the_standard(void) {
    static const struct {
        const char *text;
        const char *digest;
    } known[] = {
        {"abc", "\xba\x78\x16\xbf\x8f\x01\xcf\xea\x41\x41\x40\xde\x5d\xae\x22\x23\xb0\x03\x61\xa3"
                "\x96\x17\x7a\x9c\xb4\x10\xff\x61\xf2\x00\x15\xad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "\x24\x8d\x6a\x61\xd2\x06\x38\xb8\xe5\xc0\x26\x93\x0c\x3e\x60\x39\xa3\x3c\xe4\x59\x64\xff"
         "\x21\x67\xf6\xec\xed\xd4\x19\xdb\x06\xc1"},
    };
    for (size_t i = 0; i < 2; i++) {
        uint8_t digest[32];
        tri_sha256 sha;
        tri_sha256_init(&sha);
        tri_sha256_add(&sha, known[i].text, strlen(known[i].text));
        tri_sha256_end(&sha, digest);
        CU_ASSERT_EQUAL(memcmp(digest, known[i].digest, 32), 0);
    }
}

int main(void) {
    CU_TestInfo tests[] = {
#define T(name) {#name, name}
        T(characters_split_anywhere_come_out_whole),
        T(bytes_that_are_no_text_become_the_replacement_character),
        T(a_nul_byte_is_replaced),
        T(the_first_of_several_stop_strings_ends_the_text),
        T(what_was_taken_is_forgotten_and_matching_goes_on),
        T(sha256_agrees_with_the_standard),
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"engine_text", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
