/* From the name a person gives to the gate, and what is said when there is none. */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <string.h>

#include "actors/route.h"
#include "tests/lib/stand_in.h"

static const char *const locals[] = {"smollm2", "tiny", "a/b"};
static const char *const providers[] = {"openai", "openrouter", "echo", "local-server"};
static const tr_alias aliases[] = {{"fast", "openai/gpt-4o-mini"},
                                   {"mine", "tiny"},
                                   {"deep", "mine"},
                                   {"round", "about"},
                                   {"about", "round"},
                                   {"tiny", "echo/x"}};

static const tr_routes_spec spec = {
    .locals = locals,
    .local_count = 3,
    .providers = providers,
    .provider_count = 4,
    .aliases = aliases,
    .alias_count = 6,
    .default_model = "fast",
};

static tr_str str(const char *text) {
    return (tr_str){text, strlen(text)};
}

static char why[256];
static tr_target target;

static tr_err route_in(const tr_routes_spec *from, const char *name, const char *provider) {
    tr_routes *routes = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_routes_new(from, &routes), TR_OK);
    memset(&target, 0, sizeof target);
    why[0] = '\0';
    tr_err err = tr_route(routes, str(name), str(provider), &target, why, sizeof why);
    tr_routes_unref(routes);
    return err;
}

static void expect(const char *name, const char *gate, const char *model, const char *label) {
    CU_ASSERT_EQUAL(route_in(&spec, name, ""), TR_OK);
    CU_ASSERT_STRING_EQUAL(target.gate, gate);
    CU_ASSERT_STRING_EQUAL(target.model, model);
    CU_ASSERT_STRING_EQUAL(target.label, label);
}

static void first_slash_parts_provider_and_model(void) {
    expect("openai/gpt-4o", "limiter:openai", "gpt-4o", "openai/gpt-4o");
    expect("openrouter/meta/llama:free", "limiter:openrouter", "meta/llama:free",
           "openrouter/meta/llama:free");
    expect("openai//x", "limiter:openai", "/x", "openai//x");
    expect("local/smollm2", "pool:smollm2", "smollm2", "local/smollm2");
    expect("local/a/b", "pool:a/b", "a/b", "local/a/b");
}

static void bare_name_is_an_alias_before_a_local_model(void) {
    expect("smollm2", "pool:smollm2", "smollm2", "local/smollm2");
    expect("fast", "limiter:openai", "gpt-4o-mini", "openai/gpt-4o-mini");
    expect("tiny", "limiter:echo", "x", "echo/x");
    expect("local/tiny", "pool:tiny", "tiny", "local/tiny");
    expect("deep", "limiter:echo", "x", "echo/x"); /* aliases of aliases */
}

static void no_name_is_the_default_model_or_the_first_local_one(void) {
    expect("", "limiter:openai", "gpt-4o-mini", "openai/gpt-4o-mini");
    tr_routes_spec plain = spec;
    plain.default_model = NULL;
    CU_ASSERT_EQUAL(route_in(&plain, "", ""), TR_OK);
    CU_ASSERT_STRING_EQUAL(target.label, "local/smollm2");
    plain.local_count = 0;
    CU_ASSERT_EQUAL(route_in(&plain, "", ""), TR_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "default_model"));
}

static void provider_beside_the_name_takes_the_whole_name_as_model(void) {
    CU_ASSERT_EQUAL(route_in(&spec, "meta/llama", "openrouter"), TR_OK);
    CU_ASSERT_STRING_EQUAL(target.gate, "limiter:openrouter");
    CU_ASSERT_STRING_EQUAL(target.model, "meta/llama");
    CU_ASSERT_EQUAL(route_in(&spec, "smollm2", "local"), TR_OK);
    CU_ASSERT_STRING_EQUAL(target.gate, "pool:smollm2");
    CU_ASSERT_EQUAL(route_in(&spec, "gpt", "opnai"), TR_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "did you mean openai"));
    CU_ASSERT_EQUAL(route_in(&spec, "", "openai"), TR_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "openai/MODEL"));
}

