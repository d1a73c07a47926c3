/*
 * A connection's life: read a request (slowly when told so), wait for the first byte's time, then
 * write the answer event by event at its interval, with the faults of its plan: the body may be cut
 * or stall after so many bytes. Nothing is produced while 64 KiB wait to be written, so a client
 * that does not read costs no memory.
 *
 * Called by server.c's loop.
 */
#include "tools/mock/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define OUT_enough 65536U
#define IN_max (48U * 1024U * 1024U)

static void handle_request(mock_conn *conn, char *head, size_t head_size, tr_str body,
                           uint64_t now_us);
static void begin_answer(mock_conn *conn, char *head, tr_str path, tr_str body, uint64_t now_us);
static char *list_at(const mock_conn *conn, tr_str path, tr_str body, uint64_t *ret_status);
static void begin_planned(mock_conn *conn, uint64_t now_us);
static void answer(mock_conn *conn, uint64_t status, char *whole);
static void write_head(mock_conn *conn);
static void step(mock_conn *conn, uint64_t now_us);
static void add_body(mock_conn *conn, const char *text, size_t size);
static void add(mock_conn *conn, const char *text, size_t size);
static void end_answer(mock_conn *conn);

mock_conn *mock_conn_new(mock_server *server, int fd) {
    mock_conn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL) {
        close(fd);
        return NULL;
    }
    conn->server = server;
    conn->fd = fd;
    if (server->tls != NULL && (conn->session = mock_session_new(server->tls, fd)) == NULL) {
        close(fd);
        free(conn);
        return NULL;
    }
    conn->due_us = CONN_NEVER;
    server->stats.connections++;
    server->stats.accepted++;
    return conn;
}

void mock_conn_free(mock_conn *conn) {
    conn->server->stats.connections--;
    if (conn->active && !conn->quiet) {
        conn->server->stats.active--;
        conn->server->stats.aborted++;
        if (conn->left_us > conn->server->stats.last_abort_us) {
            conn->server->stats.last_abort_us = conn->left_us;
        }
    }
    mock_session_free(conn->session);
    close(conn->fd);
    mock_request_fini(&conn->request);
    free(conn->whole);
    free(conn->in);
    free(conn->out);
    free(conn);
}

bool mock_conn_wants_in(const mock_conn *conn) {
    return conn->stage == STAGE_READ && conn->due_us == CONN_NEVER;
}

bool mock_conn_wants_out(const mock_conn *conn) {
    return conn->out_at < conn->out_size;
}

/* A plan in a request that is still coming: the model stands first in most clients' bodies, and in
 * Gemini's paths. */
static uint64_t slow_read(const mock_conn *conn) {
    mock_plan plan = conn->server->options->plan;
    char why[200];
    const char *text = conn->in_size == 0 ? NULL : strstr(conn->in, "\"mock:");
    const char *end = text == NULL ? NULL : strchr(text + 6, '"');
    if (end != NULL) {
        (void)!mock_plan_read(&plan, (tr_str){text + 6, (size_t)(end - text - 6)}, why,
                              sizeof(why));
    }
    if (text == NULL && conn->in_size > 0) {
        char model[256];
        mock_path_model((tr_str){conn->in, strcspn(conn->in, "?\r\n")}, model, sizeof(model));
        if (strncmp(model, "mock:", 5) == 0) {
            (void)!mock_plan_read(&plan, (tr_str){model + 5, strlen(model) - 5}, why, sizeof(why));
        }
    }
    return plan.slow_read;
}

static ssize_t receive(mock_conn *conn, char *to, size_t room) {
    ssize_t got = conn->session == NULL ? read(conn->fd, to, room)
                                        : mock_session_read(conn->session, to, room);
    if (got > 0 && !conn->heard) {
        bool resumed = conn->session != NULL && mock_session_resumed(conn->session);
        conn->server->stats.resumed += resumed ? 1 : 0;
        conn->heard = true;
    }
    return got;
}

