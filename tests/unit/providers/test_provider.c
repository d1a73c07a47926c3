/* The provider actor on a stepped shard, with an HTTP door that the test plays. */
#include "providers/provider.h"

#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/gate.h"
#include "protocol/json.h"
#include "providers/http.h"
#include "runtime/memory.h"
#include "runtime/shard.h"

static uint64_t clock_us;

static uint64_t test_now(void *arg) {
    (void)arg;
    return clock_us;
}

static uint64_t test_random(void *arg) {
    (void)arg;
    return 4;
}

static void test_wake(void *arg, uint32_t shard) {
    (void)arg;
    (void)shard;
}

/* Memory that can run out: so many more allocations succeed; -1 = all. Counted only while the shard
 * runs, so that the test's own messages are always there. */
static long allowed = -1;
static bool stepping;

static void *test_resize(void *arg, void *ptr, size_t size) {
    (void)arg;
    if (stepping && allowed == 0) {
        allowed = -2; /* one fails, the next succeed */
        return NULL;
    }
    allowed -= stepping && allowed > 0 ? 1 : 0;
    return realloc(ptr, size);
}

static void test_release(void *arg, void *ptr) {
    (void)arg;
    free(ptr);
}

/* What the door and the caller were sent. */
static struct {
    tr_node *node;
    tr_id door, caller, provider;
    uint64_t transfer; /* the last START's ref */
    unsigned starts, aborts, gentle_aborts;
    size_t taken;
    char url[512], headers[2048], body[4096];
    tr_http_start start;
    unsigned deltas, largest_delta, dones, fails, after_terminal;
    uint32_t next_seq;
    bool out_of_order;
    size_t credit_used;
    char text[128 * 1024];
    size_t text_size;
    char reasoning[256], tools[256], opaque[256];
    tr_done done;
    tr_fail fail;
    char message[2048], target[300], request_id[300], status[1024];
} seen;

static void copy(char *to, size_t room, tr_str text) {
    snprintf(to, room, "%.*s", (int)text.size, text.size == 0 ? "" : text.ptr);
}

static void append(char *to, size_t room, tr_str text) {
    size_t used = strlen(to);
    copy(to + used, room - used, text);
}

static tr_err door_handle(tr_self *self, void *state, tr_msg **msg) {
    (void)self;
    (void)state;
    tr_str url, headers;
    const tr_http_taken *taken = (const void *)(*msg)->data;
    const tr_http_abort *stop = (const void *)(*msg)->data;
    switch ((*msg)->kind) {
    case TR_KIND_HTTP_START:
        CU_ASSERT_PTR_NOT_NULL_FATAL(tr_http_start_read(*msg, &url, &headers));
        seen.starts++;
        seen.transfer = (*msg)->ref;
        seen.start = *(const tr_http_start *)(const void *)(*msg)->data;
        copy(seen.url, sizeof(seen.url), url);
        copy(seen.headers, sizeof(seen.headers), headers);
        copy(seen.body, sizeof(seen.body),
             (*msg)->body == NULL ? (tr_str){"", 0}
                                  : (tr_str){(*msg)->body->bytes, (*msg)->body->size});
        break;
    case TR_KIND_HTTP_TAKEN:
        seen.taken += taken->bytes;
        break;
    case TR_KIND_HTTP_ABORT:
        seen.aborts++;
        seen.gentle_aborts += stop->gentle;
        break;
    default:
        break;
    }
    return TR_OK;
}

static void take_delta(const tr_msg *msg) {
    const tr_delta *delta = (const void *)msg->data;
    tr_delta_view view = tr_delta_read(delta);
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_DELTA, msg->data, msg->size), TR_OK);
    seen.out_of_order = seen.out_of_order || delta->seq != seen.next_seq++;
    seen.deltas++;
    seen.credit_used += msg->size;
    seen.largest_delta = msg->size > seen.largest_delta ? msg->size : seen.largest_delta;
    switch ((tr_delta_kind)delta->kind) {
    case TR_DELTA_TEXT:
        CU_ASSERT_FATAL(seen.text_size + view.text.size < sizeof(seen.text));
        memcpy(seen.text + seen.text_size, view.text.ptr, view.text.size);
        seen.text_size += view.text.size;
        CU_ASSERT(tr_utf8_valid(view.text.ptr, view.text.size));
        break;
    case TR_DELTA_REASONING:
        append(seen.reasoning, sizeof(seen.reasoning), view.text);
        break;
    case TR_DELTA_TOOL_START:
        append(seen.tools, sizeof(seen.tools), view.id);
        append(seen.tools, sizeof(seen.tools), (tr_str){"=", 1});
        append(seen.tools, sizeof(seen.tools), view.name);
        break;
    case TR_DELTA_TOOL_ARGS:
        append(seen.tools, sizeof(seen.tools), view.text);
        break;
    case TR_DELTA_OPAQUE:
        append(seen.opaque, sizeof(seen.opaque), view.name);
        break;
    }
}

