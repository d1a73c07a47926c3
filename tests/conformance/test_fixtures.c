/*
 * Replays the hand-written answers in tests/conformance/fixtures, one for each way in which servers
 * of the openai dialect differ. Their number is asserted, so that none is lost unseen.
 */
#include <stdio.h>

#include "tests/conformance/replay.h"

#define FIXTURES_min 64U

int main(void) {
    replay_count count;
    if (replay_folder("tests/conformance/fixtures", "openai", &count) != 0) {
        printf("tests/conformance/fixtures cannot be read from here\n");
        return 1;
    }
    printf("%zu fixtures, %zu replays, %zu failed\n", count.files, count.runs, count.failed);
    return count.failed == 0 && count.files >= FIXTURES_min ? 0 : 1;
}
