/*
 * The kernel chooses, by a socket that is bound and closed again: it gives its ports in a random
 * order, so two that ask at once seldom get the same. Whose a port is afterwards, the kernel says
 * in /proc/net/tcp and tcp6: there each socket has its maker's user. Root counts as nobody foreign,
 * since containers' ports are its, and it needs no port to read what we send. Listening sockets
 * stand there before all others, so reading ends where they do. Called by managed servers, on their
 * shard.
 */
#include "runtime/port.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int bound(uint16_t port, struct sockaddr_in *ret) {
    *ret = (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof *ret;
    int on = 1; /* what is only left over from closed connections does not count */
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
                    bind(fd, (struct sockaddr *)ret, size) != 0 ||
                    getsockname(fd, (struct sockaddr *)ret, &size) != 0)) {
        int code = errno;
        close(fd);
        errno = code;
        return -1;
    }
    return fd;
}

tr_err tr_port_free(uint16_t *ret) {
    struct sockaddr_in address;
    int fd = bound(0, &address);
    if (fd < 0) {
        return TR_ERR_IO;
    }
    close(fd);
    *ret = ntohs(address.sin_port);
    return TR_OK;
}

bool tr_port_taken(uint16_t port) {
    struct sockaddr_in address;
    int fd = bound(port, &address);
    if (fd >= 0) {
        close(fd);
        return false;
    }
    return errno == EADDRINUSE;
}

/* A row: number, address:port, peer:port, state, queues, timer, retransmits, user. 0A listens. */
static bool is_foreign(const char *row, uint16_t port, uint32_t uid, bool *ret_listens) {
    unsigned at = 0;
    unsigned state = 0;
    unsigned owner = 0;
    *ret_listens = true;
    if (sscanf(row, " %*u: %*[0-9A-Fa-f]:%4x %*[0-9A-Fa-f]:%*4x %2x %*s %*s %*s %u", &at, &state,
               &owner) != 3) {
        return false; /* the first line, which names the columns, or half a row */
    }
    *ret_listens = state == 0x0a;
    return *ret_listens && at == port && owner != uid && owner != 0;
}

bool tr_port_foreign_in(tr_str text, uint16_t port, uint32_t uid) {
    char row[256];
    bool listens = true;
    const char *at = text.ptr;
    const char *end = text.ptr + text.size;
    while (at < end && listens) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t size = (size_t)((stop != NULL ? stop : end) - at);
        size = size < sizeof row - 1 ? size : sizeof row - 1;
        memcpy(row, at, size);
        row[size] = '\0';
        if (is_foreign(row, port, uid, &listens)) {
            return true;
        }
        at = stop != NULL ? stop + 1 : end;
    }
    return false;
}

bool tr_port_foreign(uint16_t port) {
    static const char *const files[] = {"/proc/net/tcp", "/proc/net/tcp6"};
    bool foreign = false;
    for (size_t i = 0; i < sizeof files / sizeof *files && !foreign; i++) {
        char row[256];
        bool listens = true;
        FILE *file = fopen(files[i], "re");
        while (file != NULL && listens && !foreign && fgets(row, sizeof row, file) != NULL) {
            foreign = is_foreign(row, port, (uint32_t)geteuid(), &listens);
        }
        if (file != NULL) {
            (void)fclose(file);
        }
    }
    return foreign;
}
