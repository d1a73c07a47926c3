/*
 * troupe-worker: options, and then inference/worker. trouped starts it with --dial; a person starts
 * it with --join, on another machine, or with --bench. Exit status: 0 its link ended, 1 it could
 * not go on, 2 wrong usage.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inference/worker.h"
#include "protocol/limits.h"
#include "runtime/log.h"

static const char usage_text[] =
    "usage: troupe-worker --model FILE --name NAME --join tls+tcp://HOST:PORT --token-file FILE\n"
    "       troupe-worker --model FILE --bench PROMPT\n"
    "\n"
    "  --model FILE          the model, a GGUF file\n"
    "  --name NAME           the model's name in the pool that is joined\n"
    "  --join URL            joins the pool of a daemon elsewhere; tls+tcp:// or tcp://\n"
    "  --token-file FILE     holds the daemon's token\n"
    "  --ca-file FILE        PEM certificates to trust (default: the system's)\n"
    "  --sequences N         answers in parallel, 1 to 256 (4)\n"
    "  --context N           tokens a sequence, at most what the model was trained on;\n"
    "                        0 = that (4096)\n"
    "  --threads N           0 = one a processor (0)\n"
    "  --gpu-layers N        layers on a GPU; -1 = all (0)\n"
    "  --chat-template NAME  one of libllama's, in place of the model's own\n"
    "  --bench PROMPT        asks the prompt and prints one JSON line, with\n"
    "    --streams N           answers at once (1)\n"
    "    --tokens N            tokens an answer at most (64)\n"
    "    --rounds N            of which the median counts (3)\n"
    "  --log-level LEVEL     error, warn, info, debug (info)\n"
    "  --log-format FORMAT   logfmt, json (logfmt)\n"
    "  --version, --help\n"
    "\n"
    "trouped starts workers itself, with --dial URL --nonce HEX.\n";

enum {
    OPT_MODEL = 256,
    OPT_NAME,
    OPT_JOIN,
    OPT_DIAL,
    OPT_NONCE,
    OPT_TOKEN_FILE,
    OPT_CA_FILE,
    OPT_SEQUENCES,
    OPT_CONTEXT,
    OPT_THREADS,
    OPT_GPU_LAYERS,
    OPT_CHAT_TEMPLATE,
    OPT_BENCH,
    OPT_STREAMS,
    OPT_TOKENS,
    OPT_ROUNDS,
    OPT_LOG_LEVEL,
    OPT_LOG_FORMAT,
    OPT_VERSION,
    OPT_HELP,
};

static const struct option options[] = {
    {"model", required_argument, NULL, OPT_MODEL},
    {"name", required_argument, NULL, OPT_NAME},
    {"join", required_argument, NULL, OPT_JOIN},
    {"dial", required_argument, NULL, OPT_DIAL},
    {"nonce", required_argument, NULL, OPT_NONCE},
    {"token-file", required_argument, NULL, OPT_TOKEN_FILE},
    {"ca-file", required_argument, NULL, OPT_CA_FILE},
    {"sequences", required_argument, NULL, OPT_SEQUENCES},
    {"context", required_argument, NULL, OPT_CONTEXT},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"gpu-layers", required_argument, NULL, OPT_GPU_LAYERS},
    {"chat-template", required_argument, NULL, OPT_CHAT_TEMPLATE},
    {"bench", required_argument, NULL, OPT_BENCH},
    {"streams", required_argument, NULL, OPT_STREAMS},
    {"tokens", required_argument, NULL, OPT_TOKENS},
    {"rounds", required_argument, NULL, OPT_ROUNDS},
    {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
    {"log-format", required_argument, NULL, OPT_LOG_FORMAT},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

typedef struct asked {
    tr_worker_spec worker;
    tr_worker_bench bench;
    const char *token_file;
    char token[TR_TOKEN_max + 1];
    bool answered; /* --help or --version */
} asked;

static int wrong(const char *option, const char *text, const char *expected) {
    fprintf(stderr, "troupe-worker: --%s %s: expected %s\n", option, text, expected);
    return 2;
}

static int take_number(const char *option, long min, long max, long *ret) {
    char *end;
    errno = 0;
    long number = strtol(optarg, &end, 10);
    if (errno != 0 || end == optarg || *end != '\0' || number < min || number > max) {
        char expected[64];
        snprintf(expected, sizeof expected, "a number from %ld to %ld", min, max);
        return wrong(option, optarg, expected);
    }
    *ret = number;
    return 0;
}

static int take_uint(const char *option, long min, long max, uint32_t *ret) {
    long number = 0;
    int status = take_number(option, min, max, &number);
    *ret = (uint32_t)number;
    return status;
}

static int take_nonce(asked *a) {
    char *end;
    errno = 0;
    a->worker.nonce = strtoull(optarg, &end, 16);
    return errno != 0 || end == optarg || *end != '\0' || a->worker.nonce == 0
               ? wrong("nonce", optarg, "a hexadecimal number that is not 0")
               : 0;
}

static int take_level(void) {
    tr_log_level level;
    if (!tr_log_level_parse(optarg, &level)) {
        return wrong("log-level", optarg, "error, warn, info or debug");
    }
    tr_log_set_level(level);
    return 0;
}

static int take_format(void) {
    bool json = strcmp(optarg, "json") == 0;
    if (!json && strcmp(optarg, "logfmt") != 0) {
        return wrong("log-format", optarg, "logfmt or json");
    }
    tr_log_set(json ? TR_LOG_JSON : TR_LOG_LOGFMT, tr_log_level_now(), STDERR_FILENO);
    return 0;
}

