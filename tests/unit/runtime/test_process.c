/* Child processes of the real table. The children are this program again, with the name of a part
 * to play as its first argument; what a child finds it says by its exit status. */
#include <CUnit/Basic.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/process.h"
#include "tests/lib/probe.h"

#define CHILDREN 100

static char self_path[4096];

/* ---- the children's parts ---- */

static int play_fds(void) {
    DIR *list = opendir("/proc/self/fd");
    int extra = 0;
    for (struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        int fd = atoi(entry->d_name);
        extra += entry->d_name[0] != '.' && fd > 2 && fd != dirfd(list);
    }
    closedir(list);
    return extra;
}

static int play_signals(void) {
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    for (int number = 1; number < 32; number++) {
        struct sigaction action;
        if (sigismember(&mask, number) == 1 ||
            (sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN)) {
            return number;
        }
    }
    return 0;
}

extern char **environ;

static int play_env(void) {
    int seen = 0;
    for (char **text = environ; *text != NULL; text++) {
        seen += strncmp(*text, "TROUPE_TEST_A=", 14) == 0;
    }
    const char *a = getenv("TROUPE_TEST_A");
    const char *b = getenv("OMP_TROUPE_TEST");
    bool keys = getenv("TROUPE_TEST_API_KEY") != NULL || getenv("LLAMA_API_KEY") != NULL ||
                getenv("PATHS") != NULL;
    return seen == 1 && a != NULL && strcmp(a, "new") == 0 && b != NULL && strcmp(b, "kept") == 0 &&
                   getenv("PATH") != NULL && !keys
               ? 0
               : 1;
}

static int play_victim(void) {
    FILE *file = fopen("/proc/self/oom_score_adj", "re");
    int score = 0;
    int got = file != NULL ? fscanf(file, "%d", &score) : 0;
    if (file != NULL) {
        fclose(file);
    }
    return got == 1 && score > 0 ? 0 : 1;
}

static int play_stdin(void) {
    char byte;
    return read(STDIN_FILENO, &byte, 1) == 0 ? 0 : 1;
}

/* Leaves a process behind and writes its pid to `path`. */
static int play_parent(const char *path) {
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    FILE *file = fopen(path, "we");
    fprintf(file, "%d", (int)pid);
    fclose(file);
    return 0;
}

static int play_daemon(void);

static int play(int argc, char **argv) {
    const char *part = argv[1];
    if (strcmp(part, "exit") == 0) {
        return atoi(argv[2]);
    }
    if (strcmp(part, "hang") == 0) {
        for (;;) {
            pause();
        }
    }
    if (strcmp(part, "abort") == 0) {
        signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would exit instead */
        raise(SIGSEGV);
    }
    if (strcmp(part, "fds") == 0) {
        return play_fds();
    }
    if (strcmp(part, "signals") == 0) {
        return play_signals();
    }
    if (strcmp(part, "env") == 0) {
        return play_env();
    }
    if (strcmp(part, "victim") == 0) {
        return play_victim();
    }
    if (strcmp(part, "stdin") == 0) {
        return play_stdin();
    }
    if (strcmp(part, "parent") == 0 && argc > 2) {
        return play_parent(argv[2]);
    }
    return strcmp(part, "daemon") == 0 ? play_daemon() : 99;
}

/* ---- the stage ---- */

typedef struct child {
    uint64_t ref;
    tr_process *process;
    tr_process_event spawned, exited;
    uint32_t events;
} child;

typedef struct stage {
    tr_node *node;
    tr_process_table *table;
    tr_probe *probe;
    child children[CHILDREN];
    uint32_t count;
} stage;

static void on_message(tr_self *self, void *arg, tr_msg **msg) {
    (void)self;
    stage *s = arg;
    if (*msg == NULL) { /* the one exit path */
        for (uint32_t i = 0; i < s->count; i++) {
            if (s->children[i].process != NULL) {
                s->table->abandon(s->children[i].process);
                s->children[i].process = NULL;
            }
        }
        return;
    }
    const tr_process_event *event = (const tr_process_event *)(const void *)(*msg)->data;
    child *c = &s->children[(*msg)->ref];
    c->events++;
    *(event->event == TR_PROCESS_SPAWNED ? &c->spawned : &c->exited) = *event;
}

