/* Each allocation of a company's start and stop fails once, and all from it on: whoever waits for
 * `up` and `down` hears of both, within a time limit, and all memory comes back. */
#include <CUnit/Basic.h>
#include <stdlib.h>

#include "runtime/log.h"
#include "runtime/memory.h"
#include "tests/unit/actors/company_rig.h"

/* What all shutdown limits of a tree may take together, in the node's time. */
#define WAIT_US 60000000U

static uint64_t calls;
static uint64_t fail_at; /* 0 = never */
static bool fail_on;     /* all calls after it as well */
static int64_t alive;

static void *resize(void *arg, void *ptr, size_t size) {
    (void)arg;
    calls++;
    if (fail_at != 0 && (calls == fail_at || (fail_on && calls > fail_at))) {
        return NULL;
    }
    void *now = realloc(ptr, size);
    alive += ptr == NULL && now != NULL ? 1 : 0;
    return now;
}

static void release(void *arg, void *ptr) {
    (void)arg;
    alive--;
    free(ptr);
}

static uint32_t ups, downs;

static void count_up(void *arg, tr_err err, const char *why) {
    company_up(arg, err, why);
    ups++;
    CU_ASSERT(err == TR_OK || strlen(why) > 0);
}

static void count_down(void *arg, tr_err reason) {
    company_down(arg, reason);
    downs++;
}

/* False when the failing call was not reached. `early`: it is told to stop before it is up. */
static bool perform(uint64_t at, bool on, bool early) {
    company_rig r;
    memset(&r, 0, sizeof r);
    calls = 0;
    alive = 0;
    fail_at = 0;
    ups = 0;
    downs = 0;
    r.node = peer_node(2);
    tr_services_spec services = {.version = "9.9"};
    CU_ASSERT_EQUAL_FATAL(tr_services_new(&services, &r.services), TR_OK);
    company_set_routes(&r, "echoes");
    static const tr_door_spec door = {.url = OPEN_URL, .same_user = true, .takes_clients = true};
    tr_company_spec company = {.services = r.services,
                               .doors = &door,
                               .door_count = 1,
                               .drain_ms = 2000,
                               .up = count_up,
                               .down = count_down,
                               .arg = &r};
    calls = 0;
    fail_at = at;
    fail_on = on;
    tr_err err = tr_company_start(r.node, &company, &r.company);
    CU_ASSERT(err == TR_OK || err == TR_ERR_NOMEM);
    if (err == TR_OK) {
        if (early) {
            tr_company_stop(r.company);
        }
        peer_wait_us(r.node, WAIT_US);
        CU_ASSERT_EQUAL(ups, 1);
        CU_ASSERT(r.up_err == TR_OK || !r.down);
    }
    if (r.up && r.up_err == TR_OK && !r.down) {
        if (on && fail_at < calls) {
            fail_at = 0; /* it came up without it: now for the stop */
            fail_on = false;
        }
        tr_company_stop(r.company);
        peer_wait_us(r.node, WAIT_US);
        CU_ASSERT_EQUAL(downs, 1);
    }
    bool reached = calls >= at && at != 0;
    CU_ASSERT(at != 0 || (r.up_err == TR_OK && r.down && r.down_reason == TR_OK));
    fail_at = 0;
    peer_node_free(r.node);
    CU_ASSERT_EQUAL(downs, r.up && r.up_err == TR_OK ? 1 : 0);
    tr_company_free(r.company);
    CU_ASSERT_EQUAL(tr_services_running(r.services), 0);
    tr_services_free(r.services);
    CU_ASSERT_EQUAL(alive, 0);
    return reached;
}

static void without_a_failure_it_comes_up_and_goes_down(void) {
    CU_ASSERT_FALSE(perform(0, false, false));
    CU_ASSERT(calls > 100);
}

static void every_failed_allocation_is_told(void) {
    for (int early = 0; early < 2; early++) {
        uint64_t at = 1;
        while (perform(at, false, early == 1)) {
            at++;
        }
        CU_ASSERT(at > 100);
    }
}

static void memory_that_stays_away_is_told(void) {
    for (int early = 0; early < 2; early++) {
        uint64_t at = 1;
        while (perform(at, true, early == 1)) {
            at++;
        }
        CU_ASSERT(at > 100);
    }
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(without_a_failure_it_comes_up_and_goes_down),
        PUPPET_TEST(every_failed_allocation_is_told),
        PUPPET_TEST(memory_that_stays_away_is_told),
    };
    static const tr_memory table = {.resize = resize, .release = release};
    tr_memory_set(&table);
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_ERROR, -1);
    return puppet_main("company_memory", tests, sizeof tests / sizeof *tests);
}
