/* See stage.h. */
#include "tests/e2e/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "protocol/json.h"

tr_stage tr_stage_now;

static const char *bin(const char *program) {
    static char path[512];
    const char *folder = getenv("TROUPE_BIN");
    snprintf(path, sizeof path, "%s/%s", folder != NULL ? folder : "build/bin", program);
    return path;
}

static pid_t spawn(const char *const *argv, int out_fd, int ready_fd) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (tr_stage_now.netns > 0 && setns(tr_stage_now.netns, CLONE_NEWNET) != 0) {
            _exit(126);
        }
        setenv("XDG_RUNTIME_DIR", tr_stage_now.folder, 1);
        setenv("XDG_CONFIG_HOME", tr_stage_now.folder, 1); /* no keys but the test's */
        if (out_fd >= 0) {
            dup2(out_fd, STDOUT_FILENO);
        }
        char log[96];
        snprintf(log, sizeof log, "%s/err.log", tr_stage_now.folder);
        int log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        dup2(log_fd, STDERR_FILENO);
        if (ready_fd >= 0) {
            fcntl(ready_fd, F_SETFD, 0);
        }
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    return pid;
}

/* Reads until the other end closes. */
static void read_all(int fd, char *out, size_t size) {
    size_t used = 0;
    for (;;) {
        ssize_t got = read(fd, out + used, size - 1 - used);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0 || used + (size_t)got >= size - 1) {
            break;
        }
        used += (size_t)got;
    }
    out[used] = '\0';
}

static pid_t start_daemon(char *why, size_t size) {
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) != 0) {
        return -1;
    }
    char config[96], fd[16];
    snprintf(config, sizeof config, "%s/troupe.yaml", tr_stage_now.folder);
    snprintf(fd, sizeof fd, "%d", ready[1]);
    const char *argv[] = {bin("trouped"), "--config", config, "--ready-fd", fd, NULL};
    pid_t pid = spawn(argv, -1, ready[1]);
    close(ready[1]);
    read_all(ready[0], why, size);
    close(ready[0]);
    if (strcmp(why, "ready\n") == 0) {
        why[0] = '\0';
    }
    return pid;
}

