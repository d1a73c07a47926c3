/*
 * Replays the recorded exchanges with real servers. They are not part of the project: the folder is
 * named by TROUPE_RECORDINGS. Unset: the test says that it did not run, and exits with 77. Set, but
 * without recordings: a failure.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/conformance/replay.h"

static const char *const dialects[] = {"openai", "responses", "anthropic", "gemini", "ollama"};

int main(void) {
    const char *folder = getenv("TROUPE_RECORDINGS");
    if (folder == NULL || *folder == '\0') {
        printf("not run: TROUPE_RECORDINGS does not name the folder of recordings\n");
        return 77;
    }
    bool failed = false;
    for (size_t i = 0; i < sizeof(dialects) / sizeof(dialects[0]); i++) {
        replay_count count;
        if (replay_folder(folder, dialects[i], &count) != 0) {
            printf("TROUPE_RECORDINGS: %s cannot be read\n", folder);
            return 1;
        }
        printf("%s: %zu recordings, %zu replays, %zu failed\n", dialects[i], count.files,
               count.runs, count.failed);
        failed = failed || count.failed > 0 || count.files == 0;
    }
    return failed ? 1 : 0;
}
