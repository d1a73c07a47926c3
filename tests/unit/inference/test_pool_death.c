/* Workers that die, hang, join and leave, on a stepped stage: every open stream learns it once and
 * goes on elsewhere. */
#include "tests/unit/inference/pool_scene.h"

/* ---- workers that do not end what nobody wants ---- */

static void a_cancelled_sequence_is_free_when_its_worker_has_ended_it(void) {
    set_up(&plain, NULL);
    pool_call *ended = reserved();
    pool_call *paused = reserved();
    pool_worker *w = serving(ended);
    w->deaf = true;
    pool_call *waiting = reserved();
    pool_call *another = reserved();
    pool_call_crash(ended);
    pool_call_pause(paused);
    pool_stage_wait_ms(&the.stage, 3000);
    CU_ASSERT_EQUAL(waiting->granted, 0);
    CU_ASSERT(status_has("\"active\":2"));
    pool_stage_answer_cancels(w);
    CU_ASSERT(w->alive);
    CU_ASSERT_EQUAL(waiting->granted, 1);
    CU_ASSERT_EQUAL(another->granted, 1);
    CU_ASSERT_FALSE(w->overbooked);
    tear_down();
}

static void a_worker_that_answers_no_cancel_is_killed_and_its_streams_go_on(void) {
    set_up(&plain, NULL);
    pool_call *victim = reserved();
    CU_ASSERT(pool_stage_token(&the.stage, victim));
    pool_call *wedge = reserved();
    pool_call *waiting = reserved();
    pool_worker *w = serving(wedge);
    w->deaf = w->busy = true; /* its engine's thread stands still, its link does not */
    pool_call_end(wedge);
    pool_stage_wait_ms(&the.stage, 4500);
    CU_ASSERT(w->alive);
    CU_ASSERT_EQUAL(waiting->granted, 0);
    pool_stage_wait_ms(&the.stage, 2500);
    CU_ASSERT_FALSE(w->alive);
    CU_ASSERT_EQUAL(w->death, SIGKILL);
    CU_ASSERT_EQUAL(victim->granted, 2);
    CU_ASSERT_EQUAL(waiting->granted, 1);
    pool_stream *stream;
    CU_ASSERT_PTR_NOT_NULL_FATAL(pool_stage_serving(&the.stage, victim, &stream));
    CU_ASSERT_EQUAL(stream->resumed, 1);
    CU_ASSERT(pool_stage_done(&the.stage, victim));
    CU_ASSERT(victim->done);
    tear_down();
}

static void a_worker_that_gets_on_may_take_its_time_with_a_cancel(void) {
    set_up(&plain, NULL);
    pool_call *slow = reserved();
    pool_worker *w = serving(slow);
    w->deaf = w->busy = true;
    pool_call_end(slow);
    for (uint32_t i = 0; i < 200; i++) {
        w->ticks++; /* one decode on a slow machine */
        pool_stage_wait_ms(&the.stage, 100);
    }
    CU_ASSERT(w->alive);
    pool_call *other = reserved(); /* nobody is sent there any more */
    CU_ASSERT_EQUAL(other->granted, 0);
    pool_stage_answer_cancels(w);
    CU_ASSERT_EQUAL(other->granted, 1);
    tear_down();
}

/* ---- workers that die ---- */

static void a_death_gives_each_open_stream_one_resumable_fail(void) {
    set_up(&plain, NULL);
    pool_call *a = reserved();
    pool_call *b = reserved();
    a->goes_on = b->goes_on = false;
    CU_ASSERT(pool_stage_token(&the.stage, a));
    pool_stage_kill(serving(a), SIGKILL);
    pool_stage_wait_ms(&the.stage, 1000);
    CU_ASSERT_EQUAL(a->resumable, 1);
    CU_ASSERT_EQUAL(b->resumable, 1);
    CU_ASSERT_EQUAL(a->terminals, 1);
    CU_ASSERT_EQUAL(a->err, TR_ERR_CRASHED);
    CU_ASSERT_EQUAL(pool_stage_alive(&the.stage), 1);
    CU_ASSERT(status_has("\"restarts\":1"));
    tear_down();
}

