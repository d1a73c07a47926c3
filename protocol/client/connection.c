/*
 * The connection's state: down, dialing, greeting, up. A lost connection fails the requests that
 * were on it, each once; those that come later wait while it is dialed again, with pauses that grow
 * (full jitter, so that a thousand clients of a restarted daemon do not come at once), and give up
 * after reconnect_ms. While nobody wants anything, nothing is dialed. Every failure is put as a
 * sentence here, since here is known what can be done about it. Runs on the pumping thread, with
 * mtx.
 */
#include "protocol/client/client_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/assert.h"
#include "protocol/client/socket_path.h"
#include "protocol/limits.h"

static const bool may[TRI_STATE_N][TRI_STATE_N] = {
    [TRI_DOWN] = {[TRI_DIALING] = true},
    [TRI_DIALING] = {[TRI_DOWN] = true, [TRI_GREETING] = true},
    [TRI_GREETING] = {[TRI_DOWN] = true, [TRI_UP] = true},
    [TRI_UP] = {[TRI_DOWN] = true},
};

static void set_state(tr_client *client, tri_state state) {
    TR_ASSERT(may[client->state][state]);
    client->state = state;
}

/* What is wrong and what to do about it: the address and the reason stand in place of the two %s.
 */
static const char *sentence_of(tr_err err, tri_scheme scheme) {
    if (err == TR_ERR_NO_DAEMON || err == TR_ERR_CLOSED || err == TR_ERR_FULL) {
        return scheme == TRI_INPROC
                   ? "No daemon answers at %s (%s): call tr_daemon_start first."
                   : "No daemon answers at %s (%s): start one with `troupe start`.";
    }
    if (err == TR_ERR_VERSION) {
        return "The daemon at %s speaks another version of the protocol than this library (%s): "
               "install both from one release, then restart the daemon with `troupe stop` and "
               "`troupe start`.";
    }
    if (err == TR_ERR_AUTH) {
        return "The daemon at %s refused this client (%s): give the token that its token_file "
               "holds.";
    }
    if (err == TR_ERR_TIMEOUT) {
        return "The daemon at %s does not answer (%s): see `troupe status`, or restart it with "
               "`troupe stop` and `troupe start`.";
    }
    if (err == TR_ERR_PROTOCOL || err == TR_ERR_TOO_LARGE) {
        return "What answers at %s is not a trouped of this version (%s).";
    }
    return "The daemon at %s cannot be reached (%s).";
}

/* A daemon that cannot be reached, though it lives: neither `start` nor `stop` would get at it. */
static bool explain_holder(tr_client *client, tr_err err, const char *why) {
    bool local = err == TR_ERR_NO_DAEMON && client->place.scheme == TRI_IPC;
    int holder = local ? tr_socket_holder(client->place.url + strlen("ipc://")) : 0;
    if (holder > 0) {
        snprintf(client->down_why, sizeof client->down_why,
                 "No daemon answers at %s (%s), but process %d has its lock: it starts, ends, or "
                 "its socket was removed. If it stays so: `kill %d`, then `troupe start`.",
                 client->place.url, why, holder, holder);
    }
    return holder > 0;
}

static void explain(tr_client *client, tr_err err, const char *why) {
    client->down_err = err;
    if (explain_holder(client, err, why)) {
        return;
    }
    char *at = client->down_why;
    size_t room = sizeof client->down_why;
    const char *format = sentence_of(err, client->place.scheme);
    const char *const words[] = {client->place.url, why};
    for (size_t i = 0; i <= 2; i++) {
        const char *gap = i < 2 ? strstr(format, "%s") : format + strlen(format);
        int size = snprintf(at, room, "%.*s%s", (int)(gap - format), format, i < 2 ? words[i] : "");
        size_t used = size < 0 ? 0 : (size_t)size < room ? (size_t)size : room - 1;
        at += used;
        room -= used;
        format = gap + 2;
    }
}

