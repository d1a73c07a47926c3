/*
 * The servers that are known by name. Paths and options are those of llama.cpp's server of 2025,
 * mlx-lm 0.32, transformers 5.24 and vLLM 0.33; a row's command is only what is taken when the
 * configuration gives none. transformers 4.57 wants --force-model before the model's name, and 5
 * knows no such option: no command that names the model serves both. One that names none would,
 * but such a server is well before it has loaded anything.
 *
 * Looked up by the configuration and by the provider actor of a managed server.
 */
#include "providers/servers.h"

#include <string.h>

#define HOST_AND_PORT "--host {host} --port {port}"

static const tr_server_row rows[] = {
    {.row = {.name = "managed/llama-server",
             .dialect = "openai",
             .key_need = TR_KEY_OPTIONAL,
             .quirks = TR_QUIRK_TOP_K | TR_QUIRK_MIN_P | TR_QUIRK_REPEAT_PENALTY |
                       TR_QUIRK_REPEAT_LAST_N | TR_QUIRK_GRAMMAR},
     .command =
         "llama-server --model {model} " HOST_AND_PORT " --ctx-size {cache} --parallel {sequences}",
     .health = "/health",
     .install = "it is a part of llama.cpp (brew install llama.cpp, or its releases on GitHub; "
                "tools/setup --llama-server builds one into ~/.cache/troupe/llama/bin)"},
    {.row = {.name = "managed/mlx",
             .dialect = "openai",
             .key_need = TR_KEY_OPTIONAL,
             .quirks = TR_QUIRK_TOP_K | TR_QUIRK_MIN_P | TR_QUIRK_REPETITION_PENALTY |
                       TR_QUIRK_NO_SCHEMA},
     .command = "mlx_lm.server --model {model} " HOST_AND_PORT,
     .health = "/health",
     .install = "pip install mlx-lm",
     .names_model = true},
    {.row = {.name = "managed/transformers",
             .dialect = "openai",
             .key_need = TR_KEY_OPTIONAL,
             .quirks = TR_QUIRK_NO_STREAM_OPTIONS | TR_QUIRK_NO_SCHEMA},
     .command = "transformers serve {model} " HOST_AND_PORT,
     .health = "/health",
     .install = "pip install \"transformers[serving]\" torch",
     .names_model = true},
    {.row = {.name = "managed/vllm",
             .dialect = "openai",
             .key_need = TR_KEY_OPTIONAL,
             .quirks = TR_QUIRK_TOP_K | TR_QUIRK_MIN_P | TR_QUIRK_REPETITION_PENALTY |
                       TR_QUIRK_STRUCTURED_OUTPUTS | TR_QUIRK_TOKENIZE},
     .command = "vllm serve {model} " HOST_AND_PORT,
     .health = "/health",
     .install = "pip install vllm",
     .names_model = true},
    {.row = {.name = "managed/other",
             .dialect = "openai",
             .key_need = TR_KEY_OPTIONAL,
             .quirks = TR_QUIRK_TOP_K | TR_QUIRK_MIN_P | TR_QUIRK_REPEAT_PENALTY |
                       TR_QUIRK_REPEAT_LAST_N | TR_QUIRK_GRAMMAR},
     .health = "/v1/models",
     .names_model = true},
};

const tr_server_row *tr_server_find(const char *kind) {
    for (size_t i = 0; tr_server_at(i) != NULL; i++) {
        if (strcmp(rows[i].row.name, kind) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

const tr_server_row *tr_server_at(size_t i) {
    return i < sizeof(rows) / sizeof(rows[0]) ? &rows[i] : NULL;
}
