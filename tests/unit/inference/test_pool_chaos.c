/*
 * A pool through seeded disorder: workers that die, hang, hang up, fall silent and cannot load,
 * calls that end in every way, loads and unloads, over a network that delays, splits and cuts, with
 * the actors' turns in a drawn order. However it goes, every request ends once, no worker gets more
 * than it takes, a stream is resumed from what its call has, every question is answered, and at
 * rest nothing is held.
 */
#include "tests/unit/inference/pool_scene.h"

#define SEEDS 300
#define ACTIONS 250

typedef struct fate {
    bool over; /* ended or crashed by the test */
} fate;

static fate fates[CALLS_max];

static uint32_t draw(uint32_t below) {
    the.stage.random = the.stage.random * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(the.stage.random >> 33) % below;
}

static pool_manner drawn_manner(void) {
    pool_manner manner = {.sequences = 1 + draw(4), .ignores_terminate = draw(4) == 0};
    switch (draw(12)) {
    case 0:
        manner.load_fails = "it does not load";
        break;
    case 1:
        manner.dies_loading = true;
        break;
    case 2:
        manner.exits_at_once = true;
        break;
    case 3:
        manner.stays_out = true;
        break;
    case 4:
        manner.digest = 2;
        break;
    case 5:
        manner.exec_fails = true;
        break;
    case 6:
        manner.stays_loading = true;
        break;
    case 7:
        manner.poison = "call 3";
        break;
    default:
        break;
    }
    return manner;
}

static void act_on_worker(void) {
    pool_worker *w = pool_stage_worker(&the.stage, draw(4));
    if (w == NULL || w->id == TR_ID_NONE) {
        return;
    }
    switch (draw(6)) {
    case 0:
    case 1:
        w->dying = true;
        w->death = SIGKILL;
        break;
    case 2:
        pool_stage_hang_up(w);
        break;
    case 3:
        w->silent = true;
        w->manner.ignores_terminate = true;
        break;
    case 4:
        w->busy = true;
        break;
    default:
        if (w->welcome) {
            pool_stage_loaded(w, 100);
        }
        break;
    }
}

static void act_on_call(uint32_t i) {
    pool_call *c = &the.calls[i];
    if (fates[i].over || c->terminals > 0) {
        return;
    }
    uint32_t way = draw(20);
    if (way == 0) {
        fates[i].over = true;
        pool_call_end(c);
    } else if (way == 1) {
        fates[i].over = true;
        pool_call_crash(c);
    } else if (way < 5) {
        (void)pool_stage_done(&the.stage, c);
    } else {
        (void)pool_stage_token(&the.stage, c);
    }
}

static void act(void) {
    uint32_t what = draw(40);
    if (what < 3 && the.call_count < CALLS_max) {
        fates[the.call_count].over = false;
        pool_call *c = call();
        c->remaining_ms = draw(4) == 0 ? draw(5000) : 600000;
        c->priority = (int8_t)draw(3);
        pool_call_reserve(c);
    } else if (what < 22 && the.call_count > 0) {
        act_on_call(draw(the.call_count));
    } else if (what < 27) {
        act_on_worker();
    } else if (what == 27) {
        the.stage.manner = drawn_manner();
    } else if (what == 28) {
        pool_stage_ask(&the.stage, "m", draw(3) == 0 ? TR_KIND_UNLOAD : TR_KIND_LOAD);
    } else if (what == 29 && the.stage.worker_count < POOL_STAGE_WORKERS_max / 2) {
        (void)pool_stage_join(&the.stage, "m");
    } else if (what == 30) {
        (void)tr_memory_net_half_open(the.stage.net,
                                      draw(tr_memory_net_connections(the.stage.net) + 1));
    } else if (what == 31) {
        (void)tr_memory_net_cut(the.stage.net, draw(tr_memory_net_connections(the.stage.net) + 1));
    } else {
        the.stage.now_us += draw(20) * 10000U;
    }
    pool_stage_stir(&the.stage, 1 + draw(30));
}

static bool all_over(void) {
    for (uint32_t i = 0; i < the.call_count; i++) {
        if (!fates[i].over && the.calls[i].terminals == 0) {
            return false;
        }
    }
    return true;
}

