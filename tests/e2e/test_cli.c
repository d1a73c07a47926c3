/* The troupe program as a person meets it: what it prints where, on terminals and in pipes, what it
 * does with standard input and signals, and which exit status it leaves. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "tests/e2e/stage.h"

enum { ARGUMENTS = 80, OUTPUT = 262144 };

/* One run of a program. Set before: input, terminal, runtime; after: out, err, status. */
typedef struct program {
    const char *input;   /* in a pipe; NULL = /dev/null */
    int terminal;        /* the descriptor that is a terminal of 80 columns, or 0 */
    const char *runtime; /* XDG_RUNTIME_DIR, NULL = the stage's */
    const char *folder;  /* where the program is, NULL = the build's */
    pid_t pid;
    int fds[3]; /* what the program's output can be read from; 1 and 2 */
    int slave;
    char out[OUTPUT];
    char err[OUTPUT];
    int status;
} program;

static program run_now;

static void open_terminal(program *p) {
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    CU_ASSERT_FATAL(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    p->slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    CU_ASSERT_FATAL(p->slave >= 0 && ioctl(p->slave, TIOCSWINSZ, &size) == 0);
    p->fds[p->terminal] = master;
}

static int open_input(const program *p) {
    if (p->input == NULL) {
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    int ends[2];
    CU_ASSERT_FATAL(pipe2(ends, O_CLOEXEC) == 0);
    CU_ASSERT_EQUAL(write(ends[1], p->input, strlen(p->input)), (ssize_t)strlen(p->input));
    close(ends[1]);
    return ends[0];
}

static void become(const program *p, int in, const int *outs, const char *const *argv) {
    char path[512];
    const char *folder = p->folder != NULL ? p->folder : getenv("TROUPE_BIN");
    snprintf(path, sizeof path, "%s/%s", folder != NULL ? folder : "build/bin", argv[0]);
    setenv("XDG_RUNTIME_DIR", p->runtime != NULL ? p->runtime : tr_stage_now.folder, 1);
    if (p->folder != NULL) {
        setenv("PATH", "/nonexistent", 1);
    }
    dup2(in, STDIN_FILENO);
    dup2(outs[1], STDOUT_FILENO);
    dup2(outs[2], STDERR_FILENO);
    execv(strchr(argv[0], '/') != NULL ? argv[0] : path, (char *const *)argv);
    _exit(127);
}

static void start(program *p, const char *const *argv) {
    int in = open_input(p);
    int outs[3] = {-1, -1, -1};
    p->slave = -1;
    for (int fd = 1; fd <= 2; fd++) {
        if (fd == p->terminal) {
            open_terminal(p);
            outs[fd] = p->slave;
        } else {
            int ends[2];
            CU_ASSERT_FATAL(pipe2(ends, O_CLOEXEC) == 0);
            p->fds[fd] = ends[0];
            outs[fd] = ends[1];
        }
    }
    fflush(NULL);
    p->pid = fork();
    if (p->pid == 0) {
        become(p, in, outs, argv);
    }
    close(in);
    close(outs[1]);
    close(outs[2]);
}

/* Appends what has come; false at the end. */
static bool read_some(int fd, char *text) {
    size_t used = strlen(text);
    ssize_t size = read(fd, text + used, OUTPUT - 1 - used);
    if (size > 0) {
        text[used + (size_t)size] = '\0';
    }
    return size > 0 || (size < 0 && errno == EINTR);
}

static void finish(program *p) {
    bool more[3] = {false, true, true};
    while (more[1] || more[2]) {
        struct pollfd fds[] = {{.fd = more[1] ? p->fds[1] : -1, .events = POLLIN},
                               {.fd = more[2] ? p->fds[2] : -1, .events = POLLIN}};
        CU_ASSERT_FATAL(poll(fds, 2, 120000) > 0);
        more[1] = more[1] && (fds[0].revents == 0 || read_some(p->fds[1], p->out));
        more[2] = more[2] && (fds[1].revents == 0 || read_some(p->fds[2], p->err));
    }
    close(p->fds[1]);
    close(p->fds[2]);
    p->status = tr_stage_wait(p->pid, 120000);
}

static program *begin(const char *input, int terminal) {
    program *p = &run_now;
    *p = (program){.input = input, .terminal = terminal};
    return p;
}

static int run(program *p, const char *const *argv) {
    start(p, argv);
    finish(p);
    return p->status;
}

/* Runs `troupe` with these arguments. */
#define TROUPE(p, ...) run(p, (const char *const[]){"troupe", __VA_ARGS__, NULL})

static void says(const char *text, const char *part) {
    if (strstr(text, part) == NULL) {
        printf("\n    \"%s\" is not in: %s\n", part, text);
        CU_FAIL("another text");
    }
}

static size_t lines(const char *text) {
    size_t count = 0;
    for (const char *at = strchr(text, '\n'); at != NULL; at = strchr(at + 1, '\n')) {
        count++;
    }
    return count;
}

static const char *write_file(const char *name, const char *text) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", tr_stage_now.folder, name);
    FILE *file = fopen(path, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_FATAL(fputs(text, file) >= 0 && fclose(file) == 0);
    return path;
}

/* --- gather --- */

enum { PROMPTS = 50 };

/* Interrupts when the first answer is printed; the others take one after the other. */
static program *interrupt_gather(const char *form) {
    const char *argv[ARGUMENTS] = {"troupe",    "gather", "-m",           "random", form,
                                   "--at-once", "1",      "--max-tokens", "500"};
    for (size_t i = 0; i < PROMPTS; i++) {
        argv[9 + i] = "go on";
    }
    program *p = begin(NULL, 0);
    start(p, argv);
    while (strchr(p->out, '\n') == NULL && read_some(p->fds[1], p->out)) {
    }
    kill(p->pid, SIGINT);
    finish(p);
    return p;
}

static void interrupted_gather_keeps_what_is_finished(void) {
    program *p = interrupt_gather("--json");
    CU_ASSERT_EQUAL(p->status, 130);
    CU_ASSERT_EQUAL(lines(p->out), PROMPTS);
    CU_ASSERT_EQUAL(strncmp(p->out, "{\"index\":0,\"text\":\"", 19), 0);
    says(p->out, "\"finish\":\"length\"");
    says(p->out, "{\"index\":49,\"text\":\"\",\"attempts\":0,\"error\":{");
    says(p->err, "prompt 50: cancelled\n");
    CU_ASSERT_PTR_NULL(strstr(p->err, "prompt 1: "));
    p = interrupt_gather("-q");
    CU_ASSERT_EQUAL(p->status, 130);
    CU_ASSERT_EQUAL(strncmp(p->out, "## go on\n", 9), 0);
    says(p->err, "prompt 50: cancelled\n");
}

static void gather_prints_in_order(void) {
    program *p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "gather", "-m", "echo/x", "one", "two", "three"), 0);
    CU_ASSERT_STRING_EQUAL(p->out, "## one\none\n\n## two\ntwo\n\n## three\nthree\n");
    says(p->err, "3 of 3 done");
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "gather", "-q", "-m", "nope", "--json", "one", "two"), 2);
    CU_ASSERT_EQUAL(lines(p->out), 2);
    says(p->err, "prompt 2: there is no model");
}

