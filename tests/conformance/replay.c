/*
 * The replay. Each exchange runs whole, byte by byte and cut at offsets from a seeded generator,
 * and every run must give what its expected.json says.
 */
#include "tests/conformance/replay.h"

#include <stdio.h>
#include <string.h>

#include "tests/conformance/heard.h"

#define SEEDS 12

static void replay(const exchange *exchange, replay_count *count) {
    static const char *const ways[] = {"whole", "byte by byte", "in pieces"};
    const char *wrong = NULL;
    count->files++;
    for (uint64_t i = 0; i < SEEDS + 2 && wrong == NULL; i++) {
        size_t step = i == 0 ? exchange->body.size : i == 1 ? 1 : 0;
        heard heard = {0};
        bool ended = heard_decode(&heard, exchange, exchange->body.size, exchange->cut, step, i);
        wrong = ended ? heard_differs(&heard, tr_json_root(exchange->expected)) : "the end";
        heard_free(&heard);
        count->runs++;
        if (wrong != NULL) {
            printf("%s (%s): %s differs\n", exchange->name, ways[i < 2 ? i : 2], wrong);
            count->failed++;
        }
    }
}

int replay_folder(const char *folder, const char *dialect, replay_count *ret) {
    exchange *exchanges = NULL;
    size_t count = 0;
    *ret = (replay_count){0};
    if (exchange_load_all(folder, &exchanges, &count) != 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(exchanges[i].dialect, dialect) == 0) {
            replay(&exchanges[i], ret);
        }
    }
    exchange_free_all(exchanges, count);
    return 0;
}
