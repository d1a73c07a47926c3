/* The daemon as a library, on its real threads and with a worker that never gets ready, while each
 * allocation of its start and stop fails once: it always comes up or says why not, and always
 * stops, within a time limit; nothing is left, in memory or as a process. */
#include <CUnit/Basic.h>
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/memory.h"
#include "tools/trouped/trouped.h"

#define ROUND_LIMIT_MS 20000
#define ALL_LIMIT_S 110

static char folder[] = "/tmp/troupe-memory-XXXXXX";
static char worker[64];

/* seq_cst: the daemon's threads count against the test's */
static atomic_ulong calls;
static atomic_ulong fail_at; /* 0 = never */
static atomic_long alive;

static void *resize(void *arg, void *ptr, size_t size) {
    (void)arg;
    unsigned long at = atomic_load(&fail_at);
    if (atomic_fetch_add(&calls, 1) + 1 == at && at != 0) {
        return NULL;
    }
    void *now = realloc(ptr, size);
    if (ptr == NULL && now != NULL) {
        atomic_fetch_add(&alive, 1);
    }
    return now;
}

static void release(void *arg, void *ptr) {
    (void)arg;
    atomic_fetch_sub(&alive, 1);
    free(ptr);
}

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static const char config[] = "listen: {socket: off}\n"
                             "log: {level: error}\n"
                             "shards: 2\n"
                             "local: {m: {file: /nowhere.gguf, preload: true}}\n";

/* How many allocations its start and stop took. */
static unsigned long perform(unsigned long at, const char *text) {
    tr_daemon_options options = TR_DAEMON_OPTIONS_INIT;
    options.config_text = text;
    options.inproc = "inproc://memory";
    options.worker_program = worker;
    tr_daemon *daemon = NULL;
    long began = now_ms();
    atomic_store(&calls, 0);
    atomic_store(&fail_at, at);
    int err = tr_daemon_start(&options, &daemon);
    CU_ASSERT_EQUAL(err == 0, daemon != NULL);
    CU_ASSERT(err == 0 || strlen(tr_daemon_error()) > 0);
    tr_daemon_stop(daemon);
    unsigned long used = atomic_load(&calls);
    atomic_store(&fail_at, 0);
    while (atomic_load(&alive) != 0 && now_ms() - began < ROUND_LIMIT_MS) {
        sched_yield(); /* NNG's sockets are freed by a thread of their own */
    }
    CU_ASSERT_EQUAL(atomic_load(&alive), 0);
    CU_ASSERT(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    CU_ASSERT(now_ms() - began < ROUND_LIMIT_MS);
    return used;
}

static void every_failed_allocation_is_survived_or_told(void) {
    unsigned long whole = perform(0, config);
    CU_ASSERT(whole > 200);
    for (unsigned long at = 1; at <= whole; at++) {
        (void)perform(at, config);
    }
}

/* The model is preloaded before the gateway finds that it cannot listen. */
static void start_that_fails_half_way_ends_its_workers(void) {
    char text[256];
    snprintf(text, sizeof text, "listen: {socket: 'ipc://%s'}\nlog: {level: error}\n%s",
             "/proc/no/s", "local: {m: {file: /nowhere.gguf, preload: true}}\n");
    unsigned long whole = perform(0, text);
    for (unsigned long at = 1; at <= whole; at += 7) {
        (void)perform(at, text);
    }
}

int main(void) {
    static const tr_memory table = {.resize = resize, .release = release};
    CU_TestInfo tests[] = {
        {"every_failed_allocation_is_survived_or_told",
         every_failed_allocation_is_survived_or_told},
        {"start_that_fails_half_way_ends_its_workers", start_that_fails_half_way_ends_its_workers},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"daemon_memory", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    FILE *script = NULL;
    if (mkdtemp(folder) == NULL || setenv("XDG_RUNTIME_DIR", folder, 1) != 0 ||
        CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    snprintf(worker, sizeof worker, "%s/worker", folder);
    script = fopen(worker, "we");
    if (script == NULL || fputs("#!/bin/sh\nexec sleep 1000\n", script) < 0 ||
        fclose(script) != 0 || chmod(worker, 0700) != 0) {
        return 2;
    }
    tr_memory_set(&table);
    alarm(ALL_LIMIT_S); /* whatever waits for ever ends here */
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    unlink(worker);
    char left[96];
    snprintf(left, sizeof left, "%s/troupe", folder);
    rmdir(left);
    rmdir(folder);
    return failed > 0;
}