static tr_err caller_handle(tr_self *self, void *state, tr_msg **msg) {
    (void)self;
    (void)state;
    tr_end_view view = {0};
    if (seen.dones + seen.fails > 0 && (*msg)->ref == 77) {
        seen.after_terminal++;
    }
    switch ((*msg)->kind) {
    case TR_KIND_DELTA:
        take_delta(*msg);
        break;
    case TR_KIND_DONE:
        CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_DONE, (*msg)->data, (*msg)->size), TR_OK);
        seen.dones++;
        seen.done = *(const tr_done *)(const void *)(*msg)->data;
        view = tr_done_read((const void *)(*msg)->data);
        break;
    case TR_KIND_FAIL:
        CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_FAIL, (*msg)->data, (*msg)->size), TR_OK);
        seen.fails++;
        seen.fail = *(const tr_fail *)(const void *)(*msg)->data;
        view = tr_fail_read((const void *)(*msg)->data);
        copy(seen.message, sizeof(seen.message), view.message);
        break;
    case TR_KIND_STATUSED:
        copy(seen.status, sizeof(seen.status), (tr_str){(*msg)->body->bytes, (*msg)->body->size});
        break;
    default:
        break;
    }
    if ((*msg)->kind == TR_KIND_DONE || (*msg)->kind == TR_KIND_FAIL) {
        copy(seen.target, sizeof(seen.target), view.target);
        copy(seen.request_id, sizeof(seen.request_id), view.request_id);
    }
    return TR_OK;
}

static tr_err door_init(tr_self *self, void *state, const void *args) {
    (void)state;
    (void)args;
    seen.door = tr_self_id(self);
    return TR_OK;
}

static tr_err caller_init(tr_self *self, void *state, const void *args) {
    (void)state;
    (void)args;
    seen.caller = tr_self_id(self);
    return TR_OK;
}

static const tr_behaviour door = {.name = "door", .init = door_init, .handle = door_handle};
static const tr_behaviour caller = {.name = "caller", .init = caller_init, .handle = caller_handle};

static void run(void) {
    stepping = true;
    while (tr_shard_step(tr_node_shard(seen.node, 0), 1000) ||
           tr_shard_has_work(tr_node_shard(seen.node, 0))) {
    }
    stepping = false;
}

static void spawn(const tr_spawn_spec *spec) {
    CU_ASSERT_EQUAL_FATAL(tr_node_spawn(seen.node, 0, spec), TR_OK);
    run();
}

static const char *key_variable; /* of the configuration, NULL = none */

static void open_node(const char *name, const char *kind, const char *base_url) {
    memset(&seen, 0, sizeof(seen));
    clock_us = 1000000;
    tr_node_spec spec = {
        .shards = 1, .platform = {.now_us = test_now, .random = test_random, .wake = test_wake}};
    CU_ASSERT_EQUAL_FATAL(tr_node_new(&spec, &seen.node), TR_OK);
    spawn(&(tr_spawn_spec){.behaviour = &door, .name = "http:0", .registers = true});
    spawn(&(tr_spawn_spec){.behaviour = &caller, .name = "caller"});
    tr_provider_spec provider;
    char why[200] = "";
    char actor[TR_PROVIDER_ACTOR_size];
    CU_ASSERT_EQUAL_FATAL(
        tr_provider_spec_init(name, kind, base_url, key_variable, &provider, why, sizeof(why)),
        TR_OK);
    tr_child_spec child = tr_provider_child(&provider, 0, actor);
    spawn(&(tr_spawn_spec){.behaviour = child.behaviour,
                           .args = child.args,
                           .args_size = child.args_size,
                           .name = child.name,
                           .registers = child.registers});
    seen.provider = tr_whereis(seen.node, actor);
    CU_ASSERT_NOT_EQUAL_FATAL(seen.provider, TR_ID_NONE);
}

static void close_node(void) {
    tr_node_free(seen.node);
}

static void post(tr_id from, uint64_t ref, tr_msg *msg) {
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    msg->from = from;
    msg->ref = ref;
    tr_post(seen.node, seen.provider, msg);
    run();
}

