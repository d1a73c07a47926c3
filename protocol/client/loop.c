/*
 * Living in somebody's event loop: one epoll descriptor over the door, a timer and an eventfd, made
 * when it is first asked for, and tr_client_dispatch, which moves bytes if no other thread is about
 * it, and runs the callbacks of what was submitted. A turn is bounded in bytes and chunks, so that
 * the loop's other work does not wait. Loop thread; callbacks run without the lock.
 */
#include "protocol/client/client_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define RECEIVES_A_TURN 4 /* of at most TRI_IN_size bytes */
#define CHUNKS_A_TURN 4096
#define TURN_NS (2 * TRI_MS)

void tri_wake_loop_locked(tr_client *client) {
    if (client->wake_fd >= 0 && !client->woken) {
        client->woken = true;
        uint64_t one = 1;
        ssize_t written = write(client->wake_fd, &one, sizeof one);
        (void)written; /* cannot be full: it was empty */
    }
}

void tri_unwatch_locked(tr_client *client) {
    /* NNG's descriptors outlive the door, so closing does not remove them from the set. */
    (void)epoll_ctl(client->loop_fd, EPOLL_CTL_DEL, client->watched_fd, NULL);
    client->watched_fd = -1;
}

void tri_watch_locked(tr_client *client) {
    if (client->loop_fd < 0) {
        return;
    }
    if (client->door != NULL && client->state != TRI_DOWN) {
        bool out = !client->door->one_way && (client->blocked || client->state == TRI_DIALING);
        struct epoll_event event = {.events = EPOLLIN | (out ? (uint32_t)EPOLLOUT : 0)};
        if (client->watched_fd < 0) {
            if (epoll_ctl(client->loop_fd, EPOLL_CTL_ADD, client->door->fd, &event) == 0) {
                client->watched_fd = client->door->fd;
                client->watched_out = out;
            }
        } else if (client->watched_out != out &&
                   epoll_ctl(client->loop_fd, EPOLL_CTL_MOD, client->watched_fd, &event) == 0) {
            client->watched_out = out;
        }
    }
    int64_t at = tri_next_timer_locked(client);
    if (at < client->armed_ns) { /* a timer that comes too early looks again */
        client->armed_ns = at;
        at = at > 0 ? at : 1; /* 0 would disarm */
        struct itimerspec when = {.it_value = {.tv_sec = (time_t)(at / (1000 * TRI_MS)),
                                               .tv_nsec = (long)(at % (1000 * TRI_MS))}};
        (void)timerfd_settime(client->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    }
}

static bool make_fds(tr_client *client) {
    client->loop_fd = epoll_create1(EPOLL_CLOEXEC);
    client->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    client->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN};
    if (client->loop_fd >= 0 && client->wake_fd >= 0 && client->timer_fd >= 0 &&
        epoll_ctl(client->loop_fd, EPOLL_CTL_ADD, client->wake_fd, &event) == 0 &&
        epoll_ctl(client->loop_fd, EPOLL_CTL_ADD, client->timer_fd, &event) == 0) {
        return true;
    }
    tri_say_text("No descriptor is left for an event loop: %s.", strerror(errno));
    int *const fds[] = {&client->loop_fd, &client->wake_fd, &client->timer_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (*fds[i] >= 0) {
            close(*fds[i]);
            *fds[i] = -1;
        }
    }
    return false;
}

int tr_client_fd(tr_client *client) {
    if (tri_enter(client) != TR_OK) {
        return -1;
    }
    if (client->loop_fd < 0 && make_fds(client)) {
        tri_watch_locked(client);
        if (client->ready_first != NULL || client->more) {
            tri_wake_loop_locked(client);
        }
    }
    int fd = client->loop_fd;
    tri_leave_locked(client);
    return fd;
}

static tri_call *pop_ready_locked(tr_client *client) {
    tri_call *call = client->ready_first;
    if (call != NULL) {
        client->ready_first = call->ready_next;
        if (client->ready_first == NULL) {
            client->ready_last = NULL;
        }
        call->ready = false;
    }
    return call; /* with the list's reference */
}

static void finish_locked(tri_call *call) {
    tr_client *client = call->client;
    if (call->done_called) {
        return;
    }
    call->done_called = true;
    pthread_mutex_unlock(&client->mtx);
    call->on_done(call->result, call->arg);
    pthread_mutex_lock(&client->mtx);
    tri_call_unref_locked(call); /* the submitter's */
}

void tri_finish_pushed_locked(tr_client *client) {
    for (tri_call *call; (call = pop_ready_locked(client)) != NULL;) {
        if (call->ended) {
            /* An answer without its last chunks is not whole. */
            bool unread = call->pending.size > 0 || call->taken_at < call->taken.size;
            if (unread && !call->done_called && call->result->err == TR_OK) {
                tri_result_fail_here(call->result, TR_ERR_CANCELLED, "The client was closed.");
            }
            finish_locked(call);
        }
        tri_call_unref_locked(call);
    }
}

