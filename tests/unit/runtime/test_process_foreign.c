/* Programs that are not ours: what they write is kept, what they may see is chosen, and nothing
 * that they start outlives them or the daemon. The program is this one, playing a part. */
#include <CUnit/Basic.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/process.h"
#include "tests/lib/probe.h"

static char self_path[4096];

/* ---- the parts ---- */

static void hang(void) {
    for (;;) {
        pause();
    }
}

/* A child, a child of it that leads a session of its own, and itself: their pids are its words. */
static void run_away(void) {
    pid_t child = fork();
    if (child == 0) {
        pid_t orphan = fork();
        if (orphan == 0) {
            setsid();
            dprintf(STDOUT_FILENO, "%d ", (int)getpid());
            hang();
        }
        dprintf(STDERR_FILENO, "%d ", (int)getpid());
        hang();
    }
    dprintf(STDOUT_FILENO, "%d ", (int)getpid());
    hang();
}

static int play_daemon(void);

static int play(const char *part) {
    if (strcmp(part, "say") == 0) {
        fputs("\033[31mto stdout\033[0m\n", stdout);
        fflush(stdout);
        fputs("to stderr\n", stderr);
        return 3;
    }
    if (strcmp(part, "much") == 0) {
        for (int i = 0; i < 100000; i++) {
            printf("line %d\n", i);
        }
        return 0;
    }
    if (strcmp(part, "abort") == 0) {
        signal(SIGABRT, SIG_DFL);
        raise(SIGABRT);
    }
    if (strcmp(part, "env") == 0) {
        return getenv("HF_TOKEN") != NULL && getenv("HF_HOME") != NULL &&
                       getenv("HF_API_KEY") == NULL && getenv("OPENAI_API_KEY") == NULL
                   ? 0
                   : 1;
    }
    if (strcmp(part, "run") == 0) {
        run_away();
    }
    return strcmp(part, "daemon") == 0 ? play_daemon() : 99;
}

/* ---- the stage ---- */

typedef struct stage {
    tr_node *node;
    tr_process_table *table;
    tr_probe *probe;
    tr_process *process;
    const char *part;
    tr_err err;
    tr_process_event spawned, exited;
    char output[TR_PROCESS_OUTPUT_max + 1];
    int number;
} stage;

static void on_message(tr_self *self, void *arg, tr_msg **msg) {
    (void)self;
    stage *s = arg;
    if (*msg == NULL) {
        if (s->process != NULL) {
            s->table->abandon(s->process);
        }
        return;
    }
    const tr_process_event *event = (const tr_process_event *)(const void *)(*msg)->data;
    *(event->event == TR_PROCESS_SPAWNED ? &s->spawned : &s->exited) = *event;
}

static void start(tr_self *self, void *arg) {
    static const char *const pass[] = {"HF_TOKEN", "HF_*", NULL};
    stage *s = arg;
    const char *argv[] = {s->part[0] == '/' ? s->part : self_path, s->part, NULL};
    tr_process_spec spec = {.argv = argv, .foreign = true, .env_pass = pass};
    s->err = s->table->spawn(s->table, self, &spec, 0, &s->process);
}

static bool open_stage(stage *s, const char *part) {
    *s = (stage){.part = part};
    tr_node_spec spec = {.shards = 1};
    if (tr_node_new(&spec, &s->node) != TR_OK || tr_process_table_linux(&s->table) != TR_OK ||
        tr_node_start(s->node) != TR_OK) {
        return false;
    }
    s->probe = tr_probe_new(s->node, 0, on_message, s);
    tr_probe_run(s->probe, start, s);
    return s->err == TR_OK;
}

