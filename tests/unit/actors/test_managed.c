/* A managed server's life: its process is played by the test, the HTTP door too, and the clock is
 * the test's. */
#include <CUnit/Basic.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actors/managed.h"
#include "protocol/gate.h"
#include "providers/http.h"
#include "runtime/port.h"
#include "runtime/process_fake.h"
#include "tests/lib/stand_in.h"

#define CALLS 4
#define S 1000000ULL

typedef struct rig {
    tr_fake_processes *fakes;
    tr_node *node;
    tr_managed_plan *plan;
    tr_id managed;
    stand_in door, provider, calls[CALLS];
    int signal; /* the last that a process got */
    uint32_t spawned;
} rig;

static void on_spawned(void *arg, int32_t pid) {
    (void)pid;
    ((rig *)arg)->spawned++;
}

static void on_signalled(void *arg, int32_t pid, int number) {
    (void)pid;
    ((rig *)arg)->signal = number;
}

static void spawn(tr_self *self, void *arg) {
    rig *r = arg;
    tr_child_spec child = tr_managed_child(r->plan);
    tr_spawn_spec spec = {.behaviour = child.behaviour,
                          .args = child.args,
                          .args_size = child.args_size,
                          .name = child.name,
                          .registers = true};
    CU_ASSERT_EQUAL_FATAL(tr_spawn(self, &spec, &r->managed), TR_OK);
}

static void up_with(rig *r, const tr_managed_spec *spec) {
    char why[256];
    *r = (rig){.signal = 0};
    tr_fake_hooks hooks = {.spawned = on_spawned, .signalled = on_signalled, .arg = r};
    r->fakes = tr_fake_processes_new(&hooks);
    r->node = puppet_node_with(1, tr_fake_processes_table(r->fakes));
    CU_ASSERT_EQUAL_FATAL(tr_managed_plan_new(spec, &r->plan, why, sizeof why), TR_OK);
    stand_in_start(&r->door, r->node, 0, "http:0");
    stand_in_start(&r->provider, r->node, 0, "provider:local/m:0");
    for (uint32_t i = 0; i < CALLS; i++) {
        stand_in_start(&r->calls[i], r->node, 0, NULL);
    }
    stand_in_do(&r->provider, spawn, r);
}

static const tr_managed_spec usual = {.name = "m",
                                      .kind = "managed/other",
                                      .model = "org/model",
                                      .command = "/opt/server --model {model} --port {port}",
                                      .health = "/health",
                                      .at_once = 2,
                                      .context = 4096,
                                      .waiting_max = 3,
                                      .load_ms = 60000,
                                      .hang_ms = 20000};

static void up(rig *r) {
    up_with(r, &usual);
}

static void down(rig *r) {
    stand_in_clear(&r->door);
    for (uint32_t i = 0; i < CALLS; i++) {
        stand_in_clear(&r->calls[i]);
    }
    tr_node_end_actors(r->node);
    CU_ASSERT(r->spawned == 0 || tr_fake_process_pid(r->fakes, 0) == 0 || r->signal == SIGKILL);
    tr_process_table_free(tr_fake_processes_table(r->fakes));
    tr_node_free(r->node);
    tr_managed_plan_free(r->plan);
}

static void reserve(rig *r, uint32_t call, uint64_t ref) {
    tr_msg *msg = tr_msg_new(TR_KIND_RESERVE, sizeof(tr_reserve));
    *(tr_reserve *)(void *)msg->data = (tr_reserve){.remaining_ms = 600000};
    stand_in_send(&r->calls[call], r->managed, msg, ref);
}

static void settle(rig *r, uint32_t call, uint64_t ref, tr_err err) {
    tr_msg *msg = tr_msg_new(TR_KIND_SETTLE, sizeof(tr_settle));
    ((tr_settle *)(void *)msg->data)->err = err;
    stand_in_send(&r->calls[call], r->managed, msg, ref);
}

static void order(rig *r, uint32_t call, uint16_t kind) {
    stand_in_send(&r->calls[call], r->managed, tr_msg_new(kind, 0), 7);
}

