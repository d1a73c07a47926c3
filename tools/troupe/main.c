/*
 * The `troupe` program: one table of commands, one table of options. The answer alone goes to
 * standard output, everything else to standard error, and the exit status says what kind of trouble
 * there was, so that scripts need not read sentences.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/limits.h"
#include "tools/troupe/commands.h"
#include "tools/troupe/limit.h"

#define CONNECTING " socket token-file ca-file json quiet"
#define ASKING                                                                                     \
    "model provider base-url system temperature top-p max-tokens seed stop grammar schema tools "  \
    "tool-choice image extra "                                                                     \
    "effort timeout connect-timeout first-token-timeout idle-timeout retries hedge"

const tri_command tri_commands[] = {
    {"ask", "[PROMPT...]",
     "ask a model and stream its answer; - stands for standard input, and so does no prompt",
     ASKING " no-stream show-request verbose" CONNECTING, tri_cmd_ask},
    {"gather", "PROMPT...", "ask several prompts at once; each argument is one prompt",
     ASKING " at-once stream" CONNECTING, tri_cmd_gather},
    {"embed", "TEXT...", "embeddings, one JSON array a line",
     "model provider base-url timeout retries" CONNECTING, tri_cmd_embed},
    {"tokens", "[PROMPT...]", "count a prompt's tokens; - as for ask",
     "model provider base-url system image timeout" CONNECTING, tri_cmd_tokens},
    {"models", "[PROVIDER]",
     "the models there are, here (local) or at a provider, and which are loaded", CONNECTING,
     tri_cmd_models},
    {"load", "MODEL", "load a model now: a local one, or at ollama or lmstudio", CONNECTING,
     tri_cmd_load},
    {"unload", "MODEL",
     "let a model go; a local one when its running answers are done; of a cloud provider, close "
     "idle connections",
     CONNECTING, tri_cmd_unload},
    {"tree", "", "the supervision tree, again each second; --once prints it once",
     "once" CONNECTING, tri_cmd_tree},
    {"requests", "", "the requests that run now", CONNECTING, tri_cmd_requests},
    {"cancel", "ID", "cancel a request that `troupe requests` lists", CONNECTING, tri_cmd_cancel},
    {"key", "set|add|rm|list|check [PROVIDER] [N]",
     "keys of providers: store the one on standard input, add it, remove one (or all), list, check",
     "force" CONNECTING, tri_cmd_key},
    {"start", "", "start the daemon in the background", "config quiet", tri_cmd_start},
    {"stop", "", "let running requests finish and end the daemon", CONNECTING, tri_cmd_stop},
    {"status", "", "version, sockets, models, and the provider keys that the daemon sees",
     CONNECTING, tri_cmd_status},
    {"limit", "[PROVIDER]", "how much of a provider may be used, or change it; alone: of each",
     "rpm tpm burst at-once adaptive" CONNECTING, tri_cmd_limit},
    {"log-level", "error|warn|info|debug", "change what the daemon logs", CONNECTING,
     tri_cmd_log_level},
    {"version", "", "the versions of this program and of the daemon", CONNECTING, tri_cmd_version},
    {"completion", "bash|zsh|fish", "print a completion script for a shell", "",
     tri_cmd_completion},
    {"help", "[COMMAND]", "this text, or a command's options", "", tri_cmd_help},
};
const size_t tri_command_count = sizeof tri_commands / sizeof *tri_commands;

enum {
    BASE_URL = 256,
    SYSTEM,
    TEMPERATURE,
    TOP_P,
    MAX_TOKENS,
    SEED,
    STOP,
    GRAMMAR,
    SCHEMA,
    TOOLS,
    TOOL_CHOICE,
    IMAGE,
    EXTRA,
    NO_STREAM,
    SHOW_REQUEST,
    STREAM,
    EFFORT,
    TIMEOUT,
    CONNECT_TIMEOUT,
    FIRST_TOKEN_TIMEOUT,
    IDLE_TIMEOUT,
    RETRIES,
    HEDGE,
    AT_ONCE,
    RPM,
    TPM,
    BURST,
    ADAPTIVE,
    JSON,
    SOCKET,
    TOKEN_FILE,
    CA_FILE,
    CONFIG,
    ONCE,
    FORCE,
    PROVIDER
};

#define WITH required_argument
#define RATE_WANTED "a whole number from 0 to 1000000000"
#define TIME_WANTED "a time from 1ms to 24h, such as 500ms, 30s or 5m"
const tri_option tri_options_known[] = {
    {{"model", WITH, NULL, 'm'}, "MODEL", "provider/model, an alias, or a local model", NULL},
    {{"provider", WITH, NULL, PROVIDER}, "NAME", "the provider, when MODEL does not say it", NULL},
    {{"base-url", WITH, NULL, BASE_URL},
     "URL",
     "a server without configuration: openai-compatible, or of --provider responses-compatible, "
     "vllm, lmstudio or ollama",
     NULL},
    {{"system", WITH, NULL, SYSTEM}, "TEXT", "the system prompt", NULL},
    {{"temperature", WITH, NULL, TEMPERATURE},
     "T",
     "0 = always the likeliest token",
     "a number from 0 to 100"},
    {{"top-p", WITH, NULL, TOP_P}, "P", "nucleus sampling", "a number from 0 to 1"},
    {{"max-tokens", WITH, NULL, MAX_TOKENS},
     "N",
     "the answer's length at most",
     "a whole number from 1 to 2147483647"},
    {{"seed", WITH, NULL, SEED},
     "N",
     "the same seed gives the same answer",
     "a whole number of 0 or more"},
    {{"stop", WITH, NULL, STOP},
     "TEXT",
     "end before this text; may be repeated",
     "a text of 1 to 256 bytes, and may be given 16 times"},
    {{"grammar", WITH, NULL, GRAMMAR}, "FILE", "a GBNF grammar (local models)", NULL},
    {{"schema", WITH, NULL, SCHEMA}, "FILE", "the answer's JSON schema", NULL},
    {{"tools", WITH, NULL, TOOLS}, "FILE", "a JSON array of tools, in OpenAI's form", NULL},
    {{"tool-choice", WITH, NULL, TOOL_CHOICE},
     "NAME",
     "auto, none, required, or the tool that must be called",
     NULL},
    {{"image", WITH, NULL, IMAGE},
     "FILE",
     "an image beside the prompt: PNG, JPEG, GIF or WebP, or its URL; may be repeated",
     "a file or a URL, and may be given 16 times"},
    {{"effort", WITH, NULL, EFFORT},
     "WORD",
     "how much a reasoning model thinks: none, minimal, low, medium, high",
     NULL},
    {{"extra", WITH, NULL, EXTRA}, "JSON", "more fields for the provider, as an object", NULL},
    {{"no-stream", no_argument, NULL, NO_STREAM}, NULL, "print the answer when it is whole", NULL},
    {{"show-request", no_argument, NULL, SHOW_REQUEST},
     NULL,
     "send nothing; print what the provider would get, without the key, or a local model's prompt",
     NULL},
    {{"verbose", no_argument, NULL, 'v'},
     NULL,
     "afterwards, on standard error: who answered, tokens, cost, times",
     NULL},
    {{"stream", no_argument, NULL, STREAM},
     NULL,
     "a line of JSON for each answer as soon as it is whole, in any order",
     NULL},
    {{"timeout", WITH, NULL, TIMEOUT},
     "TIME",
     "500ms, 30s or 5m, for the whole request",
     TIME_WANTED},
    {{"connect-timeout", WITH, NULL, CONNECT_TIMEOUT},
     "TIME",
     "to connect to the provider",
     TIME_WANTED},
    {{"first-token-timeout", WITH, NULL, FIRST_TOKEN_TIMEOUT},
     "TIME",
     "until the answer begins",
     TIME_WANTED},
    {{"idle-timeout", WITH, NULL, IDLE_TIMEOUT}, "TIME", "between two tokens", TIME_WANTED},
    {{"retries", WITH, NULL, RETRIES},
     "N",
     "more attempts before the first token; otherwise as configured",
     "a whole number from 0 to 19"},
    {{"hedge", no_argument, NULL, HEDGE},
     NULL,
     "ask a second time when the first token is late",
     NULL},
    {{"at-once", WITH, NULL, AT_ONCE},
     "N",
     "at most so many in flight",
     "a whole number from 1 to 4096"},
    {{"rpm", WITH, NULL, RPM}, "N", "requests a minute; 0 = no limit", RATE_WANTED},
    {{"tpm", WITH, NULL, TPM}, "N", "tokens a minute; 0 = no limit", RATE_WANTED},
    {{"burst", WITH, NULL, BURST},
     "N",
     "of --rpm so many at once; 0 = what a second brings",
     "a whole number from 0 to 65536"},
    {{"adaptive", WITH, NULL, ADAPTIVE},
     "on|off",
     "fewer at once while the provider shows that they are too many",
     "on or off"},
    {{"once", no_argument, NULL, ONCE}, NULL, "print once and end", NULL},
    {{"force", no_argument, NULL, FORCE},
     NULL,
     "store the key also of a provider that the daemon does not know",
     NULL},
    {{"config", WITH, NULL, CONFIG}, "FILE", "the daemon's configuration", NULL},
    {{"socket", WITH, NULL, SOCKET}, "URL", "the daemon's ipc://, tcp:// or tls+tcp:// URL", NULL},
    {{"token-file", WITH, NULL, TOKEN_FILE}, "FILE", "the secret of a tcp daemon", NULL},
    {{"ca-file", WITH, NULL, CA_FILE}, "FILE", "the certificates to trust, for tls+tcp", NULL},
    {{"json", no_argument, NULL, JSON}, NULL, "JSON on standard output, an object a line", NULL},
    {{"quiet", no_argument, NULL, 'q'}, NULL, "nothing on standard error but errors", NULL},
    {{"help", no_argument, NULL, 'h'}, NULL, "the command's options", NULL},
};
#define OPTION_COUNT (sizeof tri_options_known / sizeof *tri_options_known)
const size_t tri_option_count = OPTION_COUNT;

/* Whether `name` is one of the blank-separated words in `list`. */
static bool listed(const char *list, const char *name) {
    size_t size = strlen(name);
    for (const char *at = strstr(list, name); at != NULL; at = strstr(at + 1, name)) {
        if ((at == list || at[-1] == ' ') && (at[size] == ' ' || at[size] == '\0')) {
            return true;
        }
    }
    return false;
}