void tri_disconnect_locked(tr_client *client) {
    if (client->state != TRI_DOWN) {
        set_state(client, TRI_DOWN);
    }
    while (client->writing) {
        pthread_cond_wait(&client->written, &client->mtx);
    }
    if (client->door != NULL) {
        if (client->watched_fd >= 0) {
            tri_unwatch_locked(client);
        }
        tri_door *door = client->door;
        client->door = NULL; /* before it is freed: a child may look at any moment */
        door->ops->close(door);
    }
    tri_buffer_clear(&client->out, 0);
    tri_buffer_clear(&client->flying, 0);
    client->flown = client->in_size = 0;
    client->blocked = client->more = false;
    client->door_errno = 0;
    client->pinged_ns = 0;
}

/* Fails those that are on the connection, or those that wait for one. */
static void fail_calls(tr_client *client, bool sent, tr_err err, const char *why) {
    for (size_t i = 0; i < client->calls.room; i++) {
        tri_call *call = client->calls.slots[i];
        if (call != NULL && call->sent == sent) {
            tri_call_fail_locked(call, call->cancelled ? TR_ERR_CANCELLED : err, why);
            i--; /* another may have moved into the slot */
        }
    }
}

static bool is_final(tr_err err) {
    return err != TR_ERR_NO_DAEMON && err != TR_ERR_CLOSED && err != TR_ERR_FULL &&
           err != TR_ERR_TIMEOUT;
}

void tri_unsent_step_locked(tr_client *client, int64_t now) {
    if (client->state == TRI_DOWN && client->unsent > 0 && client->down_err != TR_OK &&
        client->attempt > 0 && now < client->try_at_ns &&
        (is_final(client->down_err) ||
         now >= client->down_since_ns + client->reconnect_ms * TRI_MS)) {
        fail_calls(client, false, client->down_err, client->down_why);
    }
}

static int64_t backoff_ns(unsigned attempt) {
    int64_t cap_ms = TRI_BACKOFF_FIRST_MS;
    for (unsigned i = 1; i < attempt && cap_ms < TRI_BACKOFF_max_MS; i++) {
        cap_ms *= 2;
    }
    cap_ms = cap_ms < TRI_BACKOFF_max_MS ? cap_ms : TRI_BACKOFF_max_MS;
    /* The clock's low digits are random enough to spread clients; half is the least. */
    return (cap_ms / 2 + tri_now() / 1000 % (cap_ms / 2 + 1)) * TRI_MS;
}

static void attempt_failed(tr_client *client, tr_err err, const char *why) {
    explain(client, err, why);
    tri_disconnect_locked(client);
    int64_t now = tri_now();
    if (client->place.scheme == TRI_TCP && client->place.next != NULL && !is_final(err)) {
        client->try_at_ns = now; /* the host's next address */
        return;
    }
    client->attempt++;
    client->try_at_ns = now + backoff_ns(client->attempt);
    if (client->opening) {
        client->opening = err == TR_ERR_FULL && now < client->greet_by_ns;
        return;
    }
    tri_unsent_step_locked(client, now);
}

static void greet(tr_client *client) {
    tr_hello head = {.magic = TR_HELLO_MAGIC,
                     .version_min = TR_PROTOCOL_VERSION,
                     .version_max = TR_PROTOCOL_VERSION,
                     .role = TR_ROLE_CLIENT};
    tr_hello_view view = {
        .token = {tri_buffer_text(&client->token), client->token.size},
        .software = {client->software, strlen(client->software)},
    };
    _Alignas(8) uint8_t hello[sizeof(tr_hello) + TR_TOKEN_max + TR_NAME_max];
    size_t size = tr_hello_size(&view);
    TR_ASSERT(size <= sizeof hello);
    tr_hello_write(hello, &head, &view);
    set_state(client, TRI_GREETING);
    if (tri_frame_locked(client, TR_KIND_HELLO, 0, hello, size) != TR_OK) {
        attempt_failed(client, TR_ERR_NOMEM, "out of memory");
    }
}

