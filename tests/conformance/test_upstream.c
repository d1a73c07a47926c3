/*
 * Providers that misbehave, through the whole path: a daemon in this process, its HTTP door,
 * libtroupe as the client, and a server on raw sockets that says what it should not. Each gets its
 * right error in bounded time, with a sentence that names the server, and leaves nothing held.
 */
#include <CUnit/Basic.h>
#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "protocol/client/troupe.h"
#include "tests/lib/replay_server.h"
#include "tools/trouped/trouped.h"

#define SLOTS 36
#define KEY "sk-upstream-0123456789"
#define KEY_ENV "TROUPE_UPSTREAM_KEY"
#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
#define CHUNKED OK_HEAD "Transfer-Encoding: chunked\r\n\r\n"
#define TOKEN "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n"
#define TOKEN_CHUNK "3a\r\n" TOKEN "\r\n"
#define ANSWER                                                                                     \
    "{\"id\":\"a\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"     \
    "\"Hi\"},\"finish_reason\":\"stop\"}]}" /* 103 bytes */
#define ANSWERED                                                                                   \
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 103\r\n\r\n" ANSWER

static replay_server *server;
static tr_daemon *daemon_now;
static tr_client *client;
static uint32_t first_token_ms = 10000;

/* ---- what a provider says, and what a caller must hear ---- */

typedef struct plan {
    const char *name;
    const char *says;     /* then, `times` times and `pause_ms` apart: */
    const char *again;    /* NULL = nothing */
    const char *text;     /* what of an answer came all the same */
    const char *sentence; /* what is said of it */
    uint64_t wrote_max;   /* bytes that the server got rid of; 0 = any */
    uint32_t times, pause_ms;
    replay_end end;
    tr_err err;
    bool early, drops;
    bool names_server; /* the sentence says host and port */
} plan;