static void expect_granted(rig *r, uint32_t call) {
    tr_msg *msg = stand_in_expect(&r->calls[call], TR_KIND_GRANTED);
    CU_ASSERT_EQUAL(((const tr_granted *)(const void *)msg->data)->backend, r->provider.id);
    tr_msg_free(msg);
}

static void expect_nothing(const rig *r, uint32_t call) {
    CU_ASSERT_EQUAL(stand_in_count(&r->calls[call]), 0);
}

static void expect_done(rig *r, uint32_t call) {
    tr_msg_free(stand_in_expect(&r->calls[call], TR_KIND_DONE));
}

static void expect_fail(rig *r, uint32_t call, tr_err err, const char *text) {
    tr_msg *msg = stand_in_expect(&r->calls[call], TR_KIND_FAIL);
    const tr_fail *fail = (const tr_fail *)(const void *)msg->data;
    tr_str said = tr_fail_read(fail).message;
    CU_ASSERT_EQUAL(fail->err, err);
    char buf[TR_MESSAGE_max + 1];
    snprintf(buf, sizeof buf, "%.*s", (int)said.size, said.ptr);
    CU_ASSERT_PTR_NOT_NULL(strstr(buf, text));
    if (strstr(buf, text) == NULL) {
        fprintf(stderr, "said: %s\n", buf);
    }
    tr_msg_free(msg);
}

static void expect_status(rig *r, const char *text) {
    stand_in_clear(&r->provider);
    stand_in_send(&r->provider, r->managed, tr_msg_new(TR_KIND_STATUS, 0), 9);
    tr_msg *msg = stand_in_expect(&r->provider, TR_KIND_STATUSED);
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg->body);
    CU_ASSERT_PTR_NOT_NULL(strstr(msg->body->bytes, text));
    if (strstr(msg->body->bytes, text) == NULL) {
        fprintf(stderr, "status: %s\n", msg->body->bytes);
    }
    tr_msg_free(msg);
}

static int32_t pid_of(const rig *r) {
    return tr_fake_process_pid(r->fakes, 0);
}

static void start_process(rig *r) {
    CU_ASSERT(tr_fake_process_start(r->fakes, pid_of(r)));
    puppet_run(r->node);
}

static void end_process(rig *r, int32_t code, int32_t number) {
    CU_ASSERT(tr_fake_process_exit(r->fakes, pid_of(r), code, number));
    puppet_run(r->node);
}

/* The next question for its health is answered with `status`; 0 = there is no connection. */
static bool answer_health(rig *r, uint16_t status) {
    tr_msg *msg;
    while ((msg = stand_in_take(&r->door)) != NULL) {
        uint64_t ref = msg->ref;
        bool start = msg->kind == TR_KIND_HTTP_START;
        tr_msg_free(msg);
        if (start) {
            tr_http_head head = {.status = status};
            stand_in_send(&r->door, r->managed,
                          status == 0 ? tr_http_end_msg(ref, TR_ERR_CONNECT, "refused")
                                      : tr_http_head_msg(ref, &head, (tr_str){"", 0}),
                          ref);
            return true;
        }
    }
    return false;
}

static void become_ready(rig *r) {
    stand_in_clear(&r->door); /* questions that nobody answered in time */
    start_process(r);
    puppet_wait_us(r->node, S / 10);
    CU_ASSERT(answer_health(r, 200));
    expect_status(r, "\"state\":\"ready\"");
}

static void ready_rig(rig *r) {
    up(r);
    order(r, 3, TR_KIND_LOAD);
    become_ready(r);
    expect_done(r, 3);
}

/* ---- claims ---- */

