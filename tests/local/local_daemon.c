/* See local_daemon.h. CUnit's assertions stay on the test thread: up and down run on a shard. */
#include "tests/local/local_daemon.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/log.h"
#include "runtime/transport.h"

static void local_tell(local_daemon *d, bool *flag) {
    pthread_mutex_lock(&d->mtx);
    *flag = true;
    pthread_cond_broadcast(&d->cond);
    pthread_mutex_unlock(&d->mtx);
}

static void local_up(void *arg, tr_err err, const char *why) {
    if (err != TR_OK) {
        fprintf(stderr, "the daemon does not start: %s\n", why);
        abort();
    }
    local_tell(arg, &((local_daemon *)arg)->up);
}

static void local_down(void *arg, tr_err reason) {
    (void)reason;
    local_tell(arg, &((local_daemon *)arg)->down);
}

static void local_wait(local_daemon *d, const bool *flag) {
    pthread_mutex_lock(&d->mtx);
    while (!*flag) {
        pthread_cond_wait(&d->cond, &d->mtx);
    }
    pthread_mutex_unlock(&d->mtx);
}

/* Makes the folder and its model; `url` is where pools dial. */
void local_prepare(local_daemon *d, tr_tiny_kind kind) {
    *d = (local_daemon){.mtx = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    snprintf(d->folder, sizeof d->folder, "/tmp/troupe-local-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(d->folder));
    snprintf(d->socket, sizeof d->socket, "%s/troupe.sock", d->folder);
    snprintf(d->url, sizeof d->url, "ipc://%s", d->socket);
    snprintf(d->model, sizeof d->model, "%s/model.gguf", d->folder);
    CU_ASSERT_TRUE_FATAL(tr_tiny_gguf_write(&(tr_tiny_spec){.kind = kind, .seed = 3}, d->model));
}

tr_pool_spec local_pool(const local_daemon *d, const char *name, uint32_t workers) {
    return (tr_pool_spec){.model = name,
                          .file = d->model,
                          .worker_program = WORKER_PROGRAM,
                          .dial_url = d->url,
                          .workers = workers,
                          .sequences = 4,
                          .context = 512,
                          .threads = 1};
}

/* With `tcp_url` set: workers may join there. */
void local_start(local_daemon *d, const tr_pool_spec *pools, size_t count) {
    tr_log_set(TR_LOG_LOGFMT, getenv("TROUPE_TEST_LOG") != NULL ? TR_LOG_DEBUG : TR_LOG_ERROR,
               STDERR_FILENO);
    tr_services_spec services_spec = {.version = "test"};
    const char *locals[LOCAL_POOLS_max];
    tr_child_spec children[LOCAL_POOLS_max];
    for (size_t i = 0; i < count; i++) {
        CU_ASSERT_EQUAL_FATAL(tr_pool_plan_new(&pools[i], &d->plans[i]), TR_OK);
        children[i] = tr_pool_child(d->plans[i]);
        locals[i] = pools[i].model;
    }
    d->plan_count = count;
    /* On a slow machine a stream that a test holds back must not give its worker up by itself. */
    tr_routes_spec routes_spec = {
        .locals = locals, .local_count = count, .limits.pause_ms = TR_TIMEOUT_MS_max};
    tr_routes *routes = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_services_new(&services_spec, &d->services), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_routes_new(&routes_spec, &routes), TR_OK);
    tr_services_set_routes(d->services, routes);
    CU_ASSERT_EQUAL_FATAL(tr_process_table_linux(&d->processes), TR_OK);
    const char *mailbox = getenv("TROUPE_TEST_MAILBOX");
    bool inproc = mailbox != NULL && strcmp(mailbox, "inproc") == 0;
    tr_node_spec node_spec = {
        .shards = 2,
        .mailbox = inproc ? TR_MAILBOX_INPROC : TR_MAILBOX_DIRECT,
        .platform = {.transport = tr_transport_nng(), .processes = d->processes}};
    tr_door_spec doors[] = {{.url = d->url, .same_user = true, .takes_clients = true},
                            {.url = d->tcp_url,
                             .token = LOCAL_TOKEN,
                             .token_size = sizeof LOCAL_TOKEN - 1,
                             .takes_clients = true}};
    tr_company_spec spec = {.services = d->services,
                            .doors = doors,
                            .door_count = d->tcp_url[0] != '\0' ? 2 : 1,
                            .pools = children,
                            .pool_count = count,
                            .drain_ms = 200,
                            .up = local_up,
                            .down = local_down,
                            .arg = d};
    CU_ASSERT_EQUAL_FATAL(tr_node_new(&node_spec, &d->node), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_company_start(d->node, &spec, &d->company), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_node_start(d->node), TR_OK);
    local_wait(d, &d->up);
    CU_ASSERT_EQUAL_FATAL(tr_client_open(d->url, &d->client), TR_OK);
}

void local_stop(local_daemon *d) {
    tr_client_close(d->client);
    tr_company_stop(d->company);
    local_wait(d, &d->down);
    tr_node_stop(d->node);
    tr_process_table_free(d->processes);
    tr_transport_nng()->forget(tr_transport_nng(), d->node);
    tr_node_free(d->node);
    tr_company_free(d->company);
    tr_services_free(d->services);
    for (size_t i = 0; i < d->plan_count; i++) {
        tr_pool_plan_free(d->plans[i]);
    }
    char lock[sizeof d->socket + 8];
    snprintf(lock, sizeof lock, "%s.lock", d->socket);
    unlink(lock);
    unlink(d->model);
    unlink(d->token_file);
    CU_ASSERT_EQUAL(rmdir(d->folder), 0); /* nothing else was left */
}

/* What the first pool says of itself; free it with tr_json_free. */
tr_json *local_status(local_daemon *d, const tr_json_value **ret_pool) {
    char *text = NULL;
    tr_json *json = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_models_json(d->client, &text), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_json_parse(text, strlen(text), &json, NULL), TR_OK);
    tr_memory_free(text);
    *ret_pool = tr_json_first(tr_json_get(tr_json_root(json), "local"));
    CU_ASSERT_PTR_NOT_NULL_FATAL(*ret_pool);
    return json;
}