static void read_some(mock_conn *conn, uint64_t now_us) {
    uint64_t slow = slow_read(conn);
    if (conn->in_size + 4097 > conn->in_room) {
        size_t room = conn->in_room == 0 ? 8192 : conn->in_room * 2;
        char *grown = room > IN_max ? NULL : realloc(conn->in, room);
        if (grown == NULL) {
            conn->failed = true;
            return;
        }
        conn->in = grown;
        conn->in_room = room;
    }
    size_t room = conn->in_room - conn->in_size - 1;
    room = slow < room ? (size_t)slow : room;
    ssize_t got = receive(conn, conn->in + conn->in_size, room == 0 ? 1 : room);
    if (got <= 0) {
        conn->left_us = now_us;
        conn->failed = conn->failed || got == 0 || (errno != EAGAIN && errno != EINTR);
        return;
    }
    conn->in_size += (size_t)got;
    conn->in[conn->in_size] = '\0';
    if (slow != MOCK_NONE) {
        conn->due_us = now_us + 1000;
    }
    char *blank = strstr(conn->in, "\r\n\r\n");
    if (blank == NULL) {
        return;
    }
    size_t head_size = (size_t)(blank + 4 - conn->in);
    *blank = '\0';
    const char *length = strcasestr(conn->in, "\r\ncontent-length:");
    size_t body_size = length == NULL ? 0 : strtoul(length + 17, NULL, 10);
    if (conn->in_size - head_size >= body_size) {
        conn->due_us = CONN_NEVER;
        handle_request(conn, conn->in, head_size, (tr_str){conn->in + head_size, body_size},
                       now_us);
        size_t used = head_size + body_size;
        memmove(conn->in, conn->in + used, conn->in_size - used + 1);
        conn->in_size -= used;
    } else {
        *blank = '\r';
    }
}

void mock_conn_readable(mock_conn *conn, uint64_t now_us) {
    do {
        read_some(conn, now_us);
    } while (conn->session != NULL && !conn->failed && mock_conn_wants_in(conn) &&
             mock_session_pending(conn->session));
}

/* The value of a header, up to the end of its line. */
static tr_str header(const char *head, const char *name) {
    const char *at = strcasestr(head, name);
    if (at == NULL) {
        return (tr_str){"", 0};
    }
    at += strlen(name);
    at += strspn(at, " ");
    return (tr_str){at, strcspn(at, "\r\n")};
}

/* When it came is known after it came: so the clock is asked anew. */
static void count_request(mock_server *server) {
    if (server->stats.requests < MOCK_ARRIVALS_max) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        server->arrivals_us[server->stats.requests] =
            (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    }
    server->stats.requests++;
    server->stats.active++;
}

static char *arrivals(const mock_server *server) {
    const uint64_t max = MOCK_ARRIVALS_max;
    uint64_t count = server->stats.requests < max ? server->stats.requests : max;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    fprintf(out, "{\"arrivals_us\":[");
    for (uint64_t i = 0; i < count; i++) {
        fprintf(out, "%s%llu", i > 0 ? "," : "", (unsigned long long)server->arrivals_us[i]);
    }
    fprintf(out, "]}\n");
    return fclose(out) == 0 ? text : NULL;
}

