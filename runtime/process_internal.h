/* What the process tables share. Internal to runtime/process*. */
#ifndef TR_RUNTIME_PROCESS_INTERNAL_H
#define TR_RUNTIME_PROCESS_INTERNAL_H

#include "runtime/process.h"

/* One block each, to be freed by tr_free; NULL when out of memory. `environment`: the daemon's. */
char **tri_process_copy_argv(const char *const *argv);
char **tri_process_copy_env(const tr_process_spec *spec, const char *const *environment);

/* Adds a piece of at most half of what is kept. */
void tri_process_keep_output(char kept[TR_PROCESS_OUTPUT_max], size_t *size, const char *piece,
                             size_t piece_size);
/* tr_process_table.output, of what is kept. */
void tri_process_tell_output(const char *kept, size_t size, char *buf, size_t room);

#endif