bool tri_takes(const tri_command *command, const tri_option *option) {
    return option->option.val == 'h' || listed(command->options, option->option.name);
}

static const tri_command *find_command(const char *name) {
    for (size_t i = 0; i < tri_command_count; i++) {
        if (strcmp(tri_commands[i].name, name) == 0) {
            return &tri_commands[i];
        }
    }
    return NULL;
}

static void print_command(FILE *out, const tri_command *command) {
    fprintf(out, "usage: troupe %s%s%s\n  %s\n", command->name,
            command->synopsis[0] != '\0' ? " " : "", command->synopsis, command->text);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const tri_option *option = &tri_options_known[i];
        if (tri_takes(command, option)) {
            char name[64];
            snprintf(name, sizeof name, "%s--%s %s",
                     option->option.val == 'm'   ? "-m, "
                     : option->option.val == 'q' ? "-q, "
                     : option->option.val == 'v' ? "-v, "
                     : option->option.val == 'h' ? "-h, "
                                                 : "    ",
                     option->option.name, option->value != NULL ? option->value : "");
            fprintf(out, "  %-26s %s\n", name, option->text);
        }
    }
}

static void print_all(FILE *out) {
    fputs("usage: troupe COMMAND [OPTION...] [ARGUMENT...]\n", out);
    for (size_t i = 0; i < tri_command_count; i++) {
        fprintf(out, "  %-10s %-22s %s\n", tri_commands[i].name, tri_commands[i].synopsis,
                tri_commands[i].text);
    }
    fputs(
        "`troupe help COMMAND` lists a command's options.\n"
        "Exit status: 0 answered, 1 failed, 2 wrong usage, configuration or request, 3 no daemon, "
        "4 key or token,\n5 rate limit or quota, 6 time-out (stop: it still drains), 7 the answer "
        "was cut short, "
        "130 interrupted.\n",
        out);
}

