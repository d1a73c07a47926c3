/*
 * Replays exchanges through the real HTTP door in three ways: whole, one byte at a time, and cut at
 * seeded offsets. "fixtures" are the project's own; "recordings" lie in the folder that
 * TROUPE_RECORDINGS names: unset, the test says that it did not run, and exits with 77; set, but
 * without recordings: a failure.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/conformance/door.h"

typedef bool through_fn(replay_server *server, door_run *runs, size_t count);

typedef struct totals {
    size_t runs, failed, completed, truncated, refused;
    size_t as_recorded; /* requests that said all that the recorded one says */
} totals;

static const char *const way_names[] = {"whole", "byte by byte", "cut"};

/* The end of an answer that the wire's DONE calls "other" when the server never said. */
static void forget_other(heard *heard, const tr_json_value *expected) {
    if (heard->err == TR_OK && heard->finish == TR_FINISH_OTHER &&
        tr_json_get(expected, "finish") == NULL) {
        heard->finish = 0;
    }
}

/* A cut answer must be what the decoder makes of so many bytes, and that must be honest: truncated,
 * or all that was expected since its end had come already, or the failure that it told of. */
static const char *cut_differs(door_run *run, totals *totals) {
    const tr_json_value *expected = tr_json_root(run->exchange->expected);
    heard straight = {0};
    bool decoded = heard_decode(&straight, run->exchange, run->size, run->cut, run->size + 1, 0);
    forget_other(&run->heard, expected);
    if (straight.err == TR_OK && straight.finish == 0 && run->heard.finish == TR_FINISH_OTHER) {
        run->heard.finish = 0;
    }
    const char *wrong = decoded ? heard_apart(&run->heard, &straight) : "the end";
    heard_free(&straight);
    if (wrong != NULL) {
        return wrong;
    }
    bool error = tr_json_get(expected, "error") != NULL;
    if (run->heard.err == TR_ERR_TRUNCATED) {
        totals->truncated++;
        return NULL;
    }
    if (run->heard.err == TR_OK) {
        totals->completed++;
        if (error) { /* it was to come after the answer's end, and never did */
            return tr_json_get(expected, "finish") != NULL ? NULL : "honesty";
        }
        wrong = heard_differs(&run->heard, expected);
        /* The figures come after the end of the text: without them it is whole all the same. */
        bool figures = wrong != NULL && strcmp(wrong, HEARD_USAGE) == 0;
        return figures && run->heard.usage.in == 0 && run->heard.usage.out == 0 ? NULL : wrong;
    }
    totals->refused++;
    return error ? NULL : "honesty";
}

static void judge(replay_server *server, size_t slot, door_run *run, totals *totals) {
    const char *wrong = run->terminals != 1 ? "number of ends" : NULL;
    replay_request request = replay_server_request(server, slot);
    if (wrong == NULL) {
        wrong = door_request_wrong(&request, run);
    }
    if (wrong == NULL && run->way.kind == DOOR_CUT) {
        wrong = cut_differs(run, totals);
    } else if (wrong == NULL) {
        const tr_json_value *expected = tr_json_root(run->exchange->expected);
        forget_other(&run->heard, expected);
        wrong = heard_differs(&run->heard, expected);
    }
    totals->runs++;
    totals->as_recorded += run->as_recorded;
    if (wrong != NULL) {
        totals->failed++;
        printf("%s (%s at %zu, %s): %s differs; it was %s \"%s\", %s %s\n", run->exchange->name,
               way_names[run->way.kind], run->size, run->kind, wrong, tr_err_name(run->heard.err),
               run->heard.message, request.method, request.target);
    }
    replay_request_fini(&request);
}

static bool replay_all(through_fn *through, bool chats, const exchange *exchanges, size_t count,
                       door_way way, totals *totals) {
    door_run runs[DOOR_BATCH];
    replay_server *server = replay_server_start(DOOR_BATCH);
    bool fine = server != NULL;
    for (size_t at = 0; fine && at < count;) {
        size_t n = 0;
        for (; at < count && n < DOOR_BATCH; at++) {
            if (!chats || exchanges[at].op == TR_OP_CHAT) {
                door_prepare(&runs[n], &exchanges[at], way);
                if (!chats && way.kind == DOOR_WHOLE) {
                    door_say_as_recorded(&runs[n]);
                }
                n++;
            }
        }
        fine = n == 0 || through(server, runs, n);
        for (size_t i = 0; i < n; i++) {
            judge(server, i, &runs[i], totals);
            door_run_fini(&runs[i]);
        }
    }
    if (server != NULL) {
        replay_server_stop(server);
    }
    if (!fine) {
        printf("%s: it did not run to its end\n", way_names[way.kind]);
    }
    return fine;
}

int main(int argc, char **argv) {
    static const door_way ways[] = {
        {DOOR_WHOLE, 0}, {DOOR_BYTES, 0}, {DOOR_CUT, 1}, {DOOR_CUT, 2},
#ifndef __SANITIZE_ADDRESS__ /* they take a minute and a half there */
        {DOOR_CUT, 3},   {DOOR_CUT, 4},   {DOOR_CUT, 5}, {DOOR_CUT, 6}, {DOOR_CUT, 7},
#endif
    };
    static const struct {
        const char *name;
        through_fn *fn;
        bool chats;
    } paths[] = {{"actors", door_through_actors, false}, {"daemon", door_through_daemon, true}};
    const char *folder = "tests/conformance/fixtures";
    if (argc > 1 && strcmp(argv[1], "recordings") == 0) {
        folder = getenv("TROUPE_RECORDINGS");
        if (folder == NULL || *folder == '\0') {
            printf("not run: TROUPE_RECORDINGS does not name the folder of recordings\n");
            return 77;
        }
    }
    setenv(DOOR_KEY_ENV, DOOR_KEY, 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    exchange *exchanges = NULL;
    size_t count = 0;
    if (exchange_load_all(folder, &exchanges, &count) != 0 || count == 0) {
        printf("%s holds no exchanges\n", folder);
        return 1;
    }
    bool failed = false;
    for (size_t p = 0; p < sizeof(paths) / sizeof(paths[0]); p++) {
        totals sum = {0};
        for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
            failed |= !replay_all(paths[p].fn, paths[p].chats, exchanges, count, ways[i], &sum);
        }
        printf("%s: %zu exchanges, %zu replays, %zu failed; of the cut ones %zu truncated, %zu "
               "complete, %zu refusals; %zu asked as recorded\n",
               paths[p].name, count, sum.runs, sum.failed, sum.truncated, sum.completed,
               sum.refused, sum.as_recorded);
        failed = failed || sum.failed > 0 || sum.runs == 0;
    }
    exchange_free_all(exchanges, count);
    return failed ? 1 : 0;
}
