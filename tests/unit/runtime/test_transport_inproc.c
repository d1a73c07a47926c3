/* The transport's inproc side, with clients of the test's own that follow protocol/inproc.h. */
#include <CUnit/Basic.h>
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/pipeline0/push.h>
#include <stdio.h>
#include <string.h>

#include "protocol/inproc.h"
#include "tests/lib/door_stage.h"

typedef struct client {
    nng_socket pair, push;
} client;

static void open_client(client *c, const char *hall, const char *own) {
    CU_ASSERT_EQUAL_FATAL(nng_pair0_open(&c->pair), 0);
    nng_socket_set_int(c->pair, NNG_OPT_RECVBUF, TR_INPROC_QUEUE);
    nng_socket_set_ms(c->pair, NNG_OPT_RECVTIMEO, 10000);
    nng_socket_set_ms(c->pair, NNG_OPT_SENDTIMEO, 10000);
    CU_ASSERT_EQUAL_FATAL(nng_listen(c->pair, own, NULL, 0), 0);
    CU_ASSERT_EQUAL_FATAL(nng_push0_open(&c->push), 0);
    CU_ASSERT_EQUAL_FATAL(nng_dial(c->push, hall, NULL, 0), 0);
    CU_ASSERT_EQUAL_FATAL(nng_send(c->push, (void *)(uintptr_t)own, strlen(own), 0), 0);
}

static void close_client(client *c) {
    nng_close(c->pair);
    nng_close(c->push);
}

static void inproc_clients_come_and_go(void) {
    tr_doors_stage s;
    tr_doors_set_up(&s);
    snprintf(s.url, sizeof s.url, "inproc://troupe-test");
    CU_ASSERT_EQUAL_FATAL(tr_doors_listen(&s.host, s.url, NULL).err, TR_OK);
    CU_ASSERT_EQUAL(tr_doors_listen(&s.guest, s.url, NULL).err, TR_ERR_EXISTS);
    client c[3];
    for (uint32_t i = 0; i < 3; i++) {
        char own[160];
        snprintf(own, sizeof own, "%s/%u", s.url, i);
        open_client(&c[i], s.url, own);
    }
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < 3; i++) {
            char text[8];
            char back[8];
            size_t size = sizeof back;
            snprintf(text, sizeof text, "%u.%u", i, round);
            CU_ASSERT_EQUAL_FATAL(nng_send(c[i].pair, text, sizeof text, 0), 0);
            CU_ASSERT_EQUAL_FATAL(nng_recv(c[i].pair, back, &size, 0), 0);
            CU_ASSERT(size == sizeof text && memcmp(text, back, size) == 0);
        }
    }
    close_client(&c[0]);
    CU_ASSERT(tr_doors_await(&s.host, tr_doors_gone, 1));
    tr_probe_run(s.host.probe, tr_doors_do_close_all, &s.host); /* the client sees its pipe end */
    char back[8];
    size_t size = sizeof back;
    CU_ASSERT_EQUAL(nng_send(c[1].pair, "x", 1, NNG_FLAG_NONBLOCK) == 0 &&
                        nng_recv(c[1].pair, back, &size, NNG_FLAG_NONBLOCK) == 0,
                    false);
    close_client(&c[1]);
    close_client(&c[2]);
    tr_probe_run(s.host.probe, tr_doors_do_unlisten, &s.host);
    CU_ASSERT_EQUAL(tr_doors_listen(&s.host, s.url, NULL).err, TR_OK);
    tr_doors_tear_down(&s);
}

static void inproc_last_words_are_read_before_the_end(void) {
    tr_doors_stage s;
    tr_doors_set_up(&s);
    s.host.echoes = false;
    CU_ASSERT_EQUAL_FATAL(tr_doors_listen(&s.host, "inproc://troupe-last", NULL).err, TR_OK);
    client c;
    open_client(&c, "inproc://troupe-last", "inproc://troupe-last/1");
    CU_ASSERT_FATAL(tr_doors_await(&s.host, tr_doors_opened, 1));
    for (int i = 0; i < 40; i++) {
        CU_ASSERT_EQUAL_FATAL(nng_send(c.pair, "0123456789", 10, 0), 0);
    }
    CU_ASSERT(
        tr_doors_await(&s.host, tr_doors_received, 390)); /* all but what may be in the last hand */
    close_client(&c);
    CU_ASSERT(tr_doors_await(&s.host, tr_doors_gone, 1));
    CU_ASSERT(s.host.ends[0].received >= 390);
    tr_doors_tear_down(&s);
}

static void inproc_strangers_disturb_nobody(void) {
    tr_doors_stage s;
    tr_doors_set_up(&s);
    CU_ASSERT_EQUAL_FATAL(tr_doors_listen(&s.host, "inproc://troupe-odd", NULL).err, TR_OK);
    client liar;
    open_client(&liar, "inproc://troupe-odd", "inproc://troupe-odd/liar");
    CU_ASSERT_FATAL(tr_doors_await(&s.host, tr_doors_opened, 1));
    const char *odd[] = {"", "ipc:///tmp/x", "inproc://nobody/there", "garbage"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        CU_ASSERT_EQUAL(nng_send(liar.push, (void *)(uintptr_t)odd[i], strlen(odd[i]), 0), 0);
    }
    client c;
    open_client(&c, "inproc://troupe-odd", "inproc://troupe-odd/good");
    CU_ASSERT_FATAL(tr_doors_await(&s.host, tr_doors_opened, 2));
    char back[8];
    size_t size = sizeof back;
    CU_ASSERT_EQUAL(nng_send(c.pair, "hello", 5, 0), 0);
    CU_ASSERT_EQUAL(nng_recv(c.pair, back, &size, 0), 0);
    close_client(&liar);
    close_client(&c);
    CU_ASSERT(tr_doors_await(&s.host, tr_doors_gone, 2));
    tr_doors_tear_down(&s);
}

int main(void) {
    CU_TestInfo tests[] = {
        {"inproc_clients_come_and_go", inproc_clients_come_and_go},
        {"inproc_last_words_are_read_before_the_end", inproc_last_words_are_read_before_the_end},
        {"inproc_strangers_disturb_nobody", inproc_strangers_disturb_nobody},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"transport_inproc", NULL, NULL, NULL, NULL, tests},
                             CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
