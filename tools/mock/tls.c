/* See tls.h. Errors of a session look like a broken socket: tests of handshakes that fail look at
 * the client, and a client's own alert is news to nobody here. */
#include "tools/mock/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DAY_s 86400L

static bool add_extension(X509 *cert, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool fine = extension != NULL && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return fine;
}

static bool fill(X509 *cert, EVP_PKEY *key) {
    X509_NAME *name = X509_get_subject_name(cert);
    return X509_set_version(cert, X509_VERSION_3) == 1 &&
           ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) == 1 &&
           X509_gmtime_adj(X509_getm_notBefore(cert), -DAY_s) != NULL &&
           X509_gmtime_adj(X509_getm_notAfter(cert), 3650 * DAY_s) != NULL &&
           X509_set_pubkey(cert, key) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost",
                                      -1, -1, 0) == 1 &&
           X509_set_issuer_name(cert, name) == 1 &&
           add_extension(cert, NID_basic_constraints, "critical,CA:TRUE") &&
           add_extension(cert, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1") &&
           X509_sign(cert, key, EVP_sha256()) > 0;
}

static bool write_pem(int fd, const X509 *cert, const EVP_PKEY *key) {
    FILE *file = fdopen(fd, "w");
    if (file == NULL) {
        close(fd);
        return false;
    }
    bool fine = PEM_write_X509(file, cert) == 1 &&
                PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1;
    return fclose(file) == 0 && fine;
}

/* Makes the file unless it is there. */
static bool make_file(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return errno == EEXIST;
    }
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    bool fine = key != NULL && cert != NULL && fill(cert, key);
    if (!fine) {
        close(fd);
    }
    fine = fine && write_pem(fd, cert, key);
    if (!fine) {
        unlink(path);
    }
    X509_free(cert);
    EVP_PKEY_free(key);
    return fine;
}

mock_tls *mock_tls_new(const char *file) {
    if (!make_file(file)) {
        fprintf(stderr, "troupe-mock: %s: %s\n", file, strerror(errno));
        return NULL;
    }
    mock_tls *tls = SSL_CTX_new(TLS_server_method());
    if (tls == NULL || SSL_CTX_use_certificate_chain_file(tls, file) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, file, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(tls) != 1) {
        fprintf(stderr, "troupe-mock: %s: expected a certificate and its key, as PEM\n", file);
        SSL_CTX_free(tls);
        return NULL;
    }
    /* What waits may have moved and grown when it is sent again; idle sessions keep no buffers. */
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_id_context(tls, (const unsigned char *)"troupe-mock", 11);
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    return tls;
}

void mock_tls_free(mock_tls *tls) {
    SSL_CTX_free(tls);
}

mock_session *mock_session_new(mock_tls *tls, int fd) {
    mock_session *session = SSL_new(tls);
    if (session != NULL && SSL_set_fd(session, fd) != 1) {
        SSL_free(session);
        return NULL;
    }
    if (session != NULL) {
        SSL_set_accept_state(session);
    }
    return session;
}

void mock_session_free(mock_session *session) {
    if (session == NULL) {
        return;
    }
    ERR_clear_error();
    SSL_shutdown(session); /* says that this is the end; whether it is heard does not matter */
    ERR_clear_error();
    SSL_free(session);
}

/* What the socket would have said. */
static ssize_t outcome(mock_session *session, int done) {
    int why = SSL_get_error(session, done);
    ERR_clear_error();
    if (done > 0) {
        return done;
    }
    if (why == SSL_ERROR_ZERO_RETURN) {
        return 0;
    }
    errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : EPROTO;
    return -1;
}

static int clipped(size_t size) {
    return size > 1U << 20 ? 1 << 20 : (int)size;
}

ssize_t mock_session_read(mock_session *session, void *buf, size_t size) {
    ERR_clear_error();
    return outcome(session, SSL_read(session, buf, clipped(size)));
}

ssize_t mock_session_send(mock_session *session, const void *buf, size_t size) {
    ERR_clear_error();
    return outcome(session, SSL_write(session, buf, clipped(size)));
}

bool mock_session_pending(const mock_session *session) {
    return SSL_pending(session) > 0;
}

bool mock_session_resumed(const mock_session *session) {
    return SSL_session_reused(session) == 1;
}
