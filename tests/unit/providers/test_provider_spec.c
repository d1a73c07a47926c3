/* What a configured provider may be. */
#include <CUnit/Basic.h>
#include <string.h>

#include "providers/provider.h"

static void a_spec_says_what_is_wrong_with_it(void) {
    tr_provider_spec spec;
    char why[200];
    CU_ASSERT_EQUAL(tr_provider_spec_init("a/b", "openai", NULL, NULL, &spec, why, sizeof(why)),
                    TR_ERR_INVALID);
    CU_ASSERT_EQUAL(tr_provider_spec_init("box", "nonsense", NULL, NULL, &spec, why, sizeof(why)),
                    TR_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "nonsense"));
    CU_ASSERT_EQUAL(tr_provider_spec_init("box", "openai", "box:1", NULL, &spec, why, sizeof(why)),
                    TR_ERR_INVALID);
    CU_ASSERT_EQUAL(tr_provider_spec_init("box", "openai", NULL, "A=b", &spec, why, sizeof(why)),
                    TR_ERR_INVALID);
    CU_ASSERT_EQUAL(tr_provider_spec_init("openai", NULL, NULL, "MY_KEY", &spec, why, sizeof(why)),
                    TR_OK);
    CU_ASSERT_STRING_EQUAL(spec.key_env, "MY_KEY");
    CU_ASSERT_TRUE(tr_provider_needs_key(&spec));
}

int main(void) {
    if (CU_initialize_registry() != CUE_SUCCESS) {
        return 1;
    }
    CU_pSuite suite = CU_add_suite("provider_spec", NULL, NULL);
    CU_ADD_TEST(suite, a_spec_says_what_is_wrong_with_it);
    CU_basic_set_mode(CU_BRM_NORMAL);
    CU_basic_run_tests();
    int failed = (int)CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed == 0 ? 0 : 1;
}