#define CHAT "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"temperature\":0.5}"

static const char *model_asked = "m1";

static void submit_with(const char *body, const char *base_url, uint32_t messages, uint32_t bytes,
                        uint16_t flags) {
    tr_submit head = {.op = TR_OP_CHAT,
                      .flags = flags,
                      .credit_messages = messages,
                      .credit_bytes = bytes,
                      .connect_ms = 1234,
                      .first_token_ms = 5678,
                      .total_ms = 91011};
    tr_submit_view view = {.target = {model_asked, strlen(model_asked)},
                           .base_url = {base_url, strlen(base_url)}};
    tr_body *text = tr_body_new(strlen(body));
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    memcpy(text->bytes, body, strlen(body));
    post(seen.caller, 77, tr_msg_submit(&head, &view, text));
}

static void submit(uint32_t messages, uint32_t bytes) {
    submit_with(CHAT, "", messages, bytes, 0);
}

static void head(uint16_t status, const char *headers) {
    tr_http_head h = {.status = status, .has_retry_after = status == 429, .retry_after_ms = 2000};
    post(seen.door, seen.transfer,
         tr_http_head_msg(seen.transfer, &h, (tr_str){headers, strlen(headers)}));
}

/* As the door sends it: at most 16 KiB a message. */
static void data(const char *text) {
    for (size_t left = strlen(text), size; left > 0; left -= size, text += size) {
        size = left < 16384 ? left : 16384;
        post(seen.door, seen.transfer, tr_http_data_msg(seen.transfer, text, size));
    }
}

static void end(tr_err err, const char *why) {
    post(seen.door, seen.transfer, tr_http_end_msg(seen.transfer, err, why));
}

static void token(const char *text) {
    char chunk[1024];
    snprintf(chunk, sizeof(chunk),
             "data: {\"id\":\"c9\",\"model\":\"m1-exact\",\"choices\":[{\"index\":0,\"delta\":"
             "{\"content\":\"%s\"}}]}\n\n",
             text);
    data(chunk);
}

#define STOP                                                                                       \
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":"        \
    "{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n"

static void at_rest(void) {
    tr_msg *ask = tr_msg_new(TR_KIND_STATUS, 0);
    post(seen.caller, 99, ask);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.status, "\"open\":0"));
    CU_ASSERT_EQUAL(seen.after_terminal, 0);
    CU_ASSERT_FALSE(seen.out_of_order);
}

static void a_stream_becomes_deltas_and_one_done(void) {
    setenv("OPENAI_API_KEY", "sk-secret-123456", 1);
    open_node("openai", NULL, NULL);
    submit(256, 256 * 1024);
    CU_ASSERT_STRING_EQUAL(seen.url, "https://api.openai.com/v1/chat/completions");
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.headers, "Authorization: Bearer sk-secret-123456\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.body, "\"model\":\"m1\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.body, "\"stream\":true"));
    CU_ASSERT_EQUAL(seen.start.connect_ms, 1234);
    CU_ASSERT_EQUAL(seen.start.first_byte_ms, 5678);
    head(200, "content-type: text/event-stream\nx-request-id: req_1\n");
    clock_us += 30000;
    token("Hel");
    token("lo");
    clock_us += 70000;
    data(STOP);
    CU_ASSERT_EQUAL(seen.text_size, 5);
    CU_ASSERT_NSTRING_EQUAL(seen.text, "Hello", 5);
    CU_ASSERT_EQUAL(seen.dones, 1);
    CU_ASSERT_EQUAL(seen.fails, 0);
    CU_ASSERT_EQUAL(seen.done.finish, TR_FINISH_STOP);
    CU_ASSERT_EQUAL(seen.done.usage.in, 7);
    CU_ASSERT_EQUAL(seen.done.usage.out, 2);
    CU_ASSERT_EQUAL(seen.done.usage.first_token_ms, 30);
    CU_ASSERT_EQUAL(seen.done.usage.total_ms, 100);
    CU_ASSERT_EQUAL(seen.done.attempts, 1);
    CU_ASSERT_STRING_EQUAL(seen.target, "openai/m1-exact");
    CU_ASSERT_STRING_EQUAL(seen.request_id, "req_1");
    CU_ASSERT_EQUAL(seen.gentle_aborts, 1);
    end(TR_OK, NULL); /* it was under way */
    at_rest();
    close_node();
}