static void the_first_request_starts_it_and_waits(void) {
    rig r;
    up(&r);
    expect_status(&r, "\"state\":\"stopped\"");
    CU_ASSERT_EQUAL(r.spawned, 0);
    reserve(&r, 0, 1);
    CU_ASSERT_EQUAL(r.spawned, 1);
    expect_status(&r, "\"state\":\"starting\"");
    start_process(&r);
    for (int i = 0; i < 30; i++) { /* a long load is a wait, not a failure */
        puppet_wait_us(r.node, S);
        (void)answer_health(&r, i % 2 == 0 ? 503 : 0);
    }
    expect_nothing(&r, 0);
    puppet_wait_us(r.node, 2 * S);
    CU_ASSERT(answer_health(&r, 200));
    expect_granted(&r, 0);
    down(&r);
}

static void it_is_started_with_its_words_and_a_port(void) {
    rig r;
    up(&r);
    order(&r, 0, TR_KIND_LOAD);
    int32_t pid = pid_of(&r);
    char port[16];
    snprintf(port, sizeof port, "%u", (unsigned)*tr_managed_port(r.plan));
    CU_ASSERT_STRING_EQUAL(tr_fake_process_arg(r.fakes, pid, 0), "/opt/server");
    CU_ASSERT_STRING_EQUAL(tr_fake_process_arg(r.fakes, pid, 2), "org/model");
    CU_ASSERT_STRING_EQUAL(tr_fake_process_arg(r.fakes, pid, 4), port);
    CU_ASSERT(*tr_managed_port(r.plan) > 1023);
    down(&r);
}

static void at_most_at_once_are_granted_and_the_line_is_bounded(void) {
    rig r;
    ready_rig(&r);
    for (uint64_t ref = 1; ref <= 6; ref++) {
        reserve(&r, 0, ref);
    }
    expect_granted(&r, 0);
    expect_granted(&r, 0);
    expect_fail(&r, 0, TR_ERR_OVERLOADED, "2 requests of m run and 3 wait");
    settle(&r, 0, 1, TR_OK);
    expect_granted(&r, 0);
    stand_in_crash(&r.calls[0]);
    expect_status(&r, "\"active\":0,\"waiting\":0");
    down(&r);
}

static void a_missing_program_fails_at_once_with_advice(void) {
    rig r;
    tr_managed_spec spec = usual;
    spec.command = "no-such-server-program --port {port}";
    spec.install = "pip install it";
    up_with(&r, &spec);
    reserve(&r, 0, 1);
    expect_fail(&r, 0, TR_ERR_NOT_FOUND, "no-such-server-program is not in the daemon's PATH");
    order(&r, 0, TR_KIND_LOAD);
    expect_fail(&r, 0, TR_ERR_NOT_FOUND, "pip install it");
    expect_status(&r, "\"state\":\"failed\"");
    down(&r);
}

static void a_failed_exec_says_why(void) {
    rig r;
    up(&r);
    reserve(&r, 0, 1);
    CU_ASSERT(tr_fake_process_fail(r.fakes, pid_of(&r), ENOENT));
    puppet_run(r.node);
    expect_fail(&r, 0, TR_ERR_NOT_FOUND, "No such file");
    down(&r);
}

static void crashes_while_loading_fail_it_with_its_last_words(void) {
    rig r;
    up(&r);
    reserve(&r, 0, 1);
    for (int i = 0; i < 3; i++) {
        expect_nothing(&r, 0);
        CU_ASSERT_EQUAL(r.spawned, (uint32_t)i + 1);
        start_process(&r);
        CU_ASSERT(tr_fake_process_say(r.fakes, pid_of(&r), "loading\nout of \033[1mmemory\n"));
        end_process(&r, 1, 0);
        puppet_wait_us(r.node, S);
    }
    expect_fail(&r, 0, TR_ERR_CRASHED,
                "ended with status 1 while it was loading, 3 times in a row; its last words: "
                "loading | out of memory");
    CU_ASSERT_EQUAL(r.spawned, 3);
    down(&r);
}

