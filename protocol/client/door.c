/*
 * The doors over plain sockets. NNG's byte streams over ipc and tcp carry exactly the bytes given
 * to them, so a bare socket speaks with the daemon's NNG listener; what NNG would cost a client is
 * what it cannot give: thirteen threads in every process that opens it, and an abort in each child
 * that forked from one. A socket costs a descriptor, and children may open clients of their own.
 * Called with the pump's role held (connection.c), from whichever thread that is.
 */
#include "protocol/client/door.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "protocol/client/process.h"
#include "protocol/client/socket_path.h"
#include "protocol/limits.h"

static const struct {
    const char *prefix;
    tri_scheme scheme;
} schemes[] = {
    {"ipc://", TRI_IPC}, {"tcp://", TRI_TCP}, {"tls+tcp://", TRI_TLS}, {"inproc://", TRI_INPROC}};

static tri_scheme scheme_of(const char *url, const char **ret_rest) {
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t length = strlen(schemes[i].prefix);
        if (strncmp(url, schemes[i].prefix, length) == 0 && url[length] != '\0') {
            *ret_rest = url + length;
            return schemes[i].scheme;
        }
    }
    return (tri_scheme)0;
}

static tr_err resolve(tri_place *place, const char *rest) {
    char host[256];
    const char *colon = strrchr(rest, ':');
    size_t length = colon != NULL ? (size_t)(colon - rest) : 0;
    if (length > 1 && rest[0] == '[' && rest[length - 1] == ']') {
        rest++;
        length -= 2;
    }
    char *end = NULL;
    unsigned long port = colon != NULL ? strtoul(colon + 1, &end, 10) : 0;
    if (length == 0 || length >= sizeof host || port == 0 || port > 65535 || *end != '\0') {
        return tri_say(TR_ERR_INVALID,
                       "\"%s\" needs a host and a port, as in tcp://127.0.0.1:8401.", place->url);
    }
    memcpy(host, rest, length);
    host[length] = '\0';
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    int status = getaddrinfo(host, colon + 1, &hints, &place->addresses);
    if (status != 0) {
        return tri_say(TR_ERR_NO_DAEMON, "The host of \"%s\" cannot be found: %s.", place->url,
                       gai_strerror(status));
    }
    return TR_OK;
}

static tr_err user_url(char *buf, size_t size) {
    char why[512];
    tr_err err = tr_socket_url(false, buf, size, why, sizeof why);
    if (err == TR_ERR_NOT_FOUND) {
        return TR_OK; /* dialing will say that nobody is there */
    }
    return err == TR_OK ? TR_OK : tri_say(err, "The user's socket cannot be used: %s.", why);
}

static tr_err place_init(tri_place *place, const char *url, const char *ca_file) {
    char own[sizeof "ipc://" + TR_SOCKET_PATH_max];
    if (url == NULL) {
        tr_err err = user_url(own, sizeof own);
        if (err != TR_OK) {
            return err;
        }
        url = own;
    }
    char from_path[TR_URL_max + 1];
    if (url[0] == '/') { /* a socket's path as `ls` shows it */
        snprintf(from_path, sizeof from_path, "ipc://%s", url);
        url = from_path;
    }
    const char *rest = NULL;
    place->scheme = scheme_of(url, &rest);
    if (rest == NULL || strlen(url) > TR_URL_max) {
        return tri_say(TR_ERR_INVALID,
                       "\"%.200s\" is not an address of a daemon: use ipc://PATH, tcp://HOST:PORT, "
                       "tls+tcp://HOST:PORT or inproc://NAME.",
                       url);
    }
    if (place->scheme == TRI_IPC && strlen(rest) > TR_SOCKET_PATH_max) {
        return tri_say(TR_ERR_INVALID, "\"%s\" is too long for a socket's path (at most %d bytes).",
                       url, TR_SOCKET_PATH_max);
    }
    if (place->scheme == TRI_TLS && ca_file == NULL) {
        return tri_say(TR_ERR_INVALID,
                       "\"%s\" needs ca_file, the certificates to trust: a daemon that is not "
                       "verified is not connected to.",
                       url);
    }
    place->url = strdup(url);
    place->ca_file = ca_file != NULL ? strdup(ca_file) : NULL;
    if (place->url == NULL || (ca_file != NULL && place->ca_file == NULL)) {
        return tri_say_nomem();
    }
    rest = place->url + (rest - url);
    switch (place->scheme) {
    case TRI_TCP:
        return resolve(place, rest);
    case TRI_TLS:
    case TRI_INPROC:
        return tri_nng_allowed(place->scheme);
    case TRI_IPC:
        break;
    }
    return TR_OK;
}

