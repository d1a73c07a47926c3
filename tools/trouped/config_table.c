/*
 * The one table of the configuration's keys. A key is added here and in the struct of config.h;
 * reading, defaults, ranges, --print and docs/config.md follow from it.
 */
#include "tools/trouped/config_table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/limits.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const tri_field provider_fields[] = {
    {.name = "kind",
     .type = TRI_FIELD_TEXT,
     .offset = offsetof(tr_config_provider, kind),
     .otherwise = "",
     .example = "openai-compatible",
     .text = "Which provider of the catalog it is like (`troupe models` lists them); empty = "
             "the one of its own name."},
    {.name = "base_url",
     .type = TRI_FIELD_TEXT,
     .offset = offsetof(tr_config_provider, base_url),
     .otherwise = "",
     .example = "http://127.0.0.1:1234/v1",
     .text = "Where it is, as docs/providers.md shows it for each kind (with `/v1` for openai's, "
             "without for anthropic and ollama); empty = the catalog's."},
    {.name = "keys",
     .type = TRI_FIELD_TEXTS,
     .offset = offsetof(tr_config_provider, keys),
     .otherwise = "[]",
     .example = "[env:LM_KEY, file:/etc/troupe/lm.keys]",
     .at_reload = true,
     .text = "Where its keys are, at most 8 sources: `env:NAME`, a variable of the daemon's "
             "environment; `file:/PATH`, mode 0600, one key a line; `command:WORDS`, what "
             "`/bin/sh -c` prints. All of them are used in turn. None = those of `troupe key set`, "
             "else the catalog's variable."},
    {.name = "at_once",
     .type = TRI_FIELD_NUMBER,
     .offset = offsetof(tr_config_provider, at_once),
     .otherwise = "64",
     .example = "50",
     .at_reload = true,
     .min = 1,
     .max = TR_REQUESTS_max,
     .text = "Requests in flight at most; more wait in line."},
    {.name = "rpm",
     .type = TRI_FIELD_NUMBER,
     .offset = offsetof(tr_config_provider, rpm),
     .otherwise = "0",
     .example = "500",
     .at_reload = true,
     .max = TR_RATE_max,
     .text = "Requests that start in a minute at most, evenly spread; more wait in line. 0 = no "
             "limit but the provider's own, which its answers' headers tell."},
    {.name = "tpm",
     .type = TRI_FIELD_NUMBER,
     .offset = offsetof(tr_config_provider, tpm),
     .otherwise = "0",
     .example = "200000",
     .at_reload = true,
     .max = TR_RATE_max,
     .text = "Tokens a minute at most, of prompts and answers together: a request reserves an "
             "estimate and is charged for what it used. 0 = no limit."},
    {.name = "burst",
     .type = TRI_FIELD_NUMBER,
     .offset = offsetof(tr_config_provider, burst),
     .otherwise = "0",
     .example = "10",
     .at_reload = true,
     .max = TR_REQUESTS_max,
     .text = "Requests that rpm lets start at the same time after a pause; 0 = what a second "
             "brings, at least one."},
    {.name = "adaptive",
     .type = TRI_FIELD_SWITCH,
     .offset = offsetof(tr_config_provider, adaptive),
     .otherwise = "false",
     .example = "true",
     .at_reload = true,
     .text = "Find out how many of at_once the provider bears: half as many after it said that "
             "they are too many (429, 503, 529), a tenth fewer when first tokens come late, one "
             "more after each round that went well."},
    {.name = "structured",
     .type = TRI_FIELD_CHOICE,
     .offset = offsetof(tr_config_provider, structured),
     .otherwise = "auto",
     .example = "instruct",
     .at_reload = true,
     .choices = "auto|native|object|instruct",
     .text =
         "How an answer comes to follow a JSON schema: the provider sees to it (native), or the "
         "schema goes as an instruction and the answer is checked and corrected once, with the "
         "provider's JSON mode (object) or without (instruct); auto = as the catalog says."},
};
static const tri_section provider_section = {
    .fields = provider_fields,
    .count = COUNT(provider_fields),
    .item_size = sizeof(tr_config_provider),
};