/* --- advice --- */

static void a_missing_model_names_the_command(void) {
    program *p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "-m", "missing", "hi"), 2);
    says(p->err, "/nonexistent/m.gguf: No such file");
    says(p->err, "tools/setup");
    says(p->err, "local.NAME.file");
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "models"), 0);
    says(p->out, "/nonexistent/m.gguf: No such file");
}

static void lists_of_models_are_had_by_what_stands_before_the_slash(void) {
    program *p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "models", "local"), 0);
    says(p->out, "chain ");
    CU_ASSERT_EQUAL(lines(p->out), 3);
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "models", "nosuch"), 2);
    says(p->err, "there is no provider \"nosuch\" (`troupe models` lists");
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "load", "openai/gpt-4o"), 2);
    says(p->err, "provider openai cannot be told to load a model: it has its models ready");
}

static void copy_program(const char *name, const char *folder) {
    char from[512], to[160];
    const char *bin = getenv("TROUPE_BIN");
    snprintf(from, sizeof from, "%s/%s", bin != NULL ? bin : "build/bin", name);
    snprintf(to, sizeof to, "%s/%s", folder, name);
    FILE *in = fopen(from, "re"), *out = fopen(to, "we");
    CU_ASSERT_FATAL(in != NULL && out != NULL);
    static char block[65536];
    for (size_t size; (size = fread(block, 1, sizeof block, in)) > 0;) {
        CU_ASSERT_EQUAL(fwrite(block, 1, size, out), size);
    }
    fclose(in);
    CU_ASSERT_FATAL(fclose(out) == 0 && chmod(to, 0700) == 0);
}

