/* The real transport over ipc, tcp and tls+tcp, with raw sockets of the test for peers that
 * misbehave. All in a fresh directory and on loopback. */
#include <CUnit/Basic.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/lib/cert.h"
#include "tests/lib/door_stage.h"

/* ---- claims: streams ---- */

static void bytes_come_back(void) {
    tr_doors_stage s;
    tr_doors_set_up_listening(&s);
    tr_doors_check_well(&s);
    tr_doors_tear_down(&s);
}

static void two_hundred_dials_at_once_succeed(void) {
    tr_doors_stage s;
    tr_doors_set_up_listening(&s);
    CU_ASSERT_EQUAL(tr_doors_dial(&s.guest, s.url, NULL, 200), TR_OK);
    CU_ASSERT(tr_doors_await(&s.guest, tr_doors_opened, 200));
    CU_ASSERT(tr_doors_await(&s.host, tr_doors_opened, 200));
    CU_ASSERT_EQUAL(s.guest.opened, 200);
    CU_ASSERT_EQUAL(s.guest.failed, 0);
    tr_doors_send(&s.guest, 0, 200, 64);
    CU_ASSERT(tr_doors_await(&s.guest, tr_doors_received, 64));
    tr_doors_check_idle(&s);
    tr_doors_tear_down(&s);
}

static bool any_answer(void *arg) {
    const tr_doors_side *s = arg;
    return s->opened + s->failed > 0;
}

static int make_socket(const tr_doors_stage *s);

static void full_backlog_is_tried_again(void) {
    tr_doors_stage s;
    tr_doors_set_up(&s);
    int busy = make_socket(&s);
    CU_ASSERT_EQUAL(listen(busy, 0), 0);
    int first = tr_doors_raw_connect(s.path); /* fills the backlog */
    CU_ASSERT_FATAL(first >= 0);
    CU_ASSERT_EQUAL(tr_doors_dial(&s.guest, s.url, NULL, 1), TR_OK);
    CU_ASSERT(tr_probe_stays(s.guest.probe, 100, any_answer, &s.guest));
    int taken = accept(busy, NULL, NULL);
    CU_ASSERT(tr_doors_await(&s.guest, tr_doors_opened, 1));
    CU_ASSERT_EQUAL(s.guest.opened, 1);
    close(taken);
    close(first);
    close(busy);
    tr_doors_tear_down(&s);
}

static void four_mebibytes_arrive_whole(void) {
    tr_doors_stage s;
    tr_doors_set_up_listening(&s);
    s.host.echoes = false;
    CU_ASSERT_EQUAL(tr_doors_dial(&s.guest, s.url, NULL, 1), TR_OK);
    CU_ASSERT_FATAL(tr_doors_await(&s.guest, tr_doors_opened, 1) &&
                    tr_doors_await(&s.host, tr_doors_opened, 1));
    tr_doors_send(&s.guest, 0, 1, 4UL << 20);
    CU_ASSERT(tr_doors_await(&s.host, tr_doors_received, 4U << 20));
    CU_ASSERT(tr_probe_await(s.guest.probe, tr_doors_sent, &s.guest));
    uint32_t sum = 2166136261U;
    for (size_t i = 0; i < 4UL << 20; i++) {
        sum = (sum ^ 'a') * 16777619U;
    }
    CU_ASSERT_EQUAL(s.host.ends[0].sum, sum);
    tr_doors_tear_down(&s);
}

static void close_is_seen_by_the_other_side(void) {
    tr_doors_stage s;
    tr_doors_set_up_listening(&s);
    CU_ASSERT_EQUAL(tr_doors_dial(&s.guest, s.url, NULL, 20), TR_OK);
    CU_ASSERT_FATAL(tr_doors_await(&s.guest, tr_doors_opened, 20) &&
                    tr_doors_await(&s.host, tr_doors_opened, 20));
    tr_probe_run(s.guest.probe, tr_doors_do_close_all, &s.guest);
    CU_ASSERT(tr_doors_await(&s.host, tr_doors_gone, 20));
    CU_ASSERT_EQUAL(s.guest.gone, 0); /* who closes hears no more */
    tr_doors_tear_down(&s);
}

