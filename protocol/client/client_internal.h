/*
 * What the files of libtroupe share. One mutex guards a client and its calls; it is held for moving
 * and sorting bytes, never while waiting or in a callback of the user. The bytes are moved by one
 * thread at a time, the one that "pumps": a thread that waits in a call, or the loop thread in
 * tr_client_dispatch; the others sleep on their conditions, and the one that leaves hands the role
 * on. Functions that end in _locked want mtx; "pumping" means that the caller has the role.
 */
#ifndef TR_CLIENT_INTERNAL_H
#define TR_CLIENT_INTERNAL_H

#include <pthread.h>
#include <stdint.h>

#include "protocol/client/call.h"
#include "protocol/client/door.h"
#include "protocol/client/process.h"
#include "protocol/frame.h"

#define TRI_IN_size (256 * 1024)
#define TRI_BACKOFF_FIRST_MS 50
#define TRI_BACKOFF_max_MS 2000
#define TRI_GRACE_MS 2000 /* the daemon's time to end a request that is over or cancelled */
#define TRI_WHY_size 640

typedef enum tri_state {
    TRI_DOWN,     /* no door; try_at says when to try again */
    TRI_DIALING,  /* a door that is not yet connected */
    TRI_GREETING, /* HELLO is on its way */
    TRI_UP,
    TRI_STATE_N
} tri_state;

struct tr_client {
    /* Set at open. */
    uint64_t process;
    tri_buffer token;
    char *software;
    uint32_t connect_ms, reconnect_ms, silence_ms;
    int kick_fd; /* wakes the pumping thread out of poll */
    /* Guarded by mtx: who is here. */
    pthread_mutex_t mtx;
    unsigned handles; /* the opener's and the streams' */
    unsigned inside;  /* threads in a call */
    tri_waiter *waiters;
    tri_waiter *pumper;  /* of the pumping thread; NULL = it is in dispatch */
    _Atomic bool closed; /* written under mtx; a delivery looks between two chunks without it */
    bool pumping, dispatching;
    pthread_t dispatcher; /* who, while `dispatching` */
    bool idle;            /* the pumping thread is in poll, without mtx */
    bool kicked;
    /* The calls. */
    uint32_t streams_max;
    tri_table calls;
    size_t unsent; /* calls that wait for a connection */
    uint64_t last_ref;
    tri_call *ready_first, *ready_last; /* push calls with something to deliver */
    int64_t deadline_ns;                /* none of the calls' is earlier */
    /* The connection. */
    tri_state state;
    tr_err down_err; /* why it is down, and in words */
    char down_why[TRI_WHY_size];
    tri_place place; /* changed by the pumping thread only, as is the door */
    tri_door *door;
    int64_t down_since_ns, try_at_ns, greet_by_ns;
    int64_t heard_ns, pinged_ns; /* the last byte in; the PING without an answer, or 0 */
    unsigned attempt;            /* failed ones in a row */
    int door_errno;              /* a send failed; the pumping thread sees to it */
    bool opening;                /* tr_client_open waits: the first failure is final */
    bool writing;                /* a thread is in send, without mtx */
    bool blocked;                /* the door takes no more now */
    bool more;                   /* the last recv filled the buffer */
    tri_buffer out, flying;      /* frames gather in `out` while `flying` is written */
    size_t flown;
    pthread_cond_t written; /* `writing` became false */
    uint8_t *in;            /* of the pumping thread, with its size */
    size_t in_size;
    /* The event loop's descriptors: epoll, eventfd, timerfd; -1 before tr_client_fd. */
    int loop_fd, wake_fd, timer_fd;
    int watched_fd; /* the door's, in loop_fd; -1 */
    bool watched_out, woken;
    int64_t armed_ns; /* of timer_fd */
};

/* client.c */
TR_MUST_USE tr_err tri_enter(tr_client *client); /* locks, or says FORKED */
void tri_leave_locked(tr_client *client);        /* unlocks; may free */
void tri_unref_forked(tr_client *client);        /* in a child: frees memory only */
void tri_watch_locked(tr_client *client);        /* loop_fd follows door, blocked, timers */
void tri_unwatch_locked(tr_client *client);      /* before the door is closed */
void tri_wake_loop_locked(tr_client *client);    /* makes loop_fd readable */
void tri_kick_locked(tr_client *client);         /* the pumping thread looks again */

/* loop.c: the done callbacks of all that has ended. */
void tri_finish_pushed_locked(tr_client *client);

/* connection.c: the state; pumping. */
void tri_connect_step_locked(tr_client *client, int64_t now);
void tri_lost_locked(tr_client *client, tr_err err, const char *why);
TR_MUST_USE tr_err tri_greeted_locked(tr_client *client, const tr_frame *frame, const void *data);
/* Unlocks while another thread is in send. */
void tri_disconnect_locked(tr_client *client);
/* Fails the calls that have waited for a connection for too long. */
void tri_unsent_step_locked(tr_client *client, int64_t now);

/* pump.c: the bytes. */
/* Everything that can be done now; pumping; unlocks while it receives. True = bytes came. */
bool tri_work_locked(tr_client *client);
void tri_pump_end_locked(tr_client *client); /* hands the role on */
/* Before the first request after a rest; unlocks: a daemon that has gone meanwhile is noticed. */
void tri_look_locked(tr_client *client);
/* Unlocks while it sends, so that calls may end, and be freed unless a reference is held. */
void tri_flush_locked(tr_client *client);
int64_t tri_next_timer_locked(const tr_client *client);
typedef bool tri_ready_fn(void *arg);
/* Until ready(arg), which is asked with mtx held: TR_OK; or until until_ns: TR_ERR_TIMEOUT. */
TR_MUST_USE tr_err tri_wait_locked(tr_client *client, tri_waiter *waiter, int64_t until_ns,
                                   tri_ready_fn *ready, void *arg);
void tri_waiter_init(tri_waiter *waiter);
void tri_waiter_fini(tri_waiter *waiter);

/* inbound.c: frames; pumping. */
void tri_parse_locked(tr_client *client);

#endif