static void a_stream_goes_on_at_the_restarted_worker_with_its_tokens(void) {
    set_up(&plain, NULL);
    pool_call *a = reserved();
    for (uint32_t kill = 1; kill <= 10; kill++) {
        CU_ASSERT(pool_stage_token(&the.stage, a));
        pool_stage_kill(serving(a), SIGKILL);
        pool_stream *stream;
        CU_ASSERT_PTR_NOT_NULL_FATAL(pool_stage_serving(&the.stage, a, &stream));
        CU_ASSERT_EQUAL(stream->resumed, kill); /* at once: tokens came in between */
    }
    CU_ASSERT(pool_stage_done(&the.stage, a));
    CU_ASSERT(a->done);
    CU_ASSERT_EQUAL(a->tokens, 10);
    CU_ASSERT_EQUAL(a->terminals, 1);
    tear_down();
}

static void another_worker_takes_over(void) {
    tr_pool_spec spec = with_workers(2);
    set_up(&spec, NULL);
    load();
    pool_call *a = reserved();
    CU_ASSERT(pool_stage_token(&the.stage, a));
    pool_worker *first = serving(a);
    the.stage.manner.stays_loading = true; /* the new one takes its time */
    pool_stage_kill(first, SIGSEGV);
    CU_ASSERT_EQUAL(a->granted, 2);
    CU_ASSERT_PTR_NOT_EQUAL(serving(a), first);
    tear_down();
}

static void a_lost_link_counts_as_a_death_and_the_process_is_killed(void) {
    set_up(&plain, &(pool_manner){.ignores_terminate = true});
    pool_call *a = reserved();
    pool_worker *w = serving(a);
    pool_stage_hang_up(w);
    CU_ASSERT_FALSE(w->alive);
    CU_ASSERT_EQUAL(w->death, SIGKILL);
    CU_ASSERT_EQUAL(a->resumable, 1);
    CU_ASSERT_EQUAL(a->granted, 2);
    tear_down();
}

static void a_request_that_kills_every_worker_fails_alone(void) {
    tr_pool_spec spec = with_workers(2);
    set_up(&spec, &(pool_manner){.poison = "poison", .sequences = 4});
    load();
    pool_call *good[4];
    for (uint32_t i = 0; i < 4; i++) {
        good[i] = reserved();
        CU_ASSERT(pool_stage_token(&the.stage, good[i]));
    }
    pool_call poison;
    pool_call_start(&the.stage, &poison, "poison");
    poison.goes_on = true;
    pool_call_reserve(&poison);
    for (uint32_t i = 0; i < 200 && poison.terminals == 0; i++) {
        for (uint32_t k = 0; k < 4; k++) {
            (void)pool_stage_token(&the.stage, good[k]);
        }
        pool_stage_wait_ms(&the.stage, 50);
    }
    CU_ASSERT_EQUAL(poison.terminals, 1);
    CU_ASSERT_EQUAL(poison.err, TR_ERR_CRASHED);
    CU_ASSERT_EQUAL(poison.resumable, TR_RESUMES_WITHOUT_TOKEN_max);
    pool_stage_wait_ms(&the.stage, 2000);
    for (uint32_t k = 0; k < 4; k++) {
        CU_ASSERT(pool_stage_token(&the.stage, good[k]));
        CU_ASSERT(pool_stage_done(&the.stage, good[k]));
        CU_ASSERT(good[k]->done);
    }
    CU_ASSERT_EQUAL(reserved()->granted, 1);
    pool_call_crash(&poison);
    tear_down();
}

/* With one worker, and neighbours that have not shown a token when the first crash comes. */
static void neighbours_of_a_poisonous_request_get_through(void) {
    set_up(&plain, &(pool_manner){.poison = "poison", .sequences = 4});
    load();
    pool_call *a = reserved();
    pool_call *b = reserved();
    pool_call poison;
    pool_call_start(&the.stage, &poison, "poison");
    poison.goes_on = true;
    pool_call_reserve(&poison);
    for (uint32_t i = 0; i < 200 && poison.terminals == 0; i++) {
        (void)pool_stage_token(&the.stage, a);
        (void)pool_stage_token(&the.stage, b);
        pool_stage_wait_ms(&the.stage, 50);
    }
    CU_ASSERT_EQUAL(poison.terminals, 1);
    pool_stage_wait_ms(&the.stage, 2000);
    CU_ASSERT(pool_stage_token(&the.stage, a) && pool_stage_token(&the.stage, b));
    CU_ASSERT(pool_stage_done(&the.stage, a) && pool_stage_done(&the.stage, b));
    CU_ASSERT(a->done && b->done);
    pool_call_crash(&poison);
    tear_down();
}