/* A folder below the stage's, for another daemon. */
static program *elsewhere(const char *folder, const char *programs) {
    program *p = begin(NULL, 0);
    p->runtime = folder;
    p->folder = programs;
    return p;
}

static void without_a_worker_the_daemon_says_how_to_get_one(void) {
    char folder[96];
    char bin[128];
    snprintf(folder, sizeof folder, "%s/bare", tr_stage_now.folder);
    snprintf(bin, sizeof bin, "%s/bin", folder);
    CU_ASSERT_FATAL(mkdir(folder, 0700) == 0 && mkdir(bin, 0700) == 0);
    copy_program("troupe", bin);
    copy_program("trouped", bin);
    char config[128];
    snprintf(config, sizeof config, "%s", write_file("empty.yaml", "local: {}\n"));
    CU_ASSERT_EQUAL(TROUPE(elsewhere(folder, bin), "start", "--config",
                           write_file("one.yaml", "local: {one: {file: default}}\n")),
                    0);
    program *p = elsewhere(folder, bin);
    CU_ASSERT_NOT_EQUAL(TROUPE(p, "ask", "hi"), 0);
    says(p->err, "troupe-worker cannot be started");
    says(p->err, "tools/quickstart");
    says(p->err, "provider/model");
    CU_ASSERT_EQUAL(TROUPE(elsewhere(folder, bin), "stop"), 0);
    CU_ASSERT_EQUAL(TROUPE(elsewhere(folder, bin), "start", "--config", config), 0);
    p = elsewhere(folder, bin);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "hi"), 2);
    says(p->err, "default_model");
    says(p->err, "tools/setup");
    CU_ASSERT_EQUAL(TROUPE(elsewhere(folder, bin), "stop"), 0);
}

static void a_wrong_configuration_is_wrong_usage(void) {
    char folder[96];
    snprintf(folder, sizeof folder, "%s/wrong", tr_stage_now.folder);
    CU_ASSERT_FATAL(mkdir(folder, 0700) == 0);
    program *p = elsewhere(folder, NULL);
    CU_ASSERT_EQUAL(TROUPE(p, "start", "--config", write_file("bad.yaml", "foo: 1\n")), 2);
    says(p->err, "bad.yaml:1:1: foo: there is no such key");
    p = elsewhere(folder, NULL);
    CU_ASSERT_EQUAL(TROUPE(p, "start", "--config", "/nonexistent.yaml"), 2);
    says(p->err, "/nonexistent.yaml");
    p = elsewhere(folder, NULL);
    CU_ASSERT_EQUAL(TROUPE(p, "status"), 3);
    says(p->err, "troupe start");
}