static bool open_stage(stage *s) {
    memset(s, 0, sizeof *s);
    tr_node_spec spec = {.shards = 1};
    if (tr_node_new(&spec, &s->node) != TR_OK || tr_process_table_linux(&s->table) != TR_OK ||
        tr_node_start(s->node) != TR_OK) {
        return false;
    }
    s->probe = tr_probe_new(s->node, 0, on_message, s);
    return true;
}

static void set_up(stage *s) {
    CU_ASSERT_FATAL(open_stage(s));
}

static void tear_down(stage *s) {
    tr_probe_end(s->probe);
    tr_node_stop(s->node);
    tr_process_table_free(s->table);
    tr_node_free(s->node);
    tr_probe_free(s->probe);
    CU_ASSERT(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD); /* no zombie, nothing left */
}

typedef struct start {
    stage *s;
    tr_process_spec spec;
    tr_err err;
} start;

static void start_child(tr_self *self, void *arg) {
    start *st = arg;
    stage *s = st->s;
    child *c = &s->children[s->count];
    st->err = s->table->spawn(s->table, self, &st->spec, s->count, &c->process);
    s->count++;
}

/* NULL: refused. */
static child *try_launch(stage *s, const char *part, const char *argument) {
    const char *argv[] = {self_path, part, argument, NULL};
    const char *env[] = {"TROUPE_TEST_A=new", NULL};
    start st = {.s = s, .spec = {.argv = argv, .env_add = env, .memory_victim = true}};
    tr_probe_run(s->probe, start_child, &st);
    return st.err == TR_OK ? &s->children[s->count - 1] : NULL;
}

static child *launch(stage *s, const char *part, const char *argument) {
    child *c = try_launch(s, part, argument);
    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    return c;
}

static bool is_up(void *arg) {
    return ((child *)arg)->spawned.event == TR_PROCESS_SPAWNED;
}

static bool is_over(void *arg) {
    return ((child *)arg)->exited.event == TR_PROCESS_EXITED;
}