static void tear_down(stage *s) {
    tr_probe_end(s->probe);
    tr_node_stop(s->node);
    tr_process_table_free(s->table);
    tr_node_free(s->node);
    tr_probe_free(s->probe);
    CU_ASSERT(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

static bool is_over(void *arg) {
    return ((stage *)arg)->exited.event == TR_PROCESS_EXITED;
}

static bool is_told(void *arg) {
    return ((stage *)arg)->spawned.event == TR_PROCESS_SPAWNED;
}

static bool has_said_three(stage *s) {
    int pids[3];
    s->table->output(s->process, s->output, sizeof s->output);
    return sscanf(s->output, "%d %d %d ", &pids[0], &pids[1], &pids[2]) == 3 &&
           s->output[strlen(s->output) - 1] == ' ';
}

static void read_output(tr_self *self, void *arg) {
    (void)self;
    stage *s = arg;
    s->table->output(s->process, s->output, sizeof s->output);
}

/* No message comes with its words: they are looked for again and again, for ten seconds. */
static bool await_three(stage *s) {
    for (int i = 0; i < 2000; i++) {
        if (has_said_three(s)) {
            return true;
        }
        (void)tr_probe_stays(s->probe, 5, NULL, NULL);
    }
    return false;
}

static void send_signal(tr_self *self, void *arg) {
    (void)self;
    stage *s = arg;
    s->table->kill(s->process, s->number);
}

static void run_to_its_end(stage *s, const char *part) {
    CU_ASSERT_FATAL(open_stage(s, part));
    CU_ASSERT_FATAL(tr_probe_await(s->probe, is_over, s));
    tr_probe_run(s->probe, read_output, s);
}

static bool wait_gone(pid_t pid) {
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0U);
    if (pidfd < 0) {
        return errno == ESRCH;
    }
    struct pollfd watch = {.fd = pidfd, .events = POLLIN};
    int got = poll(&watch, 1, 10000);
    close(pidfd);
    return got == 1;
}

static bool all_gone(const char *pids) {
    int pid = 0;
    int used = 0;
    int count = 0;
    for (; sscanf(pids, "%d %n", &pid, &used) == 1; pids += used, count++) {
        if (!wait_gone(pid)) {
            return false;
        }
    }
    return count == 3;
}

/* ---- claims ---- */

static void its_words_are_kept_and_its_status_arrives(void) {
    stage s;
    run_to_its_end(&s, "say");
    CU_ASSERT_EQUAL(s.exited.code, 3);
    CU_ASSERT_EQUAL(s.exited.signal, 0);
    CU_ASSERT_EQUAL(s.exited.pid, s.spawned.pid);
    CU_ASSERT_STRING_EQUAL(s.output, "to stdout\nto stderr\n");
    tear_down(&s);
}

static void of_many_words_the_last_are_kept(void) {
    stage s;
    run_to_its_end(&s, "much");
    CU_ASSERT(strlen(s.output) <= TR_PROCESS_OUTPUT_max);
    CU_ASSERT_PTR_NOT_NULL(strstr(s.output, "line 99999\n"));
    tear_down(&s);
}

static void death_by_signal_is_told_as_such(void) {
    stage s;
    run_to_its_end(&s, "abort");
    CU_ASSERT_EQUAL(s.exited.signal, SIGABRT);
    tear_down(&s);
}

static void a_missing_program_says_why(void) {
    stage s;
    CU_ASSERT_FATAL(open_stage(&s, "/nonexistent/server"));
    CU_ASSERT_FATAL(tr_probe_await(s.probe, is_told, &s));
    CU_ASSERT_EQUAL(s.spawned.err, TR_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(s.spawned.code, ENOENT);
    tear_down(&s);
}

static void it_sees_what_is_passed_and_no_keys(void) {
    stage s;
    setenv("HF_TOKEN", "named", 1);
    setenv("HF_HOME", "/somewhere", 1);
    setenv("HF_API_KEY", "secret", 1);
    setenv("OPENAI_API_KEY", "secret", 1);
    run_to_its_end(&s, "env");
    CU_ASSERT_EQUAL(s.exited.code, 0);
    tear_down(&s);
}

static void signals_reach_the_program(void) {
    stage s;
    CU_ASSERT_FATAL(open_stage(&s, "run"));
    CU_ASSERT_FATAL(await_three(&s));
    s.number = SIGTERM;
    tr_probe_run(s.probe, send_signal, &s);
    CU_ASSERT_FATAL(tr_probe_await(s.probe, is_over, &s));
    CU_ASSERT_EQUAL(s.exited.signal, SIGTERM);
    CU_ASSERT(all_gone(s.output)); /* what it had started too, wherever it went */
    tear_down(&s);
}

static void killing_it_kills_all_that_it_started(void) {
    stage s;
    CU_ASSERT_FATAL(open_stage(&s, "run"));
    CU_ASSERT_FATAL(await_three(&s));
    s.number = SIGKILL;
    tr_probe_run(s.probe, send_signal, &s);
    CU_ASSERT_FATAL(tr_probe_await(s.probe, is_over, &s));
    CU_ASSERT_EQUAL(s.exited.signal, SIGKILL);
    CU_ASSERT(all_gone(s.output));
    tear_down(&s);
}

static int play_daemon(void) {
    stage s;
    if (!open_stage(&s, "run") || !await_three(&s)) {
        return 1;
    }
    dprintf(STDOUT_FILENO, "%s\n", s.output);
    hang();
    return 1;
}

static void a_killed_daemon_leaves_nothing_behind(void) {
    int out[2];
    CU_ASSERT_EQUAL_FATAL(pipe(out), 0);
    pid_t daemon = fork();
    if (daemon == 0) {
        dup2(out[1], STDOUT_FILENO);
        execl(self_path, self_path, "daemon", (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    FILE *lines = fdopen(out[0], "r");
    char pids[200] = "";
    CU_ASSERT_PTR_NOT_NULL(fgets(pids, sizeof pids, lines));
    CU_ASSERT_EQUAL(kill(daemon, SIGKILL), 0);
    CU_ASSERT_EQUAL(waitpid(daemon, NULL, 0), daemon);
    CU_ASSERT(all_gone(pids));
    fclose(lines);
}

int main(int argc, char **argv) {
    if (readlink("/proc/self/exe", self_path, sizeof self_path - 1) <= 0) {
        return 2;
    }
    if (argc > 1) {
        return play(argv[1]);
    }
    CU_TestInfo tests[] = {
        {"its_words_are_kept_and_its_status_arrives", its_words_are_kept_and_its_status_arrives},
        {"of_many_words_the_last_are_kept", of_many_words_the_last_are_kept},
        {"death_by_signal_is_told_as_such", death_by_signal_is_told_as_such},
        {"a_missing_program_says_why", a_missing_program_says_why},
        {"it_sees_what_is_passed_and_no_keys", it_sees_what_is_passed_and_no_keys},
        {"signals_reach_the_program", signals_reach_the_program},
        {"killing_it_kills_all_that_it_started", killing_it_kills_all_that_it_started},
        {"a_killed_daemon_leaves_nothing_behind", a_killed_daemon_leaves_nothing_behind},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"foreign process", NULL, NULL, NULL, NULL, tests},
                             CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