int tri_cmd_help(const tri_args *args) {
    if (args->rest_count == 0) {
        print_all(stdout);
        return TRI_EXIT_OK;
    }
    const tri_command *command = find_command(args->rest[0]);
    if (command == NULL) {
        return tri_usage(NULL, "there is no command \"%s\"", args->rest[0]);
    }
    print_command(stdout, command);
    return TRI_EXIT_OK;
}

static bool parse_time(const char *text, uint32_t *ret_ms) {
    char *end;
    double number = strtod(text, &end);
    double unit = strcmp(end, "ms") == 0                  ? 1
                  : strcmp(end, "s") == 0 || *end == '\0' ? 1000
                  : strcmp(end, "m") == 0                 ? 60000
                  : strcmp(end, "h") == 0                 ? 3600000
                                                          : 0;
    if (end == text || unit == 0 || !(number * unit >= 1) || number * unit > TR_TIMEOUT_MS_max) {
        return false;
    }
    *ret_ms = (uint32_t)(number * unit);
    return true;
}

static bool parse_number(const char *text, int64_t min, int64_t max, int64_t *ret) {
    char *end;
    long long number = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || number < min || number > max) {
        return false;
    }
    *ret = number;
    return true;
}

static bool parse_real(const char *text, double max, double *ret) {
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !(number >= 0) || number > max) {
        return false;
    }
    *ret = number;
    return true;
}

