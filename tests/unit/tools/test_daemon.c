/* The daemon as a library, seen from inside: what it does when its tree gives up, and what a reload
 * changes. */
#include <CUnit/Basic.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/trouped/daemon_internal.h"

static char folder[] = "/tmp/troupe-daemon-XXXXXX";

static atomic_uint asked; /* seq_cst, partner: the test that waits for it */
static atomic_uint killed;

static void stop_requested(void *arg) {
    (void)arg;
    atomic_fetch_add(&asked, 1);
}

static tr_daemon *start(const char *config) {
    tr_daemon_options options = TR_DAEMON_OPTIONS_INIT;
    options.config_text = config;
    options.inproc = "inproc://inside";
    options.stop_requested = stop_requested;
    tr_daemon *daemon = NULL;
    atomic_store(&asked, 0);
    int err = tr_daemon_start(&options, &daemon);
    if (err != 0) {
        fprintf(stderr, "%s\n", tr_daemon_error());
    }
    CU_ASSERT_EQUAL_FATAL(err, 0);
    return daemon;
}

static tr_err kill_gateway(tr_self *self, void *state, const void *args) {
    (void)state;
    (void)args;
    tr_exit(self, tr_whereis(tr_self_node(self), "gateway"), TR_ERR_CANCELLED);
    atomic_fetch_add(&killed, 1);
    return TR_DONE;
}

static void tree_that_gives_up_asks_to_be_stopped_and_says_so(void) {
    static const tr_behaviour killer = {.name = "killer", .state_size = 1, .init = kill_gateway};
    static const tr_spawn_spec spec = {.behaviour = &killer};
    tr_daemon *daemon = start("listen: {socket: off}\nlog: {level: error}\n");
    CU_ASSERT_FALSE(tri_daemon_gave_up(daemon));
    for (unsigned i = 0; i < 4; i++) {
        tr_id before = tr_whereis(daemon->node, "gateway");
        atomic_store(&killed, 0);
        CU_ASSERT_EQUAL_FATAL(tr_node_spawn(daemon->node, 0, &spec), TR_OK);
        while (atomic_load(&killed) == 0 ||
               (i < 3 && tr_whereis(daemon->node, "gateway") == before) ||
               (i < 3 && tr_whereis(daemon->node, "gateway") == TR_ID_NONE)) {
            sched_yield();
        }
    }
    while (atomic_load(&asked) == 0) {
        sched_yield();
    }
    CU_ASSERT_TRUE(tri_daemon_gave_up(daemon));
    tr_daemon_stop(daemon);
    daemon = start("listen: {socket: off}\nlog: {level: error}\n"); /* and the next one is well */
    CU_ASSERT_FALSE(tri_daemon_gave_up(daemon));
    tr_daemon_stop(daemon);
    CU_ASSERT_EQUAL(atomic_load(&asked), 0);
}

int main(void) {
    CU_TestInfo tests[] = {
        {"tree_that_gives_up_asks_to_be_stopped_and_says_so",
         tree_that_gives_up_asks_to_be_stopped_and_says_so},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"daemon", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (mkdtemp(folder) == NULL || setenv("XDG_RUNTIME_DIR", folder, 1) != 0 ||
        CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    alarm(110); /* whatever waits for ever ends here */
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    char left[96];
    snprintf(left, sizeof left, "%s/troupe", folder);
    rmdir(left);
    rmdir(folder);
    return failed > 0;
}
