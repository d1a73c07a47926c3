/*
 * One table of words and one of statuses. The words come from refusals of OpenAI, Anthropic, Azure,
 * DeepSeek, Groq, Mistral, OpenRouter, Ollama, vLLM, SGLang, TGI, llama.cpp and xAI; a word is
 * looked for only where it was seen, so that a model's name or a user's text quoted in a message
 * decides nothing by accident.
 *
 * Called by the dialects' codecs; pure.
 */
#include "providers/fault.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *word; /* in `code` or `type` */
    tr_err err;
} words[] = {
    {"insufficient_quota", TR_ERR_QUOTA},
    {"insufficient_balance", TR_ERR_QUOTA},
    {"billing", TR_ERR_QUOTA},
    {"context_length_exceeded", TR_ERR_CONTEXT_LENGTH},
    {"exceed_context_size", TR_ERR_CONTEXT_LENGTH},
    {"content_filter", TR_ERR_FILTERED},
    {"content_policy", TR_ERR_FILTERED},
    {"invalid_api_key", TR_ERR_AUTH},
    {"authentication", TR_ERR_AUTH},
    {"permission", TR_ERR_AUTH},
    {"model_not_found", TR_ERR_NOT_FOUND},
    {"DeploymentNotFound", TR_ERR_NOT_FOUND},
    {"not_found_error", TR_ERR_NOT_FOUND},
    {"rate_limit", TR_ERR_RATE_LIMIT},
    {"RateLimit", TR_ERR_RATE_LIMIT},
    {"overloaded", TR_ERR_OVERLOADED},
    {"timeout_error", TR_ERR_TIMEOUT},
    {"request_too_large", TR_ERR_TOO_LARGE},
};

static const char *const context_phrases[] = {
    "maximum context length", "context length",     "context window",       "context size",
    "prompt too long",        "prompt is too long", "exceed context limit",
};

static tr_err of_status(uint16_t status);

tr_err tr_fault_classify(const tr_fault *fault) {
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (tr_fault_has(fault->code, words[i].word) || tr_fault_has(fault->type, words[i].word)) {
            return words[i].err;
        }
    }
    bool about_request = fault->status == 0 || fault->status == 400 || fault->status == 413 ||
                         fault->status == 422 || fault->status == 500 ||
                         (fault->status >= 200 && fault->status < 300);
    if (about_request) {
        for (size_t i = 0; i < sizeof(context_phrases) / sizeof(context_phrases[0]); i++) {
            if (tr_fault_has(fault->message, context_phrases[i])) {
                return TR_ERR_CONTEXT_LENGTH;
            }
        }
    }
    if (fault->status == 400 && tr_fault_has(fault->message, "credit balance is too low")) {
        return TR_ERR_QUOTA; /* Anthropic's "invalid_request_error" */
    }
    if (fault->status == 400 && tr_fault_has(fault->message, "api key") &&
        (tr_fault_has(fault->message, "incorrect") || tr_fault_has(fault->message, "invalid") ||
         tr_fault_has(fault->message, "not valid"))) {
        return TR_ERR_AUTH;
    }
    if (fault->status == 0 || (fault->status >= 200 && fault->status < 300)) {
        bool request = tr_fault_has(fault->type, "invalid_request") ||
                       tr_fault_has(fault->type, "validation") ||
                       tr_fault_has(fault->type, "BadRequest");
        return request ? TR_ERR_INVALID : TR_ERR_SERVER;
    }
    return of_status(fault->status);
}

static tr_err of_status(uint16_t status) {
    switch (status) {
    case 401:
    case 403:
    case 407:
        return TR_ERR_AUTH;
    case 402:
        return TR_ERR_QUOTA;
    case 404:
    case 410:
        return TR_ERR_NOT_FOUND;
    case 408:
    case 504:
    case 524:
        return TR_ERR_TIMEOUT;
    case 413:
        return TR_ERR_TOO_LARGE;
    case 429:
        return TR_ERR_RATE_LIMIT;
    case 498: /* Groq: no capacity now */
    case 503:
    case 529:
        return TR_ERR_OVERLOADED;
    case 409: /* a conflict with another request: the official SDKs send it again */
    case 499:
        return TR_ERR_SERVER;
    default:
        break;
    }
    if (status >= 300 && status < 400) {
        return TR_ERR_NOT_FOUND;
    }
    return status < 500 ? TR_ERR_INVALID : TR_ERR_SERVER;
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool tr_fault_has(tr_str text, const char *word) {
    size_t size = strlen(word);
    for (size_t i = 0; i + size <= text.size; i++) {
        size_t k = 0;
        while (k < size && lower(text.ptr[i + k]) == lower(word[k])) {
            k++;
        }
        if (k == size) {
            return true;
        }
    }
    return false;
}