static void deltas_never_exceed_credit_and_the_window_stays_closed(void) {
    open_node("box", "openai-compatible", "http://box:1/v1");
    submit(2, 64 * 1024);
    head(200, "");
    token("a");
    size_t taken = seen.taken;
    CU_ASSERT_EQUAL(seen.deltas, 1);
    CU_ASSERT(taken > 0);
    token("b");
    CU_ASSERT_EQUAL(seen.deltas, 2);
    taken = seen.taken;
    token("c");
    token("d");
    token("e");
    CU_ASSERT_EQUAL(seen.deltas, 2);
    CU_ASSERT_EQUAL(seen.taken, taken);
    data(STOP);
    CU_ASSERT_EQUAL(seen.dones, 0);
    post(seen.caller, 77, tr_msg_credit(1, 0));
    CU_ASSERT_EQUAL(seen.deltas, 3); /* what waited was joined into one */
    CU_ASSERT_NSTRING_EQUAL(seen.text, "abcde", 5);
    CU_ASSERT_EQUAL(seen.dones, 1);
    at_rest();
    close_node();
}

static void credit_counts_bytes_too(void) {
    open_node("box", "openai-compatible", "http://box:1/v1");
    submit(100, 60);
    head(200, "");
    token("0123456789");
    CU_ASSERT_EQUAL(seen.deltas, 1); /* 24 of header and 10 of text */
    token("0123456789");
    CU_ASSERT_EQUAL(seen.deltas, 1);
    size_t taken = seen.taken;
    token("x");
    CU_ASSERT_EQUAL(seen.taken, taken);
    post(seen.caller, 77, tr_msg_credit(0, 9));
    CU_ASSERT_EQUAL(seen.deltas, 2);
    CU_ASSERT_EQUAL(seen.credit_used, 69);
    CU_ASSERT(seen.taken > taken);
    post(seen.caller, 77, tr_msg_cancel(TR_ERR_CANCELLED));
    at_rest();
    close_node();
}

static void a_long_text_is_split_at_characters(void) {
    open_node("box", "openai-compatible", "http://box:1/v1");
    submit(256, 1024 * 1024);
    head(200, "");
    char *chunk = malloc(128 * 1024);
    CU_ASSERT_PTR_NOT_NULL_FATAL(chunk);
    static const char before[] = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"";
    size_t used = sizeof(before) - 1;
    memcpy(chunk, before, used);
    for (int i = 0; i < 30000; i++) {
        memcpy(chunk + used, "\xE6\x97\xA5", 3);
        used += 3;
    }
    memcpy(chunk + used, "\"}}]}\n\n", 8);
    data(chunk);
    free(chunk);
    data(STOP);
    CU_ASSERT_EQUAL(seen.deltas, 3);
    CU_ASSERT(seen.largest_delta <= TR_DELTA_TEXT_max + sizeof(tr_delta));
    CU_ASSERT_EQUAL(seen.text_size, 90000);
    CU_ASSERT_EQUAL(seen.dones, 1);
    at_rest();
    close_node();
}

static void cancel_closes_the_transfer_and_fails_once(void) {
    open_node("box", "openai-compatible", "http://box:1/v1");
    submit(256, 256 * 1024);
    head(200, "");
    token("a");
    post(seen.caller, 77, tr_msg_cancel(TR_ERR_TIMEOUT));
    CU_ASSERT_EQUAL(seen.fails, 1);
    CU_ASSERT_EQUAL(seen.fail.err, TR_ERR_TIMEOUT);
    CU_ASSERT_EQUAL(seen.aborts, 1);
    CU_ASSERT_EQUAL(seen.gentle_aborts, 0);
    token("late");
    post(seen.caller, 77, tr_msg_cancel(TR_ERR_CANCELLED));
    post(seen.caller, 77, tr_msg_credit(1, 1));
    CU_ASSERT_EQUAL(seen.fails, 1);
    CU_ASSERT_EQUAL(seen.text_size, 1);
    at_rest();
    close_node();
}

static void a_dead_caller_takes_its_transfer_with_it(void) {
    open_node("box", "openai-compatible", "http://box:1/v1");
    submit(256, 256 * 1024);
    head(200, "");
    tr_msg *down = tr_msg_new(TR_KIND_EXIT, sizeof(tr_ended));
    CU_ASSERT_PTR_NOT_NULL_FATAL(down);
    ((tr_ended *)(void *)down->data)->reason = TR_ERR_CRASHED;
    tr_post(seen.node, seen.caller, down);
    run();
    CU_ASSERT_EQUAL(seen.aborts, 1);
    CU_ASSERT_EQUAL(seen.fails, 0);
    spawn(&(tr_spawn_spec){.behaviour = &caller, .name = "caller"});
    at_rest();
    close_node();
}

