/* From the name a person gives to the gate, and what is said when there is none. */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <string.h>

#include "actors/route.h"
#include "tests/lib/stand_in.h"

static const char *const locals[] = {"smollm2", "tiny", "a/b"};
static const char *const providers[] = {"openai", "openrouter", "echo", "local-server"};
#define ALIAS(alias, how, ...)                                                                     \
    {                                                                                              \
        .name = alias, .targets = (const char *const[]){__VA_ARGS__},                              \
        .target_count = sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *),               \
        .policy = TR_POLICY_##how, .weights = {                                                    \
            5,                                                                                     \
            6,                                                                                     \
            7,                                                                                     \
            8                                                                                      \
        }                                                                                          \
    }
static const tr_alias aliases[] = {
    ALIAS("fast", ORDER, "openai/gpt-4o-mini"),
    ALIAS("mine", ORDER, "tiny"),
    ALIAS("deep", ORDER, "mine"),
    ALIAS("round", ORDER, "about"),
    ALIAS("about", ORDER, "round"),
    ALIAS("tiny", ORDER, "echo/x"),
    ALIAS("many", FASTEST, "openai/a", "smollm2", "mine", "openai/a"),
    ALIAS("outer", WEIGHT, "openai/b", "many"),
    ALIAS("same", ORDER, "outer"),
    ALIAS("wrong", ORDER, "openai/b", "nobody"),
    ALIAS("eight", ORDER, "echo/1", "echo/2", "echo/3", "echo/4", "echo/5", "echo/6", "echo/7",
          "echo/8"),
    ALIAS("nine", ORDER, "eight", "echo/9"),
    ALIAS("back", ORDER, "openai/b", "again"),
    ALIAS("again", ORDER, "openai/c", "back"),
    {.name = "nothing"},
};
#define ALIASES (sizeof aliases / sizeof *aliases)
static const uint32_t contexts[] = {4096, 0, 0};

static const tr_routes_spec spec = {
    .locals = locals,
    .local_count = 3,
    .contexts = contexts,
    .providers = providers,
    .provider_count = 4,
    .aliases = aliases,
    .alias_count = ALIASES,
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

/* The labels that a name leads to, blank-separated. */
static const char *all_of(const char *name, const char *provider, tr_targets *ret) {
    static char labels[1024];
    tr_routes *routes = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_routes_new(&spec, &routes), TR_OK);
    labels[0] = why[0] = '\0';
    if (tr_route_all(routes, str(name), str(provider), ret, why, sizeof why) != TR_OK) {
        snprintf(labels, sizeof labels, "%s", why);
        *ret = (tr_targets){0};
    }
    for (uint32_t i = 0; i < ret->count; i++) {
        size_t used = strlen(labels);
        snprintf(labels + used, sizeof labels - used, "%s%s", i > 0 ? " " : "",
                 ret->items[i].label);
    }
    tr_routes_unref(routes);
    return labels;
}

static void alias_leads_to_each_of_its_targets_once_with_those_of_inner_ones_in_place(void) {
    tr_targets all;
    CU_ASSERT_STRING_EQUAL(all_of("many", "", &all), "openai/a local/smollm2 echo/x");
    CU_ASSERT_EQUAL(all.policy, TR_POLICY_FASTEST);
    CU_ASSERT_EQUAL(all.items[1].context, 4096);
    CU_ASSERT_EQUAL(all.items[0].context, 0);
    tr_targets_fini(&all);
    static const char *const names[] = {"outer", "same"}; /* an alias of one alias is as that one */
    for (size_t i = 0; i < 2; i++) {
        CU_ASSERT_STRING_EQUAL(all_of(names[i], "", &all),
                               "openai/b openai/a local/smollm2 echo/x");
        CU_ASSERT_EQUAL(all.policy, TR_POLICY_WEIGHT);
        CU_ASSERT(all.weights[0] == 5 && all.weights[1] == 6 && all.weights[2] == 6 &&
                  all.weights[3] == 6);
        tr_targets_fini(&all);
    }
    CU_ASSERT_STRING_EQUAL(all_of("eight", "", &all),
                           "echo/1 echo/2 echo/3 echo/4 echo/5 echo/6 echo/7 echo/8");
    tr_targets_fini(&all);
    CU_ASSERT_STRING_EQUAL(all_of("openai/q", "", &all), "openai/q");
    CU_ASSERT_EQUAL(all.policy, TR_POLICY_ORDER);
    tr_targets_fini(&all);
    CU_ASSERT_STRING_EQUAL(all_of("many", "openai", &all), "openai/many");
    tr_targets_fini(&all);
    tr_targets_fini(&all);
    expect("outer", "limiter:openai", "b", "openai/b"); /* the first of them */
}

static void alias_that_cannot_be_followed_says_why(void) {
    tr_targets all;
    CU_ASSERT_PTR_NOT_NULL(strstr(all_of("nine", "", &all), "more than 8"));
    CU_ASSERT_PTR_NOT_NULL(strstr(all_of("back", "", &all), "circle"));
    CU_ASSERT_PTR_NOT_NULL(strstr(all_of("wrong", "", &all), "\"nobody\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(all_of("nothing", "", &all), "no target"));
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

static void a_managed_servers_answers_are_checked_and_a_workers_are_not(void) {
    static const char *const locals[] = {"ours", "theirs"};
    static const tr_structured by[] = {TR_STRUCTURED_GRAMMAR, TR_STRUCTURED_INSTRUCT};
    tr_routes_spec spec = {.locals = locals, .local_count = 2};
    char why[256];
    for (int given = 0; given < 2; given++) {
        tr_routes *routes = NULL;
        tr_target ours, theirs;
        spec.local_structured = given == 1 ? by : NULL;
        CU_ASSERT_EQUAL_FATAL(tr_routes_new(&spec, &routes), TR_OK);
        CU_ASSERT_EQUAL(
            tr_route(routes, (tr_str){"ours", 4}, (tr_str){"", 0}, &ours, why, sizeof why), TR_OK);
        CU_ASSERT_EQUAL(
            tr_route(routes, (tr_str){"theirs", 6}, (tr_str){"", 0}, &theirs, why, sizeof why),
            TR_OK);
        CU_ASSERT_EQUAL(ours.structured, TR_STRUCTURED_GRAMMAR);
        CU_ASSERT_EQUAL(theirs.structured, by[given == 1 ? 1 : 0]);
        tr_routes_unref(routes);
    }
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(first_slash_parts_provider_and_model),
        PUPPET_TEST(a_managed_servers_answers_are_checked_and_a_workers_are_not),
        PUPPET_TEST(bare_name_is_an_alias_before_a_local_model),
        PUPPET_TEST(no_name_is_the_default_model_or_the_first_local_one),
        PUPPET_TEST(provider_beside_the_name_takes_the_whole_name_as_model),
        PUPPET_TEST(near_names_are_suggested),
        PUPPET_TEST(provider_without_a_model_is_asked_for_one),
        PUPPET_TEST(circle_of_aliases_is_said_to_be_one),
        PUPPET_TEST(alias_leads_to_each_of_its_targets_once_with_those_of_inner_ones_in_place),
        PUPPET_TEST(alias_that_cannot_be_followed_says_why),
        PUPPET_TEST(long_names_stay_inside_their_buffers),
        PUPPET_TEST(routes_outlive_what_they_were_made_from),
        PUPPET_TEST(failed_allocations_leave_nothing),
    };
    stand_in_memory();
    return puppet_main("route", tests, sizeof tests / sizeof *tests);
}