static int exit_code(const char *part, const char *argument) {
    stage s;
    set_up(&s);
    child *c = launch(&s, part, argument);
    CU_ASSERT_FATAL(tr_probe_await(s.probe, is_over, c));
    CU_ASSERT_EQUAL(c->exited.signal, 0);
    CU_ASSERT_EQUAL(c->exited.pid, c->spawned.pid);
    CU_ASSERT_EQUAL(c->events, 2);
    int code = c->exited.code;
    tear_down(&s);
    return code;
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

typedef struct sig {
    stage *s;
    child *c;
    int number;
} sig;

static void send_signal(tr_self *self, void *arg) {
    (void)self;
    sig *g = arg;
    g->s->table->kill(g->c->process, g->number);
}

static void let_go(tr_self *self, void *arg) {
    (void)self;
    sig *g = arg;
    g->s->table->abandon(g->c->process);
    g->c->process = NULL;
}

/* ---- claims ---- */

static void exit_status_arrives(void) {
    CU_ASSERT_EQUAL(exit_code("exit", "0"), 0);
    CU_ASSERT_EQUAL(exit_code("exit", "42"), 42);
}

static void child_has_three_descriptors(void) {
    int leak = open("/dev/null", O_RDONLY); // NOLINT: without close-on-exec, as a library might
    CU_ASSERT_FATAL(leak >= 0);
    CU_ASSERT_EQUAL(exit_code("fds", NULL), 0);
    close(leak);
}

static void child_has_standard_signals(void) {
    sigset_t some;
    sigset_t before;
    sigemptyset(&some);
    sigaddset(&some, SIGTERM);
    sigaddset(&some, SIGUSR1);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &some, &before);
    CU_ASSERT_EQUAL(exit_code("signals", NULL), 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void environment_is_added_to_and_without_keys(void) {
    setenv("TROUPE_TEST_A", "old", 1);
    setenv("OMP_TROUPE_TEST", "kept", 1);
    setenv("PATH", "/usr/bin:/bin", 0);
    setenv("PATHS", "secret", 1);
    setenv("TROUPE_TEST_API_KEY", "secret", 1);
    setenv("LLAMA_API_KEY", "secret", 1);
    CU_ASSERT_EQUAL(exit_code("env", NULL), 0);
}

static void memory_victim_is_marked(void) {
    CU_ASSERT_EQUAL(exit_code("victim", NULL), 0);
}

static void standard_input_is_empty(void) {
    CU_ASSERT_EQUAL(exit_code("stdin", NULL), 0);
}

static void failed_exec_says_why(void) {
    stage s;
    set_up(&s);
    const char *argv[] = {"/nonexistent/program", NULL};
    start st = {.s = &s, .spec = {.argv = argv}};
    tr_probe_run(s.probe, start_child, &st);
    CU_ASSERT_FATAL(tr_probe_await(s.probe, is_up, &s.children[0]));
    CU_ASSERT_EQUAL(s.children[0].spawned.err, TR_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(s.children[0].spawned.code, ENOENT);
    const char *folder[] = {"/tmp", NULL};
    st.spec.argv = folder;
    tr_probe_run(s.probe, start_child, &st);
    CU_ASSERT_FATAL(tr_probe_await(s.probe, is_up, &s.children[1]));
    CU_ASSERT_EQUAL(s.children[1].spawned.err, TR_ERR_IO);
    CU_ASSERT_EQUAL(s.children[1].spawned.code, EACCES);
    tear_down(&s);
    CU_ASSERT_EQUAL(s.children[0].events, 1);
    CU_ASSERT_EQUAL(s.children[1].events, 1);
}

static void death_by_signal_arrives(void) {
    stage s;
    set_up(&s);
    child *crashed = launch(&s, "abort", NULL);
    CU_ASSERT_FATAL(tr_probe_await(s.probe, is_over, crashed));
    CU_ASSERT_EQUAL(crashed->exited.signal, SIGSEGV);
    child *killed = launch(&s, "hang", NULL);
    CU_ASSERT_FATAL(tr_probe_await(s.probe, is_up, killed));
    sig g = {.s = &s, .c = killed, .number = SIGTERM};
    tr_probe_run(s.probe, send_signal, &g);
    CU_ASSERT_FATAL(tr_probe_await(s.probe, is_over, killed));
    CU_ASSERT_EQUAL(killed->exited.signal, SIGTERM);
    tr_probe_run(s.probe, send_signal, &g); /* after its end: no effect */
    tear_down(&s);
}

static void signal_before_the_start_is_kept(void) {
    stage s;
    set_up(&s);
    child *c = launch(&s, "hang", NULL);
    sig g = {.s = &s, .c = c, .number = SIGKILL};
    tr_probe_run(s.probe, send_signal, &g);
    CU_ASSERT_FATAL(tr_probe_await(s.probe, is_over, c));
    CU_ASSERT_EQUAL(c->exited.signal, SIGKILL);
    tear_down(&s);
}

static void abandoned_child_dies_in_silence(void) {
    stage s;
    set_up(&s);
    child *c = launch(&s, "hang", NULL);
    CU_ASSERT_FATAL(tr_probe_await(s.probe, is_up, c));
    pid_t pid = c->spawned.pid;
    sig g = {.s = &s, .c = c};
    tr_probe_run(s.probe, let_go, &g);
    CU_ASSERT(wait_gone(pid));
    child *at_once = launch(&s, "hang", NULL); /* perhaps before it was even spawned */
    g.c = at_once;
    tr_probe_run(s.probe, let_go, &g);
    tear_down(&s);
    CU_ASSERT_EQUAL(c->events, 1);
}

static bool all_over(void *arg) {
    stage *s = arg;
    uint32_t over = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        over += is_over(&s->children[i]);
    }
    return over == CHILDREN;
}

static void hundred_children_are_told_apart(void) {
    stage s;
    set_up(&s);
    for (int i = 0; i < CHILDREN; i++) {
        char code[8];
        snprintf(code, sizeof code, "%d", i);
        launch(&s, "exit", code);
    }
    CU_ASSERT_FATAL(tr_probe_await(s.probe, all_over, &s));
    for (int i = 0; i < CHILDREN; i++) {
        CU_ASSERT_EQUAL(s.children[i].exited.code, i);
    }
    tear_down(&s);
}

static void end_of_the_table_kills_what_runs(void) {
    stage s;
    set_up(&s);
    pid_t pids[5];
    for (int i = 0; i < 5; i++) {
        child *c = launch(&s, "hang", NULL);
        CU_ASSERT_FATAL(tr_probe_await(s.probe, is_up, c));
        pids[i] = c->spawned.pid;
    }
    tear_down(&s);
    for (int i = 0; i < 5; i++) {
        CU_ASSERT(kill(pids[i], 0) == -1 && errno == ESRCH);
    }
}

/* As after a start that failed half-way: nobody has told the owner to end. */
static void owner_that_still_runs_ends_before_the_table(void) {
    stage s;
    set_up(&s);
    pid_t pids[3];
    for (int i = 0; i < 3; i++) {
        child *c = launch(&s, "hang", NULL);
        CU_ASSERT_FATAL(tr_probe_await(s.probe, is_up, c));
        pids[i] = c->spawned.pid;
    }
    tr_node_stop(s.node);
    CU_ASSERT_PTR_NOT_NULL(s.children[2].process);
    tr_node_end_actors(s.node);
    CU_ASSERT_PTR_NULL(s.children[2].process); /* its stop() has abandoned them */
    tr_process_table_free(s.table);
    tr_node_end_actors(s.node);
    tr_node_free(s.node);
    tr_probe_free(s.probe);
    for (int i = 0; i < 3; i++) {
        CU_ASSERT(kill(pids[i], 0) == -1 && errno == ESRCH);
    }
}

static void what_a_child_leaves_behind_dies_too(void) {
    char path[] = "/tmp/troupe-test-XXXXXX";
    int fd = mkstemp(path);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(exit_code("parent", path), 0);
    char text[16] = "";
    CU_ASSERT_FATAL(read(fd, text, sizeof text - 1) > 0);
    close(fd);
    unlink(path);
    CU_ASSERT(wait_gone(atoi(text)));
}

/* A daemon with two children, which it names on its standard error; then it waits to be killed. */
static int play_daemon(void) {
    stage s;
    if (!open_stage(&s)) {
        return 1;
    }
    for (int i = 0; i < 2; i++) {
        child *c = try_launch(&s, "hang", NULL);
        if (c == NULL || !tr_probe_await(s.probe, is_up, c)) {
            return 1;
        }
        dprintf(STDERR_FILENO, "%d\n", (int)c->spawned.pid);
    }
    for (;;) {
        pause();
    }
}

static void killed_daemon_takes_its_children_along(void) {
    int out[2];
    CU_ASSERT_EQUAL_FATAL(pipe2(out, O_CLOEXEC), 0);
    pid_t daemon = fork();
    if (daemon == 0) {
        dup2(out[1], STDERR_FILENO);
        execl(self_path, self_path, "daemon", (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    FILE *lines = fdopen(out[0], "r");
    int pids[2] = {0, 0};
    CU_ASSERT_EQUAL(fscanf(lines, "%d %d", &pids[0], &pids[1]), 2);
    CU_ASSERT_EQUAL(kill(daemon, SIGKILL), 0);
    CU_ASSERT_EQUAL(waitpid(daemon, NULL, 0), daemon);
    CU_ASSERT(pids[0] > 0 && wait_gone(pids[0]));
    CU_ASSERT(pids[1] > 0 && wait_gone(pids[1]));
    fclose(lines);
}

int main(int argc, char **argv) {
    ssize_t size = readlink("/proc/self/exe", self_path, sizeof self_path - 1);
    if (size <= 0) {
        return 2;
    }
    if (argc > 1) {
        return play(argc, argv);
    }
    CU_TestInfo tests[] = {
        {"exit_status_arrives", exit_status_arrives},
        {"child_has_three_descriptors", child_has_three_descriptors},
        {"child_has_standard_signals", child_has_standard_signals},
        {"environment_is_added_to_and_without_keys", environment_is_added_to_and_without_keys},
        {"memory_victim_is_marked", memory_victim_is_marked},
        {"standard_input_is_empty", standard_input_is_empty},
        {"failed_exec_says_why", failed_exec_says_why},
        {"death_by_signal_arrives", death_by_signal_arrives},
        {"signal_before_the_start_is_kept", signal_before_the_start_is_kept},
        {"abandoned_child_dies_in_silence", abandoned_child_dies_in_silence},
        {"hundred_children_are_told_apart", hundred_children_are_told_apart},
        {"end_of_the_table_kills_what_runs", end_of_the_table_kills_what_runs},
        {"owner_that_still_runs_ends_before_the_table",
         owner_that_still_runs_ends_before_the_table},
        {"what_a_child_leaves_behind_dies_too", what_a_child_leaves_behind_dies_too},
        {"killed_daemon_takes_its_children_along", killed_daemon_takes_its_children_along},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"process", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