/* A stream without credit shows no token, and is well all the same. */
static void a_suspect_is_not_kept_out_by_streams_that_stand_still(void) {
    set_up(&plain, &(pool_manner){.sequences = 4});
    load();
    pool_call *still = reserved();
    CU_ASSERT(pool_stage_token(&the.stage, still));
    pool_call *suspect = reserved();
    pool_stage_kill(serving(still), SIGKILL); /* `suspect` had not shown a token */
    pool_stage_wait_ms(&the.stage, 1000);
    CU_ASSERT_EQUAL(still->granted, 2);
    CU_ASSERT_EQUAL(suspect->granted, 1);
    pool_call *other = reserved();
    pool_stage_wait_ms(&the.stage, 1000);
    CU_ASSERT_EQUAL(suspect->granted, 1);
    CU_ASSERT_EQUAL(other->granted, 0);
    pool_stage_wait_ms(&the.stage, 2000);
    CU_ASSERT_EQUAL(suspect->granted, 2);
    CU_ASSERT_EQUAL(other->granted, 0);
    pool_stage_wait_ms(&the.stage, 4000); /* neither is it kept from others for long */
    CU_ASSERT_EQUAL(other->granted, 1);
    tear_down();
}

static void crashes_without_a_token_make_the_supervisor_give_up(void) {
    set_up(&plain, NULL);
    load();
    uint64_t longest_us = 0;
    uint32_t kills = 0;
    while (!status_has("\"state\":\"failed\"") && kills < 20) {
        uint64_t before_us = the.stage.now_us;
        while (pool_stage_alive(&the.stage) == 0 && the.stage.now_us < before_us + 30000000) {
            pool_stage_wait_ms(&the.stage, 10);
        }
        uint64_t waited_us = the.stage.now_us - before_us;
        longest_us = waited_us > longest_us ? waited_us : longest_us;
        if (pool_stage_alive(&the.stage) == 0) {
            break;
        }
        pool_stage_kill(pool_stage_worker(&the.stage, 0), SIGKILL);
        kills++;
    }
    CU_ASSERT_EQUAL(kills, TR_WORKER_RESTARTS + 1);
    CU_ASSERT(longest_us >= 5000000); /* later restarts wait longer */
    pool_call *c = reserved();
    CU_ASSERT_EQUAL(c->err, TR_ERR_CRASHED);
    CU_ASSERT_PTR_NOT_NULL(strstr(c->message, "crashed more than 10 times"));
    load();
    CU_ASSERT_EQUAL(reserved()->granted, 1);
    tear_down();
}

static void crashes_after_tokens_never_exhaust_the_supervisor(void) {
    set_up(&plain, NULL);
    pool_call *a = reserved();
    for (uint32_t i = 0; i < 3 * TR_WORKER_RESTARTS; i++) {
        CU_ASSERT_FATAL(pool_stage_token(&the.stage, a));
        pool_stage_kill(serving(a), SIGKILL);
        pool_stage_wait_ms(&the.stage, 200);
    }
    CU_ASSERT_EQUAL(a->terminals, 0);
    CU_ASSERT(status_has("\"state\":\"ready\""));
    tear_down();
}

/* ---- workers that hang ---- */

static void a_worker_that_answers_no_ping_is_replaced(void) {
    tr_pool_spec spec = with_workers(2);
    spec.silence_ms = 3000;
    set_up(&spec, NULL);
    load();
    pool_call *a = reserved();
    pool_worker *w = serving(a);
    w->silent = true;
    w->manner.ignores_terminate = true;
    pool_stage_wait_ms(&the.stage, 2500);
    CU_ASSERT(w->alive);
    pool_stage_wait_ms(&the.stage, 2000);
    CU_ASSERT_FALSE(w->alive);
    CU_ASSERT_EQUAL(w->death, SIGKILL);
    CU_ASSERT_EQUAL(a->granted, 2);
    CU_ASSERT_EQUAL(pool_stage_alive(&the.stage), 2);
    tear_down();
}

static void a_busy_worker_whose_ticks_stand_still_is_replaced(void) {
    tr_pool_spec spec = plain;
    spec.hang_ms = 5000;
    set_up(&spec, NULL);
    pool_call *a = reserved();
    pool_worker *w = serving(a);
    w->busy = true;
    for (uint32_t i = 0; i < 10; i++) { /* slow is not hung */
        w->ticks++;
        pool_stage_wait_ms(&the.stage, 3000);
    }
    CU_ASSERT(w->alive);
    pool_stage_wait_ms(&the.stage, 7000);
    CU_ASSERT_FALSE(w->alive);
    CU_ASSERT_EQUAL(a->granted, 2);
    tear_down();
}