static const plan plans[] = {
    {.name = "an answer is heard", .says = ANSWERED, .text = "Hi"},
    {.name = "interim answers before it",
     .text = "Hi",
     .says =
         "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" ANSWERED},
    {.name = "interim answers without end",
     .says = "HTTP/1.1 100 Continue\r\n\r\n",
     .again = "HTTP/1.1 100 Continue\r\n\r\n",
     .times = 1000000,
     .err = TR_ERR_PROTOCOL,
     .sentence = "headers are larger",
     .names_server = true,
     .wrote_max = 16U << 20},
    {.name = "headers without end",
     .says = OK_HEAD,
     .again = "X-A: b\r\n",
     .times = 4000000,
     .err = TR_ERR_PROTOCOL,
     .sentence = "headers are larger",
     .names_server = true,
     .wrote_max = 16U << 20},
    {.name = "a header line without end",
     .says = OK_HEAD "X-A: ",
     .again = "aaaaaaaaaaaaaaaa",
     .times = 2000000,
     .err = TR_ERR_PROTOCOL,
     .sentence = "headers is too long",
     .names_server = true,
     .wrote_max = 16U << 20},
    {.name = "trailers without end",
     .says = CHUNKED TOKEN_CHUNK "0\r\n",
     .again = "X-A: b\r\n",
     .times = 4000000,
     .text = "Hi",
     .err = TR_ERR_PROTOCOL,
     .sentence = "headers are larger",
     .names_server = true,
     .wrote_max = 16U << 20},
    {.name = "a compressed answer without end",
     .says = OK_HEAD "Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08",
     .again = "0123456789abcdef",
     .times = 4000000,
     .err = TR_ERR_PROTOCOL,
     .sentence = "compresses",
     .names_server = true,
     .wrote_max = 16U << 20},
    {.name = "a compressed transfer without end",
     .says = OK_HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n",
     .again = "3\r\n\x1f\x8b\x08\r\n",
     .times = 4000000,
     .err = TR_ERR_PROTOCOL,
     .sentence = "compresses",
     .names_server = true,
     .wrote_max = 16U << 20},
    {.name = "headers byte by byte",
     .says = "HTTP/1.1 200 OK\r\nX",
     .again = "x",
     .times = 1000,
     .pause_ms = 20,
     .err = TR_ERR_TIMEOUT,
     .sentence = "first token",
     .names_server = true},
    {.name = "a body byte by byte without a token",
     .says = CHUNKED,
     .again = "1\r\n:\r\n",
     .times = 1000,
     .pause_ms = 20,
     .err = TR_ERR_TIMEOUT,
     .sentence = "first token",
     .names_server = true},
    {.name = "a stream that goes on with comments",
     .says = CHUNKED TOKEN_CHUNK,
     .again = "3\r\n:.\n\r\n",
     .times = 1000,
     .pause_ms = 20,
     .text = "Hi",
     .err = TR_ERR_TIMEOUT,
     .sentence = ""},
    {.name = "a web page",
     .err = TR_ERR_NOT_FOUND,
     .sentence = "web page",
     .names_server = true,
     .says = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 27\r\n\r\n"
             "<!doctype html><h1>Hi</h1>\n"},
    {.name = "nothing at 200",
     .says = OK_HEAD "Content-Length: 0\r\n\r\n",
     .err = TR_ERR_SERVER,
     .sentence = "empty answer",
     .names_server = true},
    {.name = "less than was promised",
     .says = OK_HEAD "Content-Length: 1030\r\n\r\n" TOKEN,
     .end = REPLAY_CLOSE,
     .text = "Hi",
     .err = TR_ERR_TRUNCATED,
     .sentence = ""},
    {.name = "more than was promised", .text = "Hi", .says = ANSWERED "and more"},
    {.name = "half of what was sent was promised",
     .err = TR_ERR_PROTOCOL,
     .sentence = "",
     .says = "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n" ANSWER},
    {.name = "a length that is none",
     .err = TR_ERR_PROTOCOL,
     .sentence = "",
     .names_server = true,
     .says = "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n" ANSWER,
     .end = REPLAY_CLOSE},
    {.name = "chunks that are none",
     .says = CHUNKED TOKEN_CHUNK "zz\r\nwhat\r\n",
     .text = "Hi",
     .err = TR_ERR_TRUNCATED,
     .sentence = ""},
    {.name = "a chunk of all the world",
     .says = CHUNKED "ffffffffffffffffffff\r\nx\r\n",
     .err = TR_ERR_TRUNCATED,
     .sentence = ""},
    {.name = "a reset amid headers",
     .says = "HTTP/1.1 200 OK\r\nX-A",
     .end = REPLAY_RESET,
     .err = TR_ERR_CONNECT,
     .sentence = "cannot reach",
     .names_server = true},
    {.name = "an end amid headers",
     .says = "HTTP/1.1 200 OK\r\nX-A",
     .end = REPLAY_CLOSE,
     .err = TR_ERR_CONNECT,
     .sentence = "cannot reach",
     .names_server = true},
    {.name = "a reset amid the body",
     .says = CHUNKED TOKEN_CHUNK,
     .end = REPLAY_RESET,
     .text = "Hi",
     .err = TR_ERR_TRUNCATED,
     .sentence = ""},
    {.name = "an end without an answer",
     .says = "",
     .drops = true,
     .err = TR_ERR_CONNECT,
     .sentence = "cannot reach",
     .names_server = true},
    {.name = "no HTTP at all",
     .says = "SSH-2.0-OpenSSH_9.2\r\n",
     .err = TR_ERR_PROTOCOL,
     .sentence = "does not speak HTTP",
     .names_server = true},
    {.name = "no HTTP before the request",
     .says = "220 mail.example ESMTP\r\n",
     .early = true,
     .err = TR_ERR_PROTOCOL,
     .sentence = "does not speak HTTP",
     .names_server = true},
    {.name = "an answer before the request", .says = ANSWERED, .early = true, .text = "Hi"},
    {.name = "a redirect round and round",
     .err = TR_ERR_NOT_FOUND,
     .sentence = "round and round",
     .says = "HTTP/1.1 308 Moved\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n",
     .names_server = true},
    {.name = "a redirect to nowhere",
     .err = TR_ERR_NOT_FOUND,
     .sentence = "redirects to nowhere",
     .says = "HTTP/1.1 307 Moved\r\nContent-Length: 0\r\n\r\n",
     .names_server = true},
    {.name = "a redirect for browsers",
     .err = TR_ERR_NOT_FOUND,
     .sentence = "web browsers",
     .says = "HTTP/1.1 302 Found\r\nLocation: /login?next=x\r\nContent-Length: 0\r\n\r\n",
     .names_server = true},
    {.name = "a redirect's page without end",
     .again = "0123456789abcdef",
     .times = 4000000,
     .says = "HTTP/1.1 307 Moved\r\nLocation: /x\r\n\r\n",
     .err = TR_ERR_PROTOCOL,
     .sentence = "more with a redirect",
     .names_server = true,
     .wrote_max = 16U << 20},
};
#define PLANS (sizeof(plans) / sizeof(plans[0]))
_Static_assert(PLANS + 3 <= SLOTS, "the last slots are for claims of their own");

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000L + now.tv_nsec / 1000000;
}

