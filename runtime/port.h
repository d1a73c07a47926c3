/* Ports of this machine's loopback, for servers that are started with one. Any thread. */
#ifndef TR_RUNTIME_PORT_H
#define TR_RUNTIME_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/err.h"

/* One that nobody listens at now; it stays free only as long as nobody else takes it. TR_ERR_IO. */
TR_MUST_USE tr_err tr_port_free(uint16_t *ret);
/* Whether somebody has it. */
bool tr_port_taken(uint16_t port);

#endif