static void an_idle_worker_may_stand_still(void) {
    tr_pool_spec spec = plain;
    spec.hang_ms = 5000;
    set_up(&spec, NULL);
    load();
    pool_worker *w = pool_stage_worker(&the.stage, 0);
    uint32_t pings = w->pings;
    pool_stage_wait_ms(&the.stage, 60000);
    CU_ASSERT(w->alive);
    CU_ASSERT(w->pings - pings >= 11 && w->pings - pings <= 13); /* one in five seconds */
    tear_down();
}

static void a_load_that_stands_still_is_given_up(void) {
    tr_pool_spec spec = plain;
    spec.hang_ms = 5000;
    set_up(&spec, &(pool_manner){.stays_loading = true});
    (void)reserved();
    pool_worker *w = pool_stage_worker(&the.stage, 0);
    w->busy = true;
    for (uint32_t i = 1; i < 6; i++) {
        pool_stage_loaded(w, i * 10);
        pool_stage_wait_ms(&the.stage, 4000);
    }
    CU_ASSERT(w->alive);
    pool_stage_wait_ms(&the.stage, 2000);
    CU_ASSERT_FALSE(w->alive);
    tear_down();
}

static void a_half_open_link_is_noticed(void) {
    tr_pool_spec spec = with_workers(1);
    spec.workers = 0;
    set_up(&spec, NULL);
    pool_worker *first = pool_stage_join(&the.stage, "m");
    pool_call *a = reserved();
    CU_ASSERT_PTR_EQUAL(serving(a), first);
    CU_ASSERT(pool_stage_token(&the.stage, a));
    pool_worker *second = pool_stage_join(&the.stage, "m");
    CU_ASSERT(tr_memory_net_half_open(the.stage.net, 0));
    pool_stage_wait_ms(&the.stage, TR_POOL_SILENCE_MS_default + 1500);
    CU_ASSERT_EQUAL(a->resumable, 1);
    first->alive = false; /* for us it is */
    pool_stream *stream;
    CU_ASSERT_PTR_EQUAL(pool_stage_serving(&the.stage, a, &stream), second);
    CU_ASSERT_EQUAL(stream->resumed, 1);
    CU_ASSERT(pool_stage_done(&the.stage, a));
    tear_down();
}

/* Also when nothing runs there, and nobody would be asked for a long time. */
static void a_short_limit_of_silence_is_kept(void) {
    tr_pool_spec spec = plain;
    spec.silence_ms = 1000;
    set_up(&spec, NULL);
    load();
    pool_stage_wait_ms(&the.stage, 30000);
    pool_worker *w = pool_stage_worker(&the.stage, 0);
    CU_ASSERT(w->alive);
    w->silent = true;
    w->manner.ignores_terminate = true;
    pool_stage_wait_ms(&the.stage, 900);
    CU_ASSERT(w->alive);
    pool_stage_wait_ms(&the.stage, 650);
    CU_ASSERT_FALSE(w->alive);
    tear_down();
}

static void no_limit_is_shorter_than_an_answer_may_take(void) {
    tr_pool_spec spec = plain;
    spec.silence_ms = spec.hang_ms = 1;
    set_up(&spec, &(pool_manner){.stays_loading = true});
    (void)reserved();
    pool_worker *w = pool_stage_worker(&the.stage, 0);
    w->busy = true;
    pool_stage_wait_ms(&the.stage, TR_POOL_SILENCE_MS_min - 100);
    CU_ASSERT(w->alive);
    pool_stage_wait_ms(&the.stage, 300);
    CU_ASSERT_FALSE(w->alive);
    tear_down();
}

/* ---- workers that join ---- */

static void a_worker_that_joins_serves_and_may_leave(void) {
    tr_pool_spec spec = plain;
    spec.workers = 0;
    set_up(&spec, NULL);
    pool_worker *w = pool_stage_join(&the.stage, "m");
    CU_ASSERT(w->welcome);
    pool_call *a = reserved();
    CU_ASSERT_PTR_EQUAL(serving(a), w);
    CU_ASSERT(pool_stage_token(&the.stage, a));
    pool_stage_kill(w, SIGKILL);
    CU_ASSERT_EQUAL(a->resumable, 1);
    CU_ASSERT_EQUAL(a->granted, 1);
    pool_stage_wait_ms(&the.stage, 3000);
    w = pool_stage_join(&the.stage, "m"); /* it comes back in time */
    CU_ASSERT_PTR_EQUAL(serving(a), w);
    CU_ASSERT(pool_stage_done(&the.stage, a));
    CU_ASSERT(a->done);
    tear_down();
}

