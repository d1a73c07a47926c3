/* The pool on a stepped stage: when it loads and unloads, who gets which sequence, and that nothing
 * is held at rest. */
#include "tests/unit/inference/pool_scene.h"

/* ---- loading ---- */

static void the_first_request_loads_the_model(void) {
    set_up(&plain, NULL);
    CU_ASSERT_EQUAL(pool_stage_alive(&the.stage), 0);
    CU_ASSERT(status_has("\"state\":\"unloaded\""));
    pool_call *c = reserved();
    CU_ASSERT_EQUAL(pool_stage_alive(&the.stage), 1);
    CU_ASSERT_EQUAL(c->granted, 1);
    CU_ASSERT(pool_stage_token(&the.stage, c));
    CU_ASSERT(pool_stage_done(&the.stage, c));
    CU_ASSERT_EQUAL(c->tokens, 1);
    CU_ASSERT(c->done);
    CU_ASSERT(status_has("\"state\":\"ready\""));
    tear_down();
}

static void a_worker_is_told_all_that_it_needs(void) {
    tr_pool_spec spec = plain;
    spec.threads = 3;
    spec.gpu_layers = 7;
    spec.chat_template = "chatml";
    set_up(&spec, NULL);
    tr_log_set(TR_LOG_JSON, TR_LOG_DEBUG, STDERR_FILENO);
    load();
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_ERROR, STDERR_FILENO);
    static const char *const argv[] = {"/bin/troupe-worker",
                                       "--dial",
                                       POOL_STAGE_URL,
                                       "--nonce",
                                       NULL,
                                       "--name",
                                       "m",
                                       "--model",
                                       "/models/m.gguf",
                                       "--sequences",
                                       "2",
                                       "--context",
                                       "512",
                                       "--threads",
                                       "3",
                                       "--gpu-layers",
                                       "7",
                                       "--chat-template",
                                       "chatml",
                                       "--log-level",
                                       "debug",
                                       "--log-format",
                                       "json"};
    int32_t pid = pool_stage_worker(&the.stage, 0)->pid;
    for (uint32_t i = 0; i < sizeof argv / sizeof *argv; i++) {
        const char *arg = tr_fake_process_arg(the.stage.processes, pid, i);
        CU_ASSERT_PTR_NOT_NULL_FATAL(arg);
        if (argv[i] != NULL) {
            CU_ASSERT_STRING_EQUAL(arg, argv[i]);
        } else {
            CU_ASSERT_EQUAL(strspn(arg, "0123456789abcdef"), 16);
        }
    }
    CU_ASSERT_PTR_NULL(tr_fake_process_arg(the.stage.processes, pid, 23));
    const char *policy = tr_fake_process_env(the.stage.processes, pid, "OMP_WAIT_POLICY");
    CU_ASSERT_PTR_NOT_NULL_FATAL(policy);
    CU_ASSERT_STRING_EQUAL(policy, "passive");
    tear_down();
}

static void the_level_of_the_log_reaches_workers_that_run(void) {
    set_up(&plain, NULL);
    load();
    tr_log_set_level(TR_LOG_DEBUG);
    pool_stage_wait_ms(&the.stage, 6000);
    CU_ASSERT_EQUAL(pool_stage_worker(&the.stage, 0)->log_level, 1 + TR_LOG_DEBUG);
    tr_log_set_level(TR_LOG_ERROR);
    pool_stage_wait_ms(&the.stage, 6000);
    CU_ASSERT_EQUAL(pool_stage_worker(&the.stage, 0)->log_level, 1 + TR_LOG_ERROR);
    tear_down();
}

static void preload_loads_before_anybody_asks(void) {
    tr_pool_spec spec = with_workers(2);
    spec.preload = true;
    set_up(&spec, NULL);
    CU_ASSERT_EQUAL(pool_stage_alive(&the.stage), 2);
    CU_ASSERT(status_has("\"state\":\"ready\""));
    tear_down();
}