static void last_words_are_read_before_the_end(void) {
    tr_doors_stage s;
    tr_doors_set_up_listening(&s);
    s.host.echoes = false;
    CU_ASSERT_EQUAL(tr_doors_dial(&s.guest, s.url, NULL, 1), TR_OK);
    CU_ASSERT_FATAL(tr_doors_await(&s.guest, tr_doors_opened, 1) &&
                    tr_doors_await(&s.host, tr_doors_opened, 1));
    tr_doors_send(&s.guest, 0, 1, 50000);
    CU_ASSERT(tr_probe_await(s.guest.probe, tr_doors_sent, &s.guest));
    tr_probe_run(s.guest.probe, tr_doors_do_close_all, &s.guest);
    CU_ASSERT(tr_doors_await(&s.host, tr_doors_gone, 1));
    CU_ASSERT_EQUAL(s.host.ends[0].received, 50000);
    tr_doors_tear_down(&s);
}

static void close_while_a_send_flies_frees_it(void) {
    tr_doors_stage s;
    tr_doors_set_up_listening(&s);
    int fd = tr_doors_raw_connect(s.path); /* never reads */
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_FATAL(tr_doors_await(&s.host, tr_doors_opened, 1));
    tr_doors_send(&s.host, 0, 1, 8UL << 20);
    tr_probe_run(s.host.probe, tr_doors_do_close_all, &s.host);
    char buf[4096];
    ssize_t got;
    do {
        got = read(fd, buf, sizeof buf);
    } while (got > 0);
    CU_ASSERT_EQUAL(got, 0);
    close(fd);
    tr_doors_check_well(&s);
    tr_doors_tear_down(&s); /* the sanitizer build finds the body if it was not freed */
}

/* Half a close counts as the whole, also while a send waits for the peer to read. */
static void peer_that_closes_its_half_is_gone(void) {
    tr_doors_stage s;
    tr_doors_set_up_listening(&s);
    int fd = tr_doors_raw_connect(s.path);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_FATAL(tr_doors_await(&s.host, tr_doors_opened, 1));
    tr_doors_send(&s.host, 0, 1, 8UL << 20);
    CU_ASSERT_EQUAL(shutdown(fd, SHUT_WR), 0);
    CU_ASSERT(tr_doors_await(&s.host, tr_doors_gone, 1));
    CU_ASSERT_EQUAL(s.host.ends[0].sent, 0);
    close(fd);
    tr_doors_tear_down(&s);
}

/* ---- claims: peers that misbehave ---- */

static void connect_and_close_costs_nothing_afterwards(void) {
    tr_doors_stage s;
    tr_doors_set_up_listening(&s);
    for (int i = 0; i < 50; i++) {
        int fd = tr_doors_raw_connect(s.path);
        CU_ASSERT_FATAL(fd >= 0);
        close(fd);
    }
    CU_ASSERT(tr_doors_await(&s.host, tr_doors_gone, 50));
    tr_doors_check_well(&s);
    tr_doors_check_idle(&s);
    tr_doors_tear_down(&s);
}

static void silent_peer_costs_nothing(void) {
    tr_doors_stage s;
    tr_doors_set_up_listening(&s);
    int fds[20];
    for (int i = 0; i < 20; i++) {
        fds[i] = tr_doors_raw_connect(s.path);
        CU_ASSERT_FATAL(fds[i] >= 0);
    }
    CU_ASSERT(tr_doors_await(&s.host, tr_doors_opened, 20));
    tr_doors_check_well(&s);
    tr_doors_check_idle(&s);
    for (int i = 0; i < 20; i++) {
        close(fds[i]);
    }
    CU_ASSERT(tr_doors_await(&s.host, tr_doors_gone, 20));
    tr_doors_tear_down(&s);
}