static void a_missing_key_says_which_variable_the_daemon_lacks(void) {
    unsetenv("OPENAI_API_KEY");
    open_node("openai", NULL, NULL);
    submit(256, 256 * 1024);
    CU_ASSERT_EQUAL(seen.starts, 0);
    CU_ASSERT_EQUAL(seen.fails, 1);
    CU_ASSERT_EQUAL(seen.fail.err, TR_ERR_AUTH);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.message, "the daemon's environment lacks OPENAI_API_KEY"));
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.message, "export OPENAI_API_KEY="));
    at_rest();
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.status, "\"key\":\"missing\""));
    close_node();
}

static void a_configured_key_is_missed_even_where_none_is_needed(void) {
    unsetenv("TR_NO_KEY");
    key_variable = "TR_NO_KEY";
    open_node("box", "openai-compatible", "http://box:1/v1");
    key_variable = NULL;
    submit(256, 256 * 1024);
    CU_ASSERT_EQUAL(seen.starts, 0);
    CU_ASSERT_EQUAL(seen.fail.err, TR_ERR_AUTH);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.message, "lacks TR_NO_KEY, which provider box needs"));
    at_rest();
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.status, "\"key\":\"missing\""));
    close_node();
}

/* What the client or the server calls the model may be as long as a name may be; the provider's own
 * name comes on top. */
static void a_long_name_of_a_model_is_cut_at_a_character(void) {
    static const char *const letters[] = {"x", "\xe6\x97\xa5"};
    for (size_t i = 0; i < 4; i++) {
        const char *letter = letters[i % 2];
        char model[TR_NAME_max + 1] = "";
        while (strlen(model) + strlen(letter) <= TR_NAME_max) {
            strncat(model, letter, 3);
        }
        open_node("any", "openai-compatible", "http://127.0.0.1:9/v1");
        model_asked = i < 2 ? model : "m1";
        submit(10, 50000);
        model_asked = "m1";
        if (i < 2) { /* the client's name, in a FAIL */
            end(TR_ERR_CONNECT, "nobody there");
            CU_ASSERT_EQUAL(seen.fails, 1);
        } else { /* the server's, in a DONE */
            char chunk[1024];
            head(200, "content-type: text/event-stream\n");
            snprintf(chunk, sizeof(chunk),
                     "data: {\"model\":\"%s\",\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
                     model);
            data(chunk);
            data(STOP);
            CU_ASSERT_EQUAL(seen.dones, 1);
        }
        CU_ASSERT_NSTRING_EQUAL(seen.target, "any/", 4);
        CU_ASSERT(strlen(seen.target) > TR_NAME_max - 3 && strlen(seen.target) <= TR_NAME_max);
        at_rest();
        close_node();
    }
}

static void a_refusal_carries_status_words_and_advice_but_no_key(void) {
    setenv("OPENAI_API_KEY", "sk-secret-123456", 1);
    open_node("openai", NULL, NULL);
    submit(256, 256 * 1024);
    head(429, "x-request-id: r2\n");
    data("{\"error\":{\"message\":\"slow down, sk-secret-123456\",");
    data("\"type\":\"tokens\",\"code\":\"rate_limit_exceeded\"}}");
    CU_ASSERT_EQUAL(seen.fails, 0);
    end(TR_OK, NULL);
    CU_ASSERT_EQUAL(seen.fails, 1);
    CU_ASSERT_EQUAL(seen.fail.err, TR_ERR_RATE_LIMIT);
    CU_ASSERT_EQUAL(seen.fail.status, 429);
    CU_ASSERT_EQUAL(seen.fail.flags, TR_FAIL_RETRY_AFTER);
    CU_ASSERT_EQUAL(seen.fail.retry_after_ms, 2000);
    CU_ASSERT_STRING_EQUAL(seen.message, "openai answered 429: slow down, ****************");
    CU_ASSERT_STRING_EQUAL(seen.request_id, "r2");
    at_rest();
    CU_ASSERT_PTR_NULL(strstr(seen.status, "secret"));
    close_node();
}

static void a_cut_stream_is_truncated_never_done(void) {
    open_node("box", "openai-compatible", "http://box:1/v1");
    submit(256, 256 * 1024);
    head(200, "");
    token("Hel");
    end(TR_ERR_TRUNCATED, "the connection broke off");
    CU_ASSERT_EQUAL(seen.dones, 0);
    CU_ASSERT_EQUAL(seen.fails, 1);
    CU_ASSERT_EQUAL(seen.fail.err, TR_ERR_TRUNCATED);
    CU_ASSERT_EQUAL(seen.text_size, 3);
    at_rest();
    close_node();
}

