/* Listeners at ipc:// URLs and the connections that they accept, as plain sockets on the shard of
 * their owner. Its table only listens; who dials such a URL may use any door. Internal to runtime/.
 */
#ifndef TR_RUNTIME_TRANSPORT_SOCKET_H
#define TR_RUNTIME_TRANSPORT_SOCKET_H

#include "runtime/transport.h"

tr_transport *tri_transport_socket(void);

#endif
