/*
 * What a service manager is told, by systemd's sd_notify(3) protocol: one datagram of NAME=VALUE
 * lines to the socket named by $NOTIFY_SOCKET; without it every call does nothing. One thread.
 */
#ifndef TR_TOOLS_TROUPED_NOTIFY_H
#define TR_TOOLS_TROUPED_NOTIFY_H

#include <stdint.h>

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID and removes them from the environment: they
 * are meant for this process and not for its children. Call it before any thread exists. */
void tri_notify_init(void);
/* Sends such lines; waits two seconds at most for a manager that does not read. */
void tri_notify(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* RELOADING=1 with the time of now, as Type=notify-reload wants it. */
void tri_notify_reloading(void);
/* How often WATCHDOG=1 is due, in milliseconds; 0 = nobody asked for it. */
uint64_t tri_notify_watchdog_ms(void);

#endif
