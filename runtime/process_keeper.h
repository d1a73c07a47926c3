/* The keeper of a foreign program. Internal to runtime/process*. */
#ifndef TR_RUNTIME_PROCESS_KEEPER_H
#define TR_RUNTIME_PROCESS_KEEPER_H

#include <stdint.h>

/* What a child tells the process that forked it, before its exec closes the pipe. */
typedef struct tri_report {
    int32_t pid;  /* of the program, when it is not the child itself; 0 = not said */
    int32_t code; /* errno of what failed; 0 = nothing */
} tri_report;

/* To a keeper in place of SIGKILL, which it could not pass on: it kills all that it keeps, then
 * ends as a process does that was killed. Also what it gets when the daemon dies. */
#define TRI_KEEPER_KILL SIGUSR2

/* Called by a child that has just been forked and leads its session, all signals blocked. Returns
 * in a child of it, which goes on to exec the program; what called becomes its keeper and never
 * returns. Async-signal-safe. */
void tri_process_keep(int report_fd);

#endif