static void a_failed_one_refuses_at_once_and_is_tried_again_later(void) {
    rig r;
    up(&r);
    reserve(&r, 0, 1);
    CU_ASSERT(tr_fake_process_fail(r.fakes, pid_of(&r), EACCES));
    puppet_run(r.node);
    stand_in_clear(&r.calls[0]);
    reserve(&r, 0, 2);
    expect_fail(&r, 0, TR_ERR_IO, "Permission denied");
    CU_ASSERT_EQUAL(r.spawned, 1);
    puppet_wait_us(r.node, S + 1);
    reserve(&r, 0, 3);
    CU_ASSERT_EQUAL(r.spawned, 2);
    become_ready(&r);
    expect_granted(&r, 0);
    down(&r);
}

static void load_tries_a_failed_one_at_once(void) {
    rig r;
    up(&r);
    reserve(&r, 0, 1);
    CU_ASSERT(tr_fake_process_fail(r.fakes, pid_of(&r), EACCES));
    puppet_run(r.node);
    order(&r, 1, TR_KIND_LOAD);
    CU_ASSERT_EQUAL(r.spawned, 2);
    become_ready(&r);
    expect_done(&r, 1);
    down(&r);
}

static void one_that_never_answers_is_killed_and_the_sentence_says_where(void) {
    rig r;
    up(&r);
    reserve(&r, 0, 1);
    start_process(&r);
    for (int i = 0; i < 70 && r.signal == 0; i++) {
        puppet_wait_us(r.node, S);
        (void)answer_health(&r, 0);
    }
    CU_ASSERT_EQUAL(r.signal, SIGKILL);
    end_process(&r, 0, SIGKILL);
    expect_fail(&r, 0, TR_ERR_TIMEOUT, "gave no healthy answer at http://127.0.0.1:");
    down(&r);
}

static void a_port_that_somebody_took_is_not_a_crash(void) {
    rig r;
    up(&r);
    reserve(&r, 0, 1);
    for (uint32_t i = 1; i <= 4; i++) {
        CU_ASSERT_EQUAL_FATAL(r.spawned, i);
        uint32_t port = *tr_managed_port(r.plan);
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_port = htons((uint16_t)port),
                                      .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
        CU_ASSERT_EQUAL(listen(fd, 1), 0);
        start_process(&r);
        end_process(&r, 1, 0);
        puppet_wait_us(r.node, 1);
        CU_ASSERT_NOT_EQUAL(*tr_managed_port(r.plan), port);
        close(fd);
    }
    become_ready(&r);
    expect_granted(&r, 0);
    down(&r);
}

