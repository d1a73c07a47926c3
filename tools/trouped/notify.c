/*
 * sd_notify(3) without its library: the protocol is a datagram. An address that begins with @ is in
 * the abstract namespace: its first byte is zero and its size counts, since nothing ends it.
 * Called by trouped's main thread.
 */
#include "tools/trouped/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_un address;
static socklen_t address_size; /* 0 = nobody to tell */
static uint64_t watchdog_ms;

static void read_watchdog(void) {
    const char *usec = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    char *end;
    if (usec == NULL || usec[0] < '0' || usec[0] > '9' ||
        (pid != NULL && strtoll(pid, NULL, 10) != (long long)getpid())) {
        return;
    }
    errno = 0;
    unsigned long long value = strtoull(usec, &end, 10);
    if (errno == 0 && *end == '\0' && value > 0) {
        watchdog_ms = value / 1000 / 2 > 0 ? value / 1000 / 2 : 1; /* half of it, as advised */
    }
}

void tri_notify_init(void) {
    const char *path = getenv("NOTIFY_SOCKET");
    size_t size = path != NULL ? strlen(path) : 0;
    address = (struct sockaddr_un){.sun_family = AF_UNIX};
    address_size = 0;
    watchdog_ms = 0;
    /* A path needs room for the zero behind it, an abstract name does not. */
    if (size > 1 && ((path[0] == '/' && size < sizeof address.sun_path) ||
                     (path[0] == '@' && size <= sizeof address.sun_path))) {
        memcpy(address.sun_path, path, size);
        address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
        if (path[0] == '@') {
            address.sun_path[0] = '\0';
        } else {
            address_size++;
        }
        read_watchdog();
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void tri_notify(const char *format, ...) {
    char text[512];
    if (address_size == 0) {
        return;
    }
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct timeval wait = {.tv_sec = 2};
    if (fd >= 0 && size > 0 &&
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, (socklen_t)sizeof wait) == 0) {
        (void)sendto(fd, text, (size_t)size < sizeof text ? (size_t)size : sizeof text - 1,
                     MSG_NOSIGNAL, (const struct sockaddr *)&address, address_size);
    }
    if (fd >= 0) {
        close(fd);
    }
}

void tri_notify_reloading(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    tri_notify("RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
               (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
}

uint64_t tri_notify_watchdog_ms(void) {
    return watchdog_ms;
}