static void progress_of_a_load_is_told_and_waiters_wait(void) {
    set_up(&plain, &(pool_manner){.stays_loading = true});
    pool_call *c = reserved();
    pool_stage_loaded(pool_stage_worker(&the.stage, 0), 40);
    CU_ASSERT(status_has("\"state\":\"loading\""));
    CU_ASSERT(status_has("\"percent\":40"));
    CU_ASSERT_EQUAL(c->granted, 0);
    pool_stage_loaded(pool_stage_worker(&the.stage, 0), 100);
    CU_ASSERT_EQUAL(c->granted, 1);
    tear_down();
}

static void a_load_that_fails_ends_waiters_with_the_workers_own_words(void) {
    tr_pool_spec spec = with_workers(2);
    set_up(&spec, &(pool_manner){.load_fails = "/models/m.gguf does not exist"});
    pool_call *c = reserved();
    pool_stage_wait_ms(&the.stage, 500);
    CU_ASSERT_EQUAL(c->terminals, 1);
    CU_ASSERT_EQUAL(c->err, TR_ERR_NOT_FOUND);
    CU_ASSERT_STRING_EQUAL(c->message, "/models/m.gguf does not exist");
    CU_ASSERT(status_has("\"state\":\"failed\""));
    CU_ASSERT_EQUAL(the.stage.worker_count, 2); /* nothing was started again */
    tear_down();
}

static void a_failed_model_is_tried_again_after_a_pause(void) {
    set_up(&plain, &(pool_manner){.load_fails = "it is corrupt"});
    (void)reserved();
    pool_stage_wait_ms(&the.stage, 300);
    pool_call *soon = reserved();
    CU_ASSERT_EQUAL(soon->terminals, 1);
    CU_ASSERT_STRING_EQUAL(soon->message, "it is corrupt");
    CU_ASSERT_EQUAL(the.stage.worker_count, 1);
    pool_stage_wait_ms(&the.stage, 1000);
    the.stage.manner = (pool_manner){0};
    pool_call *later = reserved();
    CU_ASSERT_EQUAL(the.stage.worker_count, 2);
    CU_ASSERT_EQUAL(later->granted, 1);
    tear_down();
}

static void a_file_that_comes_late_is_noticed_however_often_it_was_missed(void) {
    set_up(&plain, &(pool_manner){.load_fails = "/models/m.gguf does not exist"});
    for (uint32_t i = 0; i < 8; i++) {
        (void)reserved();
        pool_stage_wait_ms(&the.stage, 5000);
        CU_ASSERT_EQUAL(the.stage.worker_count, i + 1);
    }
    the.stage.manner = (pool_manner){0};
    CU_ASSERT_EQUAL(reserved()->granted, 1);
    tear_down();
}

static void a_file_that_stays_missing_is_not_tried_at_each_request(void) {
    set_up(&plain, &(pool_manner){.load_fails = "/models/m.gguf does not exist"});
    for (uint32_t i = 0; i < 30; i++) {
        (void)reserved();
        pool_stage_wait_ms(&the.stage, 500);
    }
    CU_ASSERT(the.stage.worker_count >= 4);
    CU_ASSERT(the.stage.worker_count <= 6);
    tear_down();
}

static void a_context_smaller_than_configured_is_said(void) {
    set_up(&plain, NULL);
    load();
    CU_ASSERT(status_has("\"why\":null"));
    tear_down();
    tr_pool_spec spec = plain;
    spec.context = 99999;
    set_up(&spec, NULL);
    load();
    CU_ASSERT(status_has("\"context\":512"));
    CU_ASSERT(status_has("configured: context 99999, but the model was trained on 512"));
    tear_down();
}

static void load_tries_a_failed_model_at_once(void) {
    set_up(&plain, &(pool_manner){.load_fails = "it is corrupt"});
    (void)reserved();
    pool_stage_wait_ms(&the.stage, 300);
    pool_stage_ask(&the.stage, "m", TR_KIND_LOAD);
    pool_stage_wait_ms(&the.stage, 300);
    CU_ASSERT_EQUAL(the.stage.answer, TR_ERR_NOT_FOUND);
    CU_ASSERT_STRING_EQUAL(the.stage.text, "it is corrupt");
    the.stage.manner = (pool_manner){0};
    load();
    tear_down();
}

