/* The provider actor of a managed server: it follows the server's port, calls the model as the
 * server does, and has no key to give. */
#include <CUnit/Basic.h>
#include <stdlib.h>
#include <string.h>

#include "providers/http.h"
#include "providers/provider.h"
#include "providers/servers.h"
#include "tests/lib/stand_in.h"

static _Atomic uint32_t port;

typedef struct rig {
    tr_node *node;
    stand_in door, call;
    tr_provider_spec spec;
    tr_id provider;
} rig;

static void spawn(tr_self *self, void *arg) {
    rig *r = arg;
    tr_spawn_spec spec = {
        .behaviour = &tr_provider, .args = &r->spec, .args_size = sizeof r->spec, .name = "p"};
    CU_ASSERT_EQUAL_FATAL(tr_spawn(self, &spec, &r->provider), TR_OK);
}

static void up(rig *r, const char *kind, const char *server_model) {
    char why[256];
    *r = (rig){.node = puppet_node(1)};
    CU_ASSERT_EQUAL_FATAL(
        tr_provider_spec_server(kind, "m", server_model, &port, &r->spec, why, sizeof why), TR_OK);
    stand_in_start(&r->door, r->node, 0, "http:0");
    stand_in_start(&r->call, r->node, 0, NULL);
    stand_in_do(&r->call, spawn, r);
}

static void down(rig *r) {
    stand_in_clear(&r->door);
    stand_in_clear(&r->call);
    tr_node_free(r->node);
}

/* What a request becomes: the START, to be freed. */
static tr_msg *started(rig *r, uint64_t ref) {
    static const char chat[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}";
    tr_body *body = tr_body_new(sizeof chat - 1);
    memcpy(body->bytes, chat, sizeof chat - 1);
    tr_submit head = {.op = TR_OP_CHAT, .credit_messages = 8, .credit_bytes = TR_DELTA_max};
    tr_submit_view view = {.target = {"m", 1}, .provider = {"local", 5}};
    stand_in_send(&r->call, r->provider, tr_msg_submit(&head, &view, body), ref);
    return stand_in_expect(&r->door, TR_KIND_HTTP_START);
}

static bool holds(tr_str text, const char *part) {
    return memmem(text.ptr, text.size, part, strlen(part)) != NULL;
}

static void requests_go_where_the_server_is_now(void) {
    rig r;
    tr_str url;
    tr_str headers;
    up(&r, "managed/other", "org/model");
    for (uint32_t i = 1; i < 4; i++) {
        char expected[64];
        port = 4000 + i;
        snprintf(expected, sizeof expected, "http://127.0.0.1:%u/v1/chat/completions", 4000 + i);
        tr_msg *msg = started(&r, i);
        CU_ASSERT_PTR_NOT_NULL_FATAL(tr_http_start_read(msg, &url, &headers));
        CU_ASSERT(url.size == strlen(expected) && memcmp(url.ptr, expected, url.size) == 0);
        tr_msg_free(msg);
        stand_in_clear(&r.door);
    }
    down(&r);
}

static void the_model_is_called_as_the_server_calls_it(void) {
    rig r;
    up(&r, "managed/mlx", "org/model");
    tr_msg *msg = started(&r, 1);
    CU_ASSERT(holds((tr_str){msg->body->bytes, msg->body->size}, "\"model\":\"org/model\""));
    tr_msg_free(msg);
    down(&r);
    up(&r, "managed/llama-server", "");
    msg = started(&r, 1);
    CU_ASSERT(holds((tr_str){msg->body->bytes, msg->body->size}, "\"model\":\"m\""));
    tr_msg_free(msg);
    down(&r);
}

static void no_key_is_sent(void) {
    static const char *const names[] = {"OPENAI_API_KEY", "VLLM_API_KEY", "LLAMA_API_KEY",
                                        "OPENAI_COMPATIBLE_API_KEY"};
    tr_str url;
    tr_str headers;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        setenv(names[i], "sk-secret", 1);
    }
    for (size_t i = 0; tr_server_at(i) != NULL; i++) {
        rig r;
        up(&r, tr_server_at(i)->row.name, "x");
        tr_msg *msg = started(&r, 1);
        CU_ASSERT_PTR_NOT_NULL_FATAL(tr_http_start_read(msg, &url, &headers));
        CU_ASSERT(!holds(headers, "sk-secret") && !holds(headers, "uthorization"));
        tr_msg_free(msg);
        down(&r);
    }
}

static void each_kind_is_found_and_starts_with_a_port(void) {
    for (size_t i = 0; tr_server_at(i) != NULL; i++) {
        const tr_server_row *row = tr_server_at(i);
        CU_ASSERT_PTR_EQUAL(tr_server_find(row->row.name), row);
        CU_ASSERT_PTR_EQUAL(tr_catalog_find(row->row.name), &row->row);
        CU_ASSERT_EQUAL(row->health[0], '/');
        CU_ASSERT(row->command == NULL || strstr(row->command, "{port}") != NULL);
    }
    CU_ASSERT_PTR_NULL(tr_server_find("openai"));
}

static void names_that_do_not_fit_are_refused(void) {
    tr_provider_spec spec;
    char why[256];
    CU_ASSERT_EQUAL(tr_provider_spec_server("managed/none", "m", "", &port, &spec, why, sizeof why),
                    TR_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(tr_provider_spec_server("managed/mlx", "a23456789012345678901234567890123456",
                                            "", &port, &spec, why, sizeof why),
                    TR_ERR_INVALID);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(requests_go_where_the_server_is_now),
        PUPPET_TEST(the_model_is_called_as_the_server_calls_it),
        PUPPET_TEST(no_key_is_sent),
        PUPPET_TEST(each_kind_is_found_and_starts_with_a_port),
        PUPPET_TEST(names_that_do_not_fit_are_refused),
    };
    return puppet_main("servers", tests, sizeof tests / sizeof *tests);
}
