/* Starting the daemon from the command line: `troupe start`. */
#ifndef TR_TOOLS_TROUPE_LAUNCH_H
#define TR_TOOLS_TROUPE_LAUNCH_H

#include <stddef.h>

#include "protocol/err.h"

typedef struct tr_launched {
    int pid;
    char log_file[512];
    char program[512];
} tr_launched;

/* Starts trouped in the background (the one beside this program, else the one in PATH) in a session
 * of its own, with standard error going to `trouped.log` in `directory`, and waits until it says
 * that it is ready, at most 60 s. `arguments` (NULL-terminated) are passed on. On failure `why`
 * holds the daemon's own sentence. Blocks. */
TR_MUST_USE tr_err tr_launch(const char *directory, char *const *arguments, tr_launched *ret,
                             char *why, size_t why_size);

#endif