/* Without the lock. A callback may cancel, or close the client: nothing more is delivered then. */
static tr_err deliver_taken(tri_call *call, size_t *budget) {
    tr_err err = TR_OK;
    const tr_delta *delta;
    while (*budget > 0 && err == TR_OK && !call->cancelled && !call->done_called &&
           !call->client->closed && (delta = tri_call_next(call)) != NULL) {
        tr_chunk chunk;
        (*budget)--;
        err = tri_call_chunk(call, delta, &chunk);
        if (err == TR_OK && call->on_chunk != NULL && chunk.kind != 0) {
            call->on_chunk(&chunk, call->arg);
        }
    }
    return err;
}

static void deliver_locked(tri_call *call, size_t *budget) {
    tr_client *client = call->client;
    bool left = call->taken_at < call->taken.size;
    if (call->cancelled) {
        call->taken_at = call->taken.size;
    } else if (left || tri_call_take_locked(call)) {
        pthread_mutex_unlock(&client->mtx);
        tr_err err = deliver_taken(call, budget);
        pthread_mutex_lock(&client->mtx);
        if (err != TR_OK && !call->done_called) {
            tri_call_overflow_locked(call, err);
        }
        if (client->closed) { /* what is unread now stays so */
            tri_call_tell_locked(call);
            return;
        }
        left = call->taken_at < call->taken.size && !call->cancelled;
        tri_call_credit_locked(call, !left && call->pending.size == 0);
        left = left || (call->pending.size > 0 && !call->cancelled);
        if (left) {
            tri_call_tell_locked(call);
            return;
        }
    }
    if (call->ended) {
        finish_locked(call);
    }
}

tr_err tr_client_dispatch(tr_client *client) {
    tr_err err = tri_enter(client);
    if (err != TR_OK) {
        return err;
    }
    if (client->dispatching) { /* from a callback of this very function */
        tri_leave_locked(client);
        return TR_OK;
    }
    client->dispatching = true;
    client->dispatcher = pthread_self();
    if (client->armed_ns <= tri_now()) {
        uint64_t count;
        ssize_t got = read(client->timer_fd, &count, sizeof count);
        (void)got; /* EAGAIN: it was moved; it is armed again below */
        client->armed_ns = TRI_NEVER;
    }
    if (!client->pumping) {
        client->pumping = true;
        for (int i = 0; i < RECEIVES_A_TURN && tri_work_locked(client); i++) {
        }
        tri_pump_end_locked(client);
    }
    size_t budget = CHUNKS_A_TURN;
    int64_t until = tri_now() + TURN_NS;
    for (tri_call *call; budget > 0 && !client->closed && tri_now() < until &&
                         (call = pop_ready_locked(client)) != NULL;) {
        deliver_locked(call, &budget);
        tri_call_unref_locked(call);
    }
    if (client->closed) {
        tri_finish_pushed_locked(client);
        client->dispatching = false;
        tri_leave_locked(client);
        return TR_ERR_CLOSED;
    }
    client->dispatching = false;
    tri_flush_locked(client);
    if (client->woken && client->ready_first == NULL && !client->more) {
        uint64_t count;
        ssize_t got = read(client->wake_fd, &count, sizeof count);
        (void)got; /* it is readable: `woken` says so */
        client->woken = false;
    } else if (client->ready_first != NULL || client->more) {
        tri_wake_loop_locked(client);
    }
    tri_watch_locked(client);
    tri_leave_locked(client);
    return TR_OK;
}

tr_err tr_client_submit(tr_client *client, const tr_request *request, tr_chunk_fn *on_chunk,
                        tr_done_fn *on_done, void *arg, uint64_t *ret_id) {
    if (on_done == NULL) {
        return tri_say(TR_ERR_INVALID, "tr_client_submit needs a done callback.");
    }
    tri_call *call = NULL;
    tr_err err = tri_call_chat(TR_OP_CHAT, TRI_PUSH, request, &call);
    if (err != TR_OK) {
        return err;
    }
    call->on_chunk = on_chunk;
    call->on_done = on_done;
    call->arg = arg;
    err = tri_enter(client);
    if (err != TR_OK) {
        tri_call_free(call);
        return err;
    }
    err = tri_call_start_locked(client, call, NULL);
    if (err != TR_OK) {
        tri_call_unref_locked(call);
        tri_leave_locked(client);
        return tri_say(err, "This client has been closed.");
    }
    if (ret_id != NULL) {
        *ret_id = call->ref; /* before the flush: then it may end */
    }
    tri_flush_locked(client);
    tri_leave_locked(client);
    return TR_OK;
}

tr_err tr_client_cancel(tr_client *client, uint64_t id) {
    tr_err err = tri_enter(client);
    if (err != TR_OK) {
        return err;
    }
    tri_call *call = tri_table_find(&client->calls, id);
    if (call == NULL) {
        err = tri_say(TR_ERR_NOT_FOUND, "There is no open request with this id.");
    } else {
        tri_call_cancel_locked(call);
        tri_flush_locked(client);
    }
    tri_leave_locked(client);
    return err;
}