/* A process of nobody's listens at the port and lives until the test kills it. */
static pid_t stranger_at(uint32_t port) {
    int ready[2];
    char byte = 0;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    CU_ASSERT_EQUAL_FATAL(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = setuid(65534) == 0 ? socket(AF_INET, SOCK_STREAM, 0) : -1;
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
            listen(fd, 1) != 0 || write(ready[1], "y", 1) != 1) {
            _exit(1);
        }
        for (;;) {
            (void)pause();
        }
    }
    close(ready[1]);
    CU_ASSERT_EQUAL(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void what_another_user_answers_at_its_port_is_not_its_health(void) {
    rig r;
    if (geteuid() != 0) {
        printf("\n    only root can be two users: not run\n");
        return;
    }
    up(&r);
    reserve(&r, 0, 1);
    uint32_t port = *tr_managed_port(r.plan);
    pid_t stranger = stranger_at(port);
    start_process(&r);
    puppet_wait_us(r.node, S / 10);
    CU_ASSERT(answer_health(&r, 200));
    CU_ASSERT_EQUAL(r.signal, SIGKILL);
    expect_status(&r, "\"state\":\"starting\"");
    end_process(&r, 0, SIGKILL);
    puppet_wait_us(r.node, 1);
    CU_ASSERT_EQUAL(r.spawned, 2);
    CU_ASSERT_NOT_EQUAL(*tr_managed_port(r.plan), port);
    expect_nothing(&r, 0); /* neither granted nor failed */
    kill(stranger, SIGKILL);
    waitpid(stranger, NULL, 0);
    become_ready(&r);
    expect_granted(&r, 0);
    down(&r);
}

static void a_listening_sockets_user_is_read_from_the_kernels_table(void) {
    static const char table[] =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  ...\n"
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000   0 1\n"
        "   1: 00000000000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A "
        "00000000:00000000 00:00000000 00000000     0        0 2\n"
        "   2: 0100007F:1F92 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001   0 3\n"
        "   3: 0100007F:1F93 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001   0 4";
    tr_str text = {table, sizeof table - 1};
    CU_ASSERT_TRUE(tr_port_foreign_in(text, 0x1f90, 1001));
    CU_ASSERT_TRUE(tr_port_foreign_in(text, 0x1f90, 0));
    CU_ASSERT_FALSE(tr_port_foreign_in(text, 0x1f90, 1000));
    CU_ASSERT_FALSE(tr_port_foreign_in(text, 0x1f91, 1000)); /* root's */
    CU_ASSERT_FALSE(tr_port_foreign_in(text, 0x1f92, 1000)); /* does not listen */
    CU_ASSERT_FALSE(tr_port_foreign_in(text, 0x1f93, 1000)); /* behind those that do */
    CU_ASSERT_FALSE(tr_port_foreign_in((tr_str){"", 0}, 0x1f90, 1));
    CU_ASSERT_FALSE(tr_port_foreign_in((tr_str){table, 100}, 0x1f90, 1));
}

static void a_crash_when_ready_starts_it_again(void) {
    rig r;
    ready_rig(&r);
    reserve(&r, 0, 1);
    expect_granted(&r, 0);
    end_process(&r, 0, SIGSEGV);
    puppet_wait_us(r.node, 1);
    CU_ASSERT_EQUAL(r.spawned, 2);
    settle(&r, 0, 1, TR_ERR_TRUNCATED);
    reserve(&r, 0, 2); /* the call's own retry */
    expect_nothing(&r, 0);
    become_ready(&r);
    expect_granted(&r, 0);
    expect_status(&r, "\"restarts\":1");
    down(&r);
}

static void crash_upon_crash_fails_it_and_a_good_answer_forgives(void) {
    rig r;
    ready_rig(&r);
    for (int i = 0; i < 9; i++) {
        end_process(&r, 1, 0);
        puppet_wait_us(r.node, 20 * S);
        become_ready(&r);
    }
    reserve(&r, 0, 1);
    expect_granted(&r, 0);
    settle(&r, 0, 1, TR_OK);
    for (int i = 0; i < 9; i++) {
        end_process(&r, 1, 0);
        puppet_wait_us(r.node, 20 * S);
        become_ready(&r);
    }
    end_process(&r, 1, 0);
    expect_status(&r, "\"state\":\"failed\"");
    down(&r);
}

static void one_that_hangs_is_killed_and_started_again(void) {
    rig r;
    ready_rig(&r);
    for (int i = 0; i < 60; i++) {
        puppet_wait_us(r.node, S);
        (void)answer_health(&r, 200);
    }
    CU_ASSERT_EQUAL(r.signal, 0);
    for (int i = 0; i < 19; i++) {
        puppet_wait_us(r.node, S);
    }
    CU_ASSERT_EQUAL(r.signal, 0);
    for (int i = 0; i < 12 && r.signal == 0; i++) {
        puppet_wait_us(r.node, S);
    }
    CU_ASSERT_EQUAL(r.signal, SIGKILL);
    reserve(&r, 0, 1);
    expect_nothing(&r, 0); /* nobody is sent to a dying one */
    end_process(&r, 0, SIGKILL);
    puppet_wait_us(r.node, 1);
    CU_ASSERT_EQUAL(r.spawned, 2);
    become_ready(&r);
    expect_granted(&r, 0);
    down(&r);
}

static void unload_lets_streams_end_and_stops_it(void) {
    rig r;
    ready_rig(&r);
    reserve(&r, 0, 1);
    expect_granted(&r, 0);
    order(&r, 1, TR_KIND_UNLOAD);
    CU_ASSERT_EQUAL(r.signal, 0);
    expect_nothing(&r, 1);
    settle(&r, 0, 1, TR_OK);
    CU_ASSERT_EQUAL(r.signal, SIGTERM);
    reserve(&r, 0, 2); /* it is wanted again: after this life */
    puppet_wait_us(r.node, 6 * S);
    CU_ASSERT_EQUAL(r.signal, SIGKILL); /* it took too long to end by itself */
    end_process(&r, 0, SIGKILL);
    expect_done(&r, 1);
    CU_ASSERT_EQUAL(r.spawned, 2);
    become_ready(&r);
    expect_granted(&r, 0);
    down(&r);
}

static void unload_calls_a_load_off(void) {
    rig r;
    up(&r);
    reserve(&r, 0, 1);
    start_process(&r);
    order(&r, 1, TR_KIND_UNLOAD);
    expect_fail(&r, 0, TR_ERR_CANCELLED, "unloaded while it was loading");
    CU_ASSERT_EQUAL(r.signal, SIGTERM);
    end_process(&r, 0, SIGTERM);
    expect_done(&r, 1);
    expect_status(&r, "\"state\":\"stopped\"");
    order(&r, 1, TR_KIND_UNLOAD); /* once more: there is nothing to do */
    expect_done(&r, 1);
    CU_ASSERT_EQUAL(r.spawned, 1);
    down(&r);
}

static void an_idle_one_is_stopped(void) {
    rig r;
    tr_managed_spec spec = usual;
    spec.idle_unload_ms = 5000;
    spec.preload = true;
    up_with(&r, &spec);
    CU_ASSERT_EQUAL(r.spawned, 1);
    become_ready(&r);
    reserve(&r, 0, 1);
    expect_granted(&r, 0);
    puppet_wait_us(r.node, 6 * S);
    (void)answer_health(&r, 200);
    CU_ASSERT_EQUAL(r.signal, 0); /* it is not idle */
    settle(&r, 0, 1, TR_OK);
    puppet_wait_us(r.node, 4 * S);
    CU_ASSERT_EQUAL(r.signal, 0);
    puppet_wait_us(r.node, 1 * S + 1);
    CU_ASSERT_EQUAL(r.signal, SIGTERM);
    end_process(&r, 0, 0);
    expect_status(&r, "\"state\":\"stopped\"");
    down(&r);
}

static void its_end_takes_the_process_along(void) {
    rig r;
    ready_rig(&r);
    tr_node_end_actors(r.node);
    CU_ASSERT_EQUAL(r.signal, SIGKILL);
    tr_process_table_free(tr_fake_processes_table(r.fakes));
    tr_node_free(r.node);
    tr_managed_plan_free(r.plan);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(the_first_request_starts_it_and_waits),
        PUPPET_TEST(it_is_started_with_its_words_and_a_port),
        PUPPET_TEST(at_most_at_once_are_granted_and_the_line_is_bounded),
        PUPPET_TEST(a_missing_program_fails_at_once_with_advice),
        PUPPET_TEST(a_failed_exec_says_why),
        PUPPET_TEST(crashes_while_loading_fail_it_with_its_last_words),
        PUPPET_TEST(a_failed_one_refuses_at_once_and_is_tried_again_later),
        PUPPET_TEST(load_tries_a_failed_one_at_once),
        PUPPET_TEST(one_that_never_answers_is_killed_and_the_sentence_says_where),
        PUPPET_TEST(a_port_that_somebody_took_is_not_a_crash),
        PUPPET_TEST(what_another_user_answers_at_its_port_is_not_its_health),
        PUPPET_TEST(a_listening_sockets_user_is_read_from_the_kernels_table),
        PUPPET_TEST(a_crash_when_ready_starts_it_again),
        PUPPET_TEST(crash_upon_crash_fails_it_and_a_good_answer_forgives),
        PUPPET_TEST(one_that_hangs_is_killed_and_started_again),
        PUPPET_TEST(unload_lets_streams_end_and_stops_it),
        PUPPET_TEST(unload_calls_a_load_off),
        PUPPET_TEST(an_idle_one_is_stopped),
        PUPPET_TEST(its_end_takes_the_process_along),
    };
    return puppet_main("managed", tests, sizeof tests / sizeof *tests);
}
