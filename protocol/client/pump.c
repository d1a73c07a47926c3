/*
 * Moving the bytes without a thread of the library's own. Of the threads that wait, one has the
 * pump's role: it receives, sorts frames into everybody's calls, keeps the time limits, and polls;
 * the others sleep. When what it waited for has come, it hands the role to the next. Sending is
 * done by whoever has something to send; what comes while a send is in flight gathers and leaves
 * with the next one, so that a burst of small frames costs few writes.
 */
#include "protocol/client/client_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "protocol/limits.h"

#define OUT_KEEP (256 * 1024) /* of the out buffers' memory, when they are empty */

void tri_waiter_init(tri_waiter *waiter) {
    *waiter = (tri_waiter){0};
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&waiter->cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void tri_waiter_fini(tri_waiter *waiter) {
    pthread_cond_destroy(&waiter->cond);
}

/* Takes what gathered, or goes on with what a full door left. False: nothing to write. */
static bool next_flight(tr_client *client) {
    if (client->flown < client->flying.size) {
        return true;
    }
    tri_buffer written = client->flying;
    tri_buffer_clear(&written, OUT_KEEP);
    client->flying = client->out;
    client->out = written;
    client->flown = 0;
    return client->flying.size > 0;
}

void tri_flush_locked(tr_client *client) {
    if (client->writing || client->door_errno != 0 ||
        (client->state != TRI_UP && client->state != TRI_GREETING)) {
        return;
    }
    bool was_blocked = client->blocked;
    client->writing = true;
    client->blocked = false;
    while (client->door_errno == 0 && !client->blocked && next_flight(client)) {
        tri_door *door = client->door;
        const uint8_t *at = client->flying.data + client->flown;
        size_t size = client->flying.size - client->flown;
        pthread_mutex_unlock(&client->mtx);
        ssize_t count = door->ops->send(door, at, size);
        pthread_mutex_lock(&client->mtx);
        if (count >= 0) {
            client->flown += (size_t)count;
        } else if (count == -EAGAIN) {
            client->blocked = true;
        } else {
            client->door_errno = (int)-count;
        }
        if (client->state == TRI_DOWN) {
            break; /* somebody waits in tri_disconnect_locked */
        }
    }
    client->writing = false;
    pthread_cond_broadcast(&client->written);
    if (client->blocked != was_blocked || client->door_errno != 0) {
        tri_kick_locked(client);
        tri_watch_locked(client);
    }
}

static bool receive_locked(tr_client *client) {
    tri_door *door = client->door;
    size_t room = TRI_IN_size - client->in_size;
    pthread_mutex_unlock(&client->mtx);
    ssize_t count = door->ops->recv(door, client->in + client->in_size, room);
    pthread_mutex_lock(&client->mtx);
    client->more = count == (ssize_t)room;
    if (client->closed || count == -EAGAIN) {
        return false;
    }
    if (count > 0) {
        client->in_size += (size_t)count;
        client->heard_ns = tri_now();
        client->pinged_ns = 0;
        tri_parse_locked(client);
        return true;
    }
    tri_lost_locked(client, TR_ERR_CLOSED,
                    count == 0 ? "it closed the connection" : strerror((int)-count));
    return true;
}

/* The daemon is asked when it has been silent for half its time, and given up after the rest. */
static int64_t silence_timer(const tr_client *client) {
    if (client->state != TRI_UP || client->calls.count == 0) {
        return TRI_NEVER;
    }
    int64_t from = client->pinged_ns != 0 ? client->pinged_ns : client->heard_ns;
    return from + client->silence_ms * TRI_MS / 2;
}

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

int64_t tri_next_timer_locked(const tr_client *client) {
    int64_t at = earlier(client->deadline_ns, silence_timer(client));
    switch (client->state) {
    case TRI_DOWN:
        return client->opening || client->unsent > 0 ? earlier(at, client->try_at_ns) : at;
    case TRI_DIALING:
    case TRI_GREETING:
        return earlier(at, client->greet_by_ns);
    case TRI_UP:
    case TRI_STATE_N:
        break;
    }
    return at;
}

/* Does not unlock: the table must not change but by this, nor a deadline come up meanwhile. */
static void deadlines_locked(tr_client *client, int64_t now) {
    int64_t first = TRI_NEVER;
    for (size_t i = 0; i < client->calls.room; i++) {
        tri_call *call = client->calls.slots[i];
        if (call == NULL) {
            continue;
        }
        if (call->deadline_ns > now) {
            first = earlier(first, call->deadline_ns);
        } else {
            bool cancelled = call->cancelled;
            tri_call_drop_locked(call, cancelled ? TR_ERR_CANCELLED : TR_ERR_TIMEOUT,
                                 cancelled ? tr_err_text(TR_ERR_CANCELLED)
                                           : "The daemon has not answered within total_ms.");
            i--; /* another may have moved into the slot */
        }
    }
    client->deadline_ns = first;
}

/* What it has to send is queued. */
static void timers_locked(tr_client *client) {
    int64_t now = tri_now();
    if (client->door_errno != 0 && client->state != TRI_DOWN) {
        tri_lost_locked(client, TR_ERR_CLOSED, strerror(client->door_errno));
    }
    if (now >= silence_timer(client)) {
        if (client->pinged_ns != 0) {
            tri_lost_locked(client, TR_ERR_TIMEOUT, "it has been silent for too long");
        } else {
            client->pinged_ns = now;
            tr_ping ping = {.number = (uint64_t)now};
            /* Without memory it counts as asked: the daemon may still say something. */
            (void)!tri_frame_locked(client, TR_KIND_PING, 0, &ping, sizeof ping);
        }
    }
    if (now >= client->deadline_ns) {
        deadlines_locked(client, now);
    }
    tri_unsent_step_locked(client, now);
}

bool tri_work_locked(tr_client *client) {
    if (client->closed) {
        return false;
    }
    tri_connect_step_locked(client, tri_now());
    tri_flush_locked(client);
    bool received = false;
    if (client->state == TRI_GREETING || client->state == TRI_UP) {
        received = receive_locked(client);
    }
    if (!client->closed) {
        timers_locked(client);
        tri_flush_locked(client);
    }
    return received;
}

/* Until bytes come, room for bytes comes, a kick, a timer, or `until_ns`. */
static void idle_locked(tr_client *client, int64_t until_ns) {
    struct pollfd polled[2] = {{.fd = client->kick_fd, .events = POLLIN}, {.fd = -1}};
    if (client->door != NULL) {
        bool out = !client->door->one_way && (client->blocked || client->state == TRI_DIALING);
        polled[1].fd = client->door->fd;
        polled[1].events = (short)(POLLIN | (out ? POLLOUT : 0));
    }
    int64_t at = earlier(until_ns, tri_next_timer_locked(client));
    struct timespec wait = {0};
    int64_t now = tri_now();
    if (at > now) {
        wait.tv_sec = (time_t)((at - now) / (1000 * TRI_MS));
        wait.tv_nsec = (long)((at - now) % (1000 * TRI_MS));
    }
    client->idle = true;
    pthread_mutex_unlock(&client->mtx);
    (void)ppoll(polled, 2, at == TRI_NEVER ? NULL : &wait, NULL); /* whatever it says, we look */
    pthread_mutex_lock(&client->mtx);
    client->idle = false;
    if (client->kicked) {
        uint64_t count;
        ssize_t got = read(client->kick_fd, &count, sizeof count);
        (void)got; /* it is readable: `kicked` says so */
        client->kicked = false;
    }
}

void tri_pump_end_locked(tr_client *client) {
    client->pumping = false;
    client->pumper = NULL;
    if (client->closed) {
        tri_disconnect_locked(client);
        return;
    }
    tri_watch_locked(client);
    if (client->more) {
        tri_wake_loop_locked(client); /* what a door has read ahead does not show in its fd */
    }
    if (client->waiters != NULL) {
        pthread_cond_signal(&client->waiters->cond);
    }
}

/* A client without open requests reads nothing, so the daemon may have gone and another come: what
 * is sent into the old connection would be lost. */
void tri_look_locked(tr_client *client) {
    if (client->state == TRI_UP && client->calls.count == 0 && !client->pumping) {
        client->pumping = true;
        (void)tri_work_locked(client);
        tri_pump_end_locked(client);
    }
}

static void sleep_locked(tr_client *client, tri_waiter *waiter, int64_t until_ns) {
    if (until_ns == TRI_NEVER) {
        pthread_cond_wait(&waiter->cond, &client->mtx);
        return;
    }
    struct timespec until = {.tv_sec = (time_t)(until_ns / (1000 * TRI_MS)),
                             .tv_nsec = (long)(until_ns % (1000 * TRI_MS))};
    pthread_cond_timedwait(&waiter->cond, &client->mtx, &until);
}

static void unlink_locked(tr_client *client, const tri_waiter *waiter) {
    tri_waiter **at = &client->waiters;
    while (*at != waiter) {
        at = &(*at)->next;
    }
    *at = waiter->next;
}

tr_err tri_wait_locked(tr_client *client, tri_waiter *waiter, int64_t until_ns, tri_ready_fn *ready,
                       void *arg) {
    waiter->next = client->waiters;
    client->waiters = waiter;
    tr_err err = TR_OK;
    while (!ready(arg)) {
        if (until_ns != TRI_NEVER && tri_now() >= until_ns) {
            err = TR_ERR_TIMEOUT;
            break;
        }
        if (client->pumping) {
            sleep_locked(client, waiter, until_ns);
            continue;
        }
        client->pumping = true;
        client->pumper = waiter;
        while (!ready(arg) && (until_ns == TRI_NEVER || tri_now() < until_ns)) {
            if (!tri_work_locked(client) && !ready(arg)) {
                idle_locked(client, until_ns);
            }
        }
        unlink_locked(client, waiter); /* the role goes to another */
        tri_pump_end_locked(client);
        waiter->next = client->waiters;
        client->waiters = waiter;
    }
    unlink_locked(client, waiter);
    /* A signal may have chosen us for the role just when our own wait ended. */
    if (!client->pumping && client->waiters != NULL) {
        pthread_cond_signal(&client->waiters->cond);
    }
    return err;
}
