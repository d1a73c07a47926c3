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
    int netns; /* programs start in this network namespace; 0 = the test's own */
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

/* Starts such a program and does not wait: its pid. Its output goes to `out_fd`, unless -1. */
pid_t tr_stage_spawn(const char *const *argv, int out_fd);
/* Kills the daemon without a chance to tidy up, and reaps it. */
void tr_stage_kill(void);
/* Waits for a child of the test: its exit status, or 1000 + what waitpid said; -1: it had not ended
 * within `ms` and was killed. */
int tr_stage_wait(pid_t pid, long ms);
/* Writes the configuration anew, for a reload. */
void tr_stage_configure(uint32_t workers, const char *extra);
/* All that daemon, workers and programs wrote to standard error, to be freed. */
char *tr_stage_log(void);
/* How often `text` stands in the log. */
unsigned tr_stage_logged(const char *text);

tr_client *tr_stage_client(void);
tr_client *tr_stage_client(void);
/* The pid of the `i`th ready worker of a model, or 0. */
pid_t tr_stage_worker(tr_client *client, const char *model, unsigned i);
/* Streams in use by a model's workers. */
long tr_stage_active(tr_client *client, const char *model);
/* Requests that run in the daemon; -1: it did not say. */
long tr_stage_running(tr_client *client);
/* Milliseconds of CPU that the daemon has used. */
long tr_stage_cpu_ms(void);
/* KiB of memory that the daemon holds. */
long tr_stage_rss_kib(void);
long tr_stage_now_ms(void);
/* Waits until fn(arg) holds, looking again after each turn of the daemon, at most `ms`. */
bool tr_stage_until(bool (*fn)(void *arg), void *arg, long ms);

int tr_stage_main(const char *suite, CU_TestInfo *tests);

#endif
