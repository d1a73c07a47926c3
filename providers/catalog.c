/*
 * The providers that the openai dialect serves. A quirk stands in a row only where the vendor's
 * documentation or a recorded refusal says so; a generic compatible server gets the options under
 * llama.cpp's names, since what it takes is for its user to know.
 *
 * Looked up by the provider actor and by whoever lists providers; constant, any thread.
 */
#include "providers/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "providers/anthropic.h"
#include "providers/gemini.h"
#include "providers/ollama.h"
#include "providers/ollama_internal.h"
#include "providers/openai.h"
#include "providers/responses.h"
#include "providers/servers.h"

#define LLAMA_CPP_OPTIONS                                                                          \
    (TR_QUIRK_TOP_K | TR_QUIRK_MIN_P | TR_QUIRK_REPEAT_PENALTY | TR_QUIRK_REPEAT_LAST_N |          \
     TR_QUIRK_GRAMMAR)

static const tr_catalog_row rows[] = {
    {.name = "openai",
     .dialect = "openai",
     .base_url = "https://api.openai.com/v1",
     .base_url_env = "OPENAI_BASE_URL",
     .key_env = "OPENAI_API_KEY",
     .key_need = TR_KEY_REQUIRED,
     .limits_by_model = true,
     .quirks = TR_QUIRK_MAX_COMPLETION_TOKENS | TR_QUIRK_STOP_4,
     .embed_tokens_max = 300000,
     .key_page = "https://platform.openai.com/api-keys",
     .headers = {{.name = "OpenAI-Organization", .env = "OPENAI_ORG_ID"},
                 {.name = "OpenAI-Project", .env = "OPENAI_PROJECT_ID"}}},
    {.name = "openai-compatible",
     .dialect = "openai",
     .base_url_env = "OPENAI_COMPATIBLE_BASE_URL",
     .key_env = "OPENAI_COMPATIBLE_API_KEY",
     .key_need = TR_KEY_OPTIONAL,
     .quirks = LLAMA_CPP_OPTIONS,
     .any_base_url = true},
    /* Limits: learn.microsoft.com/azure/ai-foundry/openai/quotas-limits, "per region, per
     * subscription, and per model or deployment type"; a deployment's name stands as the model's.
     */
    {.name = "azure",
     .dialect = "openai",
     .base_url_env = "AZURE_OPENAI_ENDPOINT",
     .key_env = "AZURE_OPENAI_API_KEY",
     .token_env = "AZURE_OPENAI_AD_TOKEN",
     .key_need = TR_KEY_REQUIRED,
     .limits_by_model = true,
     .key_header = "api-key",
     .quirks = TR_QUIRK_MAX_COMPLETION_TOKENS | TR_QUIRK_STOP_4 | TR_QUIRK_AZURE_URL,
     .embed_tokens_max = 300000,
     .key_page = "https://ai.azure.com"},
    {.name = "openai-responses",
     .dialect = "responses",
     .base_url = "https://api.openai.com/v1",
     .base_url_env = "OPENAI_BASE_URL",
     .key_env = "OPENAI_API_KEY",
     .key_need = TR_KEY_REQUIRED,
     .limits_by_model = true,
     .embed_tokens_max = 300000,
     .key_page = "https://platform.openai.com/api-keys",
     .headers = {{.name = "OpenAI-Organization", .env = "OPENAI_ORG_ID"},
                 {.name = "OpenAI-Project", .env = "OPENAI_PROJECT_ID"}}},
    {.name = "responses-compatible",
     .dialect = "responses",
     .base_url_env = "RESPONSES_COMPATIBLE_BASE_URL",
     .key_env = "RESPONSES_COMPATIBLE_API_KEY",
     .key_need = TR_KEY_OPTIONAL,
     .any_base_url = true},
    {.name = "anthropic",
     .dialect = "anthropic",
     .base_url = "https://api.anthropic.com",
     .base_url_env = "ANTHROPIC_BASE_URL",
     .key_env = "ANTHROPIC_API_KEY",
     .token_env = "ANTHROPIC_AUTH_TOKEN",
     .key_need = TR_KEY_REQUIRED,
     .limits_by_model = true,
     .key_header = "x-api-key",
     .quirks = TR_QUIRK_NO_JSON_MODE,
     .key_page = "https://console.anthropic.com/settings/keys",
     .headers = {{"anthropic-version", .value = "2023-06-01"}}},
    {.name = "openrouter",
     .dialect = "openai",
     .base_url = "https://openrouter.ai/api/v1",
     .base_url_env = "OPENROUTER_BASE_URL",
     .key_env = "OPENROUTER_API_KEY",
     .key_need = TR_KEY_REQUIRED,
     .quirks = TR_QUIRK_TOP_K | TR_QUIRK_MIN_P | TR_QUIRK_REPETITION_PENALTY,
     .check_path = "/key",
     .key_page = "https://openrouter.ai/keys"},
    {.name = "lmstudio",
     .dialect = "openai",
     .base_url = "http://localhost:1234/v1",
     .base_url_env = "LMSTUDIO_BASE_URL",
     .key_env = "LM_API_TOKEN",
     .key_need = TR_KEY_OPTIONAL,
     .any_base_url = true,
     .quirks = TR_QUIRK_TOP_K | TR_QUIRK_MIN_P | TR_QUIRK_REPEAT_PENALTY | TR_QUIRK_LMSTUDIO_API},
    {.name = "vllm",
     .dialect = "openai",
     .base_url = "http://localhost:8000/v1",
     .base_url_env = "VLLM_BASE_URL",
     .key_env = "VLLM_API_KEY",
     .key_need = TR_KEY_OPTIONAL,
     .any_base_url = true,
     .quirks = TR_QUIRK_TOP_K | TR_QUIRK_MIN_P | TR_QUIRK_REPETITION_PENALTY |
               TR_QUIRK_STRUCTURED_OUTPUTS | TR_QUIRK_TOKENIZE},
    {.name = "ollama",
     .dialect = "ollama",
     .base_url = "http://127.0.0.1:11434",
     .base_url_env = "OLLAMA_HOST",
     .read_base_url = tri_ollama_host,
     .key_env = "OLLAMA_API_KEY",
     .key_need = TR_KEY_OPTIONAL,
     .any_base_url = true},
    {.name = "gemini",
     .dialect = "gemini",
     .base_url = "https://generativelanguage.googleapis.com/v1beta",
     .base_url_env = "GEMINI_BASE_URL",
     .key_env = "GEMINI_API_KEY",
     .key_env_first = "GOOGLE_API_KEY",
     .key_need = TR_KEY_REQUIRED,
     .key_header = "x-goog-api-key",
     .key_page = "https://aistudio.google.com/apikey"},
    {.name = "mistral",
     .dialect = "openai",
     .base_url = "https://api.mistral.ai/v1",
     .base_url_env = "MISTRAL_BASE_URL",
     .key_env = "MISTRAL_API_KEY",
     .key_need = TR_KEY_REQUIRED,
     .quirks = TR_QUIRK_NO_STREAM_OPTIONS | TR_QUIRK_RANDOM_SEED,
     /* Its own refusals: "Too many tokens in batch. Max is 16384" (semantic-router, issue 297) and
      * "Too many inputs in request" from the 257th on (rig-core, providers/mistral). */
     .embed_tokens_max = 16384,
     .embed_texts_max = 256,
     .key_page = "https://console.mistral.ai/api-keys"},
    /* Limits: console.groq.com/docs/rate-limits, an organization's, a table of models. */
    {.name = "groq",
     .dialect = "openai",
     .base_url = "https://api.groq.com/openai/v1",
     .base_url_env = "GROQ_BASE_URL",
     .key_env = "GROQ_API_KEY",
     .key_need = TR_KEY_REQUIRED,
     .limits_by_model = true,
     .quirks = TR_QUIRK_STOP_4 | TR_QUIRK_NO_EMBED,
     .key_page = "https://console.groq.com/keys"},
    {.name = "deepseek",
     .dialect = "openai",
     .base_url = "https://api.deepseek.com",
     .base_url_env = "DEEPSEEK_BASE_URL",
     .key_env = "DEEPSEEK_API_KEY",
     .key_need = TR_KEY_REQUIRED,
     .quirks = TR_QUIRK_NO_SCHEMA | TR_QUIRK_NO_SEED | TR_QUIRK_NO_EMBED,
     .key_page = "https://platform.deepseek.com/api_keys"},
    {.name = "xai",
     .dialect = "openai",
     .base_url = "https://api.x.ai/v1",
     .base_url_env = "XAI_BASE_URL",
     .key_env = "XAI_API_KEY",
     .key_need = TR_KEY_REQUIRED,
     .quirks = TR_QUIRK_NO_EMBED,
     .key_page = "https://console.x.ai"},
};