static void an_unreachable_server_fails_with_the_doors_words(void) {
    open_node("box", "openai-compatible", "http://box:1/v1");
    submit(256, 256 * 1024);
    end(TR_ERR_CONNECT, "cannot reach box:1");
    CU_ASSERT_EQUAL(seen.fail.err, TR_ERR_CONNECT);
    CU_ASSERT_STRING_EQUAL(seen.message, "box: cannot reach box:1");
    at_rest();
    close_node();
}

static void a_dead_door_fails_what_was_open_and_is_looked_up_again(void) {
    open_node("box", "openai-compatible", "http://box:1/v1");
    submit(256, 256 * 1024);
    tr_msg *down = tr_msg_new(TR_KIND_EXIT, sizeof(tr_ended));
    CU_ASSERT_PTR_NOT_NULL_FATAL(down);
    ((tr_ended *)(void *)down->data)->reason = TR_ERR_CRASHED;
    tr_post(seen.node, seen.door, down);
    run();
    CU_ASSERT_EQUAL(seen.fails, 1);
    CU_ASSERT_EQUAL(seen.fail.err, TR_ERR_CONNECT);
    submit(256, 256 * 1024);
    CU_ASSERT_EQUAL(seen.fails, 2);
    spawn(&(tr_spawn_spec){.behaviour = &door, .name = "http:0", .registers = true});
    seen.fails = 0;
    seen.after_terminal = 0;
    submit(256, 256 * 1024);
    CU_ASSERT_EQUAL(seen.starts, 2);
    head(200, "");
    data(STOP);
    CU_ASSERT_EQUAL(seen.dones, 1);
    close_node();
}

static void a_request_may_bring_a_base_url_only_where_the_row_allows_it(void) {
    setenv("OPENAI_API_KEY", "sk-secret-123456", 1);
    open_node("openai", NULL, NULL);
    submit_with(CHAT, "http://evil:1/v1", 256, 65536, 0);
    CU_ASSERT_EQUAL(seen.starts, 0);
    CU_ASSERT_EQUAL(seen.fail.err, TR_ERR_INVALID);
    close_node();
    setenv("OPENAI_COMPATIBLE_API_KEY", "sk-other-123456", 1);
    open_node("openai-compatible", NULL, NULL);
    submit_with(CHAT, "http://box:1/v1/", 256, 65536, 0);
    CU_ASSERT_EQUAL(seen.starts, 1);
    CU_ASSERT_STRING_EQUAL(seen.url, "http://box:1/v1/chat/completions");
    CU_ASSERT_PTR_NULL(strstr(seen.headers, "sk-other"));
    close_node();
    open_node("openai-compatible", NULL, NULL);
    submit_with(CHAT, "ftp://box", 256, 65536, 0);
    CU_ASSERT_EQUAL(seen.starts, 0);
    CU_ASSERT_EQUAL(seen.fail.err, TR_ERR_INVALID);
    close_node();
    open_node("box", "openai-compatible", "http://box:1/v1");
    submit_with(CHAT, "http://box:1/other", 256, 65536, 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.headers, "Authorization: Bearer sk-other-123456"));
    unsetenv("OPENAI_COMPATIBLE_API_KEY");
    close_node();
}

static void inquire(tr_op op, const char *model) {
    tr_submit head = {.op = (uint8_t)op,
                      .credit_messages = 256,
                      .credit_bytes = 65536,
                      .first_token_ms = 1,
                      .total_ms = 91011};
    tr_submit_view view = {.target = {model, strlen(model)}};
    post(seen.caller, 77, tr_msg_submit(&head, &view, NULL));
}