static void a_program_that_is_not_there_is_said(void) {
    set_up(&plain, &(pool_manner){.exec_fails = true});
    pool_call *c = reserved();
    CU_ASSERT_EQUAL(c->terminals, 1);
    CU_ASSERT_EQUAL(c->err, TR_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(c->message, "/bin/troupe-worker"));
    tear_down();
}

static void workers_that_die_loading_again_and_again_fail_the_model(void) {
    set_up(&plain, &(pool_manner){.dies_loading = true});
    pool_call *c = reserved();
    pool_stage_wait_ms(&the.stage, 5000);
    CU_ASSERT_EQUAL(c->terminals, 1);
    CU_ASSERT_EQUAL(c->err, TR_ERR_CRASHED);
    CU_ASSERT_PTR_NOT_NULL(strstr(c->message, "signal 11"));
    CU_ASSERT_EQUAL(the.stage.worker_count, 5);
    pool_stage_wait_ms(&the.stage, 20000);
    CU_ASSERT_EQUAL(the.stage.worker_count, 5);
    tear_down();
}

static void workers_that_exit_before_they_dial_fail_the_model(void) {
    set_up(&plain, &(pool_manner){.exits_at_once = true});
    pool_call *c = reserved();
    pool_stage_wait_ms(&the.stage, 5000);
    CU_ASSERT_EQUAL(c->terminals, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(c->message, "status 3"));
    tear_down();
}

static void a_worker_that_never_dials_is_killed(void) {
    tr_pool_spec spec = plain;
    spec.hang_ms = 2000;
    set_up(&spec, &(pool_manner){.stays_out = true});
    (void)reserved();
    pool_stage_wait_ms(&the.stage, 1900);
    CU_ASSERT_EQUAL(the.stage.worker_count, 1);
    the.stage.manner = (pool_manner){0};
    pool_stage_wait_ms(&the.stage, 300);
    CU_ASSERT_EQUAL(the.stage.worker_count, 2);
    CU_ASSERT_EQUAL(the.calls[0].granted, 1);
    tear_down();
}

/* ---- granting ---- */

static void grants_go_to_the_least_loaded_worker(void) {
    tr_pool_spec spec = with_workers(3);
    set_up(&spec, NULL);
    load();
    pool_call *c[6];
    for (uint32_t i = 0; i < 6; i++) {
        c[i] = reserved();
        CU_ASSERT_EQUAL(c[i]->granted, 1);
    }
    for (uint32_t i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(pool_stage_worker(&the.stage, i)->count, 2);
    }
    const pool_worker *freed = serving(c[4]);
    CU_ASSERT(pool_stage_done(&the.stage, c[4]));
    CU_ASSERT_PTR_EQUAL(serving(reserved()), freed);
    tear_down();
}

static void waiters_are_granted_by_priority_and_then_in_order(void) {
    set_up(&plain, NULL);
    pool_call *a = reserved();
    pool_call *b = reserved();
    pool_call *waiters[4];
    static const int8_t priorities[4] = {0, 0, 5, -1};
    for (uint32_t i = 0; i < 4; i++) {
        waiters[i] = call();
        waiters[i]->priority = priorities[i];
        pool_call_reserve(waiters[i]);
        CU_ASSERT_EQUAL(waiters[i]->granted, 0);
    }
    CU_ASSERT(pool_stage_done(&the.stage, a) && pool_stage_done(&the.stage, b));
    CU_ASSERT(pool_stage_done(&the.stage, waiters[2]) && pool_stage_done(&the.stage, waiters[0]));
    CU_ASSERT(waiters[2]->granted_at < waiters[0]->granted_at);
    CU_ASSERT(waiters[0]->granted_at < waiters[1]->granted_at);
    CU_ASSERT(waiters[1]->granted_at < waiters[3]->granted_at);
    CU_ASSERT_EQUAL(waiters[3]->granted, 1);
    tear_down();
}