static const tri_field local_fields[] = {
    {.name = "file",
     .type = TRI_FIELD_TEXT,
     .offset = offsetof(tr_config_local, file),
     .otherwise = "default",
     .example = "/models/qwen3-4b-q4_k_m.gguf",
     .text = "The model's GGUF file; `default` = the one that tools/setup installed."},
    {.name = "workers",
     .type = TRI_FIELD_NUMBER,
     .offset = offsetof(tr_config_local, workers),
     .otherwise = "1",
     .example = "2",
     .min = 0,
     .max = 64,
     .text = "Worker processes on this machine; 0 = only workers that join from others."},
    {.name = "sequences",
     .type = TRI_FIELD_NUMBER,
     .offset = offsetof(tr_config_local, sequences),
     .otherwise = "4",
     .example = "8",
     .min = 1,
     .max = 256,
     .text = "Answers that one worker writes at the same time; each takes memory for its "
             "whole context."},
    {.name = "context",
     .type = TRI_FIELD_NUMBER,
     .offset = offsetof(tr_config_local, context),
     .otherwise = "4096",
     .example = "8192",
     .min = 0,
     .max = 1U << 24,
     .text =
         "Tokens of prompt and answer together, a sequence; 0 = what the model was trained on."},
    {.name = "threads",
     .type = TRI_FIELD_NUMBER,
     .offset = offsetof(tr_config_local, threads),
     .otherwise = "0",
     .example = "4",
     .min = 0,
     .max = 1024,
     .text = "Threads of one worker; 0 = the machine's cores shared out among its workers."},
    {.name = "gpu_layers",
     .type = TRI_FIELD_NUMBER,
     .offset = offsetof(tr_config_local, gpu_layers),
     .otherwise = "0",
     .example = "99",
     .min = 0,
     .max = 9999,
     .text = "Layers to put on a GPU, where libllama was built for one."},
    {.name = "chat_template",
     .type = TRI_FIELD_TEXT,
     .offset = offsetof(tr_config_local, chat_template),
     .otherwise = "",
     .example = "chatml",
     .text = "One of libllama's chat templates (`chatml`, `llama3`, ...) in place of the model's "
             "own."},
    {.name = "idle_unload",
     .type = TRI_FIELD_TIME,
     .offset = offsetof(tr_config_local, idle_unload_ms),
     .otherwise = "10m",
     .example = "1h",
     .max = 30ULL * 24 * 3600 * 1000,
     .text = "An unused model leaves memory after this time; 0s = never."},
    {.name = "preload",
     .type = TRI_FIELD_SWITCH,
     .offset = offsetof(tr_config_local, preload),
     .otherwise = "false",
     .example = "true",
     .text = "Load it at start and not at its first request."},
    {.name = "silence",
     .type = TRI_FIELD_TIME,
     .offset = offsetof(tr_config_local, silence_ms),
     .otherwise = "10s",
     .example = "30s",
     .min = 500,
     .max = 3600ULL * 1000,
     .text = "A worker that answers no heartbeat for this time is taken for dead: it is killed and "
             "started again, and another goes on with its answers."},
    {.name = "hang",
     .type = TRI_FIELD_TIME,
     .offset = offsetof(tr_config_local, hang_ms),
     .otherwise = "2m",
     .example = "5m",
     .min = 1000,
     .max = TR_TIMEOUT_MS_max,
     .text =
         "The same for one that answers but gets on neither with loading nor with any answer; "
         "raise it for big models on slow machines. A managed server: the time without an answer "
         "to a question for its health."},
    {.name = "kind",
     .type = TRI_FIELD_CHOICE,
     .offset = offsetof(tr_config_local, kind),
     .otherwise = "worker",
     .example = "managed/mlx",
     .choices = "worker|managed/llama-server|managed/mlx|managed/transformers|managed/vllm|"
                "managed/other",
     .text =
         "Who runs the model: Troupe's own workers, or a server that you have installed and "
         "Troupe starts, watches and stops (docs/local-models.md). Of the keys above only "
         "`sequences`, `context`, `idle_unload`, `preload` and `hang` are a server's too; those "
         "below are a server's alone."},
    {.name = "model",
     .type = TRI_FIELD_TEXT,
     .offset = offsetof(tr_config_local, model),
     .otherwise = "",
     .example = "mlx-community/Qwen3-4B-4bit",
     .text = "What the server is to serve: a file or a name, as it calls it."},
    {.name = "command",
     .type = TRI_FIELD_TEXT,
     .offset = offsetof(tr_config_local, command),
     .otherwise = "",
     .example = "mlx_lm.server --model {model} --port {port} --temp 0.2",
     .text =
         "How it is started; empty = the kind's way. Words are divided by blanks, with quotes as "
         "in a shell, but no shell runs. `{model}`, `{host}`, `{port}`, `{context}`, "
         "`{sequences}` and `{cache}` (context × sequences) are replaced."},
    {.name = "health",
     .type = TRI_FIELD_TEXT,
     .offset = offsetof(tr_config_local, health),
     .otherwise = "",
     .example = "/v1/models",
     .text = "The path that answers with less than 500 when it is ready; empty = the kind's."},
    {.name = "env",
     .type = TRI_FIELD_TEXTS,
     .offset = offsetof(tr_config_local, env),
     .otherwise = "[]",
     .example = "[MY_MODELS]",
     .text = "Variables of the daemon that the server may see beside the usual ones (PATH, HOME, "
             "CUDA_*, HF_* with HF_TOKEN, proxies, ...); a name that ends in * stands for all that "
             "begin so and do not look like secrets. Providers' keys are not passed."},
    {.name = "load_limit",
     .type = TRI_FIELD_TIME,
     .offset = offsetof(tr_config_local, load_limit_ms),
     .otherwise = "30m",
     .example = "2h",
     .min = 100,
     .max = TR_TIMEOUT_MS_max,
     .text = "How long it may take to start, downloads included."},
};
static const tri_section local_section = {
    .fields = local_fields,
    .count = COUNT(local_fields),
    .item_size = sizeof(tr_config_local),
};