static void dial(tr_client *client, int64_t now) {
    const char *why = "";
    if (!client->opening) {
        client->greet_by_ns = now + client->connect_ms * TRI_MS;
    }
    set_state(client, TRI_DIALING);
    tr_err err = tri_door_dial(&client->place, &client->door, &why);
    if (err != TR_OK) {
        attempt_failed(client, err, why);
    }
}

void tri_connect_step_locked(tr_client *client, int64_t now) {
    bool wanted = client->opening || client->unsent > 0;
    if (client->state == TRI_DOWN && wanted && now >= client->try_at_ns && !client->closed) {
        dial(client, now);
    }
    if (client->state == TRI_DIALING) {
        const char *why = "";
        tr_err err = client->door->ops->connected(client->door, &why);
        if (err == TR_OK) {
            client->place.next = NULL;
            greet(client);
        } else if (err != TR_ERR_FULL) {
            attempt_failed(client, err, why);
        }
    }
    if ((client->state == TRI_DIALING || client->state == TRI_GREETING) &&
        now >= client->greet_by_ns) {
        char why[64];
        snprintf(why, sizeof why, "nothing within %u ms", client->connect_ms);
        attempt_failed(client, TR_ERR_TIMEOUT, why);
    }
}

tr_err tri_greeted_locked(tr_client *client, const tr_frame *frame, const void *data) {
    char why[TRI_WHY_size / 2];
    if (frame->kind == TR_KIND_FAIL) {
        const tr_fail *fail = data;
        tr_end_view view = tr_fail_read(fail);
        snprintf(why, sizeof why, "%.*s", (int)view.message.size, view.message.ptr);
        attempt_failed(
            client,
            fail->err > TR_DONE && fail->err < TR_ERR_N ? (tr_err)fail->err : TR_ERR_PROTOCOL, why);
        return TR_ERR_CLOSED;
    }
    if (frame->kind != TR_KIND_WELCOME) {
        return TR_OK; /* kinds of later versions are skipped */
    }
    const tr_welcome *welcome = data;
    if (welcome->version != TR_PROTOCOL_VERSION) {
        snprintf(why, sizeof why, "it chose %u, this is %u", welcome->version,
                 (unsigned)TR_PROTOCOL_VERSION);
        attempt_failed(client, TR_ERR_VERSION, why);
        return TR_ERR_CLOSED;
    }
    set_state(client, TRI_UP);
    client->streams_max = welcome->streams_max;
    client->attempt = 0;
    client->opening = false;
    client->down_err = TR_OK;
    client->heard_ns = tri_now();
    for (size_t i = 0; i < client->calls.room && client->unsent > 0; i++) {
        tri_call *call = client->calls.slots[i];
        if (call != NULL && !call->sent) {
            tri_call_send_locked(call);
            i -= client->calls.slots[i] != call; /* it failed, and another moved into the slot */
        }
    }
    return TR_OK;
}

void tri_lost_locked(tr_client *client, tr_err err, const char *why) {
    if (client->state != TRI_UP) {
        attempt_failed(client, err, why);
        return;
    }
    char message[TRI_WHY_size];
    const char *url = client->place.url;
    if (err == TR_ERR_CLOSED) {
        snprintf(message, sizeof message,
                 "The daemon at %s went away in the middle of this request (%s): what had arrived "
                 "is in the result; if it is not running, start it with `troupe start`, then send "
                 "the request again.",
                 url, why);
    } else if (err == TR_ERR_TIMEOUT) {
        snprintf(message, sizeof message,
                 "The daemon at %s does not answer any more (%s): see `troupe status`, or restart "
                 "it with `troupe stop` and `troupe start`.",
                 url, why);
    } else {
        snprintf(message, sizeof message, "The connection to the daemon at %s broke (%s).", url,
                 why);
    }
    explain(client, err == TR_ERR_PROTOCOL || err == TR_ERR_TOO_LARGE ? err : TR_ERR_CLOSED, why);
    tri_disconnect_locked(client);
    client->down_since_ns = client->try_at_ns = tri_now();
    client->attempt = 0;
    fail_calls(client, true, err, message);
}