static void without_any_worker_a_request_is_refused_with_advice(void) {
    tr_pool_spec spec = plain;
    spec.workers = 0;
    set_up(&spec, NULL);
    pool_call *never = reserved();
    CU_ASSERT_EQUAL(never->terminals, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(never->message, "troupe-worker --join"));
    pool_worker *w = pool_stage_join(&the.stage, "m");
    pool_stage_kill(w, SIGKILL);
    pool_call *left = reserved();
    pool_stage_wait_ms(&the.stage, 9000);
    CU_ASSERT_EQUAL(left->terminals, 0);
    pool_stage_wait_ms(&the.stage, 1500);
    CU_ASSERT_EQUAL(left->terminals, 1);
    tear_down();
}

static void a_worker_with_another_model_file_is_turned_away(void) {
    set_up(&plain, NULL);
    load();
    the.stage.manner.digest = 2;
    pool_worker *other = pool_stage_join(&the.stage, "m");
    pool_stage_wait_ms(&the.stage, 500);
    CU_ASSERT_PTR_NOT_NULL(strstr(other->refusal, "another model file"));
    CU_ASSERT_FALSE(other->alive);
    the.stage.manner.digest = 1;
    CU_ASSERT(pool_stage_join(&the.stage, "m")->alive);
    CU_ASSERT_EQUAL(pool_stage_alive(&the.stage), 2);
    tear_down();
}

static void a_stream_never_moves_to_another_model_file(void) {
    set_up(&plain, NULL);
    pool_call *a = reserved();
    CU_ASSERT(pool_stage_token(&the.stage, a));
    the.stage.manner.digest = 2; /* the file was replaced on disk */
    pool_stage_kill(serving(a), SIGKILL);
    pool_stage_wait_ms(&the.stage, 500);
    CU_ASSERT_EQUAL(a->granted, 1);
    CU_ASSERT_EQUAL(a->terminals, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(a->message, "another model file"));
    pool_stage_wait_ms(&the.stage, 1000);
    CU_ASSERT_EQUAL(reserved()->granted, 1); /* nobody is bound to the old one any more */
    tear_down();
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(a_cancelled_sequence_is_free_when_its_worker_has_ended_it),
        PUPPET_TEST(a_worker_that_answers_no_cancel_is_killed_and_its_streams_go_on),
        PUPPET_TEST(a_worker_that_gets_on_may_take_its_time_with_a_cancel),
        PUPPET_TEST(a_death_gives_each_open_stream_one_resumable_fail),
        PUPPET_TEST(a_stream_goes_on_at_the_restarted_worker_with_its_tokens),
        PUPPET_TEST(another_worker_takes_over),
        PUPPET_TEST(a_lost_link_counts_as_a_death_and_the_process_is_killed),
        PUPPET_TEST(a_request_that_kills_every_worker_fails_alone),
        PUPPET_TEST(neighbours_of_a_poisonous_request_get_through),
        PUPPET_TEST(a_suspect_is_not_kept_out_by_streams_that_stand_still),
        PUPPET_TEST(crashes_without_a_token_make_the_supervisor_give_up),
        PUPPET_TEST(crashes_after_tokens_never_exhaust_the_supervisor),
        PUPPET_TEST(a_worker_that_answers_no_ping_is_replaced),
        PUPPET_TEST(a_busy_worker_whose_ticks_stand_still_is_replaced),
        PUPPET_TEST(an_idle_worker_may_stand_still),
        PUPPET_TEST(a_load_that_stands_still_is_given_up),
        PUPPET_TEST(a_half_open_link_is_noticed),
        PUPPET_TEST(a_short_limit_of_silence_is_kept),
        PUPPET_TEST(no_limit_is_shorter_than_an_answer_may_take),
        PUPPET_TEST(a_worker_that_joins_serves_and_may_leave),
        PUPPET_TEST(without_any_worker_a_request_is_refused_with_advice),
        PUPPET_TEST(a_worker_with_another_model_file_is_turned_away),
        PUPPET_TEST(a_stream_never_moves_to_another_model_file),
    };
    return puppet_main("pool death", tests, sizeof tests / sizeof *tests);
}
