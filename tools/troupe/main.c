/*
 * The `troupe` program: one table of commands, one table of options. The answer alone goes to
 * standard output, everything else to standard error, and the exit status says what kind of trouble
 * there was, so that scripts need not read sentences.
 */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/limits.h"
#include "tools/troupe/cli.h"

#define ASKING                                                                                     \
    "model provider base-url system temperature top-p max-tokens seed stop grammar schema extra "  \
    "timeout"

const tri_command tri_commands[] = {
    {"ask", "[PROMPT...]",
     "ask a model and stream its answer; the prompt may come by standard input",
     ASKING " no-stream", tri_cmd_ask},
    {"gather", "PROMPT...", "ask several prompts at once; each argument is one prompt",
     ASKING " at-once stream", tri_cmd_gather},
    {"embed", "TEXT...", "embeddings, one JSON array a line", "model provider base-url timeout",
     tri_cmd_embed},
    {"tokens", "[PROMPT...]", "count a prompt's tokens", "model provider base-url system timeout",
     tri_cmd_tokens},
    {"models", "", "which models there are and which are loaded", "", tri_cmd_models},
    {"load", "MODEL", "load a local model now", "timeout", tri_cmd_load},
    {"unload", "MODEL", "let a model go when its running answers are done", "timeout",
     tri_cmd_unload},
    {"tree", "", "the supervision tree, again each second; --once prints it once", "once",
     tri_cmd_tree},
    {"requests", "", "the requests that run now", "", tri_cmd_requests},
    {"cancel", "ID", "cancel a request that `troupe requests` lists", "", tri_cmd_cancel},
    {"start", "", "start the daemon in the background", "config", tri_cmd_start},
    {"stop", "", "let running requests finish and end the daemon", "", tri_cmd_stop},
    {"status", "", "version, sockets, models, and the provider keys that the daemon sees", "",
     tri_cmd_status},
    {"log-level", "error|warn|info|debug", "change what the daemon logs", "", tri_cmd_log_level},
    {"version", "", "the versions of this program and of the daemon", "", tri_cmd_version},
    {"completion", "bash|zsh|fish", "print a completion script for a shell", "",
     tri_cmd_completion},
    {"help", "[COMMAND]", "this text, or a command's options", "", tri_cmd_help},
};
const size_t tri_command_count = sizeof tri_commands / sizeof *tri_commands;

typedef struct cli_option {
    struct option option; /* val is the short option or above 255 */
    const char *value;
    const char *text;
    bool common;
} cli_option;

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
    EXTRA,
    NO_STREAM,
    STREAM,
    TIMEOUT,
    AT_ONCE,
    JSON,
    SOCKET,
    TOKEN_FILE,
    CA_FILE,
    CONFIG,
    ONCE,
    PROVIDER
};

static const cli_option options[] = {
    {{"model", required_argument, NULL, 'm'},
     "MODEL",
     "provider/model, an alias, or a local model",
     false},
    {{"provider", required_argument, NULL, PROVIDER},
     "NAME",
     "the provider, when MODEL does not say it",
     false},
    {{"base-url", required_argument, NULL, BASE_URL},
     "URL",
     "where the provider is, for this request",
     false},
    {{"system", required_argument, NULL, SYSTEM}, "TEXT", "the system prompt", false},
    {{"temperature", required_argument, NULL, TEMPERATURE},
     "T",
     "0 = always the likeliest token",
     false},
    {{"top-p", required_argument, NULL, TOP_P}, "P", "nucleus sampling", false},
    {{"max-tokens", required_argument, NULL, MAX_TOKENS},
     "N",
     "the answer's length at most",
     false},
    {{"seed", required_argument, NULL, SEED}, "N", "the same seed gives the same answer", false},
    {{"stop", required_argument, NULL, STOP},
     "TEXT",
     "end before this text; may be repeated",
     false},
    {{"grammar", required_argument, NULL, GRAMMAR}, "FILE", "a GBNF grammar (local models)", false},
    {{"schema", required_argument, NULL, SCHEMA}, "FILE", "the answer's JSON schema", false},
    {{"extra", required_argument, NULL, EXTRA},
     "JSON",
     "more fields for the provider, as an object",
     false},
    {{"no-stream", no_argument, NULL, NO_STREAM}, NULL, "print the answer when it is whole", false},
    {{"stream", no_argument, NULL, STREAM},
     NULL,
     "print each answer as JSON as soon as it is complete",
     false},
    {{"timeout", required_argument, NULL, TIMEOUT},
     "TIME",
     "500ms, 30s or 5m, for the whole request",
     false},
    {{"at-once", required_argument, NULL, AT_ONCE}, "N", "at most so many in flight", false},
    {{"once", no_argument, NULL, ONCE}, NULL, "print once and end", false},
    {{"config", required_argument, NULL, CONFIG}, "FILE", "the daemon's configuration", false},
    {{"socket", required_argument, NULL, SOCKET},
     "URL",
     "the daemon's ipc://, tcp:// or tls+tcp:// URL",
     true},
    {{"token-file", required_argument, NULL, TOKEN_FILE},
     "FILE",
     "the secret of a tcp daemon",
     true},
    {{"ca-file", required_argument, NULL, CA_FILE},
     "FILE",
     "the certificates to trust, for tls+tcp",
     true},
    {{"json", no_argument, NULL, JSON}, NULL, "JSON on standard output", true},
    {{"quiet", no_argument, NULL, 'q'}, NULL, "nothing on standard error but errors", true},
    {{"help", no_argument, NULL, 'h'}, NULL, "the command's options", true},
};
#define OPTION_COUNT (sizeof options / sizeof *options)

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