static void say(size_t slot, const plan *plan) {
    size_t first = strlen(plan->says), more = plan->again == NULL ? 0 : strlen(plan->again);
    uint32_t pieces[] = {(uint32_t)first, (uint32_t)more};
    char *bytes = malloc(first + more + 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    snprintf(bytes, first + more + 1, "%s%s", plan->says, plan->again == NULL ? "" : plan->again);
    replay_script script = {.bytes = bytes,
                            .size = first + more,
                            .pieces = more > 0 ? pieces : NULL,
                            .piece_count = 2,
                            .repeats = plan->times,
                            .pause_ms = plan->pause_ms,
                            .end = plan->end,
                            .early = plan->early,
                            .drops_connection = plan->drops};
    replay_server_add(server, slot, &script);
    free(bytes);
}

static tr_result *ask(const char *provider, const char *prompt, uint32_t retries) {
    char model[64];
    tr_options options = TR_OPTIONS_INIT;
    tr_result *result = NULL;
    snprintf(model, sizeof(model), "%s/m", provider);
    options.model = model;
    options.retries = retries;
    options.first_token_ms = first_token_ms;
    options.idle_ms = first_token_ms;
    options.connect_ms = 3000;
    CU_ASSERT_EQUAL_FATAL(tr_ask(client, &options, prompt, &result), TR_OK);
    CU_ASSERT_PTR_NULL(strstr(tr_result_message(result), KEY));
    return result;
}

static tr_result *ask_slot(size_t slot, const char *prompt, uint32_t retries) {
    char provider[32];
    snprintf(provider, sizeof(provider), "u%zu", slot);
    return ask(provider, prompt, retries);
}

static void expect(const tr_result *result, const char *name, tr_err err, const char *sentence) {
    bool right = tr_result_error(result) == err && strstr(tr_result_message(result), sentence);
    CU_ASSERT_TRUE(right);
    if (!right) {
        printf("\n    %s: %d \"%s\" text \"%.40s\"", name, (int)tr_result_error(result),
               tr_result_message(result), tr_result_text(result));
    }
}

static bool wait_until(bool (*met)(size_t arg), size_t arg) {
    long until = now_ms() + 3000;
    while (!met(arg)) {
        if (now_ms() > until) {
            return false;
        }
    }
    return true;
}

static bool open_at_most(size_t most) {
    return replay_server_open(server) <= most;
}

static long number_in(const char *control, const char *name) {
    char *json = NULL;
    long number = -1;
    if (tr_control_json(client, control, &json) == TR_OK) {
        const char *at = strstr(json, name);
        number = at == NULL ? -1 : strtol(at + strlen(name), NULL, 10);
    }
    tr_memory_free(json);
    return number;
}

/* ---- claims ---- */

static void each_is_told_by_its_right_name_in_time(void) {
    for (size_t i = 0; i < PLANS; i++) {
        const plan *plan = &plans[i];
        char site[64];
        size_t open = replay_server_open(server);
        say(i, plan);
        first_token_ms = plan->pause_ms > 0 ? 1000 : 10000; /* nobody else is to run into it */
        long began = now_ms();
        tr_result *result = ask_slot(i, "Hi", 0);
        long took = now_ms() - began;
        expect(result, plan->name, plan->err, plan->sentence == NULL ? "" : plan->sentence);
        CU_ASSERT_STRING_EQUAL(tr_result_text(result), plan->text == NULL ? "" : plan->text);
        snprintf(site, sizeof(site), "http://127.0.0.1:%u",
                 (unsigned)replay_server_port(server, i));
        bool named = strstr(tr_result_message(result), site) != NULL;
        CU_ASSERT_TRUE(!plan->names_server || named);
        CU_ASSERT_TRUE(took < 9000);
        CU_ASSERT_EQUAL(tr_result_attempts(result), 1);
        if ((plan->names_server && !named) || took >= 9000) {
            printf("\n    %s (%ld ms): \"%s\"", plan->name, took, tr_result_message(result));
        }
        tr_result_free(result);
        /* One that went well may serve again; one that did not is closed. */
        bool closed = wait_until(open_at_most, open + (plan->err == TR_OK ? 1 : 0));
        uint64_t wrote = replay_server_wrote(server, i);
        CU_ASSERT_TRUE(closed || plan->names_server || plan->err == TR_ERR_SERVER);
        CU_ASSERT_TRUE(plan->wrote_max == 0 || wrote <= plan->wrote_max);
        if (plan->wrote_max > 0 && wrote > plan->wrote_max) {
            printf("\n    %s: %llu bytes", plan->name, (unsigned long long)wrote);
        }
    }
    CU_ASSERT_EQUAL(number_in("{\"do\":\"requests\"}", "\"running\":"), 0);
}

static void what_a_connection_said_too_much_meets_no_other_request(void) {
    for (size_t i = 0; i < PLANS; i++) {
        replay_server_clear(server, i);
        say(i, &plans[0]);
        tr_result *result = ask_slot(i, "Hi", 0);
        expect(result, plans[i].name, TR_OK, "");
        CU_ASSERT_STRING_EQUAL(tr_result_text(result), "Hi");
        tr_result_free(result);
    }
}

static void a_key_goes_to_no_server_that_a_redirect_names(void) {
    char bytes[256], site[64];
    snprintf(site, sizeof(site), "http://127.0.0.1:%u",
             (unsigned)replay_server_port(server, PLANS + 1));
    snprintf(bytes, sizeof(bytes),
             "HTTP/1.1 307 Moved\r\nLocation: %s/v1/x?secret\r\nContent-Length: 0\r\n\r\n", site);
    say(PLANS, &(plan){.says = bytes});
    say(PLANS + 1, &plans[0]);
    tr_result *result = ask_slot(PLANS, "Hi", 0);
    expect(result, "abroad", TR_ERR_NOT_FOUND, "set the base URL");
    CU_ASSERT_PTR_NOT_NULL(strstr(tr_result_message(result), site));
    CU_ASSERT_PTR_NULL(strstr(tr_result_message(result), "secret"));
    tr_result_free(result);
    replay_request request = replay_server_request(server, PLANS + 1);
    CU_ASSERT_EQUAL(request.accepted, 0);
    replay_request_fini(&request);
    replay_server_clear(server, PLANS);
    replay_server_clear(server, PLANS + 1);
}

/* The server closed what the door had kept, at rest or as the next request came: nothing was
 * received, so the request goes out again and costs no attempt. */
static void a_stale_connection_costs_no_attempt(void) {
    size_t slot = PLANS;
    say(slot, &plans[0]);
    tr_result_free(ask_slot(slot, "Hi", 0));
    replay_server_hang_up(server);
    tr_result *result = ask_slot(slot, "Hi", 0);
    expect(result, "closed at rest", TR_OK, "");
    CU_ASSERT_EQUAL(tr_result_attempts(result), 1);
    tr_result_free(result);
    replay_server_clear(server, slot);
    say(slot, &plans[0]);
    say(slot, &(plan){.says = "", .drops = true});
    say(slot, &plans[0]);
    tr_result_free(ask_slot(slot, "Hi", 0));
    result = ask_slot(slot, "Hi", 0);
    expect(result, "closed upon the request", TR_OK, "");
    CU_ASSERT_EQUAL(tr_result_attempts(result), 1);
    tr_result_free(result);
    replay_request request = replay_server_request(server, slot);
    CU_ASSERT_EQUAL(request.count, 3);
    replay_request_fini(&request);
    replay_server_clear(server, slot);
    /* But where an answer had begun, it may have been paid for. */
    say(slot, &plans[0]);
    say(slot, &(plan){.says = "HTTP/1.1 200 OK\r\nX-A", .end = REPLAY_RESET});
    say(slot, &plans[0]);
    tr_result_free(ask_slot(slot, "Hi", 0));
    result = ask_slot(slot, "Hi", 0);
    expect(result, "begun", TR_ERR_CONNECT, "cannot reach");
    tr_result_free(result);
    request = replay_server_request(server, slot);
    CU_ASSERT_EQUAL(request.count, 2);
    replay_request_fini(&request);
    replay_server_clear(server, slot);
}

static void a_large_request_is_refused_before_it_was_read(void) {
    static char prompt[8U << 20];
    memset(prompt, 'a', sizeof(prompt) - 1);
    say(PLANS, &(plan){.says = "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n"
                               "Connection: close\r\n\r\n{}",
                       .early = true});
    tr_result *result = ask_slot(PLANS, prompt, 0);
    expect(result, "early refusal", TR_ERR_TOO_LARGE, "413");
    tr_result_free(result);
    replay_server_clear(server, PLANS);
}

/* One event of `size` bytes of data. */
static void say_event(size_t slot, size_t size) {
    static const char front[] = "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"";
    static const char back[] = "\"},\"finish_reason\":\"stop\"}]}";
    size_t text = size - (sizeof(front) - 1) - (sizeof(back) - 1);
    size_t room = size + 256;
    char *bytes = malloc(room);
    if (bytes == NULL) {
        abort();
    }
    size_t used = (size_t)snprintf(bytes, room, OK_HEAD "\r\ndata: %s", front);
    memset(bytes + used, 'a', text);
    used += text;
    used += (size_t)snprintf(bytes + used, room - used, "%s\n\ndata: [DONE]\n\n", back);
    replay_script script = {.bytes = bytes, .size = used, .end = REPLAY_CLOSE};
    replay_server_add(server, slot, &script);
    free(bytes);
}

static void an_event_may_have_16_mib_and_no_more(void) {
    enum { MOST = 16 * 1024 * 1024, LINE = 6 }; /* "data: " is of the line */
    say_event(PLANS, MOST - LINE);
    tr_result *result = ask_slot(PLANS, "Hi", 0);
    expect(result, "16 MiB", TR_OK, "");
    CU_ASSERT_TRUE(strlen(tr_result_text(result)) > MOST - 200);
    tr_result_free(result);
    replay_server_clear(server, PLANS);
    say_event(PLANS, MOST + 1);
    result = ask_slot(PLANS, "Hi", 0);
    expect(result, "16 MiB and one byte", TR_ERR_TOO_LARGE, "");
    tr_result_free(result);
    replay_server_clear(server, PLANS);
}

static void an_unknown_host_is_named(void) {
    long began = now_ms();
    tr_result *result = ask("nobody", "Hi", 0);
    bool timed_out = tr_result_error(result) == TR_ERR_TIMEOUT; /* a name server that is silent */
    expect(result, "DNS", timed_out ? TR_ERR_TIMEOUT : TR_ERR_CONNECT, "http://nobody.invalid:81");
    CU_ASSERT_TRUE(now_ms() - began < 6000);
    tr_result_free(result);
}

static void a_dead_proxy_is_named_without_its_password(void) {
    char proxy[128], site[64];
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* bound, and listens to nobody */
    CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)&address, size), 0);
    CU_ASSERT_EQUAL_FATAL(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    snprintf(site, sizeof(site), "http://127.0.0.1:%u", (unsigned)ntohs(address.sin_port));
    snprintf(proxy, sizeof(proxy), "http://me:proxy-secret@127.0.0.1:%u",
             (unsigned)ntohs(address.sin_port));
    setenv("http_proxy", proxy, 1); /* nothing runs in the daemon that would read it now */
    tr_result *result = ask("nobody", "Hi", 0);
    expect(result, "proxy", TR_ERR_CONNECT, "by the proxy");
    CU_ASSERT_PTR_NOT_NULL(strstr(tr_result_message(result), site));
    CU_ASSERT_PTR_NOT_NULL(strstr(tr_result_message(result), "nobody.invalid:81"));
    CU_ASSERT_PTR_NULL(strstr(tr_result_message(result), "proxy-secret"));
    tr_result_free(result);
    unsetenv("http_proxy");
    close(fd);
}