/* From now on everything goes well: whoever still waits is served. */
static void calm(void) {
    the.stage.stirring = false;
    the.stage.manner = (pool_manner){.sequences = 2};
    tr_memory_net_set_faults(the.stage.net, &(tr_memory_faults){0});
    for (uint32_t i = 0; i < the.stage.worker_count; i++) {
        the.stage.workers[i].busy = false;
        the.stage.workers[i].manner.poison = NULL;
    }
    for (uint32_t round = 0; round < 200 && !all_over(); round++) {
        pool_stage_wait_ms(&the.stage, 500);
        for (uint32_t i = 0; i < the.call_count; i++) {
            if (!fates[i].over && the.calls[i].terminals == 0) {
                (void)pool_stage_done(&the.stage, &the.calls[i]);
            }
        }
    }
}

static void check_rules(uint64_t seed) {
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < the.call_count; i++) {
        const pool_call *c = &the.calls[i];
        wrong += fates[i].over ? c->terminals > 1 : c->terminals != 1;
    }
    for (uint32_t i = 0; i < the.stage.worker_count; i++) {
        const pool_worker *w = &the.stage.workers[i];
        wrong += w->overbooked ? 1 : 0;
        for (uint32_t k = 0; k < w->count; k++) {
            uint32_t who = 0;
            CU_ASSERT_EQUAL_FATAL(sscanf(w->streams[k].body, "call %u", &who), 1);
            wrong += w->streams[k].resumed > the.calls[who].tokens ? 1 : 0;
        }
    }
    pool_stage_wait_ms(&the.stage, 70000); /* unloads under way end, pauses pass */
    wrong += the.stage.questions != the.stage.all_answers ? 1 : 0;
    if (wrong > 0) {
        fprintf(stderr, "seed %llu: %u rules broken (%u questions, %u answers)\n",
                (unsigned long long)seed, wrong, the.stage.questions, the.stage.all_answers);
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

static void run(uint64_t seed) {
    tr_pool_spec spec = plain;
    spec.workers = (uint32_t)seed % 4;
    spec.silence_ms = 1000;
    spec.hang_ms = 3000;
    spec.idle_unload_ms = seed % 3 == 0 ? 1500 : 0;
    spec.waiting_max = seed % 5 == 0 ? 3 : 0;
    set_up_on(&spec, NULL, 1 + (uint32_t)seed % 3);
    the.stage.random = seed * 0x9E3779B97F4A7C15U;
    the.stage.stirring = true;
    tr_memory_faults faults = {.delay_max_us = draw(3) * 20000,
                               .split_max = draw(2) * 40,
                               .cuts_per_million = draw(4) == 0 ? 5000 : 0};
    tr_memory_net_set_faults(the.stage.net, &faults);
    for (uint32_t i = 0; i < ACTIONS; i++) {
        act();
    }
    calm();
    check_rules(seed);
    pool_call *last = reserved(); /* whatever happened, it can be used */
    fates[the.call_count - 1].over = false;
    pool_stage_wait_ms(&the.stage, 500);
    CU_ASSERT(spec.workers == 0 || last->granted == 1);
    for (uint32_t i = 0; i < the.call_count; i++) {
        if (!fates[i].over) {
            pool_call_crash(&the.calls[i]);
        }
    }
    the.call_count = 0;
    tear_down();
}

static void whatever_happens_the_rules_hold(void) {
    const char *only = getenv("TROUPE_SEED");
    uint64_t first = only != NULL ? strtoull(only, NULL, 10) : 1;
    uint64_t last = only != NULL ? first : SEEDS;
    for (uint64_t seed = first; seed <= last; seed++) {
        unsigned failed = CU_get_number_of_failures();
        run(seed);
        if (CU_get_number_of_failures() != failed) {
            fprintf(stderr, "seed %llu failed\n", (unsigned long long)seed);
            return;
        }
    }
}

int main(void) {
    tr_log_set(TR_LOG_LOGFMT, getenv("TROUPE_SEED") != NULL ? TR_LOG_DEBUG : TR_LOG_ERROR,
               getenv("TROUPE_SEED") != NULL ? STDERR_FILENO : -1);
    static const puppet_test tests[] = {PUPPET_TEST(whatever_happens_the_rules_hold)};
    return puppet_main("pool in disorder", tests, 1);
}