static void models_are_asked_for_without_a_body(void) {
    open_node("lmstudio", NULL, NULL);
    inquire(TR_OP_LOADED, "");
    CU_ASSERT_STRING_EQUAL(seen.url, "http://localhost:1234/api/v1/models");
    CU_ASSERT_STRING_EQUAL(seen.body, "");
    CU_ASSERT_EQUAL(seen.start.method, TR_HTTP_GET);
    CU_ASSERT_EQUAL(seen.start.first_byte_ms, 91011);
    head(200, "");
    data("{\"models\":[{\"key\":\"a\",\"loaded_instances\":[{\"id\":\"a:2\"}]}]}");
    end(TR_OK, NULL);
    CU_ASSERT_EQUAL(seen.text_size, 28);
    CU_ASSERT_NSTRING_EQUAL(seen.text, "[{\"name\":\"a:2\",\"model\":\"a\"}]", 28);
    CU_ASSERT_EQUAL(seen.dones, 1);
    at_rest();
    close_node();
    open_node("box", "openai-compatible", "http://box:1/v1");
    inquire(TR_OP_UNLOAD, "m");
    CU_ASSERT_EQUAL(seen.fail.err, TR_ERR_UNSUPPORTED);
    CU_ASSERT_STRING_EQUAL(
        seen.message,
        "provider box cannot be told to unload a model: it keeps its models by itself");
    close_node();
    open_node("ollama", NULL, NULL);
    inquire(TR_OP_UNLOAD, "");
    CU_ASSERT_EQUAL(seen.fail.err, TR_ERR_INVALID);
    CU_ASSERT_EQUAL(seen.starts, 0);
    close_node();
}

static void ollamas_host_is_found_where_ollama_finds_it(void) {
    static const char *const hosts[][2] = {{"0.0.0.0:9", "http://127.0.0.1:9/api/chat"},
                                           {"https://box/o", "https://box:443/o/api/chat"},
                                           {"", "http://127.0.0.1:11434/api/chat"},
                                           {"a b", ""}};
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        setenv("OLLAMA_HOST", hosts[i][0], 1);
        open_node("ollama", NULL, NULL);
        submit(256, 65536);
        CU_ASSERT_STRING_EQUAL(seen.url, hosts[i][1]);
        CU_ASSERT_EQUAL(seen.fails, hosts[i][1][0] == '\0' ? 1 : 0);
        CU_ASSERT_EQUAL(seen.fail.err, hosts[i][1][0] == '\0' ? TR_ERR_INVALID : TR_OK);
        close_node();
    }
    unsetenv("OLLAMA_HOST");
}

static void a_row_may_name_its_keys_header_a_token_and_a_fixed_header(void) {
    setenv("ANTHROPIC_API_KEY", "sk-ant-123456", 1);
    setenv("ANTHROPIC_AUTH_TOKEN", "token-123456", 1);
    open_node("anthropic", NULL, NULL);
    submit(256, 65536);
    CU_ASSERT_STRING_EQUAL(seen.url, "https://api.anthropic.com/v1/messages");
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.headers, "x-api-key: sk-ant-123456\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.headers, "anthropic-version: 2023-06-01\n"));
    CU_ASSERT_PTR_NULL(strstr(seen.headers, "token-123456"));
    close_node();
    unsetenv("ANTHROPIC_API_KEY");
    open_node("anthropic", NULL, "http://box:1/v1/");
    submit(256, 65536);
    CU_ASSERT_STRING_EQUAL(seen.url, "http://box:1/v1/messages");
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.headers, "Authorization: Bearer token-123456\n"));
    CU_ASSERT_PTR_NULL(strstr(seen.headers, "x-api-key"));
    head(401, "");
    data("{\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",");
    data("\"message\":\"not token-123456\"},\"request_id\":\"r3\"}");
    end(TR_OK, NULL);
    CU_ASSERT_EQUAL(seen.fail.err, TR_ERR_AUTH);
    CU_ASSERT_STRING_EQUAL(seen.message, "anthropic answered 401: not ************ "
                                         "(asked with the key of env:ANTHROPIC_AUTH_TOKEN)");
    CU_ASSERT_STRING_EQUAL(seen.request_id, "r3");
    unsetenv("ANTHROPIC_AUTH_TOKEN");
    close_node();
    open_node("anthropic", NULL, NULL);
    submit(256, 65536);
    CU_ASSERT_EQUAL(seen.starts, 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.message, "lacks ANTHROPIC_API_KEY"));
    close_node();
}

static void a_whole_answer_has_the_total_time_for_its_first_byte(void) {
    open_node("box", "openai-compatible", "http://box:1/v1");
    submit_with(CHAT, "", 256, 65536, TR_SUBMIT_NO_STREAM);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.body, "\"stream\":false"));
    CU_ASSERT_EQUAL(seen.start.first_byte_ms, 91011);
    head(200, "content-type: application/json\n");
    data("{\"choices\":[{\"index\":0,\"finish_reason\":\"stop\",\"message\":{\"content\":\"Hi\",");
    data("\"reasoning\":\"hm\",\"refusal\":\"no\",\"tool_calls\":[{\"id\":\"a\",\"function\":"
         "{\"name\":\"f\",\"arguments\":\"{}\"}}]}}]}");
    end(TR_OK, NULL);
    CU_ASSERT_NSTRING_EQUAL(seen.text, "Hi", 2);
    CU_ASSERT_STRING_EQUAL(seen.reasoning, "hm");
    CU_ASSERT_STRING_EQUAL(seen.opaque, "refusal");
    CU_ASSERT_STRING_EQUAL(seen.tools, "a=f{}");
    CU_ASSERT_EQUAL(seen.dones, 1);
    at_rest();
    close_node();
}