static int take_option(asked *a, int option, const char *name) {
    tr_worker_spec *w = &a->worker;
    long layers = 0;
    int status = 0;
    switch (option) {
    case OPT_MODEL:
        w->model_file = optarg;
        return 0;
    case OPT_NAME:
        w->model_name = optarg;
        return strlen(optarg) <= TR_NAME_max ? 0 : wrong(name, optarg, "a shorter name");
    case OPT_JOIN:
    case OPT_DIAL:
        w->url = optarg;
        w->joins = option == OPT_JOIN;
        return 0;
    case OPT_NONCE:
        return take_nonce(a);
    case OPT_TOKEN_FILE:
        a->token_file = optarg;
        return 0;
    case OPT_CA_FILE:
        w->ca_file = optarg;
        return 0;
    case OPT_SEQUENCES:
        return take_uint(name, 1, TR_ENGINE_SEQUENCES_max, &w->sequences);
    case OPT_CONTEXT:
        return take_uint(name, 0, 1 << 24, &w->context);
    case OPT_THREADS:
        return take_uint(name, 0, 1024, &w->threads);
    case OPT_GPU_LAYERS:
        status = take_number(name, -1, 100000, &layers);
        w->gpu_layers = (int32_t)layers;
        return status;
    case OPT_CHAT_TEMPLATE:
        w->chat_template = optarg;
        return 0;
    case OPT_BENCH:
        a->bench.prompt = optarg;
        return 0;
    case OPT_STREAMS:
        return take_uint(name, 1, TR_ENGINE_REQUESTS_max, &a->bench.streams);
    case OPT_TOKENS:
        return take_uint(name, 1, 1 << 20, &a->bench.tokens);
    case OPT_ROUNDS:
        return take_uint(name, 1, 1000, &a->bench.rounds);
    case OPT_LOG_LEVEL:
        return take_level();
    case OPT_LOG_FORMAT:
        return take_format();
    case OPT_VERSION:
        printf("troupe-worker %s (libllama %s)\n", TROUPE_VERSION, tr_engine_version());
        a->answered = true;
        return 0;
    case OPT_HELP:
        fputs(usage_text, stdout);
        a->answered = true;
        return 0;
    default:
        fputs("see troupe-worker --help\n", stderr);
        return 2;
    }
}

/* The token is the file's first line. */
static int read_token(asked *a) {
    FILE *in = fopen(a->token_file, "r");
    if (in == NULL) {
        fprintf(stderr, "troupe-worker: --token-file %s: %s\n", a->token_file, strerror(errno));
        return 2;
    }
    size_t size = fread(a->token, 1, TR_TOKEN_max, in);
    fclose(in);
    a->token[size] = '\0';
    a->token[strcspn(a->token, "\r\n")] = '\0';
    if (a->token[0] == '\0') {
        fprintf(stderr, "troupe-worker: --token-file %s: it is empty\n", a->token_file);
        return 2;
    }
    return 0;
}

static int check(asked *a) {
    tr_worker_spec *w = &a->worker;
    const char *missing = NULL;
    if (w->model_file == NULL) {
        missing = "--model FILE";
    } else if (a->bench.prompt == NULL && w->url == NULL) {
        missing = "--join URL (or --bench PROMPT)";
    } else if (a->bench.prompt == NULL && w->model_name == NULL) {
        missing = "--name NAME, the model's name in the pool";
    } else if (a->bench.prompt == NULL && !w->joins && w->nonce == 0) {
        missing = "--nonce HEX";
    } else if (w->joins && a->token_file == NULL) {
        missing = "--token-file FILE";
    }
    if (missing != NULL) {
        fprintf(stderr, "troupe-worker: %s is missing; see troupe-worker --help\n", missing);
        return 2;
    }
    if (w->model_name == NULL) {
        w->model_name = "model";
    }
    if (w->ca_file == NULL) {
        w->ca_file = "/etc/ssl/certs/ca-certificates.crt";
    }
    return a->token_file != NULL ? read_token(a) : 0;
}

/* Threads that spin while they wait for each other take the processor from those that work. The
 * OpenMP library reads this before main runs, so the program starts itself again with it. */
static void wait_passively(char **argv) {
    if (getenv("OMP_WAIT_POLICY") == NULL) {
        setenv("OMP_WAIT_POLICY", "passive", 1);
        setenv("GGML_NO_BACKTRACE", "1", 1);
        execv("/proc/self/exe", argv);
        /* Without /proc it goes on as it is, only slower. */
    }
}

int main(int argc, char **argv) {
    asked a = {.worker.context = 4096, .bench = {.streams = 1, .tokens = 64, .rounds = 3}};
    int option, index = 0, status = 0;
    wait_passively(argv);
    a.worker.token = a.token;
    while (status == 0 && !a.answered &&
           (option = getopt_long(argc, argv, "", options, &index)) != -1) {
        status = take_option(&a, option, options[index].name);
    }
    if (status != 0 || a.answered) {
        return status;
    }
    if (optind < argc) {
        fprintf(stderr, "troupe-worker: %s: no such argument; see troupe-worker --help\n",
                argv[optind]);
        return 2;
    }
    status = check(&a);
    if (status != 0) {
        return status;
    }
    return a.bench.prompt != NULL ? tr_worker_bench_run(&a.worker, &a.bench)
                                  : tr_worker_run(&a.worker);
}
