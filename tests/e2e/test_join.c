/* A worker on another machine: two network namespaces, a cable between them, tls+tcp over it. Not
 * run (77) where namespaces cannot be made: without root, without ip(8) or without openssl(1). */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/stage.h"

#define HERE "10.231.7.1"
#define THERE "10.231.7.2"
#define DOOR "tls+tcp://" HERE ":7433"
#define NOT_RUN 77

static char here[32], there[32], cable_here[16], cable_there[16];
static char work[64];
static tr_client *watcher;
static pid_t joined;
static char undisturbed[16384];

static char line[1024];
/* Runs a command, formatted, its words split at blanks; quiet. Its exit status. */
#define RUN(...) (snprintf(line, sizeof line, __VA_ARGS__), run_line())

static int run_line(void) {
    char *argv[48];
    int count = 0;
    char *rest = line;
    for (char *word; count < 47 && (word = strtok_r(rest, " ", &rest)) != NULL;) {
        argv[count++] = word;
    }
    argv[count] = NULL;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        dup2(null_fd, STDOUT_FILENO);
        dup2(null_fd, STDERR_FILENO);
        if (count > 0) {
            execvp(argv[0], argv);
        }
        _exit(127);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void unplug(void) {
    (void)RUN("ip netns del %s", here);
    (void)RUN("ip netns del %s", there);
    (void)RUN("rm -rf %s", work);
}

/* False: this machine cannot. */
static bool plug(void) {
    int id = (int)getpid();
    snprintf(here, sizeof here, "troupe-a-%d", id);
    snprintf(there, sizeof there, "troupe-b-%d", id);
    snprintf(cable_here, sizeof cable_here, "tra%d", id);
    snprintf(cable_there, sizeof cable_there, "trb%d", id);
    snprintf(work, sizeof work, "/tmp/troupe-e2e-join-XXXXXX");
    return mkdtemp(work) != NULL && RUN("ip netns add %s", here) == 0 &&
           RUN("ip netns add %s", there) == 0 &&
           RUN("ip link add %s netns %s type veth peer name %s netns %s", cable_here, here,
               cable_there, there) == 0 &&
           RUN("ip -n %s addr add " HERE "/24 dev %s", here, cable_here) == 0 &&
           RUN("ip -n %s addr add " THERE "/24 dev %s", there, cable_there) == 0 &&
           RUN("ip -n %s link set %s up", here, cable_here) == 0 &&
           RUN("ip -n %s link set %s up", there, cable_there) == 0 &&
           RUN("ip -n %s link set lo up", here) == 0 &&
           RUN("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
               "-subj /CN=" HERE " -addext subjectAltName=DNS:" HERE ",IP:" HERE
               " -keyout %s/key.pem -out %s/ca.pem",
               work, work) == 0;
}

static void write_file(const char *name, const char *text) {
    char path[96];
    snprintf(path, sizeof path, "%s/%s", work, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CU_ASSERT_EQUAL_FATAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void copy_file(const char *from, const char *to) {
    char path[96], text[8192];
    snprintf(path, sizeof path, "%s/%s", work, from);
    FILE *file = fopen(path, "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    write_file(to, text);
}

static int netns_fd(const char *name) {
    char path[96];
    snprintf(path, sizeof path, "/run/netns/%s", name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static tr_stream *stream_open(tr_client *client, uint32_t tokens, uint32_t window) {
    tr_options options = TR_OPTIONS_INIT;
    tr_request *request = NULL;
    tr_stream *stream = NULL;
    options.model = "random";
    options.temperature = 1;
    options.seed = 5;
    options.max_tokens = tokens;
    options.window_messages = window;
    CU_ASSERT_EQUAL_FATAL(tr_request_new(&options, &request), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_request_text(request, "user", "go"), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_stream_open(client, request, &stream), TR_OK);
    tr_request_free(request);
    return stream;
}

/* Reads on: chunks at most, or to the end. */
static tr_err read_on(tr_stream *stream, char *text, size_t size, int chunks) {
    tr_chunk chunk;
    tr_err err = TR_OK;
    while (chunks-- != 0 && (err = tr_stream_next(stream, 40000, &chunk)) == TR_OK) {
        CU_ASSERT_FATAL(strlen(text) + chunk.size < size);
        strncat(text, chunk.text, chunk.size);
    }
    return err;
}

static bool is_joined(void *arg) {
    (void)arg;
    char *text = NULL;
    bool found = tr_models_json(watcher, &text) == TR_OK &&
                 strstr(text, "\"state\":\"ready\",\"joined\":true") != NULL;
    tr_memory_free(text);
    return found;
}

static void open_stage(void) {
    char extra[512];
    write_file("token", "a-token-of-enough-bytes\n");
    copy_file("ca.pem", "cert.pem");
    copy_file("key.pem", "cert.pem");
    snprintf(extra, sizeof extra,
             "listen: {tcp: \"" DOOR "\", token_file: %s/token, cert_file: "
             "%s/cert.pem}\n",
             work, work);
    tr_stage_now.netns = netns_fd(here);
    tr_stage_open(1, extra);
    watcher = tr_stage_client();
    CU_ASSERT_EQUAL_FATAL(tr_load(watcher, "random"), TR_OK);
    tr_stream *stream = stream_open(watcher, 200, 0);
    CU_ASSERT_EQUAL(read_on(stream, undisturbed, sizeof undisturbed, -1), TR_DONE);
    tr_stream_close(stream);
}

static void a_worker_joins_over_tls(void) {
    char model[96], token[96], ca[96];
    snprintf(model, sizeof model, "%s/random.gguf", tr_stage_now.folder);
    snprintf(token, sizeof token, "%s/token", work);
    snprintf(ca, sizeof ca, "%s/ca.pem", work);
    static const char url[] = DOOR;
    const char *argv[] = {"troupe-worker", "--model",   model, "--name",
                          "random",        "--join",    url,   "--token-file",
                          token,           "--ca-file", ca,    "--context",
                          "4096",          "--threads", "1",   NULL};
    int daemons = tr_stage_now.netns;
    tr_stage_now.netns = netns_fd(there);
    joined = tr_stage_spawn(argv, -1);
    close(tr_stage_now.netns);
    tr_stage_now.netns = daemons;
    CU_ASSERT_TRUE_FATAL(tr_stage_until(is_joined, NULL, 15000));
}

/* The cable is cut, which closes nothing: silence alone tells. */
static void a_cut_cable_leaves_the_stream_unbroken(void) {
    char text[16384] = "";
    tr_client *client = tr_stage_client();
    /* Held by the local worker, so that the next goes to the joined one. */
    tr_stream *held = stream_open(client, 0, 2);
    char held_text[256] = "";
    CU_ASSERT_EQUAL(read_on(held, held_text, sizeof held_text, 1), TR_OK);
    tr_stream *stream = stream_open(client, 200, 4);
    CU_ASSERT_EQUAL(read_on(stream, text, sizeof text, 3), TR_OK);
    CU_ASSERT_EQUAL(tr_stage_active(watcher, "random"), 2);
    CU_ASSERT_EQUAL_FATAL(RUN("ip -n %s link set %s down", there, cable_there), 0);
    long began = tr_stage_now_ms();
    CU_ASSERT_EQUAL(read_on(stream, text, sizeof text, -1), TR_DONE);
    printf("\n    went on after the cut, %ld ms in all\n", tr_stage_now_ms() - began);
    CU_ASSERT_STRING_EQUAL(text, undisturbed);
    CU_ASSERT_TRUE(tr_stage_logged("a worker died; another goes on") > 0);
    tr_stream_close(stream);
    tr_stream_close(held);
    tr_client_close(client);
}

static void close_stage(void) {
    kill(joined, SIGKILL);
    waitpid(joined, NULL, 0);
    tr_client_close(watcher);
    tr_stage_close();
    close(tr_stage_now.netns);
}

int main(void) {
    CU_TestInfo tests[] = {
        {"(the daemon starts)", open_stage},
        {"a_worker_joins_over_tls", a_worker_joins_over_tls},
        {"a_cut_cable_leaves_the_stream_unbroken", a_cut_cable_leaves_the_stream_unbroken},
        {"(the daemon stops)", close_stage},
        CU_TEST_INFO_NULL,
    };
    if (!plug()) {
        printf("not run: network namespaces, a cable between them and a certificate need root, "
               "ip(8) and openssl(1)\n");
        unplug();
        return NOT_RUN;
    }
    int status = tr_stage_main("join", tests);
    unplug();
    return status;
}
