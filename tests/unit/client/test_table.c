/* The table of calls against a plain list. */
#include "tests/unit/client/client_test.h"

#include "protocol/client/call.h"

enum { CALLS = 500 };

static void it_finds_what_was_added_and_not_removed(void) {
    static tri_call calls[CALLS];
    static bool inside[CALLS];
    tri_table table = {0};
    uint64_t random = 88172645463325252U; /* xorshift64, Marsaglia 2003 */
    for (size_t i = 0; i < CALLS; i++) {  /* runs that collide, and that wrap around */
        calls[i].ref = i % 5 == 0 ? i * 1024 + 31 : i * 3;
    }
    size_t wrong = 0;
    for (int step = 0; step < 200000; step++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        size_t i = (size_t)(random % CALLS);
        if (tri_table_find(&table, calls[i].ref) == &calls[i]) {
            wrong += !inside[i];
            tri_table_remove(&table, calls[i].ref);
            inside[i] = false;
        } else {
            wrong += inside[i];
            wrong += tri_table_add(&table, &calls[i]) != TR_OK;
            inside[i] = true;
        }
    }
    size_t count = 0;
    for (size_t i = 0; i < CALLS; i++) {
        count += inside[i];
        wrong += (tri_table_find(&table, calls[i].ref) == &calls[i]) != inside[i];
    }
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_EQUAL(table.count, count);
    tri_table_remove(&table, 1);
    CU_ASSERT_EQUAL(table.count, count);
    free(table.slots);
}

static void an_empty_table_finds_nothing(void) {
    tri_table table = {0};
    CU_ASSERT_PTR_NULL(tri_table_find(&table, 1));
}

int main(void) {
    CU_initialize_registry();
    CU_pSuite suite = CU_add_suite("table", NULL, NULL);
    CU_ADD_TEST(suite, it_finds_what_was_added_and_not_removed);
    CU_ADD_TEST(suite, an_empty_table_finds_nothing);
    return finish_tests();
}