static void handle_request(mock_conn *conn, char *head, size_t head_size, tr_str body,
                           uint64_t now_us) {
    (void)head_size;
    const char *space = strchr(head, ' ');
    tr_str path = {space == NULL ? "" : space + 1,
                   space == NULL ? 0 : strcspn(space + 1, " ?\r\n")};
    conn->active = true;
    conn->last = strcasestr(head, "\r\nconnection: close") != NULL;
    conn->due_us = now_us;
    conn->body_bytes = 0;
    conn->token = 0;
    conn->chunked = false;
    bool health = path.size == 7 && memcmp(path.ptr, "/health", 7) == 0;
    bool asks_when = mock_path_is(path, "/arrivals");
    conn->quiet =
        health || asks_when || mock_path_is(path, "/stats") || mock_path_is(path, "/reset");
    conn->request.plan = conn->server->options->plan;
    if (!conn->quiet) {
        count_request(conn->server);
    }
    const mock_options *options = conn->server->options;
    if (!conn->quiet && conn->server->stats.requests >= options->crash_after) {
        fprintf(stderr, "troupe-mock: error: it was told to crash\n");
        exit(4);
    }
    if (conn->server->stats.requests >= options->hang_after) {
        conn->stage = STAGE_STALL;
        conn->due_us = CONN_NEVER;
        return;
    }
    if (!conn->server->is_loaded) {
        conn->request.dialect = NULL;
        answer(conn, 503, strdup("{\"error\":{\"message\":\"Loading model\"}}\n"));
        return;
    }
    if (health) {
        answer(conn, 200, strdup("{\"status\":\"ok\"}\n"));
        return;
    }
    if (asks_when) {
        answer(conn, 200, arrivals(conn->server));
        return;
    }
    if (mock_path_is(path, "/reset")) {
        mock_stats *stats = &conn->server->stats;
        *stats = (mock_stats){.active = stats->active, .connections = stats->connections};
        memset(conn->server->seen, 0, sizeof(conn->server->seen));
    }
    if (conn->quiet) {
        const mock_stats *stats = &conn->server->stats;
        char *text = NULL;
        int size =
            asprintf(&text,
                     "{\"requests\":%llu,\"active\":%llu,\"connections\":%llu,"
                     "\"completed\":%llu,\"aborted\":%llu,\"accepted\":%llu,"
                     "\"bytes\":%llu,\"last_abort_us\":%llu,\"resumed\":%llu}\n",
                     (unsigned long long)stats->requests, (unsigned long long)stats->active,
                     (unsigned long long)stats->connections - 1,
                     (unsigned long long)stats->completed, (unsigned long long)stats->aborted,
                     (unsigned long long)stats->accepted, (unsigned long long)stats->bytes,
                     (unsigned long long)stats->last_abort_us, (unsigned long long)stats->resumed);
        answer(conn, 200, size < 0 ? NULL : text);
        return;
    }
    begin_answer(conn, head, path, body, now_us);
}

static uint64_t hash_of(uint64_t hash, const char *text) {
    for (; *text != '\0'; text++) {
        hash = (hash ^ (unsigned char)*text) * 1099511628211U;
    }
    return hash;
}

/* Whether this request of a plan with `times` still gets the plan's faults. */
static bool faulty(mock_conn *conn) {
    const mock_request *request = &conn->request;
    uint64_t hash = hash_of(14695981039346656037U, request->model);
    hash = request->plan.told != 0 ? hash_of(hash, request->echo) : hash;
    for (size_t i = 0; i < MOCK_SEEN_max; i++) {
        mock_seen *seen = &conn->server->seen[(hash + i) % MOCK_SEEN_max];
        if (seen->count == 0 || seen->hash == hash) {
            seen->hash = hash;
            return seen->count++ < request->plan.times;
        }
    }
    return true;
}

static void forget_faults(mock_plan *plan) {
    mock_plan usual;
    mock_plan_init(&usual);
    plan->status = usual.status;
    plan->cut = plan->stall = plan->error_mid = plan->garbage = MOCK_NONE;
    plan->nodone = plan->nofinish = plan->html = plan->json_error = 0;
}