static void a_file_written_after_the_start_is_found_at_a_reload(void) {
    char folder[96], file[128];
    snprintf(folder, sizeof folder, "%s/late", tr_stage_now.folder);
    snprintf(file, sizeof file, "%s/troupe", folder);
    CU_ASSERT_FATAL(mkdir(folder, 0700) == 0 && mkdir(file, 0700) == 0);
    setenv("XDG_CONFIG_HOME", folder, 1);
    CU_ASSERT_EQUAL(TROUPE(elsewhere(folder, NULL), "start"), 0);
    program *p = elsewhere(folder, NULL);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "-m", "late", "hi"), 2);
    CU_ASSERT_EQUAL(TROUPE(elsewhere(folder, NULL), "status", "--json"), 0);
    const char *pid = strstr(run_now.out, "\"pid\":");
    CU_ASSERT_PTR_NOT_NULL_FATAL(pid);
    pid_t daemon = (pid_t)strtol(pid + 6, NULL, 10);
    write_file("late/troupe/troupe.yaml", "aliases: {late: echo/x}\n");
    CU_ASSERT_EQUAL_FATAL(kill(daemon, SIGHUP), 0);
    int status = 2;
    for (int i = 0; i < 2000 && status == 2; i++) { /* nobody says when it is done */
        status = TROUPE(elsewhere(folder, NULL), "ask", "-m", "late", "hi");
    }
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_EQUAL(TROUPE(elsewhere(folder, NULL), "stop"), 0);
    setenv("XDG_CONFIG_HOME", tr_stage_now.folder, 1); /* as the stage's daemon has it */
}

static void a_key_is_stored_for_the_account_that_uses_it(void) {
    setenv("XDG_CONFIG_HOME", tr_stage_now.folder, 1);
    program *p = begin("sk-one\n", 0);
    CU_ASSERT_EQUAL(TROUPE(p, "key", "set", "openai-responses"), 0);
    says(p->err, "/keys/openai;");
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "key", "list", "openai-responses"), 0);
    says(p->out, "1 key from file:");
    CU_ASSERT_EQUAL(TROUPE(begin(NULL, 0), "key", "rm", "openai-responses"), 0);
    p = begin("sk-one\n", 0);
    CU_ASSERT_EQUAL(TROUPE(p, "key", "set", "opnai"), 2);
    says(p->err, "there is no provider \"opnai\"; did you mean openai");
    says(p->err, "--force stores");
    p = begin("sk-one\n", 0);
    CU_ASSERT_EQUAL(TROUPE(p, "key", "add", "opnai"), 2);
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "key", "rm", "opnai"), 2); /* nothing was stored */
    p = begin("sk-one\n", 0);
    CU_ASSERT_EQUAL(TROUPE(p, "key", "set", "--force", "opnai"), 0);
    says(p->err, "`troupe key check opnai` tries it\n");
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "key", "check", "opnai"), 2);
    says(p->err, "there is no provider \"opnai\"");
    CU_ASSERT_EQUAL(TROUPE(begin(NULL, 0), "key", "rm", "opnai"), 0);
    p = begin("sk-one\n", 0);
    CU_ASSERT_EQUAL(TROUPE(p, "key", "set", "opnai", "--socket", "ipc:///nonexistent/socket"), 0);
    says(p->err, "no daemon runs now");
    CU_ASSERT_EQUAL(TROUPE(begin(NULL, 0), "key", "rm", "opnai"), 0);
}

/* A model can have any name; in a table it must not begin a line or move the cursor. */
static void names_of_others_move_no_cursor(void) {
    program *p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "models"), 0);
    says(p->out, "odd [2Jname");
    CU_ASSERT_PTR_NULL(strchr(p->out, '\033'));
}