tr_err tri_place_init(tri_place *place, const char *url, const char *ca_file) {
    *place = (tri_place){0};
    tr_err err = place_init(place, url, ca_file);
    if (err != TR_OK) {
        tri_place_fini(place);
    }
    return err;
}

void tri_place_fini(tri_place *place) {
    if (place->addresses != NULL) {
        freeaddrinfo(place->addresses);
    }
    free(place->url);
    free(place->ca_file);
    *place = (tri_place){0};
}

static tr_err failure_of(int error, const char **ret_why) {
    *ret_why = strerror(error);
    switch (error) {
    case EAGAIN:
        *ret_why = "it has too many connections waiting";
        return TR_ERR_FULL;
    case ENOENT:
        *ret_why = "there is no socket";
        return TR_ERR_NO_DAEMON;
    case ECONNREFUSED:
        *ret_why = "nobody listens there";
        return TR_ERR_NO_DAEMON;
    case ENOTDIR:
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ETIMEDOUT:
    case ECONNRESET:
        return TR_ERR_NO_DAEMON;
    default:
        return TR_ERR_IO;
    }
}

static tr_err socket_connected(tri_door *door, const char **ret_why) {
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(door->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
    }
    if (error != 0) {
        return failure_of(error, ret_why);
    }
    struct sockaddr_storage peer;
    size = sizeof peer;
    return getpeername(door->fd, (struct sockaddr *)&peer, &size) == 0 ? TR_OK : TR_ERR_FULL;
}

static ssize_t socket_recv(tri_door *door, void *data, size_t size) {
    for (;;) {
        ssize_t count = recv(door->fd, data, size, MSG_DONTWAIT);
        if (count >= 0) {
            return count;
        }
        if (errno != EINTR) {
            return -errno;
        }
    }
}

static ssize_t socket_send(tri_door *door, const void *data, size_t size) {
    for (;;) {
        ssize_t count = send(door->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count >= 0) {
            return count;
        }
        if (errno != EINTR) {
            return -errno;
        }
    }
}

static void socket_close(tri_door *door) {
    close(door->fd);
    free(door);
}

static const tri_door_ops socket_ops = {
    .connected = socket_connected, .recv = socket_recv, .send = socket_send, .close = socket_close};

static tr_err dial_socket(int family, const struct sockaddr *address, socklen_t size,
                          tri_door **ret, const char **ret_why) {
    tri_door *door = calloc(1, sizeof *door);
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (door == NULL || fd < 0) {
        *ret_why = door == NULL ? "out of memory" : strerror(errno);
        if (fd >= 0) {
            close(fd);
        }
        free(door);
        return door == NULL ? TR_ERR_NOMEM : TR_ERR_IO;
    }
    if (family != AF_UNIX) {
        int on = 1;
        /* Small frames must not wait for each other's acknowledgement; a failure only slows. */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
    int status;
    do {
        status = connect(fd, address, size);
    } while (status != 0 && errno == EINTR);
    if (status != 0 && errno != EINPROGRESS) {
        tr_err err = failure_of(errno, ret_why);
        close(fd);
        free(door);
        return err;
    }
    *door = (tri_door){.ops = &socket_ops, .fd = fd};
    *ret = door;
    return TR_OK;
}

tr_err tri_door_dial(tri_place *place, tri_door **ret, const char **ret_why) {
    switch (place->scheme) {
    case TRI_IPC: {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        const char *path = place->url + strlen("ipc://");
        memcpy(address.sun_path, path, strlen(path)); /* its length was checked with the URL */
        return dial_socket(AF_UNIX, (const struct sockaddr *)&address, sizeof address, ret,
                           ret_why);
    }
    case TRI_TCP: {
        const struct addrinfo *at = place->next != NULL ? place->next : place->addresses;
        place->next = at->ai_next;
        return dial_socket(at->ai_family, at->ai_addr, at->ai_addrlen, ret, ret_why);
    }
    case TRI_TLS:
    case TRI_INPROC:
        break;
    }
    return tri_door_dial_nng(place, ret, ret_why);
}