static void waiters_whose_time_has_passed_are_dropped(void) {
    set_up(&plain, NULL);
    pool_call *a = reserved();
    (void)reserved();
    pool_call *late = call();
    late->remaining_ms = 100;
    pool_call_reserve(late);
    pool_call *patient = reserved();
    pool_stage_wait_ms(&the.stage, 200);
    CU_ASSERT(pool_stage_done(&the.stage, a));
    CU_ASSERT_EQUAL(late->granted, 0);
    CU_ASSERT_EQUAL(late->terminals, 1);
    CU_ASSERT_EQUAL(late->err, TR_ERR_TIMEOUT);
    CU_ASSERT_EQUAL(patient->granted, 1);
    tear_down();
}

static void a_full_line_refuses_but_makes_room_of_the_expired(void) {
    tr_pool_spec spec = plain;
    spec.waiting_max = 2;
    set_up(&spec, NULL);
    (void)reserved();
    (void)reserved();
    pool_call *late = call();
    late->remaining_ms = 100;
    pool_call_reserve(late);
    (void)reserved();
    pool_call *refused = reserved();
    CU_ASSERT_EQUAL(refused->err, TR_ERR_OVERLOADED);
    pool_stage_wait_ms(&the.stage, 200);
    pool_call *welcome = reserved();
    CU_ASSERT_EQUAL(welcome->terminals, 0);
    CU_ASSERT(status_has("\"waiting\":2"));
    tear_down();
}

static void a_paused_stream_goes_before_newcomers_and_is_never_refused(void) {
    tr_pool_spec spec = plain;
    spec.waiting_max = 2;
    set_up(&spec, NULL);
    pool_call *a = reserved();
    pool_call *b = reserved();
    CU_ASSERT(pool_stage_token(&the.stage, a));
    CU_ASSERT(pool_stage_token(&the.stage, b));
    pool_call *first = reserved();
    pool_call *urgent = call();
    urgent->priority = 9;
    pool_call_reserve(urgent);
    pool_call_pause(a);
    CU_ASSERT_EQUAL(urgent->granted, 1);
    (void)reserved();
    CU_ASSERT(status_has("\"waiting\":2"));
    pool_call_reserve(a); /* the line is full, and it is in the middle of its answer */
    CU_ASSERT_EQUAL(a->terminals, 0);
    CU_ASSERT(status_has("\"waiting\":3"));
    CU_ASSERT_EQUAL(reserved()->err, TR_ERR_OVERLOADED);
    CU_ASSERT(pool_stage_done(&the.stage, b));
    CU_ASSERT_EQUAL(a->granted, 2);
    CU_ASSERT_EQUAL(first->granted, 0);
    pool_stream *stream;
    CU_ASSERT_PTR_NOT_NULL_FATAL(pool_stage_serving(&the.stage, a, &stream));
    CU_ASSERT_EQUAL(stream->resumed, 1);
    CU_ASSERT(pool_stage_done(&the.stage, a));
    CU_ASSERT(a->done);
    CU_ASSERT_EQUAL(first->granted, 1);
    tear_down();
}

static void a_paused_stream_that_comes_back_too_late_is_dropped(void) {
    set_up(&plain, NULL);
    pool_call *a = reserved();
    (void)reserved();
    CU_ASSERT(pool_stage_token(&the.stage, a));
    pool_call_pause(a);
    pool_call *next = reserved();
    CU_ASSERT_EQUAL(next->granted, 1);
    a->remaining_ms = 100;
    pool_call_reserve(a);
    pool_stage_wait_ms(&the.stage, 200);
    pool_call_end(next);
    CU_ASSERT_EQUAL(a->err, TR_ERR_TIMEOUT);
    CU_ASSERT_EQUAL(a->granted, 1);
    tear_down();
}

/* ---- calls that end ---- */

