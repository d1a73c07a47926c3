/*
 * A daemon of its own for an end-to-end test: a folder in /tmp with configuration, socket, log and
 * tiny models ("chain" says the alphabet at temperature 0; "random" never ends), and the programs
 * of this build. One at a time. What it starts it ends, by process id.
 */
#ifndef TR_TESTS_E2E_STAGE_H
#define TR_TESTS_E2E_STAGE_H

#include <CUnit/Basic.h>
#include <sys/types.h>

#include "protocol/client/troupe.h"

typedef struct tr_stage {
    char folder[64];
    char url[128];
    pid_t daemon;
} tr_stage;

extern tr_stage tr_stage_now;

/* Starts trouped with `extra` YAML behind the standard configuration (two models, "chain" with one
 * worker and "random" with `workers`). Asserts that it got ready. */
void tr_stage_open(uint32_t workers, const char *extra);
/* SIGTERM, waits, asserts a clean exit, removes the folder. */
void tr_stage_close(void);
/* Starts another trouped with the stage's configuration file; waits for its word: "" = ready. Its
 * process is ended again. */
void tr_stage_second(char *ret_why, size_t size);
/* Starts the daemon again on the same folder, after the test killed it. */
void tr_stage_restart(void);
/* Runs a program of the build with the stage's environment: its exit status; output as text. */
int tr_stage_run(const char *const *argv, char *ret_out, size_t size);

tr_client *tr_stage_client(void);
/* The pid of the `i`th ready worker of a model, or 0. */
pid_t tr_stage_worker(tr_client *client, const char *model, unsigned i);
/* Streams in use by a model's workers. */
long tr_stage_active(tr_client *client, const char *model);
/* Milliseconds of CPU that the daemon has used. */
long tr_stage_cpu_ms(void);
long tr_stage_now_ms(void);
/* Waits until fn(arg) holds, looking again after each turn of the daemon, at most `ms`. */
bool tr_stage_until(bool (*fn)(void *arg), void *arg, long ms);

int tr_stage_main(const char *suite, CU_TestInfo *tests);

#endif