static const tr_dialect *const dialects[] = {
    &tr_dialect_openai, &tr_dialect_responses, &tr_dialect_anthropic,
    &tr_dialect_gemini, &tr_dialect_ollama,
};

const tr_catalog_row *tr_catalog_find(const char *name) {
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return &rows[i];
        }
    }
    const tr_server_row *server = tr_server_find(name);
    return server != NULL ? &server->row : NULL;
}

const tr_catalog_row *tr_catalog_at(size_t i) {
    return i < sizeof(rows) / sizeof(rows[0]) ? &rows[i] : NULL;
}

const char *tr_catalog_account(const char *name) {
    const tr_catalog_row *row = tr_catalog_find(name);
    for (size_t i = 0; row != NULL && &rows[i] != row; i++) {
        if (strcmp(rows[i].key_env, row->key_env) == 0) {
            return rows[i].name;
        }
    }
    return name;
}

const tr_dialect *tr_dialect_find(const char *name) {
    for (size_t i = 0; i < sizeof(dialects) / sizeof(dialects[0]); i++) {
        if (strcmp(dialects[i]->name, name) == 0) {
            return dialects[i];
        }
    }
    return NULL;
}

static size_t scheme_size(tr_str url) {
    if (url.size > 7 && memcmp(url.ptr, "http://", 7) == 0) {
        return 7;
    }
    return url.size > 8 && memcmp(url.ptr, "https://", 8) == 0 ? 8 : 0;
}