static void a_cancelled_call_frees_its_sequence_at_once(void) {
    set_up(&plain, NULL);
    pool_call *a = reserved();
    (void)reserved();
    pool_call *waiting = reserved();
    pool_stream *stream;
    CU_ASSERT_PTR_NOT_NULL_FATAL(pool_stage_serving(&the.stage, a, &stream));
    pool_call_end(a);
    CU_ASSERT(stream->cancelled);
    CU_ASSERT_EQUAL(waiting->granted, 1);
    tear_down();
}

static void a_call_that_dies_frees_its_sequence_at_once(void) {
    set_up(&plain, NULL);
    pool_call *a = reserved();
    (void)reserved();
    pool_call *waiting = reserved();
    pool_stream *stream;
    CU_ASSERT_PTR_NOT_NULL_FATAL(pool_stage_serving(&the.stage, a, &stream));
    pool_call_crash(a);
    CU_ASSERT(stream->cancelled);
    CU_ASSERT_EQUAL(waiting->granted, 1);
    tear_down();
}

static void a_waiting_call_that_dies_leaves_the_line(void) {
    set_up(&plain, NULL);
    (void)reserved();
    (void)reserved();
    pool_call *waiting = reserved();
    pool_call_crash(waiting);
    CU_ASSERT(status_has("\"waiting\":0"));
    tear_down();
}

static void credit_reaches_the_worker(void) {
    set_up(&plain, NULL);
    pool_call *c = reserved();
    pool_call_credit(c);
    CU_ASSERT_EQUAL(serving(c)->credits, 1);
    tear_down();
}

/* ---- unloading ---- */

static void unload_waits_for_running_streams(void) {
    set_up(&plain, NULL);
    pool_call *a = reserved();
    CU_ASSERT(pool_stage_token(&the.stage, a));
    pool_stage_ask(&the.stage, "m", TR_KIND_UNLOAD);
    CU_ASSERT_EQUAL(the.stage.answers, 0);
    CU_ASSERT(pool_stage_token(&the.stage, a));
    CU_ASSERT_EQUAL(pool_stage_alive(&the.stage), 1);
    CU_ASSERT(pool_stage_done(&the.stage, a));
    CU_ASSERT_EQUAL(the.stage.answers, 1);
    CU_ASSERT_EQUAL(the.stage.answer, TR_OK);
    CU_ASSERT(a->done);
    CU_ASSERT_EQUAL(a->tokens, 2);
    CU_ASSERT_EQUAL(pool_stage_alive(&the.stage), 0);
    CU_ASSERT(status_has("\"state\":\"unloaded\""));
    tear_down();
}

static void a_request_during_an_unload_loads_the_model_again(void) {
    set_up(&plain, NULL);
    pool_call *a = reserved();
    pool_stage_ask(&the.stage, "m", TR_KIND_UNLOAD);
    pool_call *b = reserved();
    CU_ASSERT_EQUAL(b->granted, 0);
    CU_ASSERT(status_has("\"state\":\"unloading\""));
    CU_ASSERT(pool_stage_done(&the.stage, a));
    CU_ASSERT_EQUAL(b->granted, 1);
    CU_ASSERT_EQUAL(the.stage.worker_count, 2);
    tear_down();
}

/* Also when it cannot even be begun: each allocation from the old workers' end on fails once. */
static void a_start_after_an_unload_may_fail(void) {
    uint32_t refused = 0;
    bool reached = true;
    tr_pool_spec spec = plain;
    spec.silence_ms = spec.hang_ms =
        2000; /* what gets lost on the way to a worker shows by these */
    for (size_t n = 1; reached; n++) {
        set_up(&spec, NULL);
        pool_call *a = reserved();
        pool_stage_ask(&the.stage, "m", TR_KIND_UNLOAD);
        pool_call *b = reserved();
        CU_ASSERT(status_has("\"state\":\"unloading\""));
        pool_stage_fail_at = n;
        CU_ASSERT(pool_stage_done(&the.stage, a));
        reached = pool_stage_fail_at == 0;
        pool_stage_fail_at = 0;
        if (b->err == TR_ERR_NOMEM && status_has("\"state\":\"failed\"")) {
            refused++;
            CU_ASSERT_EQUAL(b->terminals, 1);
        }
        pool_stage_wait_ms(&the.stage, 5000);
        pool_call_crash(a);
        pool_call_crash(b);
        load();
        CU_ASSERT_EQUAL(reserved()->granted, 1);
        tear_down();
    }
    CU_ASSERT(refused > 0);
}