static void begin_answer(mock_conn *conn, char *head, tr_str path, tr_str body, uint64_t now_us) {
    mock_request *request = &conn->request;
    const char *key = conn->server->options->key;
    char why[200] = "";
    tr_str bearer = header(head, "\r\nauthorization: bearer ");
    bearer = bearer.size > 0 ? bearer : header(head, "\r\nx-api-key:");
    bearer = bearer.size > 0 ? bearer : header(head, "\r\napi-key:");
    bearer = bearer.size > 0 ? bearer : header(head, "\r\nx-goog-api-key:");
    tr_str told = header(head, "\r\nx-mock:");
    char *query = strstr(head, "?mock=");
    bool fine = mock_plan_read(&request->plan, told, why, sizeof(why));
    if (query != NULL && query < path.ptr + path.size + 1) {
        tr_str asked = {query + 6, strcspn(query + 6, " &\r\n")};
        fine = fine && mock_plan_read(&request->plan, asked, why, sizeof(why));
    }
    bool known = mock_dialect_find(path, request);
    const mock_dialect *dialect = request->dialect;
    bool stranger =
        key != NULL && (bearer.size != strlen(key) || memcmp(bearer.ptr, key, bearer.size) != 0);
    uint64_t status = 200;
    char *list = stranger ? NULL : list_at(conn, path, body, &status);
    if (stranger) {
        answer(conn, 401, dialect->error(401, "Incorrect API key provided"));
    } else if (list != NULL) {
        answer(conn, status, list);
    } else if (!known) {
        answer(conn, 404, dialect->error(404, "Unknown request URL"));
    } else if (!fine || !mock_request_read(request, body, why, sizeof(why))) {
        answer(conn, 400, dialect->error(400, why));
    } else {
        begin_planned(conn, now_us);
    }
}

/* What is said of models at a path, or NULL. */
static char *list_at(const mock_conn *conn, tr_str path, tr_str body, uint64_t *ret_status) {
    mock_loaded *loaded = &conn->server->loaded;
    char *text = mock_lmstudio(loaded, path, body, ret_status);
    if (text != NULL) {
        return text;
    }
    return mock_path_is(path, "/api/tags") ? mock_ollama_tags()
           : mock_path_is(path, "/api/ps") ? mock_ollama_ps(loaded)
           : mock_path_is(path, "/models") ? mock_models()
                                           : NULL;
}

/* The answer that the request's plan says. */
static void begin_planned(mock_conn *conn, uint64_t now_us) {
    mock_request *request = &conn->request;
    const mock_dialect *dialect = request->dialect;
    const mock_plan *plan = &request->plan;
    if (plan->times != MOCK_NONE && !faulty(conn)) {
        forget_faults(&request->plan);
    }
    conn->due_us = now_us + plan->first_us;
    if (plan->status != 200) {
        answer(conn, plan->status, dialect->error(plan->status, "the mock was told to fail"));
        return;
    }
    if (dialect == &mock_ollama) {
        mock_ollama_remember(&conn->server->loaded, request);
    }
    if (plan->html != 0) {
        answer(conn, 200, strdup("<!DOCTYPE html><html><body>mock</body></html>\n"));
    } else if (plan->json_error != 0) {
        answer(conn, 200, dialect->error(500, "the mock was told to fail"));
    } else if (request->stream) {
        conn->status = 200;
        conn->chunked = true;
        conn->stage = STAGE_HEAD;
    } else {
        bool spoken = !request->embed && !request->count;
        conn->due_us += spoken ? plan->interval_us * mock_request_tokens(request) : 0;
        answer(conn, 200, dialect->whole(request));
    }
}

/* A whole body, NULL when out of memory. */
static void answer(mock_conn *conn, uint64_t status, char *whole) {
    conn->whole = whole;
    conn->status = status;
    conn->failed = conn->failed || whole == NULL;
    conn->stage = STAGE_HEAD;
}

