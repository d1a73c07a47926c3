/* The kernel chooses, by a socket that is bound and closed again: it gives its ports in a random
 * order, so two that ask at once seldom get the same. Called by managed servers, on their shard. */
#include "runtime/port.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
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
