/*
 * The parts of the ollama dialect: requests out (ollama.c), answers in (ollama_decode.c), and the
 * server's address (ollama_host.c). Internal to providers/.
 */
#ifndef TR_PROVIDERS_OLLAMA_INTERNAL_H
#define TR_PROVIDERS_OLLAMA_INTERNAL_H

#include "providers/dialect.h"

typedef struct tri_ollama {
    uint32_t calls; /* tool calls so far */
} tri_ollama;

tr_err tri_ollama_event(tr_decoding *decoding, tr_str type, tr_str data, bool last);
tr_err tri_ollama_whole(tr_decoding *decoding, tr_str body);
tr_err tri_ollama_eof(tr_decoding *decoding, bool cut);
void tri_ollama_fini(tr_decoding *decoding);

/* The base URL that a value of OLLAMA_HOST means to Ollama itself: a host, host:port or :port with
 * or without a scheme and a path; port 11434, or the scheme's where one is written. The address of
 * all interfaces, which a server listens at, is the loopback one to a client. False when that gives
 * no base URL of at most size - 1 bytes. Pure. */
bool tri_ollama_host(const char *value, char *ret, size_t size);

#endif