int64_t local_number(local_daemon *d, const char *name) {
    const tr_json_value *pool;
    tr_json *json = local_status(d, &pool);
    int64_t number = tr_json_int(tr_json_get(pool, name), -1);
    tr_json_free(json);
    return number;
}

bool local_state_is(local_daemon *d, const char *state) {
    const tr_json_value *pool;
    tr_json *json = local_status(d, &pool);
    tr_str now = tr_json_string(tr_json_get(pool, "state"));
    bool same = now.size == strlen(state) && memcmp(now.ptr, state, now.size) == 0;
    tr_json_free(json);
    return same;
}

/* The pids of workers that have streams (or of all), at most `max`; how many there are. */
size_t local_workers(local_daemon *d, bool active, pid_t *pids, size_t max) {
    const tr_json_value *pool;
    tr_json *json = local_status(d, &pool);
    size_t count = 0;
    const tr_json_value *worker = tr_json_first(tr_json_get(pool, "workers"));
    for (; worker != NULL && count < max; worker = tr_json_next(worker)) {
        pid_t pid = (pid_t)tr_json_int(tr_json_get(worker, "pid"), 0);
        if (pid > 0 && (!active || tr_json_int(tr_json_get(worker, "active"), 0) > 0)) {
            pids[count++] = pid;
        }
    }
    tr_json_free(json);
    return count;
}

/* The first of them, or 0. */
pid_t local_worker(local_daemon *d, bool active) {
    pid_t pid = 0;
    return local_workers(d, active, &pid, 1) == 1 ? pid : 0;
}

uint64_t local_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000U + (uint64_t)now.tv_nsec / 1000000U;
}

void local_open_tcp(local_daemon *d) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    CU_ASSERT_FATAL(fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0 &&
                    getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    close(fd);
    snprintf(d->tcp_url, sizeof d->tcp_url, "tcp://127.0.0.1:%d", ntohs(address.sin_port));
    snprintf(d->token_file, sizeof d->token_file, "%s/token", d->folder);
    fd = open(d->token_file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL_FATAL(write(fd, LOCAL_TOKEN, sizeof LOCAL_TOKEN - 1), sizeof LOCAL_TOKEN - 1);
    close(fd);
}

extern char **environ;

pid_t local_join(local_daemon *d, const char *model) {
    pid_t pid = 0;
    char *argv[] = {
        WORKER_PROGRAM, "--join",    d->tcp_url, "--token-file", d->token_file, "--name",
        (char *)model,  "--model",   d->model,   "--sequences",  "4",           "--context",
        "512",          "--threads", "1",        "--log-level",  "error",       NULL};
    CU_ASSERT_EQUAL_FATAL(posix_spawn(&pid, argv[0], NULL, NULL, argv, environ), 0);
    return pid;
}

bool local_await_ready(local_daemon *d, uint32_t count) {
    uint64_t until_ms = local_ms() + 30000;
    uint32_t ready = 0;
    do {
        const tr_json_value *pool;
        tr_json *json = local_status(d, &pool);
        const tr_json_value *worker = tr_json_first(tr_json_get(pool, "workers"));
        for (ready = 0; worker != NULL; worker = tr_json_next(worker)) {
            tr_str state = tr_json_string(tr_json_get(worker, "state"));
            ready += state.size == 5 && memcmp(state.ptr, "ready", 5) == 0 ? 1 : 0;
        }
        tr_json_free(json);
    } while (ready != count && local_ms() < until_ms);
    return ready == count;
}
