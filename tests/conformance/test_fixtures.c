/*
 * Replays the hand-written answers in tests/conformance/fixtures, one for each way in which servers
 * of a dialect differ. Their number is asserted, so that none is lost unseen.
 */
#include <stdbool.h>
#include <stdio.h>

#include "tests/conformance/replay.h"

static const struct {
    const char *dialect;
    size_t min;
} dialects[] = {
    {"openai", 87}, {"responses", 44}, {"gemini", 45}, {"anthropic", 84}, {"ollama", 67}};

int main(void) {
    bool failed = false;
    for (size_t i = 0; i < sizeof(dialects) / sizeof(dialects[0]); i++) {
        replay_count count;
        if (replay_folder("tests/conformance/fixtures", dialects[i].dialect, &count) != 0) {
            printf("tests/conformance/fixtures cannot be read from here\n");
            return 1;
        }
        printf("%s: %zu fixtures, %zu replays, %zu failed\n", dialects[i].dialect, count.files,
               count.runs, count.failed);
        failed = failed || count.failed > 0 || count.files < dialects[i].min;
    }
    return failed ? 1 : 0;
}