/* ---- the stage ---- */

static int descriptors;

static int count_descriptors(void) {
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;
    while (directory != NULL && readdir(directory) != NULL) {
        count++;
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return count;
}

static void start_daemon(void) {
    static char config[8192];
    size_t used = (size_t)snprintf(config, sizeof(config),
                                   "listen: {socket: off}\nlog: {level: error}\nshards: 1\n"
                                   "providers:\n  nobody: {kind: openai-compatible, base_url: "
                                   "\"http://nobody.invalid:81/v1\"}\n");
    for (size_t i = 0; i < SLOTS; i++) {
        used += (size_t)snprintf(config + used, sizeof(config) - used,
                                 "  u%zu: {kind: openai-compatible, base_url: "
                                 "\"http://127.0.0.1:%u/v1\", keys: ['env:" KEY_ENV "']}\n",
                                 i, (unsigned)replay_server_port(server, i));
    }
    tr_daemon_options options = TR_DAEMON_OPTIONS_INIT;
    options.config_text = config;
    options.inproc = "inproc://upstream";
    int err = tr_daemon_start(&options, &daemon_now);
    if (err != 0) {
        printf("%s\n", tr_daemon_error());
    }
    CU_ASSERT_EQUAL_FATAL(err, 0);
    CU_ASSERT_EQUAL_FATAL(tr_client_open(tr_daemon_url(daemon_now), &client), TR_OK);
}

static void stop_daemon(void) {
    tr_client_close(client);
    tr_daemon_stop(daemon_now);
}

static void the_daemon_starts(void) {
    setenv(KEY_ENV, KEY, 1);
    unsetenv("http_proxy");
    unsetenv("all_proxy");
    unsetenv("ALL_PROXY");
    server = replay_server_start(SLOTS);
    CU_ASSERT_PTR_NOT_NULL_FATAL(server);
    start_daemon();
    stop_daemon();
    descriptors = count_descriptors(); /* NNG keeps some for the life of the process */
    start_daemon();
}

/* The sum of all members of that name in what the daemon tells of itself. */
static long sum_of(const char *name) {
    char *json = NULL;
    long sum = 0;
    CU_ASSERT_EQUAL_FATAL(tr_control_json(client, "{\"do\":\"status\"}", &json), TR_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(json, name));
    for (const char *at = json; (at = strstr(at, name)) != NULL;) {
        at += strlen(name);
        sum += strtol(at, NULL, 10);
    }
    tr_memory_free(json);
    return sum;
}

static bool descriptors_are(size_t count) {
    return count_descriptors() <= (int)count;
}

static void afterwards_nothing_is_held(void) {
    char *json = NULL;
    CU_ASSERT_EQUAL(sum_of("\"running\":"), 0);
    CU_ASSERT_EQUAL(sum_of("\"used\":"), 0);
    CU_ASSERT_EQUAL(sum_of("\"tokens_reserved\":"), 0);
    CU_ASSERT_EQUAL(sum_of("\"open\":"), 0);
    CU_ASSERT_EQUAL(sum_of("\"failed\":") > 0, true);
    CU_ASSERT_EQUAL_FATAL(tr_control_json(client, "{\"do\":\"tree\"}", &json), TR_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(json, "\"name\":\"http:0\",\"state\":\"0 open, "));
    tr_memory_free(json);
    stop_daemon();
    CU_ASSERT_TRUE(wait_until(open_at_most, 0));
    /* A name that is still being looked up holds one until its thread ends; of NNG's own there may
     * have been more at first. */
    CU_ASSERT_TRUE(wait_until(descriptors_are, (size_t)descriptors));
    replay_server_stop(server);
}

int main(void) {
    if (CU_initialize_registry() != CUE_SUCCESS) {
        return 1;
    }
    CU_pSuite suite = CU_add_suite("upstream", NULL, NULL);
    CU_ADD_TEST(suite, the_daemon_starts);
    CU_ADD_TEST(suite, each_is_told_by_its_right_name_in_time);
    CU_ADD_TEST(suite, what_a_connection_said_too_much_meets_no_other_request);
    CU_ADD_TEST(suite, a_key_goes_to_no_server_that_a_redirect_names);
    CU_ADD_TEST(suite, a_stale_connection_costs_no_attempt);
    CU_ADD_TEST(suite, a_large_request_is_refused_before_it_was_read);
    CU_ADD_TEST(suite, an_event_may_have_16_mib_and_no_more);
    CU_ADD_TEST(suite, an_unknown_host_is_named);
    CU_ADD_TEST(suite, a_dead_proxy_is_named_without_its_password);
    CU_ADD_TEST(suite, afterwards_nothing_is_held);
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    bool failed = CU_get_number_of_failures() > 0 || CU_get_number_of_suites_failed() > 0;
    CU_cleanup_registry();
    return failed ? 1 : 0;
}
