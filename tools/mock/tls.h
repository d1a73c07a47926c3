/*
 * TLS for the mock, over OpenSSL: the only file that sees it. A session replaces read and send on a
 * connection's socket and behaves as they do, so that the loop does not know which it has.
 */
#ifndef TR_TOOLS_MOCK_TLS_H
#define TR_TOOLS_MOCK_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct ssl_ctx_st mock_tls;
typedef struct ssl_st mock_session;

/* With the certificate and the key in `file`, which is made when there is none: for localhost and
 * 127.0.0.1, trusted by whoever has it in SSL_CERT_FILE. NULL: it said why on standard error. */
mock_tls *mock_tls_new(const char *file);
void mock_tls_free(mock_tls *tls); /* NULL is fine */

/* NULL when out of memory. */
mock_session *mock_session_new(mock_tls *tls, int fd);
void mock_session_free(mock_session *session); /* before its socket is closed; NULL is fine */
/* As read(2) and send(2) of a socket that does not block; the handshake happens inside. */
ssize_t mock_session_read(mock_session *session, void *buf, size_t size);
ssize_t mock_session_send(mock_session *session, const void *buf, size_t size);
/* Whether bytes wait that the socket no longer shows. */
bool mock_session_pending(const mock_session *session);
/* Whether the client came back with a ticket of an earlier session. */
bool mock_session_resumed(const mock_session *session);

#endif