void tr_stage_configure(uint32_t workers, const char *extra) {
    char path[96];
    snprintf(path, sizeof path, "%s/troupe.yaml", tr_stage_now.folder);
    FILE *file = fopen(path, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    const char *mailbox = getenv("TROUPE_E2E_MAILBOX");
    fprintf(file,
            "mailbox: %s\nlocal:\n  chain: {file: %s/chain.gguf, context: 1024, threads: 1}\n"
            "  random: {file: %s/random.gguf, context: 4096, threads: 1, workers: %u}\n%s",
            mailbox != NULL ? mailbox : "direct", tr_stage_now.folder, tr_stage_now.folder, workers,
            extra != NULL ? extra : "");
    fclose(file);
}

static void write_model(const char *kind) {
    char path[96];
    snprintf(path, sizeof path, "%s/%s.gguf", tr_stage_now.folder, kind);
    const char *argv[] = {bin("troupe-tiny-gguf"), kind, path, NULL};
    int status = -1;
    pid_t pid = spawn(argv, -1, -1);
    waitpid(pid, &status, 0);
    CU_ASSERT_EQUAL_FATAL(status, 0);
}

void tr_stage_restart(void) {
    char why[512] = "";
    tr_stage_now.daemon = start_daemon(why, sizeof why);
    if (why[0] != '\0') {
        printf("\n    trouped: %s\n", why);
    }
    CU_ASSERT_STRING_EQUAL_FATAL(why, "");
}

/* A test that ended at a fatal assertion has closed nothing. Whoever has been waited for by the
 * test itself is nobody to kill. */
static void end_leftover(void) {
    if (tr_stage_now.daemon > 0 && waitpid(tr_stage_now.daemon, NULL, WNOHANG) == 0) {
        printf("\n    trouped was left running, and is killed; its log is %s/err.log\n",
               tr_stage_now.folder);
        tr_stage_kill();
    }
    tr_stage_now.daemon = 0;
}

void tr_stage_open(uint32_t workers, const char *extra) {
    end_leftover();
    snprintf(tr_stage_now.folder, sizeof tr_stage_now.folder, "/tmp/troupe-e2e-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(tr_stage_now.folder));
    snprintf(tr_stage_now.url, sizeof tr_stage_now.url, "ipc://%s/troupe/troupe.sock",
             tr_stage_now.folder);
    write_model("chain");
    write_model("random");
    tr_stage_configure(workers, extra);
    tr_stage_restart();
}

static void remove_folder(void) {
    const char *argv[] = {"/bin/rm", "-rf", tr_stage_now.folder, NULL};
    pid_t pid = fork();
    if (pid == 0) {
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

void tr_stage_close(void) {
    int status = -1;
    kill(tr_stage_now.daemon, SIGTERM);
    waitpid(tr_stage_now.daemon, &status, 0);
    tr_stage_now.daemon = 0;
    CU_ASSERT_EQUAL(status, 0);
    if (status != 0) {
        printf("\n    trouped ended with %d; its log is %s/err.log\n", status, tr_stage_now.folder);
        return;
    }
    remove_folder();
}

void tr_stage_second(char *ret_why, size_t size) {
    pid_t pid = start_daemon(ret_why, size);
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
}

pid_t tr_stage_spawn(const char *const *argv, int out_fd) {
    const char *args[32] = {bin(argv[0])};
    for (int i = 1; i < 31 && argv[i] != NULL; i++) {
        args[i] = argv[i];
    }
    return spawn(args, out_fd, -1);
}

void tr_stage_kill(void) {
    kill(tr_stage_now.daemon, SIGKILL);
    waitpid(tr_stage_now.daemon, NULL, 0);
}

typedef struct ending {
    pid_t pid;
    int status;
} ending;

static bool has_ended(void *arg) {
    ending *e = arg;
    return waitpid(e->pid, &e->status, WNOHANG) == e->pid;
}

int tr_stage_wait(pid_t pid, long ms) {
    ending e = {.pid = pid, .status = -1};
    if (!tr_stage_until(has_ended, &e, ms)) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return -1;
    }
    return WIFEXITED(e.status) ? WEXITSTATUS(e.status) : 1000 + e.status;
}

char *tr_stage_log(void) {
    char path[96];
    snprintf(path, sizeof path, "%s/err.log", tr_stage_now.folder);
    FILE *file = fopen(path, "re");
    char *text = NULL;
    size_t room = 0;
    if (file == NULL || getdelim(&text, &room, '\0', file) < 0) {
        free(text);
        text = strdup("");
    }
    if (file != NULL) {
        fclose(file);
    }
    return text;
}

unsigned tr_stage_logged(const char *text) {
    char *log = tr_stage_log();
    unsigned count = 0;
    for (const char *at = strstr(log, text); at != NULL; at = strstr(at + 1, text)) {
        count++;
    }
    free(log);
    return count;
}

int tr_stage_run(const char *const *argv, char *ret_out, size_t size) {
    int out[2];
    int status = -1;
    if (pipe2(out, O_CLOEXEC) != 0) {
        return -1;
    }
    pid_t pid = tr_stage_spawn(argv, out[1]);
    close(out[1]);
    read_all(out[0], ret_out, size);
    close(out[0]);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

tr_client *tr_stage_client(void) {
    tr_client *client = NULL;
    tr_err err = tr_client_open(tr_stage_now.url, &client);
    if (err != TR_OK) {
        printf("\n    %s\n", tr_client_error());
    }
    CU_ASSERT_EQUAL_FATAL(err, TR_OK);
    return client;
}

/* Calls `fn` for each worker of the model. */
static void each_worker(tr_client *client, const char *model,
                        void (*fn)(const tr_json_value *worker, void *arg), void *arg) {
    char *text = NULL;
    tr_json *json = NULL;
    if (tr_models_json(client, &text) == TR_OK &&
        tr_json_parse(text, strlen(text), &json, NULL) == TR_OK) {
        const tr_json_value *item = tr_json_first(tr_json_get(tr_json_root(json), "local"));
        for (; item != NULL; item = tr_json_next(item)) {
            tr_str name = tr_json_string(tr_json_get(item, "model"));
            if (name.size != strlen(model) || memcmp(name.ptr, model, name.size) != 0) {
                continue;
            }
            const tr_json_value *worker = tr_json_first(tr_json_get(item, "workers"));
            for (; worker != NULL; worker = tr_json_next(worker)) {
                fn(worker, arg);
            }
        }
    }
    tr_json_free(json);
    tr_memory_free(text);
}

typedef struct wanted {
    unsigned left;
    pid_t pid;
    long active;
} wanted;

static void pick(const tr_json_value *worker, void *arg) {
    wanted *w = arg;
    tr_str state = tr_json_string(tr_json_get(worker, "state"));
    w->active += (long)tr_json_int(tr_json_get(worker, "active"), 0);
    if (state.size == 5 && memcmp(state.ptr, "ready", 5) == 0 && w->pid == 0 && w->left-- == 0) {
        w->pid = (pid_t)tr_json_int(tr_json_get(worker, "pid"), 0);
    }
}

pid_t tr_stage_worker(tr_client *client, const char *model, unsigned i) {
    wanted w = {.left = i};
    each_worker(client, model, pick, &w);
    return w.pid;
}

long tr_stage_active(tr_client *client, const char *model) {
    wanted w = {.left = 1000};
    each_worker(client, model, pick, &w);
    return w.active;
}

long tr_stage_running(tr_client *client) {
    char *text = NULL;
    tr_json *json = NULL;
    long running = -1;
    if (tr_control_json(client, "{\"do\":\"requests\"}", &text) == TR_OK &&
        tr_json_parse(text, strlen(text), &json, NULL) == TR_OK) {
        running = (long)tr_json_int(tr_json_get(tr_json_root(json), "running"), -1);
    }
    tr_json_free(json);
    tr_memory_free(text);
    return running;
}

long tr_stage_rss_kib(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/statm", (int)tr_stage_now.daemon);
    FILE *file = fopen(path, "re");
    long pages = -1;
    if (file != NULL) {
        if (fscanf(file, "%*d %ld", &pages) != 1) {
            pages = -1;
        }
        fclose(file);
    }
    return pages < 0 ? -1 : pages * (sysconf(_SC_PAGESIZE) / 1024);
}

long tr_stage_cpu_ms(void) {
    char path[64], text[1024] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)tr_stage_now.daemon);
    FILE *file = fopen(path, "re");
    size_t size = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file != NULL) {
        fclose(file);
    }
    text[size] = '\0';
    char *at = strrchr(text, ')');
    unsigned long user = 0, kernel = 0;
    if (at == NULL || sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                             &kernel) != 2) {
        return -1;
    }
    return (long)((user + kernel) * 1000 / (unsigned long)sysconf(_SC_CLK_TCK));
}

long tr_stage_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000L + now.tv_nsec / 1000000;
}

bool tr_stage_until(bool (*fn)(void *arg), void *arg, long ms) {
    long until = tr_stage_now_ms() + ms;
    while (!fn(arg)) {
        if (tr_stage_now_ms() > until) {
            return false;
        }
        poll(NULL, 0, 2);
    }
    return true;
}

int tr_stage_main(const char *suite, CU_TestInfo *tests) {
    CU_SuiteInfo suites[] = {{suite, NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    signal(SIGPIPE, SIG_IGN);
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    end_leftover();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
