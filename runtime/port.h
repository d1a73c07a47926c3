/* Ports of this machine's loopback, for servers that are started with one. Any thread. */
#ifndef TR_RUNTIME_PORT_H
#define TR_RUNTIME_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/err.h"
#include "protocol/wire.h"

/* One that nobody listens at now; it stays free only as long as nobody else takes it. TR_ERR_IO. */
TR_MUST_USE tr_err tr_port_free(uint16_t *ret);
/* Whether somebody has it. */
bool tr_port_taken(uint16_t port);
/* Whether a process of another user than this one's, or root, listens there, at whatever address of
 * this machine. Reads /proc/net; what cannot be read is not foreign. */
bool tr_port_foreign(uint16_t port);
/* The same in the text of /proc/net/tcp or tcp6, as far as it is there, for a process of `uid`. */
bool tr_port_foreign_in(tr_str text, uint16_t port, uint32_t uid);

#endif
