/*
 * A curl multi loop as one writes it by hand: socket_action on an epoll, handles that are used
 * again, and for streams the least that reads them: lines, cJSON of each event, the content's text.
 * Called by peer.c.
 */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "tests/bench/peer.h"

typedef struct loop {
    CURLM *multi;
    int epoll_fd;
    double due_us; /* curl's timer; < 0 = none */
} loop;

static void read_event(bench_transfer *t, const char *json, size_t size, double now_us) {
    cJSON *root = cJSON_ParseWithLength(json, size);
    const cJSON *choice = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(root, "choices"), 0);
    const cJSON *delta = cJSON_GetObjectItemCaseSensitive(choice, "delta");
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(delta, "content"));
    if (text != NULL && text[0] != '\0') {
        t->chunks++;
        if (t->added != NULL) {
            bench_add_stamps(t->added, text, strlen(text), now_us);
        }
    }
    cJSON_Delete(root);
}

static size_t on_stream(char *bytes, size_t one, size_t size, void *arg) {
    bench_transfer *t = arg;
    double now_us = bench_now_us();
    for (size_t i = 0; i < size * one;) {
        const char *lf = memchr(bytes + i, '\n', size * one - i);
        size_t length = lf == NULL ? size * one - i : (size_t)(lf - bytes) - i;
        if (t->line_size + length > sizeof t->line) {
            return 0;
        }
        memcpy(t->line + t->line_size, bytes + i, length);
        t->line_size += length;
        i += length + (lf != NULL);
        if (lf != NULL) {
            if (t->line_size > 6 && memcmp(t->line, "data: {", 7) == 0) {
                read_event(t, t->line + 6, t->line_size - 6, now_us);
            }
            t->line_size = 0;
        }
    }
    return size * one;
}

static size_t on_whole(char *bytes, size_t one, size_t size, void *arg) {
    (void)bytes;
    ((bench_transfer *)arg)->bytes += size * one;
    return size * one;
}

void bench_transfer_init(bench_transfer *t, const char *url, const char *model, bool stream) {
    char whole[300];
    snprintf(whole, sizeof whole, "%s/chat/completions", url);
    snprintf(t->body, sizeof t->body,
             "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]%s}", model,
             stream ? ",\"stream\":true,\"stream_options\":{\"include_usage\":true}" : "");
    t->headers = curl_slist_append(NULL, "Content-Type: application/json");
    t->easy = curl_easy_init();
    curl_easy_setopt(t->easy, CURLOPT_URL, whole);
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, t->body);
    curl_easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(t->easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
    curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, stream ? on_stream : on_whole);
    curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
}

void bench_transfer_fini(bench_transfer *t) {
    curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->headers);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known) {
    loop *l = arg;
    struct epoll_event event = {.events = ((what & CURL_POLL_IN) != 0 ? EPOLLIN : 0U) |
                                          ((what & CURL_POLL_OUT) != 0 ? EPOLLOUT : 0U),
                                .data = {.fd = fd}};
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    } else {
        epoll_ctl(l->epoll_fd, known == NULL ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event);
        curl_multi_assign(l->multi, fd, l);
    }
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *arg) {
    (void)multi;
    ((loop *)arg)->due_us = ms < 0 ? -1 : bench_now_us() + (double)ms * 1000;
    return 0;
}

static void turn(loop *l, int most_ms) {
    struct epoll_event events[256];
    int running;
    double left_us = l->due_us < 0 ? -1000 : l->due_us - bench_now_us();
    int wait_ms = l->due_us < 0 ? -1 : left_us < 0 ? 0 : (int)(left_us / 1000 + 1);
    if (most_ms >= 0 && (wait_ms < 0 || wait_ms > most_ms)) {
        wait_ms = most_ms;
    }
    int count = epoll_wait(l->epoll_fd, events, 256, wait_ms);
    for (int i = 0; i < count; i++) {
        int what = ((events[i].events & EPOLLIN) != 0 ? CURL_CSELECT_IN : 0) |
                   ((events[i].events & EPOLLOUT) != 0 ? CURL_CSELECT_OUT : 0) |
                   ((events[i].events & (EPOLLERR | EPOLLHUP)) != 0 ? CURL_CSELECT_ERR : 0);
        curl_multi_socket_action(l->multi, events[i].data.fd, what, &running);
    }
    if (l->due_us >= 0 && bench_now_us() >= l->due_us) {
        l->due_us = -1;
        curl_multi_socket_action(l->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
}

/* What is done begins anew while some are left to begin; returns how many were done, failed or not.
 */
static size_t again(loop *l, size_t *left, size_t *failed) {
    CURLMsg *info;
    int queued;
    size_t done = 0;
    while ((info = curl_multi_info_read(l->multi, &queued)) != NULL) {
        CURL *easy = info->easy_handle;
        *failed += info->data.result != CURLE_OK;
        done++;
        curl_multi_remove_handle(l->multi, easy);
        if (*left > 0) {
            (*left)--;
            curl_multi_add_handle(l->multi, easy);
        }
    }
    return done;
}

int bench_multi(const char *url, const char *model, size_t at_once, size_t count, bool streams,
                double over_us) {
    loop l = {.multi = curl_multi_init(), .epoll_fd = epoll_create1(EPOLL_CLOEXEC), .due_us = -1};
    bench_transfer *transfers = calloc(at_once, sizeof *transfers);
    bench_set added = {0};
    size_t left = count, done = 0, failed = 0, chunks = 0;
    if (transfers == NULL) {
        return 1;
    }
    curl_multi_setopt(l.multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(l.multi, CURLMOPT_SOCKETDATA, &l);
    curl_multi_setopt(l.multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(l.multi, CURLMOPT_TIMERDATA, &l);
    curl_multi_setopt(l.multi, CURLMOPT_MAXCONNECTS, (long)at_once);
    double begun = bench_now_us(), cpu = bench_cpu_us();
    for (size_t i = 0; i < at_once && left > 0; i++, left--) {
        while (bench_now_us() < begun + over_us * (double)i / (double)at_once) {
            turn(&l, 1);
            done += again(&l, &left, &failed);
        }
        bench_transfer_init(&transfers[i], url, model, streams);
        transfers[i].added = &added;
        curl_multi_add_handle(l.multi, transfers[i].easy);
    }
    while (done < count) {
        turn(&l, -1);
        done += again(&l, &left, &failed);
    }
    double seconds = (bench_now_us() - begun) / 1e6;
    cpu = bench_cpu_us() - cpu;
    for (size_t i = 0; i < at_once; i++) {
        chunks += transfers[i].chunks;
        if (transfers[i].easy != NULL) {
            bench_transfer_fini(&transfers[i]);
        }
    }
    curl_multi_cleanup(l.multi);
    printf("{\"bench\":\"peer %s\",\"at_once\":%zu,\"count\":%zu,\"failed\":%zu,\"seconds\":%.3f,"
           "\"per_second\":%.0f,\"cpu_us\":%.2f",
           streams ? "streams" : "load", at_once, count, failed, seconds, (double)count / seconds,
           cpu / (double)count);
    if (streams) {
        printf(",\"chunks\":%zu,\"cpu_us_per_chunk\":%.2f,\"added_p50_ms\":%.3f,"
               "\"added_p99_ms\":%.3f",
               chunks, cpu / (double)chunks, bench_at(&added, 0.5) / 1000,
               bench_at(&added, 0.99) / 1000);
    }
    puts("}");
    bench_fini(&added);
    free(transfers);
    return failed > 0;
}
