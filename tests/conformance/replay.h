/*
 * Replays recorded answers through a dialect's decoder, cut in many ways, and compares what came
 * out with what a correct client reports. A recording NAME is NAME.body, NAME.meta.json (dialect,
 * kind, status) and NAME.expected.json.
 */
#ifndef TR_TESTS_CONFORMANCE_REPLAY_H
#define TR_TESTS_CONFORMANCE_REPLAY_H

#include <stddef.h>

typedef struct replay_count {
    size_t files; /* recordings of the dialect */
    size_t runs;  /* replays of them */
    size_t failed;
} replay_count;

/* All recordings of `dialect` in `folder`; prints each that fails. Returns 0, or -1 when the folder
 * cannot be read. */
int replay_folder(const char *folder, const char *dialect, replay_count *ret);

#endif