static const tri_field alias_fields[] = {
    {.name = "targets",
     .type = TRI_FIELD_TEXTS,
     .offset = offsetof(tr_config_alias, targets),
     .otherwise = "[]",
     .example = "[openai/gpt-4o-mini, smollm2]",
     .at_reload = true,
     .text = "The models meant, at most 8: `provider/model`, a local model's name or another "
             "alias. When one fails before its first token, the next is asked. "
             "`fast: openai/gpt-4o-mini` and `fast: [openai/gpt-4o-mini, smollm2]` are short for "
             "it."},
    {.name = "policy",
     .type = TRI_FIELD_CHOICE,
     .offset = offsetof(tr_config_alias, policy),
     .otherwise = "order",
     .example = "least_busy",
     .at_reload = true,
     .choices = "order|weight|least_busy|fastest",
     .text = "Which target is asked first: the first of the list, one by chance in proportion to "
             "`weights`, the one with the fewest running requests, or the one whose first token "
             "came soonest of late."},
    {.name = "weights",
     .type = TRI_FIELD_TEXTS,
     .offset = offsetof(tr_config_alias, weights),
     .otherwise = "[]",
     .example = "[3, 1]",
     .at_reload = true,
     .text = "For `policy: weight` a number from 0 to 1000 for each target; 0 = only when the "
             "others have failed; without it all are the same."},
};
static const tri_section alias_section = {
    .fields = alias_fields,
    .count = COUNT(alias_fields),
    .item_size = sizeof(tr_config_alias),
    .short_key = "targets",
};

#define PRICE_FIELD(key, member, other, what)                                                      \
    {                                                                                              \
        .name = key, .type = TRI_FIELD_TEXT, .offset = offsetof(tr_config_model, member),          \
        .otherwise = "", .example = other, .at_reload = true, .text = what                         \
    }

