/*
 * tr_client: opening, closing, and who may still touch it. References keep the memory while threads
 * are inside calls and while streams are open; tr_client_close ends everything else. In a child
 * process nothing but memory and the child's copies of descriptors is touched: the mutex may have
 * been held by a thread that the child does not have, and epoll's set is shared with the parent.
 */
#include "protocol/client/client_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/limits.h"

#define CONNECT_MS 5000
#define RECONNECT_MS 3000
#define SILENCE_MS 30000
#define TOKEN_min 16

tr_err tri_enter(tr_client *client) {
    if (client->process != tri_process()) {
        return tri_say_forked();
    }
    pthread_mutex_lock(&client->mtx);
    if (client->closed) {
        pthread_mutex_unlock(&client->mtx);
        return tri_say(TR_ERR_CLOSED, "This client has been closed.");
    }
    client->inside++;
    return TR_OK;
}

static void free_memory(tr_client *client) {
    if (client->kick_fd >= 0) {
        close(client->kick_fd);
    }
    const int loop_fds[] = {client->loop_fd, client->wake_fd, client->timer_fd};
    for (size_t i = 0; i < sizeof loop_fds / sizeof loop_fds[0]; i++) {
        if (loop_fds[i] >= 0) {
            close(loop_fds[i]);
        }
    }
    tri_place_fini(&client->place);
    tri_buffer_fini(&client->token);
    tri_buffer_fini(&client->out);
    tri_buffer_fini(&client->flying);
    free(client->calls.slots);
    free(client->software);
    free(client->in);
    free(client);
}

void tri_leave_locked(tr_client *client) {
    client->inside--;
    bool last = client->handles == 0 && client->inside == 0;
    if (last) {
        tri_disconnect_locked(client);
    }
    pthread_mutex_unlock(&client->mtx);
    if (last) {
        pthread_cond_destroy(&client->written);
        pthread_mutex_destroy(&client->mtx);
        free_memory(client);
    }
}

/* What a stream does not hold was held by threads or callbacks that this process does not have. */
static void free_call_forked(tri_call *call) {
    if (call->mode != TRI_PULL || --call->refs == 0) {
        tri_call_free(call);
    }
}

void tri_unref_forked(tr_client *client) {
    if (--client->handles > 0) {
        return;
    }
    if (client->door != NULL && !client->door->one_way) {
        client->door->ops->close(client->door); /* a socket: the parent's copy stays open */
    }
    if (pthread_mutex_trylock(&client->mtx) != 0) {
        return; /* fork came in the midst of another thread's change: what it left is not touched */
    }
    pthread_mutex_unlock(&client->mtx);
    for (tri_call *call = client->ready_first; call != NULL;) {
        tri_call *next = call->ready_next;
        if (!call->in_table) {
            free_call_forked(call);
        }
        call = next;
    }
    for (size_t i = 0; i < client->calls.room; i++) {
        if (client->calls.slots[i] != NULL) {
            free_call_forked(client->calls.slots[i]);
        }
    }
    free_memory(client);
}

static tr_err read_token(tr_client *client, const char *path) {
    char text[TR_TOKEN_max + 2];
    struct stat seen;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t size = fd >= 0 && fstat(fd, &seen) == 0 && S_ISREG(seen.st_mode)
                       ? read(fd, text, sizeof text)
                       : -1;
    int error = errno;
    if (fd >= 0) {
        close(fd);
    }
    if (size < 0) {
        return tri_say(TR_ERR_INVALID, "The token_file %s cannot be read: %s.", path,
                       fd < 0 ? strerror(error) : "it is not a file");
    }
    while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == '\r')) {
        size--;
    }
    return tri_buffer_set(&client->token, (tr_str){text, (size_t)size});
}

static tr_err take_token(tr_client *client, const tr_client_options *o) {
    tr_err err = TR_OK;
    if (o->token != NULL) {
        err = tri_buffer_set(&client->token, (tr_str){o->token, strlen(o->token)});
    } else if (o->token_file != NULL) {
        err = read_token(client, o->token_file);
    } else {
        return TR_OK;
    }
    if (err == TR_OK && (client->token.size < TOKEN_min || client->token.size > TR_TOKEN_max ||
                         !tr_utf8_valid(tri_buffer_text(&client->token), client->token.size))) {
        return tri_say(TR_ERR_INVALID, "A token has 16 to 256 bytes of text.");
    }
    return err == TR_ERR_NOMEM ? tri_say_nomem() : err;
}