static void write_head(mock_conn *conn) {
    const mock_plan *plan = &conn->request.plan;
    char head[512];
    bool json = conn->whole != NULL && conn->whole[0] == '{';
    int size = snprintf(head, sizeof(head), "HTTP/1.1 %llu Mock\r\nContent-Type: %s\r\n",
                        (unsigned long long)conn->status,
                        conn->chunked ? conn->request.dialect->stream_type
                        : json        ? "application/json"
                                      : "text/html");
    add(conn, head, (size_t)size);
    if (conn->status != 200 && plan->retry_after != MOCK_NONE) {
        size = snprintf(head, sizeof(head), "Retry-After: %llu\r\n",
                        (unsigned long long)plan->retry_after);
        add(conn, head, (size_t)size);
    }
    if (conn->status != 200 && plan->retry_after_ms != MOCK_NONE) {
        size = snprintf(head, sizeof(head), "retry-after-ms: %llu\r\n",
                        (unsigned long long)plan->retry_after_ms);
        add(conn, head, (size_t)size);
    }
    if (plan->should_retry != MOCK_NONE) {
        size = snprintf(head, sizeof(head), "x-should-retry: %s\r\n",
                        plan->should_retry != 0 ? "true" : "false");
        add(conn, head, (size_t)size);
    }
    size = conn->chunked
               ? snprintf(head, sizeof(head), "Transfer-Encoding: chunked\r\n")
               : snprintf(head, sizeof(head), "Content-Length: %zu\r\n", strlen(conn->whole));
    add(conn, head, (size_t)size);
    size =
        snprintf(head, sizeof(head), "%s: mock-%llu\r\n%s\r\n",
                 conn->request.dialect == NULL ? "x-request-id" : conn->request.dialect->id_header,
                 (unsigned long long)conn->server->stats.requests,
                 conn->last ? "Connection: close\r\n" : "");
    add(conn, head, (size_t)size);
}

static void flush(mock_conn *conn) {
    while (conn->out_at < conn->out_size) {
        size_t size = conn->out_size - conn->out_at;
        size_t split = (size_t)conn->request.plan.split;
        size = split > 0 && size > split ? split : size;
        const char *from = conn->out + conn->out_at;
        ssize_t sent = conn->session == NULL
                           ? send(conn->fd, from, size, MSG_NOSIGNAL | MSG_DONTWAIT)
                           : mock_session_send(conn->session, from, size);
        if (sent < 0) {
            conn->failed = conn->failed || (errno != EAGAIN && errno != EINTR);
            return;
        }
        conn->out_at += (size_t)sent;
    }
    conn->out_at = conn->out_size = 0;
}

static bool goes_on(const mock_conn *conn, uint64_t now_us) {
    return conn->stage != STAGE_READ && conn->stage < STAGE_STALL && conn->due_us <= now_us &&
           conn->out_size - conn->out_at < OUT_enough;
}

bool mock_conn_advance(mock_conn *conn, uint64_t now_us) {
    if (conn->stage == STAGE_READ && conn->due_us <= now_us) {
        conn->due_us = CONN_NEVER;
        mock_conn_readable(conn, now_us);
    }
    flush(conn);
    while (!conn->failed && goes_on(conn, now_us)) {
        /* What is due together is written together. */
        while (goes_on(conn, now_us)) {
            step(conn, now_us);
        }
        flush(conn);
    }
    if (conn->stage == STAGE_CLOSE && conn->out_at == conn->out_size) {
        if (conn->request.plan.reset != 0) {
            struct linger reset = {.l_onoff = 1, .l_linger = 0};
            setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        }
        return false;
    }
    return !conn->failed;
}

static void add_event(mock_conn *conn, char *text) {
    conn->failed = conn->failed || text == NULL;
    if (text != NULL && *text != '\0') {
        add_body(conn, text, strlen(text));
    }
    free(text);
}