static void unload_calls_a_load_off(void) {
    set_up(&plain, &(pool_manner){.stays_loading = true});
    pool_call *a = reserved();
    pool_stage_ask(&the.stage, "m", TR_KIND_UNLOAD);
    CU_ASSERT_EQUAL(the.stage.answers, 1);
    CU_ASSERT_EQUAL(a->err, TR_ERR_CANCELLED);
    CU_ASSERT_EQUAL(pool_stage_alive(&the.stage), 0);
    tear_down();
}

static void an_idle_model_is_unloaded(void) {
    tr_pool_spec spec = plain;
    spec.idle_unload_ms = 3000;
    set_up(&spec, NULL);
    pool_call *a = reserved();
    pool_stage_wait_ms(&the.stage, 5000);
    CU_ASSERT_EQUAL(pool_stage_alive(&the.stage), 1);
    CU_ASSERT(pool_stage_done(&the.stage, a));
    pool_stage_wait_ms(&the.stage, 2900);
    CU_ASSERT_EQUAL(pool_stage_alive(&the.stage), 1);
    pool_stage_wait_ms(&the.stage, 200);
    CU_ASSERT_EQUAL(pool_stage_alive(&the.stage), 0);
    CU_ASSERT_EQUAL(reserved()->granted, 1);
    tear_down();
}

static void a_worker_that_does_not_stop_is_killed(void) {
    set_up(&plain, &(pool_manner){.ignores_terminate = true});
    load();
    pool_worker *w = pool_stage_worker(&the.stage, 0);
    pool_stage_ask(&the.stage, "m", TR_KIND_UNLOAD);
    pool_stage_wait_ms(&the.stage, 1500);
    CU_ASSERT(w->alive);
    pool_stage_wait_ms(&the.stage, 1000);
    CU_ASSERT_FALSE(w->alive);
    CU_ASSERT_EQUAL(w->death, SIGKILL);
    CU_ASSERT_EQUAL(the.stage.answers, 1);
    tear_down();
}

/* ---- the tree ---- */

static void a_pool_that_crashes_comes_back_with_its_workers(void) {
    set_up(&plain, NULL);
    pool_call *a = reserved();
    CU_ASSERT(pool_stage_token(&the.stage, a));
    a->goes_on = false;
    tr_id old = tr_whereis(the.stage.node, "pool:m");
    pool_stage_crash(&the.stage, old);
    pool_stage_wait_ms(&the.stage, 3000);
    CU_ASSERT_NOT_EQUAL(tr_whereis(the.stage.node, "pool:m"), old);
    CU_ASSERT_EQUAL(a->resumable, 1);
    CU_ASSERT_EQUAL(pool_stage_alive(&the.stage), 0);
    CU_ASSERT_EQUAL(reserved()->granted, 1);
    tear_down();
}

static void everything_holds_across_shards(void) {
    tr_pool_spec spec = with_workers(3);
    set_up_on(&spec, NULL, 4);
    load();
    pool_call *c[6];
    for (uint32_t i = 0; i < 6; i++) {
        c[i] = reserved();
        CU_ASSERT(pool_stage_token(&the.stage, c[i]));
    }
    for (uint32_t round = 0; round < 5; round++) {
        pool_stage_kill(serving(c[round]), SIGKILL);
        pool_stage_wait_ms(&the.stage, 1000);
        for (uint32_t i = 0; i < 6; i++) {
            CU_ASSERT(pool_stage_token(&the.stage, c[i]));
        }
    }
    for (uint32_t i = 0; i < 6; i++) {
        CU_ASSERT(pool_stage_done(&the.stage, c[i]));
        CU_ASSERT(c[i]->done);
        CU_ASSERT_EQUAL(c[i]->tokens, 6);
        CU_ASSERT_EQUAL(c[i]->terminals, 1);
    }
    tear_down();
}