static const tri_field model_fields[] = {
    {.name = "context",
     .type = TRI_FIELD_NUMBER,
     .offset = offsetof(tr_config_model, context),
     .otherwise = "0",
     .example = "128000",
     .at_reload = true,
     .max = UINT32_MAX,
     .text = "Tokens that prompt and answer may have; 0 = as the built-in table says."},
    {.name = "output",
     .type = TRI_FIELD_NUMBER,
     .offset = offsetof(tr_config_model, output),
     .otherwise = "0",
     .example = "16384",
     .at_reload = true,
     .max = UINT32_MAX,
     .text = "Tokens that an answer may have, the same way."},
    PRICE_FIELD(
        "in", in, "0.15",
        "US dollars for a million tokens of the prompt; empty = as the built-in table says, "
        "which may be unknown, and then so is the cost."),
    PRICE_FIELD("out", out, "0.60", "The same for tokens of the answer, thoughts among them."),
    PRICE_FIELD("cached", cached, "0.075",
                "The same for tokens of the prompt that the provider had in its cache."),
};
static const tri_section model_section = {
    .fields = model_fields,
    .count = COUNT(model_fields),
    .item_size = sizeof(tr_config_model),
    .models = true,
};

static const tri_field listen_fields[] = {
    {.name = "socket",
     .type = TRI_FIELD_TEXT,
     .offset = offsetof(tr_config, socket),
     .otherwise = "default",
     .example = "ipc:///run/troupe/troupe.sock",
     .text = "`ipc://PATH` of the clients' socket; `default` = troupe.sock in "
             "`$XDG_RUNTIME_DIR/troupe`, "
             "as root `/run/troupe`, else `/tmp/troupe-UID`; `off` = none."},
    {.name = "tcp",
     .type = TRI_FIELD_TEXT,
     .offset = offsetof(tr_config, tcp),
     .otherwise = "",
     .example = "tls+tcp://0.0.0.0:7450",
     .text =
         "`tls+tcp://HOST:PORT` or `tcp://HOST:PORT` for clients and workers of other machines; "
         "needs token_file."},
    {.name = "token_file",
     .type = TRI_FIELD_TEXT,
     .offset = offsetof(tr_config, token_file),
     .otherwise = "",
     .example = "/etc/troupe/token",
     .text =
         "A file (mode 0600) with the secret that tcp clients and workers must present, 16 to 256 "
         "bytes."},
    {.name = "cert_file",
     .type = TRI_FIELD_TEXT,
     .offset = offsetof(tr_config, cert_file),
     .otherwise = "",
     .example = "/etc/troupe/cert.pem",
     .text = "A PEM file with certificate and key, for tls+tcp."},
};
static const tri_section listen_section = {.fields = listen_fields, .count = COUNT(listen_fields)};

#define TIME_FIELD(key, member, value, other, what)                                                \
    {                                                                                              \
        .name = key, .type = TRI_FIELD_TIME, .offset = offsetof(tr_config, member),                \
        .otherwise = value, .example = other, .min = 1, .max = TR_TIMEOUT_MS_max,                  \
        .at_reload = true, .text = what                                                            \
    }

static const tri_field time_fields[] = {
    TIME_FIELD("connect", connect_ms, "5s", "1500ms", "To connect to a provider."),
    TIME_FIELD("first_token", first_token_ms, "120s", "5m",
               "From the grant (when a place is free) to the first token."),
    TIME_FIELD("idle", idle_ms, "60s", "30s", "Between two tokens, while the client reads."),
    TIME_FIELD("total", total_ms, "600s", "1h", "For the whole request."),
    TIME_FIELD("stalled", stalled_ms, "120s", "90s", "For a client that does not read its stream."),
    TIME_FIELD(
        "pause", pause_ms, "1s", "5s",
        "A stream that is not read for this long gives its place at a local model to others until "
        "it is read again."),
};
static const tri_section time_section = {.fields = time_fields, .count = COUNT(time_fields)};

static const tri_field log_fields[] = {
    {.name = "format",
     .type = TRI_FIELD_CHOICE,
     .offset = offsetof(tr_config, log_format),
     .otherwise = "logfmt",
     .example = "json",
     .at_reload = true,
     .choices = "logfmt|json",
     .text = "How lines look, on standard error."},
    {.name = "level",
     .type = TRI_FIELD_CHOICE,
     .offset = offsetof(tr_config, log_level),
     .otherwise = "info",
     .example = "debug",
     .at_reload = true,
     .choices = "error|warn|info|debug",
     .text = "What is logged; `troupe log-level` changes it at run time."},
};
static const tri_section log_section = {.fields = log_fields, .count = COUNT(log_fields)};