/* What was told once is not told again as the reason why nothing more is tried. */
static void a_dead_server_is_told_once(void) {
    for (int i = 0; i < 4; i++) {
        CU_ASSERT_EQUAL(TROUPE(begin(NULL, 0), "ask", "--retries", "0", "-m", "dead/x", "hi"), 1);
    }
    program *p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "--retries", "3", "-m", "dead/x", "hi"), 1);
    says(p->err, "is it running, and the base URL right?; no further attempt: dead/x is not asked");
    const char *once = strstr(p->err, "cannot reach");
    CU_ASSERT_PTR_NOT_NULL_FATAL(once);
    CU_ASSERT_PTR_NULL(strstr(once + 1, "cannot reach"));
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "limit", "dead"), 0);
    says(p->out, "dead/x: not asked for another");
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "limit"), 0);
    says(p->out, "dead/x: not asked for another");
    says(p->out, "openai                 0 of 64 slots in use, 0 waiting\n");
    CU_ASSERT_TRUE(lines(p->out) < 30);
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "limit", "--json"), 0);
    says(p->out, "{\"gate\":\"limiter\",\"provider\":\"openai\",");
    CU_ASSERT_EQUAL(TROUPE(begin(NULL, 0), "limit", "--rpm", "5"), 2);
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "--provider", "anthropic", "-m", "x", "--base-url",
                           "http://127.0.0.1:1", "hi"),
                    2);
    says(p->err, "give the configuration a provider with kind: anthropic and this base_url");
}

static void a_daemon_whose_socket_was_removed_is_named_with_its_pid(void) {
    char folder[96], socket[128], config[128], advice[32];
    snprintf(folder, sizeof folder, "%s/lost", tr_stage_now.folder);
    snprintf(socket, sizeof socket, "%s/troupe/troupe.sock", folder);
    CU_ASSERT_FATAL(mkdir(folder, 0700) == 0);
    snprintf(config, sizeof config, "%s", write_file("lost.yaml", "local: {}\n"));
    program *p = elsewhere(folder, NULL);
    CU_ASSERT_EQUAL_FATAL(TROUPE(p, "start", "--config", config), 0);
    int pid = 0;
    CU_ASSERT_EQUAL_FATAL(sscanf(p->err, "troupe: started trouped, pid %d", &pid), 1);
    snprintf(advice, sizeof advice, "`kill %d`", pid);
    CU_ASSERT_EQUAL(TROUPE(elsewhere(folder, NULL), "status", "--socket", socket), 0);
    CU_ASSERT_EQUAL(unlink(socket), 0);
    p = elsewhere(folder, NULL);
    CU_ASSERT_EQUAL(TROUPE(p, "status"), 3);
    says(p->err, "there is no socket");
    says(p->err, advice);
    p = elsewhere(folder, NULL);
    CU_ASSERT_EQUAL(TROUPE(p, "start", "--config", config), 2);
    says(p->err, "its socket is gone");
    says(p->err, advice);
    struct pollfd gone = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    CU_ASSERT_EQUAL(kill(pid, SIGTERM), 0); /* as advised */
    CU_ASSERT_EQUAL(poll(&gone, 1, 30000), 1);
    close(gone.fd);
    CU_ASSERT_EQUAL(TROUPE(elsewhere(folder, NULL), "start", "--config", config), 0);
    CU_ASSERT_EQUAL(TROUPE(elsewhere(folder, NULL), "stop"), 0);
}

