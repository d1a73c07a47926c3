/* What the client's tests share: a connected pair of fake daemon and client, and short requests. */
#ifndef TESTS_CLIENT_TEST_H
#define TESTS_CLIENT_TEST_H

#include <CUnit/Basic.h>
#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/client/troupe.h"
#include "tests/lib/fake_server.h"

__attribute__((unused)) static fake_server *fake;
__attribute__((unused)) static tr_client *client;

/* CU_ASSERT evaluates its argument twice on some versions; a status is taken first. */
#define MUST(call) CU_ASSERT_EQUAL_FATAL((call), TR_OK)
#define SAYS(text, part) CU_ASSERT_PTR_NOT_NULL(strstr((text), (part)))

static inline int pair_open(void) {
    fake = fake_server_start(false, FAKE_WELCOME);
    return fake != NULL && tr_client_open(fake_server_url(fake), &client) == TR_OK ? 0 : 1;
}

static inline int pair_close(void) {
    tr_client_close(client);
    fake_server_stop(fake);
    return 0;
}

static inline tr_request *request_for(const char *target) {
    tr_options options = TR_OPTIONS_INIT;
    options.model = target;
    tr_request *request = NULL;
    if (tr_request_new(&options, &request) != TR_OK ||
        tr_request_text(request, "user", "hello") != TR_OK) {
        abort();
    }
    return request;
}

static inline bool open_is(const fake_counts *counts, unsigned n) {
    return counts->open == n;
}

static inline bool submits_are(const fake_counts *counts, unsigned n) {
    return counts->submits >= n;
}

static inline bool cancels_are(const fake_counts *counts, unsigned n) {
    return counts->cancels >= n;
}

static inline bool connections_are(const fake_counts *counts, unsigned n) {
    return counts->connections >= n;
}

/* Runs a registered program of suites; 0 = all passed. */
static inline int finish_tests(void) {
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures() + CU_get_number_of_suites_failed();
    CU_cleanup_registry();
    return failed == 0 ? 0 : 1;
}

#endif