static void near_names_are_suggested(void) {
    CU_ASSERT_EQUAL(route_in(&spec, "smolm2", ""), TR_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "\"smolm2\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "did you mean smollm2"));
    CU_ASSERT_EQUAL(route_in(&spec, "smol", ""), TR_ERR_NOT_FOUND); /* a beginning */
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "smollm2"));
    CU_ASSERT_EQUAL(route_in(&spec, "opnai/gpt", ""), TR_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "openai"));
    CU_ASSERT_EQUAL(route_in(&spec, "quite another thing", ""), TR_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NULL(strstr(why, "did you mean"));
}

static void provider_without_a_model_is_asked_for_one(void) {
    CU_ASSERT_EQUAL(route_in(&spec, "openai", ""), TR_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "openai/MODEL"));
    CU_ASSERT_EQUAL(route_in(&spec, "openai/", ""), TR_ERR_INVALID);
    CU_ASSERT_EQUAL(route_in(&spec, "/gpt", ""), TR_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(route_in(&spec, "/", ""), TR_ERR_NOT_FOUND);
}

static void circle_of_aliases_is_said_to_be_one(void) {
    CU_ASSERT_EQUAL(route_in(&spec, "round", ""), TR_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "circle"));
}

/* Names from the wire are not NUL-terminated, up to TR_NAME_max long, and may hold anything. */
static void long_names_stay_inside_their_buffers(void) {
    char name[TR_NAME_max + 1];
    memset(name, 'm', sizeof name);
    memcpy(name, "openai/", 7);
    tr_routes *routes = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_routes_new(&spec, &routes), TR_OK);
    for (size_t size = 0; size <= TR_NAME_max; size++) {
        for (size_t room = 1; room < sizeof why; room += 50) {
            why[0] = '\0';
            tr_err err = tr_route(routes, (tr_str){name, size}, str(""), &target, why, room);
            CU_ASSERT_EQUAL(err == TR_OK, size > 7 || size == 0);
            CU_ASSERT(strlen(why) < room);
        }
    }
    CU_ASSERT_EQUAL(strlen(target.label), TR_NAME_max);
    memset(name, 'q', sizeof name);
    CU_ASSERT_EQUAL(
        tr_route(routes, (tr_str){name, TR_NAME_max}, str(""), &target, why, sizeof why),
        TR_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(tr_route(routes, (tr_str){name, TR_NAME_max}, str("openai"), &target, why, 40),
                    TR_OK);
    tr_routes_unref(routes);
}

static void routes_outlive_what_they_were_made_from(void) {
    char local[] = "mutable";
    const char *names[] = {local};
    tr_routes_spec from = {.locals = names, .local_count = 1};
    tr_routes *routes = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_routes_new(&from, &routes), TR_OK);
    memset(local, '#', sizeof local - 1);
    tr_routes *again = tr_routes_ref(routes);
    tr_routes_unref(routes);
    CU_ASSERT_EQUAL(tr_route(again, str("mutable"), str(""), &target, why, sizeof why), TR_OK);
    tr_routes_unref(again);
    tr_routes_unref(NULL);
}

static void failed_allocations_leave_nothing(void) {
    for (size_t n = 1;; n++) {
        stand_in_fail_at = n;
        tr_routes *routes = NULL;
        tr_err err = tr_routes_new(&spec, &routes);
        bool all_worked = stand_in_fail_at > 0;
        stand_in_fail_at = 0;
        CU_ASSERT_EQUAL(err, all_worked ? TR_OK : TR_ERR_NOMEM);
        tr_routes_unref(routes);
        if (all_worked) {
            CU_ASSERT(n > 20);
            return;
        }
    }
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(first_slash_parts_provider_and_model),
        PUPPET_TEST(bare_name_is_an_alias_before_a_local_model),
        PUPPET_TEST(no_name_is_the_default_model_or_the_first_local_one),
        PUPPET_TEST(provider_beside_the_name_takes_the_whole_name_as_model),
        PUPPET_TEST(near_names_are_suggested),
        PUPPET_TEST(provider_without_a_model_is_asked_for_one),
        PUPPET_TEST(circle_of_aliases_is_said_to_be_one),
        PUPPET_TEST(long_names_stay_inside_their_buffers),
        PUPPET_TEST(routes_outlive_what_they_were_made_from),
        PUPPET_TEST(failed_allocations_leave_nothing),
    };
    stand_in_memory();
    return puppet_main("route", tests, sizeof tests / sizeof *tests);
}