static void messages_name_what_was_typed(void) {
    program *p = begin(NULL, 0);
    const char *file = write_file("s.json", "{\"a\":");
    char expected[160];
    snprintf(expected, sizeof expected, "troupe: --schema %s is not valid JSON", file);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "--schema", file, "hi"), 2);
    says(p->err, expected);
    snprintf(expected, sizeof expected, "troupe: --schema %s",
             write_file("s.json", "{\"not\": {}}"));
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "-m", "chain", "--schema", file, "hi"), 2);
    says(p->err, expected);
    snprintf(expected, sizeof expected, "troupe: --grammar %s: it is no GBNF", file);
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "-m", "chain", "--grammar", file, "hi"), 2);
    says(p->err, expected);
    p = begin("\n", 0);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "-m", "chain"), 2);
    says(p->err, "troupe: the prompt is empty");
    const struct {
        const char *option, *value, *sentence;
    } wrong[] = {
        {"--extra", "[1]", "--extra must be a JSON object"},
        {"--extra", "{\"top_k\":\"x\"}", "troupe: top_k: expected a whole number"},
        {"--extra", "{\"messages\":1}", "--extra has \"messages\""},
        {"--stop", "", "--stop \"\": it takes a text of 1 to 256 bytes"},
        {"--max-tokens", "0", "--max-tokens \"0\": it takes a whole number"},
        {"--temperature", "hot", "--temperature \"hot\": it takes a number from 0 to 100"},
        {"--timeout", "1x", "--timeout \"1x\": it takes a time"},
        {"--system", "\xff", "--system is not valid UTF-8"},
        {"--schema", "/nonexistent", "/nonexistent cannot be read"},
        {"--at-once", "3", "--at-once: ask takes no such option"},
        {"-x", "3", "-x: ask takes no such option"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        p = begin(NULL, 0);
        CU_ASSERT_EQUAL(TROUPE(p, "ask", "-m", "chain", "hi", wrong[i].option, wrong[i].value), 2);
        says(p->err, wrong[i].sentence);
        CU_ASSERT_STRING_EQUAL(p->out, "");
    }
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "-m"), 2);
    says(p->err, "-m: its value is missing");
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "-m", "echo/x", "\xff"), 2);
    says(p->err, "the prompt is not valid UTF-8");
}

/* --- standard input --- */

static void a_dash_stands_for_standard_input(void) {
    program *p = begin("in\nput\n\n", 0);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "-m", "echo/x", "sum", "up:", "-", "end"), 0);
    CU_ASSERT_STRING_EQUAL(p->out, "sum up:\n\nin\nput\n\nend\n");
    p = begin("all of it\n", 0);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "-m", "echo/x"), 0);
    CU_ASSERT_STRING_EQUAL(p->out, "all of it\n");
    p = begin("piped\n", 0);
    CU_ASSERT_EQUAL(TROUPE(p, "gather", "-q", "-m", "echo/x", "one", "-"), 0);
    CU_ASSERT_STRING_EQUAL(p->out, "## one\none\n\n## piped\npiped\n");
}

static void unread_input_is_noted_on_a_terminal(void) {
    static const char note[] = "standard input was not read: an argument - stands for it";
    program *p = begin("unread\n", STDERR_FILENO);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "-m", "echo/x", "hi"), 0);
    CU_ASSERT_STRING_EQUAL(p->out, "hi\n");
    says(p->err, note);
    p = begin("unread\n", 0);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "-m", "echo/x", "hi"), 0);
    CU_ASSERT_STRING_EQUAL(p->err, "");
    p = begin("unread\n", STDERR_FILENO);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "-q", "-m", "echo/x", "hi"), 0);
    CU_ASSERT_STRING_EQUAL(p->err, "");
    p = begin(NULL, STDERR_FILENO);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "-m", "echo/x", "hi"), 0);
    CU_ASSERT_STRING_EQUAL(p->err, "");
}

/* --- forms --- */

static void json_is_one_object_a_line(void) {
    program *p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "embed", "-m", "chain", "--json", "one", "two"), 0);
    CU_ASSERT_EQUAL(lines(p->out), 2);
    CU_ASSERT_EQUAL(strncmp(p->out, "{\"index\":0,\"embedding\":[", 24), 0);
    says(p->out, "]}\n{\"index\":1,\"embedding\":[");
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "version", "--json"), 0);
    CU_ASSERT_EQUAL(lines(p->out), 1);
    says(p->out, "{\"troupe\":\"");
    says(p->out, ",\"trouped\":\"");
    static const char *const commands[] = {"models", "requests", "status", "tree"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        p = begin(NULL, 0);
        CU_ASSERT_EQUAL(TROUPE(p, commands[i], "--json"), 0);
        CU_ASSERT_EQUAL(lines(p->out), 1);
        CU_ASSERT_EQUAL(p->out[0], '{');
    }
}