static void bad_requests_are_refused_before_anything_is_sent(void) {
    open_node("box", "openai-compatible", "http://box:1/v1");
    submit_with("{\"messages\":[]}", "", 1, 65536, 0);
    CU_ASSERT_EQUAL(seen.fail.err, TR_ERR_INVALID);
    close_node();
    open_node("openai-compatible", NULL, NULL);
    submit(1, 65536);
    CU_ASSERT_EQUAL(seen.fail.err, TR_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.message, "base URL"));
    CU_ASSERT_EQUAL(seen.starts, 0);
    at_rest();
    close_node();
}

/* One short life of a request while the n-th allocation fails; true when it was reached. */
static bool starve(long n) {
    open_node("box", "openai-compatible", "http://box:1/v1");
    allowed = n;
    submit(256, 256 * 1024);
    if (seen.starts == 1) {
        head(200, "x-request-id: r\n");
        token("a");
        data(
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"i\","
            "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}}]}\n\n");
        data(STOP);
    }
    bool reached = allowed == -2;
    allowed = -1;
    bool alive = tr_whereis(seen.node, "provider:box:0") == seen.provider;
    /* Without memory for the FAIL the actor crashes, and its callers have its DOWN. */
    CU_ASSERT(seen.dones + seen.fails == 1 || !alive);
    CU_ASSERT_EQUAL(seen.after_terminal, 0);
    CU_ASSERT(reached || seen.dones == 1);
    if (alive) {
        at_rest();
    }
    close_node();
    return reached;
}

static void a_failed_allocation_fails_one_request(void) {
    long n = 0;
    while (starve(n)) {
        n++;
    }
    CU_ASSERT(n > 20);
}

int main(void) {
    static const tr_memory memory = {.resize = test_resize, .release = test_release};
    tr_memory_set(&memory);
    if (CU_initialize_registry() != CUE_SUCCESS) {
        return 1;
    }
    CU_pSuite suite = CU_add_suite("provider", NULL, NULL);
    CU_ADD_TEST(suite, a_stream_becomes_deltas_and_one_done);
    CU_ADD_TEST(suite, deltas_never_exceed_credit_and_the_window_stays_closed);
    CU_ADD_TEST(suite, credit_counts_bytes_too);
    CU_ADD_TEST(suite, a_long_text_is_split_at_characters);
    CU_ADD_TEST(suite, cancel_closes_the_transfer_and_fails_once);
    CU_ADD_TEST(suite, a_dead_caller_takes_its_transfer_with_it);
    CU_ADD_TEST(suite, a_missing_key_says_which_variable_the_daemon_lacks);
    CU_ADD_TEST(suite, a_configured_key_is_missed_even_where_none_is_needed);
    CU_ADD_TEST(suite, a_long_name_of_a_model_is_cut_at_a_character);
    CU_ADD_TEST(suite, a_refusal_carries_status_words_and_advice_but_no_key);
    CU_ADD_TEST(suite, a_cut_stream_is_truncated_never_done);
    CU_ADD_TEST(suite, an_unreachable_server_fails_with_the_doors_words);
    CU_ADD_TEST(suite, a_dead_door_fails_what_was_open_and_is_looked_up_again);
    CU_ADD_TEST(suite, a_request_may_bring_a_base_url_only_where_the_row_allows_it);
    CU_ADD_TEST(suite, models_are_asked_for_without_a_body);
    CU_ADD_TEST(suite, ollamas_host_is_found_where_ollama_finds_it);
    CU_ADD_TEST(suite, a_row_may_name_its_keys_header_a_token_and_a_fixed_header);
    CU_ADD_TEST(suite, a_whole_answer_has_the_total_time_for_its_first_byte);
    CU_ADD_TEST(suite, bad_requests_are_refused_before_anything_is_sent);
    CU_ADD_TEST(suite, a_failed_allocation_fails_one_request);
    CU_basic_set_mode(CU_BRM_NORMAL);
    CU_basic_run_tests();
    int failed = (int)CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed == 0 ? 0 : 1;
}
