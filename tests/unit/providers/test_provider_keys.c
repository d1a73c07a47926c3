/* Requests that wait for a command to print their key. The door, the runner of commands and the
 * caller are stand-ins, the clock is the test's. */
#include <CUnit/Basic.h>
#include <string.h>

#include "protocol/limits.h"
#include "providers/key_commands.h"
#include "providers/provider.h"
#include "tests/lib/stand_in.h"

#define CHAT "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"
#define REF 7U

typedef struct rig {
    tr_node *node;
    stand_in door, runner, caller;
    tr_keychain *chain;
    tr_provider_spec spec;
    tr_id provider;
} rig;

static void spawn(tr_self *self, void *arg) {
    rig *r = arg;
    tr_spawn_spec spec = {.behaviour = &tr_provider, .args = &r->spec, .args_size = sizeof r->spec};
    CU_ASSERT_EQUAL_FATAL(tr_spawn(self, &spec, &r->provider), TR_OK);
}

static void submit(rig *r) {
    tr_submit head = {.op = TR_OP_CHAT,
                      .credit_messages = 8,
                      .credit_bytes = TR_CREDIT_BYTES_min,
                      .total_ms = 60000};
    tr_submit_view view = {.target = {"m", 1}};
    tr_body *body = tr_body_new(sizeof CHAT - 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(body);
    memcpy(body->bytes, CHAT, sizeof CHAT - 1);
    tr_msg *msg = tr_msg_submit(&head, &view, body);
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    stand_in_send(&r->caller, r->provider, msg, REF);
}

static void up(rig *r) {
    static const char *const sources[] = {"command:print-key"};
    char why[160];
    *r = (rig){.node = puppet_node(1)};
    stand_in_start(&r->door, r->node, 0, "http:0");
    stand_in_start(&r->runner, r->node, 0, TR_KEY_COMMANDS_NAME);
    stand_in_start(&r->caller, r->node, 0, NULL);
    tr_keychain_spec chain = {
        .provider = "openai", .kind = "openai", .sources = sources, .source_count = 1};
    CU_ASSERT_EQUAL_FATAL(tr_keychain_new(&chain, &r->chain), TR_OK);
    CU_ASSERT_EQUAL_FATAL(
        tr_provider_spec_init("openai", NULL, NULL, NULL, &r->spec, why, sizeof why), TR_OK);
    r->spec.keychain = r->chain;
    stand_in_do(&r->caller, spawn, r);
}

static void down(rig *r) {
    stand_in_clear(&r->door);
    stand_in_clear(&r->runner);
    stand_in_clear(&r->caller);
    tr_node_stop(r->node);
    tr_node_free(r->node);
    tr_keychain_free(r->chain);
}

/* The runner was asked for the key; now it has been printed. */
static void print_key(rig *r) {
    char command[TR_KEY_SOURCE_max + 1];
    uint32_t ticket = 0;
    tr_msg *wanted = stand_in_expect(&r->runner, TR_KIND_KEYS_WANTED);
    CU_ASSERT_TRUE_FATAL(tr_keychain_next_command(r->chain, puppet_clock_us, command, &ticket));
    tr_keychain_ran(r->chain, ticket, (tr_str){"sk-printed-1", 12}, NULL, puppet_clock_us);
    tr_msg *came = tr_msg_new(TR_KIND_KEYS_CAME, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(came);
    stand_in_send(&r->runner, r->provider, came, wanted->ref);
    tr_msg_free(wanted);
}

static void a_printed_key_sends_the_request(void) {
    rig r;
    up(&r);
    submit(&r);
    CU_ASSERT_EQUAL(stand_in_count(&r.door), 0);
    print_key(&r);
    CU_ASSERT_EQUAL(stand_in_count(&r.door), 1);
    CU_ASSERT_EQUAL(stand_in_count(&r.caller), 0);
    down(&r);
}

static void a_key_that_comes_after_the_doors_death_sends_nothing_and_says_so(void) {
    rig r;
    up(&r);
    submit(&r);
    stand_in_crash(&r.door);
    CU_ASSERT_EQUAL(stand_in_count(&r.caller), 0);
    print_key(&r);
    tr_msg *fail = stand_in_expect(&r.caller, TR_KIND_FAIL);
    CU_ASSERT_EQUAL(fail->ref, REF);
    CU_ASSERT_EQUAL(((const tr_fail *)(const void *)fail->data)->err, TR_ERR_CONNECT);
    tr_msg_free(fail);
    down(&r);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(a_printed_key_sends_the_request),
        PUPPET_TEST(a_key_that_comes_after_the_doors_death_sends_nothing_and_says_so),
    };
    return puppet_main("provider keys", tests, sizeof tests / sizeof *tests);
}
