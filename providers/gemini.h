/*
 * The dialect of Google's Gemini API (generativelanguage.googleapis.com, v1beta). Source:
 * ai.google.dev/api, and recorded exchanges.
 */
#ifndef TR_PROVIDERS_GEMINI_H
#define TR_PROVIDERS_GEMINI_H

#include "providers/dialect.h"

extern const tr_dialect tr_dialect_gemini;

/* The answer's parts as they came, thought signatures on them: sent by us in an opaque field, and
 * taken back under that name in the assistant's message, for which it then stands whole. */
#define TR_GEMINI_PARTS "gemini_parts"

#endif
