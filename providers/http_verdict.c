/*
 * How a transfer ended, in one error and one sentence that names the server and what to do about
 * it. Of URLs only scheme, host and port are shown: a path may hold a secret, and a proxy's user
 * and password do. Everything else that curl says is its own wording of the operating system's or
 * the TLS library's reasons, which holds no header of ours.
 *
 * Called by http.c on its shard when a transfer ends.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "providers/http_internal.h"

/* The proxy that curl takes for `url` from the environment, or NULL: its own rules, no_proxy aside.
 */
static const char *proxy_of(const char *url) {
    bool tls = strncasecmp(url, "https:", 6) == 0;
    const char *const names[] = {tls ? "https_proxy" : "http_proxy", tls ? "HTTPS_PROXY" : NULL,
                                 "all_proxy", "ALL_PROXY"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *value = names[i] == NULL ? NULL : getenv(names[i]);
        if (value != NULL && *value != '\0') {
            return value;
        }
    }
    return NULL;
}

/* Whether it was the proxy that failed: curl says so by its code, or names it in its words. */
static bool blames_proxy(const tri_transfer *transfer, const char *proxy) {
    char host[256];
    tri_url_host(proxy, host, sizeof(host));
    host[strcspn(host, ":")] = '\0';
    return transfer->result == CURLE_COULDNT_RESOLVE_PROXY || transfer->result == CURLE_PROXY ||
           strcasestr(transfer->error, "proxy") != NULL ||
           strstr(transfer->error, "CONNECT tunnel") != NULL ||
           (transfer->result == CURLE_COULDNT_CONNECT && strstr(transfer->error, host) != NULL);
}

static const char *advice(CURLcode result) {
    switch ((int)result) {
    case CURLE_PEER_FAILED_VERIFICATION:
        return ": if that server is meant, name the file with the certificate to trust in "
               "SSL_CERT_FILE, in the daemon's environment";
    case CURLE_SSL_CONNECT_ERROR:
        return ": does it speak TLS? else the base URL begins with http://";
    case CURLE_COULDNT_RESOLVE_HOST:
        return ": is the base URL right, and the network up?";
    case CURLE_COULDNT_CONNECT:
        return ": is it running, and the base URL right?";
    default:
        return "";
    }
}

/* Its first bytes were none of TLS, most often the words of a plain HTTP server. By this word of
 * the TLS library alone: curl has one code for whatever fails in a handshake, and a server that
 * hangs up in it may be one that is about to start. */
static bool speaks_plainly(const tri_transfer *transfer) {
    static const char *const words[] = {"wrong version number",       /* OpenSSL */
                                        "unexpected TLS packet was"}; /* GnuTLS */
    bool found = false;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        found = found || strstr(transfer->error, words[i]) != NULL;
    }
    return transfer->result == CURLE_SSL_CONNECT_ERROR && found;
}

/* No HEAD came. */
static tr_err unreached(const tri_transfer *transfer, const char *site, const char *why, char *buf,
                        size_t size) {
    const char *proxy = proxy_of(transfer->url);
    char proxy_site[256] = "";
    switch ((int)transfer->result) {
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
        snprintf(buf, size, "what answers at %s does not speak HTTP: %s: is the base URL right?",
                 site, why);
        return TR_ERR_PROTOCOL;
    case CURLE_OUT_OF_MEMORY:
        if (transfer->status == 0) {
            snprintf(buf, size, "cannot reach %s: %s", site, why);
            return TR_ERR_NOMEM;
        }
        /* So curl calls a header line of more than 100 KB. */
        snprintf(buf, size, "%s: a line of its headers is too long", site);
        return TR_ERR_PROTOCOL;
    case CURLE_OPERATION_TIMEDOUT:
        snprintf(buf, size, "cannot connect to %s within %u ms", site,
                 (unsigned)transfer->connect_ms);
        return TR_ERR_TIMEOUT;
    default:
        break;
    }
    if (proxy != NULL && blames_proxy(transfer, proxy)) {
        tri_url_site(proxy, proxy_site, sizeof(proxy_site));
        snprintf(buf, size,
                 "cannot reach %s by the proxy %s: %s: is it running? It is named by http_proxy, "
                 "https_proxy or all_proxy in the daemon's environment, and no_proxy makes "
                 "exceptions",
                 site, proxy_site, why);
    } else if (speaks_plainly(transfer)) {
        char host[256];
        tri_url_host(transfer->url, host, sizeof(host));
        snprintf(buf, size,
                 "what answers at %s does not speak TLS: should the base URL begin with http://%s? "
                 "(%s)",
                 site, host, why);
    } else {
        snprintf(buf, size, "cannot reach %s: %s%s", site, why, advice(transfer->result));
    }
    return TR_ERR_CONNECT;
}

tr_err tri_transfer_verdict(const tri_transfer *transfer, char *buf, size_t size) {
    char site[300];
    tri_url_site(transfer->url, site, sizeof(site));
    buf[0] = '\0';
    if (transfer->refusal_err == TR_ERR_NOT_FOUND) {
        snprintf(buf, size, "%s redirects to %s: %s", site, transfer->error, transfer->refusal);
        return TR_ERR_NOT_FOUND;
    }
    if (transfer->refusal != NULL) {
        snprintf(buf, size, "%s: %s", site, transfer->refusal);
        return transfer->refusal_err;
    }
    if (transfer->result == CURLE_OK && transfer->head_done) {
        return TR_OK;
    }
    if (transfer->result == CURLE_OK) { /* curl takes that for an answer without a body */
        snprintf(buf, size, "cannot reach %s: it closed the connection within its headers", site);
        return TR_ERR_CONNECT;
    }
    const char *why =
        transfer->error[0] != '\0' ? transfer->error : curl_easy_strerror(transfer->result);
    if (transfer->head_done) {
        snprintf(buf, size, "the connection to %s broke off: %s", site, why);
        return transfer->result == CURLE_OUT_OF_MEMORY ? TR_ERR_NOMEM : TR_ERR_TRUNCATED;
    }
    return unreached(transfer, site, why, buf, size);
}

bool tri_transfer_lasting(const tri_transfer *transfer) {
    switch ((int)transfer->result) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_ISSUER_ERROR:
        return !transfer->head_done;
    case CURLE_SSL_CONNECT_ERROR:
        return speaks_plainly(transfer);
    default:
        return false;
    }
}

void tri_url_host(const char *url, char *buf, size_t size) {
    const char *at = strstr(url, "://");
    at = at == NULL ? url : at + 3;
    size_t length = strcspn(at, "/?#");
    const char *user = memrchr(at, '@', length);
    if (user != NULL) {
        length -= (size_t)(user + 1 - at);
        at = user + 1;
    }
    snprintf(buf, size, "%.*s", (int)(length < size ? length : size - 1), at);
}

void tri_url_site(const char *url, char *buf, size_t size) {
    char host[256];
    const char *at = strstr(url, "://");
    tri_url_host(url, host, sizeof(host));
    snprintf(buf, size, "%.*s%s", at == NULL || at - url > 8 ? 0 : (int)(at + 3 - url), url, host);
}