static tr_err take_options(tr_client *client, const tr_client_options *o) {
    const char *software = o->software != NULL ? o->software : "libtroupe/" TROUPE_VERSION;
    if (strlen(software) > TR_NAME_max || !tr_utf8_valid(software, strlen(software))) {
        return tri_say(TR_ERR_INVALID, "The option software is not UTF-8 of at most 255 bytes.");
    }
    client->software = strdup(software);
    client->in = malloc(TRI_IN_size);
    if (client->software == NULL || client->in == NULL) {
        return tri_say_nomem();
    }
    client->connect_ms = o->connect_ms != 0 ? o->connect_ms : CONNECT_MS;
    client->reconnect_ms = o->reconnect_ms != 0 ? o->reconnect_ms : RECONNECT_MS;
    client->silence_ms = o->silence_ms != 0 ? o->silence_ms : SILENCE_MS;
    client->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (client->kick_fd < 0) {
        return tri_say(TR_ERR_IO, "No descriptor is left for a client: %s.", strerror(errno));
    }
    tr_err err = take_token(client, o);
    return err == TR_OK ? tri_place_init(&client->place, o->url, o->ca_file) : err;
}

static bool opened(void *arg) {
    const tr_client *client = arg;
    return !client->opening;
}

tr_err tr_client_open(const char *url, tr_client **ret) {
    tr_client_options options = TR_CLIENT_OPTIONS_INIT;
    options.url = url;
    return tr_client_open_with(&options, ret);
}

tr_err tr_client_open_with(const tr_client_options *options, tr_client **ret) {
    tr_client_options o = TR_CLIENT_OPTIONS_INIT;
    if (options != NULL) {
        if (options->size < offsetof(tr_client_options, connect_ms)) {
            return tri_say(TR_ERR_INVALID,
                           "tr_client_options must begin as TR_CLIENT_OPTIONS_INIT.");
        }
        memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    }
    tr_client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        return tri_say_nomem();
    }
    client->process = tri_process();
    client->handles = 1;
    client->kick_fd = client->loop_fd = client->wake_fd = client->timer_fd = -1;
    client->watched_fd = -1;
    client->deadline_ns = client->armed_ns = TRI_NEVER;
    client->streams_max = TR_STREAMS_PER_CLIENT_max;
    tr_err err = take_options(client, &o);
    if (err != TR_OK) {
        free_memory(client);
        return err;
    }
    pthread_mutex_init(&client->mtx, NULL);
    pthread_cond_init(&client->written, NULL);
    tri_waiter waiter;
    tri_waiter_init(&waiter);
    pthread_mutex_lock(&client->mtx);
    client->inside = 1;
    client->opening = true;
    client->greet_by_ns = tri_now() + client->connect_ms * TRI_MS;
    err = tri_wait_locked(client, &waiter, TRI_NEVER, opened, client);
    if (err == TR_OK && client->state != TRI_UP) {
        err = client->down_err == TR_ERR_FULL || client->down_err == TR_ERR_CLOSED
                  ? TR_ERR_NO_DAEMON
                  : client->down_err;
        tri_say_text("%s", client->down_why);
    }
    tri_waiter_fini(&waiter);
    if (err == TR_OK) {
        *ret = client;
    } else {
        client->handles = 0;
    }
    tri_leave_locked(client);
    return err;
}

void tr_client_close(tr_client *client) {
    if (client == NULL) {
        return;
    }
    if (client->process != tri_process()) {
        tri_unref_forked(client);
        return;
    }
    if (tri_enter(client) != TR_OK) {
        return;
    }
    client->closed = true;
    for (size_t i = 0; i < client->calls.room; i++) {
        tri_call *call = client->calls.slots[i];
        if (call != NULL) {
            tri_call_fail_locked(call, TR_ERR_CANCELLED, "The client was closed.");
            i--; /* another may have moved into the slot */
        }
    }
    if (!client->dispatching || pthread_equal(client->dispatcher, pthread_self())) {
        tri_finish_pushed_locked(client);
    } /* else the thread that runs callbacks tells them, when the one that it is in has returned */
    if (client->pumping) {
        tri_kick_locked(client); /* it disconnects when it leaves */
    } else {
        tri_disconnect_locked(client);
    }
    client->handles--;
    tri_leave_locked(client);
}

tr_err tr_client_state(tr_client *client) {
    tr_err err = tri_enter(client);
    if (err != TR_OK) {
        return err;
    }
    if (client->state != TRI_UP) {
        err = client->down_err != TR_OK ? client->down_err : TR_ERR_CLOSED;
        tri_say_text("%s", client->down_why);
    }
    tri_leave_locked(client);
    return err;
}

void tri_kick_locked(tr_client *client) {
    if (client->idle && !client->kicked) {
        client->kicked = true;
        uint64_t one = 1;
        ssize_t written = write(client->kick_fd, &one, sizeof one);
        (void)written; /* cannot be full: it was empty */
    }
    tri_watch_locked(client);
}