static const tri_field root_fields[] = {
    {.name = "listen",
     .type = TRI_FIELD_SECTION,
     .inner = &listen_section,
     .text = "Where clients come in."},
    {.name = "default_model",
     .type = TRI_FIELD_TEXT,
     .offset = offsetof(tr_config, default_model),
     .otherwise = "",
     .example = "smollm2-135m",
     .at_reload = true,
     .text = "For requests that name none; empty = the first local model."},
    {.name = "local",
     .type = TRI_FIELD_ENTRIES,
     .offset = offsetof(tr_config, locals),
     .inner = &local_section,
     .text =
         "Models that run on this machine, by the name you choose. Without this section there is "
         "one, `smollm2-135m`, with these defaults."},
    {.name = "providers",
     .type = TRI_FIELD_ENTRIES,
     .offset = offsetof(tr_config, providers),
     .inner = &provider_section,
     .text = "Providers by name. Those of the catalog work without being listed."},
    {.name = "aliases",
     .type = TRI_FIELD_ENTRIES,
     .offset = offsetof(tr_config, aliases),
     .inner = &alias_section,
     .text = "Short names for models, or for several of which one serves."},
    {.name = "models",
     .type = TRI_FIELD_ENTRIES,
     .offset = offsetof(tr_config, models),
     .inner = &model_section,
     .text = "Context windows and prices of providers' models, by `provider/model`, where the "
             "built-in table knows none or others; `provider/*` = all of that provider's models "
             "that are not listed themselves."},
    {.name = "attempts",
     .type = TRI_FIELD_NUMBER,
     .offset = offsetof(tr_config, attempts),
     .otherwise = "3",
     .example = "1",
     .at_reload = true,
     .min = 1,
     .max = TR_ATTEMPTS_max,
     .text = "How often a request that does not say otherwise is tried, over all targets of an "
             "alias, while nothing of the answer has come; 1 = once."},
    {.name = "timeouts",
     .type = TRI_FIELD_SECTION,
     .inner = &time_section,
     .text = "Limits of a request that brings none of its own."},
    {.name = "drain",
     .type = TRI_FIELD_TIME,
     .offset = offsetof(tr_config, drain_ms),
     .otherwise = "30s",
     .example = "5m",
     .at_reload = true,
     .max = 3600ULL * 1000,
     .text = "How long running requests may go on after SIGTERM or `troupe stop`."},
    {.name = "log", .type = TRI_FIELD_SECTION, .inner = &log_section, .text = "Logging."},
    {.name = "shards",
     .type = TRI_FIELD_NUMBER,
     .offset = offsetof(tr_config, shards),
     .otherwise = "0",
     .example = "2",
     .max = TR_SHARDS_max,
     .text = "Threads that run actors; 0 = one a core, at most 4."},
    {.name = "mailbox",
     .type = TRI_FIELD_CHOICE,
     .offset = offsetof(tr_config, mailbox),
     .otherwise = "direct",
     .example = "inproc",
     .choices = "direct|inproc",
     .text =
         "How messages travel between actors: `direct` hand-off, or all through NNG inproc sockets "
         "(slower; proves that nothing depends on shared memory)."},
};
const tri_section tri_config_root = {.fields = root_fields, .count = COUNT(root_fields)};

static const struct {
    const char *unit;
    uint64_t ms;
} units[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

bool tri_time_parse(const char *text, uint64_t *ret_ms) {
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    char *end;
    unsigned long long number = strtoull(text, &end, 10);
    for (size_t i = 0; i < COUNT(units); i++) {
        if (strcmp(end, units[i].unit) == 0 && number <= UINT64_MAX / 3600000) {
            *ret_ms = number * units[i].ms;
            return true;
        }
    }
    return false;
}

void tri_time_format(uint64_t ms, char *buf, size_t size) {
    for (size_t i = 0; i < COUNT(units); i++) {
        if (ms % units[i].ms == 0 && (ms > 0 || units[i].ms == 1000)) {
            snprintf(buf, size, "%" PRIu64 "%s", ms / units[i].ms, units[i].unit);
            return;
        }
    }
}