static void an_answer_cut_by_its_length_is_noted_unless_quiet(void) {
    program *p = begin(NULL, 0);
    CU_ASSERT_EQUAL(
        TROUPE(p, "ask", "-m", "chain", "--temperature", "0", "--max-tokens", "3", "hi"), 0);
    CU_ASSERT_STRING_EQUAL(p->out, "abc\n");
    CU_ASSERT_STRING_EQUAL(
        p->err, "troupe: the answer was cut at 3 tokens by --max-tokens (finish: length)\n");
    p = begin(NULL, STDERR_FILENO);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "-q", "-m", "chain", "--max-tokens", "3", "hi"), 0);
    CU_ASSERT_STRING_EQUAL(p->err, "");
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "-m", "chain", "--json", "--max-tokens", "3", "hi"), 0);
    says(p->out, "\"finish\":\"length\"");
    CU_ASSERT_STRING_EQUAL(p->err, "");
    p = begin(NULL, STDERR_FILENO);
    CU_ASSERT_EQUAL(TROUPE(p, "ask", "-m", "chain", "--temperature", "0", "hi"), 0);
    CU_ASSERT_STRING_EQUAL(p->err, "");
}

static void the_tree_fits_80_columns(void) {
    program *p = begin(NULL, STDOUT_FILENO);
    CU_ASSERT_EQUAL(TROUPE(p, "tree", "--once"), 0);
    CU_ASSERT_EQUAL(strncmp(p->out, "ACTOR ", 6), 0);
    says(p->out, "pool:chain");
    for (const char *line = p->out; *line != '\0';) {
        size_t size = strcspn(line, "\r\n");
        if (size > 80) {
            printf("\n    %zu columns: %.*s\n", size, (int)size, line);
        }
        CU_ASSERT_TRUE(size <= 80);
        line += size + strspn(line + size, "\r\n");
    }
}

static void a_request_is_cancelled_by_the_id_that_is_listed(void) {
    static program asking;
    asking = (program){0};
    start(&asking, (const char *const[]){"troupe", "ask", "-m", "random", "hi", NULL});
    CU_ASSERT_TRUE(read_some(asking.fds[1], asking.out));
    program *p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "requests"), 0);
    CU_ASSERT_EQUAL(lines(p->out), 1);
    char id[64];
    CU_ASSERT_EQUAL(sscanf(p->out, "%63[0-9.] streaming", id), 1);
    p = begin(NULL, 0);
    CU_ASSERT_EQUAL(TROUPE(p, "cancel", id), 0);
    finish(&asking);
    CU_ASSERT_EQUAL(asking.status, 130);
    says(asking.err, "cancelled");
}

static void a_daemon_that_dies_leaves_words_for_who_reads_the_answer(void) {
    program *p = begin(NULL, 0);
    start(p, (const char *const[]){"troupe", "ask", "-m", "random", "hi", NULL});
    CU_ASSERT_TRUE(read_some(p->fds[1], p->out));
    tr_stage_kill();
    finish(p);
    CU_ASSERT_EQUAL(p->status, 3);
    says(p->err, "went away in the middle of this request");
    says(p->err, "what is printed is not the whole answer; if it is not running, start it");
    CU_ASSERT_PTR_NULL(strstr(p->err, "in the result"));
    tr_stage_restart();
}

/* What bash offers for the word after `words`. */
static const char *complete(const char *words) {
    char script[1024];
    const char *bin = getenv("TROUPE_BIN");
    bin = bin != NULL ? bin : "build/bin";
    snprintf(script, sizeof script,
             "eval \"$(%s/troupe completion bash)\"; COMP_WORDS=(%s/troupe %s); "
             "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _troupe 2>&1; echo \"${COMPREPLY[*]}\"",
             bin, bin, words);
    program *p = begin(NULL, 0);
    CU_ASSERT_EQUAL(run(p, (const char *const[]){"/bin/bash", "-c", script, NULL}), 0);
    CU_ASSERT_STRING_EQUAL(p->err, "");
    return p->out;
}