static void stream_that_nobody_takes_is_closed(void) {
    tr_doors_stage s;
    tr_doors_set_up_listening(&s);
    s.host.deaf = true;
    int fd = tr_doors_raw_connect(s.path);
    CU_ASSERT_FATAL(fd >= 0);
    char byte;
    CU_ASSERT_EQUAL(read(fd, &byte, 1), 0);
    close(fd);
    tr_doors_tear_down(&s);
}

static void want_of_descriptors_passes(void) {
    tr_doors_stage s;
    tr_doors_set_up_listening(&s);
    tr_doors_check_well(&s); /* the library has opened all it needs */
    int first = tr_doors_raw_connect(s.path);
    CU_ASSERT_FATAL(first >= 0);
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    int fds[4];
    for (int i = 0; i < 4; i++) { /* connected, but not accepted once the limit is set */
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    }
    struct rlimit few = {.rlim_cur = (rlim_t)fds[3] + 1, .rlim_max = before.rlim_max};
    CU_ASSERT_FATAL(setrlimit(RLIMIT_NOFILE, &few) == 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", s.path);
    for (int i = 0; i < 4; i++) {
        CU_ASSERT_EQUAL(connect(fds[i], (struct sockaddr *)&address, sizeof address), 0);
    }
    uint64_t before_us = tr_cpu_us();
    tr_probe_stays(s.host.probe, 500, NULL, NULL);
    CU_ASSERT(tr_cpu_us() - before_us < 50000); /* it does not try at once, again and again */
    setrlimit(RLIMIT_NOFILE, &before);
    CU_ASSERT(tr_doors_await(&s.host, tr_doors_opened, 6));
    for (int i = 0; i < 4; i++) {
        close(fds[i]);
    }
    close(first);
    tr_doors_tear_down(&s);
}

/* ---- claims: the socket file ---- */

static void socket_is_private(void) {
    tr_doors_stage s;
    tr_doors_set_up_listening(&s);
    struct stat status;
    CU_ASSERT_EQUAL(stat(s.path, &status), 0);
    CU_ASSERT_EQUAL(status.st_mode & 07777, 0600);
    char folder[128];
    snprintf(folder, sizeof folder, "%s/run", s.folder);
    CU_ASSERT_EQUAL(stat(folder, &status), 0);
    CU_ASSERT_EQUAL(status.st_mode & 07777, 0700);
    tr_doors_tear_down(&s);
    CU_ASSERT_EQUAL(access(s.path, F_OK), -1);
}

static void second_daemon_is_refused(void) {
    tr_doors_stage s;
    tr_doors_set_up_listening(&s);
    tr_doors_listening l = tr_doors_listen(&s.guest, s.url, NULL);
    CU_ASSERT_EQUAL(l.err, TR_ERR_EXISTS);
    CU_ASSERT_PTR_NOT_NULL(strstr(l.why, s.path));
    char pid[24];
    snprintf(pid, sizeof pid, "process %d", (int)getpid());
    CU_ASSERT_PTR_NOT_NULL(strstr(l.why, pid));
    tr_doors_check_well(&s); /* the first one's socket is untouched */
    tr_probe_run(s.host.probe, tr_doors_do_unlisten, &s.host);
    l = tr_doors_listen(&s.guest, s.url, NULL);
    CU_ASSERT_EQUAL(l.err, TR_OK); /* at once */
    tr_doors_tear_down(&s);
}

static int make_socket(const tr_doors_stage *s) {
    char folder[128];
    snprintf(folder, sizeof folder, "%s/run", s->folder);
    mkdir(folder, 0700);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", s->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void stale_socket_is_replaced(void) {
    tr_doors_stage s;
    tr_doors_set_up(&s);
    close(make_socket(&s));
    CU_ASSERT_EQUAL(access(s.path, F_OK), 0);
    CU_ASSERT_EQUAL(tr_doors_listen(&s.host, s.url, NULL).err, TR_OK);
    tr_doors_check_well(&s);
    tr_doors_tear_down(&s);
}

static void foreign_socket_and_file_are_left_alone(void) {
    tr_doors_stage s;
    tr_doors_set_up(&s);
    int fd = make_socket(&s);
    listen(fd, 5);
    tr_doors_listening l = tr_doors_listen(&s.host, s.url, NULL);
    CU_ASSERT_EQUAL(l.err, TR_ERR_EXISTS);
    CU_ASSERT_EQUAL(access(s.path, F_OK), 0);
    close(fd);
    unlink(s.path);
    char path[160];
    tr_doors_write_file(&s, "run/daemon", "precious", "", path, sizeof path);
    l = tr_doors_listen(&s.host, s.url, NULL);
    CU_ASSERT_EQUAL(l.err, TR_ERR_EXISTS);
    CU_ASSERT_PTR_NOT_NULL(strstr(l.why, "not a socket"));
    CU_ASSERT_EQUAL(access(path, F_OK), 0);
    tr_doors_tear_down(&s);
}

static void bad_addresses_are_refused_with_a_reason(void) {
    tr_doors_stage s;
    tr_doors_set_up(&s);
    char url[300];
    snprintf(url, sizeof url, "ipc://%s/%0200d", s.folder, 1);
    const char *urls[] = {url, "http://127.0.0.1:1", "tls+tcp://127.0.0.1:0", "ipc://",
                          "tcp://no.such.host.invalid:x"};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        tr_doors_listening l = tr_doors_listen(&s.host, urls[i], NULL);
        CU_ASSERT_NOT_EQUAL(l.err, TR_OK);
        CU_ASSERT(strlen(l.why) > 10);
    }
    tr_doors_tear_down(&s);
}

