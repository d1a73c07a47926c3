/*
 * Replays the recorded exchanges with real servers. They are not part of the project: the folder is
 * named by TROUPE_RECORDINGS. Unset: the test says that it did not run, and exits with 77. Set, but
 * without recordings: a failure.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/conformance/replay.h"

int main(void) {
    const char *folder = getenv("TROUPE_RECORDINGS");
    if (folder == NULL || *folder == '\0') {
        printf("not run: TROUPE_RECORDINGS does not name the folder of recordings\n");
        return 77;
    }
    replay_count count;
    if (replay_folder(folder, "openai", &count) != 0) {
        printf("TROUPE_RECORDINGS: %s cannot be read\n", folder);
        return 1;
    }
    if (count.files == 0) {
        printf("TROUPE_RECORDINGS: %s holds no recording of the openai dialect\n", folder);
        return 1;
    }
    printf("%zu recordings, %zu replays, %zu failed\n", count.files, count.runs, count.failed);
    return count.failed == 0 ? 0 : 1;
}