static void completion_knows_values(void) {
    CU_ASSERT_STRING_EQUAL(complete("as"), "ask\n");
    CU_ASSERT_STRING_EQUAL(complete("ask --mod"), "--model\n");
    CU_ASSERT_STRING_EQUAL(complete("ask --im"), "--image\n");
    CU_ASSERT_STRING_EQUAL(complete("ask -m cha"), "chain\n");
    CU_ASSERT_STRING_EQUAL(complete("ask --model opena"),
                           "openai/ openai-compatible/ openai-responses/\n");
    CU_ASSERT_STRING_EQUAL(complete("ask --provider ech"), "echo\n");
    CU_ASSERT_STRING_EQUAL(complete("load ''"), "chain random missing\n");
    CU_ASSERT_STRING_EQUAL(complete("log-level ''"), "error warn info debug\n");
    CU_ASSERT_STRING_EQUAL(complete("limit ech"), "echo\n");
    CU_ASSERT_STRING_EQUAL(complete("models ech"), "echo\n");
    CU_ASSERT_STRING_EQUAL(complete("completion z"), "zsh\n");
    CU_ASSERT_STRING_EQUAL(complete("help gat"), "gather\n");
    CU_ASSERT_STRING_EQUAL(complete("ask --schema ''"), "\n");
    CU_ASSERT_STRING_EQUAL(complete("cancel x"), "\n");
    says(complete("gather --"), "--at-once");
}

static void open_stage(void) {
    tr_stage_open(1, "  missing: {file: /nonexistent/m.gguf}\n"
                     "providers:\n"
                     "  dead: {kind: openai-compatible, base_url: \"http://127.0.0.1:1/v1\"}\n"
                     "aliases: {odd: \"echo/odd\\e[2Jname\"}\n");
}

int main(void) {
    CU_TestInfo tests[] = {
        {"(the daemon starts)", open_stage},
        {"interrupted_gather_keeps_what_is_finished", interrupted_gather_keeps_what_is_finished},
        {"gather_prints_in_order", gather_prints_in_order},
        {"a_missing_model_names_the_command", a_missing_model_names_the_command},
        {"lists_of_models_are_had_by_what_stands_before_the_slash",
         lists_of_models_are_had_by_what_stands_before_the_slash},
        {"without_a_worker_the_daemon_says_how_to_get_one",
         without_a_worker_the_daemon_says_how_to_get_one},
        {"a_wrong_configuration_is_wrong_usage", a_wrong_configuration_is_wrong_usage},
        {"a_file_written_after_the_start_is_found_at_a_reload",
         a_file_written_after_the_start_is_found_at_a_reload},
        {"a_key_is_stored_for_the_account_that_uses_it",
         a_key_is_stored_for_the_account_that_uses_it},
        {"names_of_others_move_no_cursor", names_of_others_move_no_cursor},
        {"a_dead_server_is_told_once", a_dead_server_is_told_once},
        {"a_daemon_whose_socket_was_removed_is_named_with_its_pid",
         a_daemon_whose_socket_was_removed_is_named_with_its_pid},
        {"messages_name_what_was_typed", messages_name_what_was_typed},
        {"a_dash_stands_for_standard_input", a_dash_stands_for_standard_input},
        {"unread_input_is_noted_on_a_terminal", unread_input_is_noted_on_a_terminal},
        {"json_is_one_object_a_line", json_is_one_object_a_line},
        {"an_answer_cut_by_its_length_is_noted_unless_quiet",
         an_answer_cut_by_its_length_is_noted_unless_quiet},
        {"the_tree_fits_80_columns", the_tree_fits_80_columns},
        {"a_request_is_cancelled_by_the_id_that_is_listed",
         a_request_is_cancelled_by_the_id_that_is_listed},
        {"a_daemon_that_dies_leaves_words_for_who_reads_the_answer",
         a_daemon_that_dies_leaves_words_for_who_reads_the_answer},
        {"completion_knows_values", completion_knows_values},
        {"(the daemon stops)", tr_stage_close},
        CU_TEST_INFO_NULL,
    };
    return tr_stage_main("cli", tests);
}
