/*
 * OLLAMA_HOST as Ollama reads it (envconfig/config.go, Host): the variable names the address that
 * the server listens at and where its clients look for it, so one export serves both, and Troupe
 * must understand what the two understand.
 *
 * Called by provider_start.c when a base URL is needed; pure.
 */
#include <stdio.h>
#include <string.h>

#include "providers/catalog.h"
#include "providers/ollama_internal.h"

#define BLANKS " \t\r\n"

static tr_str trim(tr_str text, const char *what) {
    while (text.size > 0 && strchr(what, text.ptr[0]) != NULL) {
        text.ptr++;
        text.size--;
    }
    while (text.size > 0 && strchr(what, text.ptr[text.size - 1]) != NULL) {
        text.size--;
    }
    return text;
}

static bool same(tr_str text, const char *word) {
    return text.size == strlen(word) && (text.size == 0 || memcmp(text.ptr, word, text.size) == 0);
}

/* The text before the first `mark`; the rest stays in `text`. False: there is none. */
static bool cut(tr_str *text, const char *mark, tr_str *ret_before) {
    const char *at = text->size == 0 ? NULL : memmem(text->ptr, text->size, mark, strlen(mark));
    if (at == NULL) {
        return false;
    }
    *ret_before = (tr_str){text->ptr, (size_t)(at - text->ptr)};
    at += strlen(mark);
    *text = (tr_str){at, text->size - (size_t)(at - text->ptr)};
    return true;
}

/* host:port, [host]:port, or a host alone (also an IPv6 address without brackets). */
static void split(tr_str text, tr_str *ret_host, tr_str *ret_port) {
    const char *colon = text.size == 0 ? NULL : memrchr(text.ptr, ':', text.size);
    tr_str host = {text.ptr, colon == NULL ? text.size : (size_t)(colon - text.ptr)};
    bool bracketed = host.size > 1 && host.ptr[0] == '[' && host.ptr[host.size - 1] == ']';
    bool many = host.size > 0 && memchr(host.ptr, ':', host.size) != NULL;
    if (colon == NULL || (many && !bracketed)) {
        *ret_host = trim(text, "[]");
        *ret_port = (tr_str){"", 0};
        return;
    }
    *ret_host = bracketed ? (tr_str){host.ptr + 1, host.size - 2} : host;
    *ret_port = (tr_str){colon + 1, text.size - host.size - 1};
}

/* Digits of 0 to 65535; anything else gives `otherwise`, as Ollama does. */
static unsigned read_port(tr_str text, unsigned otherwise) {
    unsigned port = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9' || port > 65535) {
            return otherwise;
        }
        port = port * 10 + (unsigned)(text.ptr[i] - '0');
    }
    return text.size == 0 || port > 65535 ? otherwise : port;
}

bool tri_ollama_host(const char *value, char *ret, size_t size) {
    tr_str text = trim(trim((tr_str){value, strlen(value)}, BLANKS), "\"'");
    tr_str scheme = {"http", 4};
    tr_str rest = trim(text, BLANKS);
    tr_str authority, host, port;
    unsigned usual = 11434;
    if (cut(&rest, "://", &scheme)) {
        usual = same(scheme, "http") ? 80 : same(scheme, "https") ? 443 : usual;
    } else if (same(rest, "ollama.com")) {
        scheme = (tr_str){"https", 5};
        usual = 443;
    }
    if (!cut(&rest, "/", &authority)) {
        authority = rest;
        rest = (tr_str){"", 0};
    }
    rest = trim(rest, "/");
    split(authority, &host, &port);
    if (host.size == 0 || same(host, "0.0.0.0")) {
        host = (tr_str){"127.0.0.1", 9};
    } else if (same(host, "::")) {
        host = (tr_str){"::1", 3};
    }
    bool six = memchr(host.ptr, ':', host.size) != NULL;
    int written =
        snprintf(ret, size, "%.*s://%s%.*s%s:%u%s%.*s", (int)scheme.size, scheme.ptr,
                 six ? "[" : "", (int)host.size, host.ptr, six ? "]" : "", read_port(port, usual),
                 rest.size > 0 ? "/" : "", (int)rest.size, rest.ptr);
    return written > 0 && (size_t)written < size && tr_base_url_valid((tr_str){ret, strlen(ret)});
}