static bool takes(const tri_command *command, const cli_option *option) {
    return option->common || listed(command->options, option->option.name);
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
    fprintf(out, "usage: troupe %s %s\n  %s\n", command->name, command->synopsis, command->text);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const cli_option *option = &options[i];
        if (takes(command, option)) {
            char name[64];
            snprintf(name, sizeof name, "%s--%s %s",
                     option->option.val == 'm'   ? "-m, "
                     : option->option.val == 'q' ? "-q, "
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
        "Exit status: 0 answered, 1 failed, 2 wrong usage or request, 3 no daemon, 4 key or token, "
        "5 rate limit or quota,\n6 time-out, 7 the answer was cut short, 130 interrupted.\n",
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

static void complete_bash(FILE *out) {
    fputs("_troupe() {\n  local word=${COMP_WORDS[COMP_CWORD]}\n"
          "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    COMPREPLY=($(compgen -W '",
          out);
    for (size_t i = 0; i < tri_command_count; i++) {
        fprintf(out, "%s ", tri_commands[i].name);
    }
    fputs("' -- \"$word\"))\n    return\n  fi\n  case ${COMP_WORDS[1]} in\n", out);
    for (size_t i = 0; i < tri_command_count; i++) {
        fprintf(out, "    %s) COMPREPLY=($(compgen -W '", tri_commands[i].name);
        for (size_t k = 0; k < OPTION_COUNT; k++) {
            if (takes(&tri_commands[i], &options[k])) {
                fprintf(out, "--%s ", options[k].option.name);
            }
        }
        fputs("' -- \"$word\")) ;;\n", out);
    }
    fputs("  esac\n}\ncomplete -o default -F _troupe troupe\n", out);
}

/* The description, in fish's quotes. */
static void fish_text(FILE *out, const char *text) {
    fputs(" -d '", out);
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '\'' || *at == '\\') {
            fputc('\\', out);
        }
        fputc(*at, out);
    }
    fputs("'\n", out);
}

static void complete_fish(FILE *out) {
    for (size_t i = 0; i < tri_command_count; i++) {
        const tri_command *command = &tri_commands[i];
        fprintf(out, "complete -c troupe -n __fish_use_subcommand -a %s", command->name);
        fish_text(out, command->text);
        for (size_t k = 0; k < OPTION_COUNT; k++) {
            if (takes(command, &options[k])) {
                fprintf(out, "complete -c troupe -n '__fish_seen_subcommand_from %s' -l %s%s",
                        command->name, options[k].option.name,
                        options[k].value != NULL ? " -r" : "");
                fish_text(out, options[k].text);
            }
        }
    }
}

int tri_cmd_completion(const tri_args *args) {
    const char *shell = args->rest_count == 1 ? args->rest[0] : "";
    if (strcmp(shell, "bash") == 0) {
        complete_bash(stdout);
    } else if (strcmp(shell, "zsh") == 0) {
        fputs("autoload -U +X bashcompinit && bashcompinit\n", stdout);
        complete_bash(stdout);
    } else if (strcmp(shell, "fish") == 0) {
        complete_fish(stdout);
    } else {
        return tri_usage("completion", "expected bash, zsh or fish");
    }
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
    case SEED:
        return parse_number(text, 0, INT64_MAX, &args->seed);
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

/* False when the value is wrong. */
static bool set_option(tri_args *args, int option, const char *value) {
    switch (option) {
    case 'm':
        args->model = value;
        return true;
    case 'q':
        args->quiet = true;
        return true;
    case PROVIDER:
        args->provider = value;
        return true;
    case BASE_URL:
        args->base_url = value;
        return true;
    case SYSTEM:
        args->system = value;
        return true;
    case GRAMMAR:
        args->grammar_file = value;
        return true;
    case SCHEMA:
        args->schema_file = value;
        return true;
    case EXTRA:
        args->extra = value;
        return true;
    case NO_STREAM:
        args->no_stream = true;
        return true;
    case STREAM:
        args->stream = true;
        return true;
    case JSON:
        args->json = true;
        return true;
    case SOCKET:
        args->socket = value;
        return true;
    case TOKEN_FILE:
        args->token_file = value;
        return true;
    case CA_FILE:
        args->ca_file = value;
        return true;
    case CONFIG:
        args->config = value;
        return true;
    case ONCE:
        args->once = true;
        return true;
    case STOP:
        if (args->stop_count == sizeof args->stops / sizeof *args->stops) {
            return false;
        }
        args->stops[args->stop_count++] = value;
        return true;
    default:
        return set_number(args, option, value);
    }
}

static int run(const tri_command *command, int argc, char **argv) {
    struct option known[OPTION_COUNT + 1] = {{0}};
    size_t count = 0;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (takes(command, &options[i])) {
            known[count++] = options[i].option;
        }
    }
    tri_args args = {.temperature = NAN, .top_p = NAN, .seed = -1};
    opterr = 0;
    for (int option, index = 0; (option = getopt_long(argc, argv, "m:qh", known, &index)) != -1;) {
        if (option == 'h') {
            print_command(stdout, command);
            return TRI_EXIT_OK;
        }
        if (option == '?' || (option == 'm' && !listed(command->options, "model"))) {
            return tri_usage(command->name, "%s: no such option here, or its value is missing",
                             argv[optind - 1]);
        }
        if (!set_option(&args, option, optarg)) {
            return tri_usage(command->name, "--%s: \"%s\" cannot be used", known[index].name,
                             optarg);
        }
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
        return tri_usage(NULL, "there is no command \"%s\"", name);
    }
    int status = run(command, argc - 1, argv + 1);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == TRI_EXIT_OK) {
        fputs("troupe: standard output cannot be written\n", stderr);
        return TRI_EXIT_FAILED;
    }
    return status;
}