static bool set_number(tri_args *args, int option, const char *text) {
    int64_t number;
    switch (option) {
    case TEMPERATURE:
        return parse_real(text, 100, &args->temperature);
    case TOP_P:
        return parse_real(text, 1, &args->top_p);
    case TIMEOUT:
        return parse_time(text, &args->timeout_ms);
    case CONNECT_TIMEOUT:
        return parse_time(text, &args->connect_ms);
    case FIRST_TOKEN_TIMEOUT:
        return parse_time(text, &args->first_token_ms);
    case IDLE_TIMEOUT:
        return parse_time(text, &args->idle_ms);
    case SEED:
        return parse_number(text, 0, INT64_MAX, &args->seed);
    case RETRIES:
        if (!parse_number(text, 0, TR_ATTEMPTS_max - 1, &number)) {
            return false;
        }
        args->retries = (uint32_t)number;
        return true;
    case RPM:
        return parse_number(text, 0, TR_RATE_max, &args->rpm);
    case TPM:
        return parse_number(text, 0, TR_RATE_max, &args->tpm);
    case BURST:
        return parse_number(text, 0, TR_REQUESTS_max, &args->burst);
    case ADAPTIVE:
        args->adaptive = strcmp(text, "on") == 0 ? 1 : 0;
        return args->adaptive == 1 || strcmp(text, "off") == 0;
    case MAX_TOKENS:
        if (!parse_number(text, 1, INT32_MAX, &number)) {
            return false;
        }
        args->max_tokens = (uint32_t)number;
        return true;
    default:
        if (!parse_number(text, 1, TR_STREAMS_PER_CLIENT_max, &number)) {
            return false;
        }
        args->at_once = (uint32_t)number;
        return true;
    }
}

/* Where an option's text goes; NULL when it is more than that. */
static const char **text_of(tri_args *args, int option) {
    switch (option) {
    case 'm':
        return &args->model;
    case PROVIDER:
        return &args->provider;
    case BASE_URL:
        return &args->base_url;
    case SYSTEM:
        return &args->system;
    case GRAMMAR:
        return &args->grammar_file;
    case SCHEMA:
        return &args->schema_file;
    case TOOLS:
        return &args->tools_file;
    case TOOL_CHOICE:
        return &args->tool_choice;
    case EFFORT:
        return &args->effort;
    case EXTRA:
        return &args->extra;
    case SOCKET:
        return &args->socket;
    case TOKEN_FILE:
        return &args->token_file;
    case CA_FILE:
        return &args->ca_file;
    case CONFIG:
        return &args->config;
    default:
        return NULL;
    }
}

/* What an option without a value turns on; NULL when it has one. */
static bool *switch_of(tri_args *args, int option) {
    switch (option) {
    case 'q':
        return &args->quiet;
    case 'v':
        return &args->verbose;
    case HEDGE:
        return &args->hedge;
    case NO_STREAM:
        return &args->no_stream;
    case SHOW_REQUEST:
        return &args->show;
    case STREAM:
        return &args->stream;
    case JSON:
        return &args->json;
    case ONCE:
        return &args->once;
    case FORCE:
        return &args->force;
    default:
        return NULL;
    }
}