static void step(mock_conn *conn, uint64_t now_us) {
    const mock_request *request = &conn->request;
    switch (conn->stage) {
    case STAGE_HEAD:
        if (!conn->chunked && conn->whole == NULL) {
            conn->failed = true;
            break;
        }
        write_head(conn);
        conn->stage = conn->chunked ? STAGE_ROLE : STAGE_LAST;
        if (!conn->chunked) {
            add_body(conn, conn->whole, strlen(conn->whole));
        }
        break;
    case STAGE_ROLE:
        conn->stage = STAGE_TOKENS;
        add_event(conn, request->dialect->role(request));
        break;
    case STAGE_TOKENS:
        if (conn->token == request->plan.error_mid) {
            conn->stage = STAGE_LAST;
            add_event(conn, request->dialect->error_event(request));
        } else if (conn->token >= mock_request_tokens(request)) {
            conn->stage = STAGE_FINISH;
        } else {
            if (conn->token == request->plan.garbage) {
                add_event(conn, request->dialect->garbage(request));
            }
            add_event(conn, request->dialect->token(request, conn->token++));
            conn->due_us += request->plan.interval_us;
            /* A client that did not read for a while gets no burst to catch up. */
            conn->due_us = conn->due_us + 1000000 < now_us ? now_us : conn->due_us;
        }
        break;
    case STAGE_FINISH:
        conn->stage = STAGE_USAGE;
        add_event(conn, request->dialect->finish(request));
        break;
    case STAGE_USAGE:
        conn->stage = STAGE_DONE;
        add_event(conn, request->dialect->usage(request));
        break;
    case STAGE_DONE:
        conn->stage = STAGE_LAST;
        add_event(conn, request->dialect->done(request));
        break;
    case STAGE_LAST:
        if (conn->chunked) {
            add(conn, "0\r\n\r\n", 5);
        }
        end_answer(conn);
        break;
    case STAGE_READ:
    case STAGE_STALL:
    case STAGE_CLOSE:
        break;
    }
}

static void end_answer(mock_conn *conn) {
    if (!conn->quiet) {
        conn->server->stats.active--;
        conn->server->stats.completed++;
    }
    conn->active = false;
    conn->stage = conn->last ? STAGE_CLOSE : STAGE_READ;
    conn->due_us = CONN_NEVER;
    mock_request_fini(&conn->request);
    free(conn->whole);
    conn->whole = NULL;
}

/* Adds to the body, up to where the plan cuts it or lets it stall. */
static void add_body(mock_conn *conn, const char *text, size_t size) {
    const mock_plan *plan = &conn->request.plan;
    uint64_t die = conn->server->options->lives ? MOCK_NONE : plan->die;
    uint64_t limit = plan->cut < plan->stall ? plan->cut : plan->stall;
    limit = conn->quiet ? MOCK_NONE : die < limit ? die : limit;
    uint64_t left = limit > conn->body_bytes ? limit - conn->body_bytes : 0;
    bool reached = size >= left;
    char frame[32];
    size = reached ? (size_t)left : size;
    if (size > 0) {
        if (conn->chunked) {
            int length = snprintf(frame, sizeof(frame), "%zx\r\n", size);
            add(conn, frame, (size_t)length);
        }
        add(conn, text, size);
        if (conn->chunked) {
            add(conn, "\r\n", 2);
        }
        conn->body_bytes += size;
        conn->server->stats.bytes += conn->quiet ? 0 : size;
    }
    if (reached && limit == die && die != MOCK_NONE) {
        flush(conn);
        fprintf(stderr, "troupe-mock: error: it was told to die in the middle of an answer\n");
        exit(5);
    }
    if (reached && limit == plan->cut) {
        /* Cut off by the mock is not aborted by the client. */
        if (conn->active) {
            conn->server->stats.active--;
            conn->server->stats.completed++;
            conn->active = false;
        }
        conn->stage = STAGE_CLOSE;
    } else if (reached) {
        conn->stage = STAGE_STALL;
        conn->due_us = CONN_NEVER;
    }
}

static void add(mock_conn *conn, const char *text, size_t size) {
    if (conn->out_at > 0 && conn->out_at == conn->out_size) {
        conn->out_at = conn->out_size = 0;
    }
    if (conn->out_size + size > conn->out_room) {
        size_t room = conn->out_room == 0 ? 4096 : conn->out_room;
        while (room < conn->out_size + size) {
            room *= 2;
        }
        char *grown = realloc(conn->out, room);
        if (grown == NULL) {
            conn->failed = true;
            return;
        }
        conn->out = grown;
        conn->out_room = room;
    }
    memcpy(conn->out + conn->out_size, text, size);
    conn->out_size += size;
}