static void nobody_there_is_said(void) {
    tr_doors_stage s;
    tr_doors_set_up(&s);
    CU_ASSERT_EQUAL(tr_doors_dial(&s.guest, s.url, NULL, 1), TR_OK);
    CU_ASSERT(tr_doors_await(&s.guest, tr_doors_opened, 1));
    CU_ASSERT_EQUAL(s.guest.failed, 1);
    CU_ASSERT_EQUAL(s.guest.dial_err, TR_ERR_CONNECT);
    tr_doors_tear_down(&s);
}

typedef struct asked {
    tr_doors_side *s;
    bool known;
    uint32_t uid;
} asked;

static void do_ask_uid(tr_self *self, void *arg) {
    (void)self;
    asked *a = arg;
    const tr_stream *stream = a->s->ends[0].stream;
    a->known = stream->transport->peer_uid(a->s->ends[0].stream, &a->uid);
}

static void peer_is_known_by_uid(void) {
    tr_doors_stage s;
    tr_doors_set_up_listening(&s);
    tr_doors_check_well(&s);
    asked a = {.s = &s.host};
    tr_probe_run(s.host.probe, do_ask_uid, &a);
    CU_ASSERT(a.known);
    CU_ASSERT_EQUAL(a.uid, geteuid());
    tr_doors_tear_down(&s);
}

/* ---- claims: tcp and tls ---- */

static void tcp_works_on_a_port_of_the_systems_choice(void) {
    tr_doors_stage s;
    tr_doors_set_up(&s);
    tr_doors_listening l = tr_doors_listen(&s.host, "tcp://127.0.0.1:0", NULL);
    CU_ASSERT_EQUAL_FATAL(l.err, TR_OK);
    CU_ASSERT_PTR_NULL(strstr(l.url, ":0\0"));
    snprintf(s.url, sizeof s.url, "%s", l.url);
    tr_doors_check_well(&s);
    asked a = {.s = &s.host};
    tr_probe_run(s.host.probe, do_ask_uid, &a);
    CU_ASSERT_FALSE(a.known);
    tr_doors_listening again = tr_doors_listen(&s.guest, l.url, NULL);
    CU_ASSERT_EQUAL(again.err, TR_ERR_EXISTS);
    tr_doors_tear_down(&s);
}

static uint16_t port_of(const char *url) {
    return (uint16_t)atoi(strrchr(url, ':') + 1);
}