/* False when the value is wrong. */
static bool set_option(tri_args *args, int option, const char *value) {
    const char **text = text_of(args, option);
    bool *on = switch_of(args, option);
    if (text != NULL) {
        *text = value;
        return true;
    }
    if (on != NULL) {
        *on = true;
        return true;
    }
    switch (option) {
    case IMAGE:
        if (args->image_count == TRI_IMAGES_max || value[0] == '\0') {
            return false;
        }
        args->images[args->image_count++] = value;
        return true;
    case STOP:
        if (args->stop_count == sizeof args->stops / sizeof *args->stops || value[0] == '\0' ||
            strlen(value) > TR_STOP_TEXT_max) {
            return false;
        }
        args->stops[args->stop_count++] = value;
        return true;
    default:
        return set_number(args, option, value);
    }
}

static const tri_option *option_of(int val) {
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (tri_options_known[i].option.val == val) {
            return &tri_options_known[i];
        }
    }
    return NULL;
}

/* What the command takes, as getopt_long wants it told. */
static void list_options(const tri_command *command, struct option *known, char *letters) {
    *letters++ = ':'; /* a value that is missing gives ':' and not '?' */
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option *option = &tri_options_known[i].option;
        if (!tri_takes(command, &tri_options_known[i])) {
            continue;
        }
        *known++ = *option;
        if (option->val < 256) {
            *letters++ = (char)option->val;
            *letters = ':';
            letters += option->has_arg == required_argument;
        }
    }
    *letters = '\0';
}

/* -1: the options are fine; else the exit status. */
static int read_options(const tri_command *command, int argc, char **argv, tri_args *args) {
    struct option known[OPTION_COUNT + 1] = {{0}};
    char letters[16];
    list_options(command, known, letters);
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, letters, known, NULL)) != -1;) {
        if (option == 'h') {
            print_command(stdout, command);
            return TRI_EXIT_OK;
        }
        if (option == ':') {
            return tri_usage(command->name, "%s: its value is missing", argv[optind - 1]);
        }
        if (option == '?' && optopt > 0 && optopt < 256) {
            return tri_usage(command->name, "-%c: %s takes no such option", optopt, command->name);
        }
        if (option == '?') {
            return tri_usage(command->name, "%s: %s takes no such option", argv[optind - 1],
                             command->name);
        }
        if (!set_option(args, option, optarg)) {
            const tri_option *wrong = option_of(option);
            return tri_usage(command->name, "--%s \"%s\": it takes %s", wrong->option.name, optarg,
                             wrong->wants);
        }
    }
    return -1;
}

static int run(const tri_command *command, int argc, char **argv) {
    tri_args args = {.temperature = NAN,
                     .top_p = NAN,
                     .seed = -1,
                     .rpm = -1,
                     .tpm = -1,
                     .burst = -1,
                     .adaptive = -1,
                     .retries = TR_RETRIES_DEFAULT};
    int status = read_options(command, argc, argv, &args);
    if (status >= 0) {
        return status;
    }
    args.rest = argv + optind;
    args.rest_count = argc - optind;
    if (command->synopsis[0] == '\0' && args.rest_count > 0) {
        return tri_usage(command->name, "\"%s\": nothing can stand here", args.rest[0]);
    }
    return command->run(&args);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_all(stderr);
        return TRI_EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "-h") == 0 || strcmp(name, "--help") == 0) {
        name = "help";
    } else if (strcmp(name, "--version") == 0) {
        name = "version";
    }
    const tri_command *command = find_command(name);
    if (command == NULL) {
        return tri_usage(NULL,
                         name[0] == '-' ? "%s: the command comes first, then its options"
                                        : "there is no command \"%s\"",
                         name);
    }
    int status = run(command, argc - 1, argv + 1);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == TRI_EXIT_OK) {
        fputs("troupe: standard output cannot be written\n", stderr);
        return TRI_EXIT_FAILED;
    }
    return status;
}