bool tr_catalog_unloads(const char *name) {
    char why[256];
    tr_encoded encoded = {0};
    const tr_catalog_row *row = tr_catalog_find(name);
    const tr_dialect *dialect = row != NULL ? tr_dialect_find(row->dialect) : NULL;
    if (dialect == NULL || dialect->inquire == NULL) {
        return false;
    }
    tr_encode in = {
        .op = TR_OP_UNLOAD, .model = {"m", 1}, .quirks = row->quirks, .provider = row->name};
    bool unloads = dialect->inquire(&in, &encoded, why, sizeof(why)) == TR_OK;
    free(encoded.body);
    return unloads;
}

bool tr_base_url_valid(tr_str url) {
    size_t scheme = scheme_size(url);
    if (scheme == 0 || url.size > TR_URL_max || url.ptr[scheme] == '/' || url.ptr[scheme] == ':') {
        return false;
    }
    for (size_t i = 0; i < url.size; i++) {
        unsigned char c = (unsigned char)url.ptr[i];
        if (c <= ' ' || c >= 0x7f || strchr("@?#\\\"<>`{|}^", (char)c) != NULL) {
            return false;
        }
    }
    return true;
}

bool tr_base_url_same_origin(tr_str a, tr_str b) {
    size_t size = tr_base_url_origin(a);
    return size > 0 && size == tr_base_url_origin(b) && memcmp(a.ptr, b.ptr, size) == 0;
}

/* Scheme, host and port as they are written: "localhost" and "127.0.0.1" count as different, and
 * so do ":443" and nothing, which errs on the safe side. */
size_t tr_base_url_origin(tr_str url) {
    size_t size = scheme_size(url);
    while (size > 0 && size < url.size && url.ptr[size] != '/') {
        size++;
    }
    return size;
}