static void tls_works_and_believes_only_its_own_authority(void) {
    tr_doors_stage s;
    tr_doors_set_up(&s);
    char cert[160];
    char ca[160];
    char other[160];
    tr_doors_write_file(&s, "cert.pem", tr_test_cert, tr_test_key, cert, sizeof cert);
    tr_doors_write_file(&s, "ca.pem", tr_test_cert, "", ca, sizeof ca);
    tr_doors_write_file(&s, "other.pem", tr_other_cert, "", other, sizeof other);
    tr_doors_listening l = tr_doors_listen(&s.host, "tls+tcp://127.0.0.1:0", ca);
    CU_ASSERT_NOT_EQUAL(l.err, TR_OK); /* a certificate without its key */
    CU_ASSERT_PTR_NOT_NULL(strstr(l.why, ca));
    l = tr_doors_listen(&s.host, "tls+tcp://127.0.0.1:0", cert);
    CU_ASSERT_EQUAL_FATAL(l.err, TR_OK);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port_of(l.url)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* says nothing: blocks nobody */
    CU_ASSERT_EQUAL(connect(silent, (struct sockaddr *)&address, sizeof address), 0);
    CU_ASSERT_EQUAL(tr_doors_dial(&s.guest, l.url, NULL, 1), TR_ERR_INVALID);
    CU_ASSERT_EQUAL(tr_doors_dial(&s.guest, l.url, ca, 1), TR_OK);
    CU_ASSERT_FATAL(tr_doors_await(&s.guest, tr_doors_opened, 1));
    CU_ASSERT_EQUAL_FATAL(s.guest.opened, 1);
    s.host.echoes = false;
    tr_doors_send(&s.guest, 0, 1, 1UL << 20);
    CU_ASSERT(tr_probe_await(s.guest.probe, tr_doors_sent, &s.guest));
    /* A wrong authority ends either in a failed dial or in a stream that closes unread. */
    CU_ASSERT_EQUAL(tr_doors_dial(&s.guest, l.url, other, 1), TR_OK);
    CU_ASSERT(tr_doors_await(&s.guest, tr_doors_opened, 2));
    if (s.guest.failed == 0) {
        CU_ASSERT(tr_doors_await(&s.guest, tr_doors_gone, 1));
    }
    close(silent);
    tr_doors_tear_down(&s);
}

int main(void) {
    CU_TestInfo tests[] = {
        {"bytes_come_back", bytes_come_back},
        {"two_hundred_dials_at_once_succeed", two_hundred_dials_at_once_succeed},
        {"full_backlog_is_tried_again", full_backlog_is_tried_again},
        {"four_mebibytes_arrive_whole", four_mebibytes_arrive_whole},
        {"close_is_seen_by_the_other_side", close_is_seen_by_the_other_side},
        {"last_words_are_read_before_the_end", last_words_are_read_before_the_end},
        {"close_while_a_send_flies_frees_it", close_while_a_send_flies_frees_it},
        {"peer_that_closes_its_half_is_gone", peer_that_closes_its_half_is_gone},
        {"connect_and_close_costs_nothing_afterwards", connect_and_close_costs_nothing_afterwards},
        {"silent_peer_costs_nothing", silent_peer_costs_nothing},
        {"stream_that_nobody_takes_is_closed", stream_that_nobody_takes_is_closed},
        {"want_of_descriptors_passes", want_of_descriptors_passes},
        {"socket_is_private", socket_is_private},
        {"second_daemon_is_refused", second_daemon_is_refused},
        {"stale_socket_is_replaced", stale_socket_is_replaced},
        {"foreign_socket_and_file_are_left_alone", foreign_socket_and_file_are_left_alone},
        {"bad_addresses_are_refused_with_a_reason", bad_addresses_are_refused_with_a_reason},
        {"nobody_there_is_said", nobody_there_is_said},
        {"peer_is_known_by_uid", peer_is_known_by_uid},
        {"tcp_works_on_a_port_of_the_systems_choice", tcp_works_on_a_port_of_the_systems_choice},
        {"tls_works_and_believes_only_its_own_authority",
         tls_works_and_believes_only_its_own_authority},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"transport_nng", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