static void bad_settings_are_refused(void) {
    tr_pool_plan *plan = NULL;
    tr_pool_spec spec = plain;
    spec.model = "";
    CU_ASSERT_EQUAL(tr_pool_plan_new(&spec, &plan), TR_ERR_INVALID);
    char name[TR_POOL_MODEL_max + 2];
    memset(name, 'n', sizeof name);
    name[TR_POOL_MODEL_max + 1] = '\0';
    spec.model = name;
    CU_ASSERT_EQUAL(tr_pool_plan_new(&spec, &plan), TR_ERR_INVALID);
    spec = with_workers(TR_POOL_WORKERS_max + 1);
    CU_ASSERT_EQUAL(tr_pool_plan_new(&spec, &plan), TR_ERR_INVALID);
    CU_ASSERT_PTR_NULL(plan);
}

int main(void) {
    pool_stage_memory();
    static const puppet_test tests[] = {
        PUPPET_TEST(the_first_request_loads_the_model),
        PUPPET_TEST(a_worker_is_told_all_that_it_needs),
        PUPPET_TEST(the_level_of_the_log_reaches_workers_that_run),
        PUPPET_TEST(preload_loads_before_anybody_asks),
        PUPPET_TEST(progress_of_a_load_is_told_and_waiters_wait),
        PUPPET_TEST(a_load_that_fails_ends_waiters_with_the_workers_own_words),
        PUPPET_TEST(a_failed_model_is_tried_again_after_a_pause),
        PUPPET_TEST(a_file_that_comes_late_is_noticed_however_often_it_was_missed),
        PUPPET_TEST(a_file_that_stays_missing_is_not_tried_at_each_request),
        PUPPET_TEST(a_context_smaller_than_configured_is_said),
        PUPPET_TEST(load_tries_a_failed_model_at_once),
        PUPPET_TEST(a_program_that_is_not_there_is_said),
        PUPPET_TEST(workers_that_die_loading_again_and_again_fail_the_model),
        PUPPET_TEST(workers_that_exit_before_they_dial_fail_the_model),
        PUPPET_TEST(a_worker_that_never_dials_is_killed),
        PUPPET_TEST(grants_go_to_the_least_loaded_worker),
        PUPPET_TEST(waiters_are_granted_by_priority_and_then_in_order),
        PUPPET_TEST(waiters_whose_time_has_passed_are_dropped),
        PUPPET_TEST(a_full_line_refuses_but_makes_room_of_the_expired),
        PUPPET_TEST(a_paused_stream_goes_before_newcomers_and_is_never_refused),
        PUPPET_TEST(a_paused_stream_that_comes_back_too_late_is_dropped),
        PUPPET_TEST(a_cancelled_call_frees_its_sequence_at_once),
        PUPPET_TEST(a_call_that_dies_frees_its_sequence_at_once),
        PUPPET_TEST(a_waiting_call_that_dies_leaves_the_line),
        PUPPET_TEST(credit_reaches_the_worker),
        PUPPET_TEST(unload_waits_for_running_streams),
        PUPPET_TEST(a_request_during_an_unload_loads_the_model_again),
        PUPPET_TEST(a_start_after_an_unload_may_fail),
        PUPPET_TEST(unload_calls_a_load_off),
        PUPPET_TEST(an_idle_model_is_unloaded),
        PUPPET_TEST(a_worker_that_does_not_stop_is_killed),
        PUPPET_TEST(a_pool_that_crashes_comes_back_with_its_workers),
        PUPPET_TEST(everything_holds_across_shards),
        PUPPET_TEST(bad_settings_are_refused),
    };
    return puppet_main("pool", tests, sizeof tests / sizeof *tests);
}
