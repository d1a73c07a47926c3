/*
 * troupe-mock: a server for tests that speaks several providers' APIs, answers as it is told and
 * fails as it is told. Reads its options and serves.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tools/mock/server.h"

static void help(FILE *out) {
    fprintf(out,
            "usage: troupe-mock [--port N] [--tls FILE] [--key KEY] [--plan PLAN]\n"
            "                   [--die-with-parent] [--load-time TIME] [--crash-loading] "
            "[--crash-after N]\n"
            "                   [--hang-after N] [--ignore-port] [--once FILE]\n"
            "\n"
            "Serves OpenAI's chat completions (streamed and not), embeddings and models, and\n"
            "the same of Anthropic, Gemini, OpenAI's responses, Ollama (with its lists of\n"
            "models) and LM Studio (load and unload), on 127.0.0.1, and prints where. A\n"
            "request says by its model's name what it gets: model \"mock:PLAN\", where PLAN\n"
            "is a list such as tokens=50,interval=20ms,cut=300.\n"
            "A header \"X-Mock: PLAN\" or a query \"?mock=PLAN\" does the same, --plan for all.\n"
            "\n"
            "  --port N            listen there (otherwise on any free port)\n"
            "  --tls FILE          speak TLS with the certificate and key in FILE, which is made\n"
            "                      when there is none; SSL_CERT_FILE=FILE trusts it\n"
            "  --key KEY           answer 401 to requests without this key\n"
            "  --plan PLAN         what every request begins with\n"
            "  --die-with-parent   end when the process that started this one ends\n"
            "  --load-time TIME    load like a model server: 503 to all for so long (20ms, 1s)\n"
            "  --crash-loading     end with status 3 then, with some last words\n"
            "  --crash-after N     end when the Nth request comes (die=BYTES: in its middle)\n"
            "  --hang-after N      answer nothing from the Nth request on, nor GET /health\n"
            "  --ignore-port       listen at another port than the one of --port\n"
            "  --once FILE         do the last five, and die=BYTES, only if there is no FILE,\n"
            "                      and make it: the next life of this server is a good one\n"
            "\n"
            "A plan's settings (a count, a time as 20ms or 1s, or nothing):\n");
    mock_plan_help(out);
    fprintf(out,
            "\n"
            "GET /health answers 200, or 503 while it loads, and counts as no request.\n"
            "GET /stats answers with JSON: requests, active (answers unfinished), connections,\n"
            "accepted (connections so far), completed, aborted (closed by the client in the\n"
            "middle), last_abort_us (when, on the monotonic clock), bytes (of bodies sent),\n"
            "resumed (TLS sessions that went on from an earlier one).\n"
            "GET /arrivals answers with the times at which the first 4,096 requests came, in\n"
            "microseconds of the monotonic clock. POST /reset sets all counts to 0.\n");
}

static int wrong(const char *option, const char *expected) {
    fprintf(stderr, "troupe-mock: --%s: expected %s\n", option, expected);
    return 2;
}

static bool read_count(const char *text, uint64_t *ret) {
    char *end = NULL;
    *ret = strtoul(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0';
}

/* Makes the file; false: it was there. */
static bool is_first_life(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"port", required_argument, NULL, 'p'},
                                            {"tls", required_argument, NULL, 't'},
                                            {"key", required_argument, NULL, 'k'},
                                            {"plan", required_argument, NULL, 'l'},
                                            {"die-with-parent", no_argument, NULL, 'd'},
                                            {"load-time", required_argument, NULL, 'L'},
                                            {"crash-loading", no_argument, NULL, 'C'},
                                            {"crash-after", required_argument, NULL, 'A'},
                                            {"hang-after", required_argument, NULL, 'H'},
                                            {"ignore-port", no_argument, NULL, 'I'},
                                            {"once", required_argument, NULL, 'O'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    mock_options mock = {.hang_after = MOCK_NONE, .crash_after = MOCK_NONE};
    const char *once = NULL;
    char why[200] = "";
    int option = 0;
    mock_plan_init(&mock.plan);
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        char *end = NULL;
        unsigned long port = 0;
        switch (option) {
        case 'p':
            port = strtoul(optarg, &end, 10);
            if (*optarg == '\0' || *end != '\0' || port > 65535) {
                fprintf(stderr, "troupe-mock: --port: expected a number from 0 to 65535\n");
                return 2;
            }
            mock.port = (uint16_t)port;
            break;
        case 't':
            mock.tls = optarg;
            break;
        case 'k':
            mock.key = optarg;
            break;
        case 'l':
            if (!mock_plan_read(&mock.plan, (tr_str){optarg, strlen(optarg)}, why, sizeof(why))) {
                fprintf(stderr, "troupe-mock: --plan: %s\n", why);
                return 2;
            }
            break;
        case 'L':
            if (!mock_time_read((tr_str){optarg, strlen(optarg)}, &mock.load_us)) {
                return wrong("load-time", "a time such as 20ms or 1s");
            }
            break;
        case 'A':
        case 'H':
            if (!read_count(optarg, option == 'A' ? &mock.crash_after : &mock.hang_after)) {
                return wrong(option == 'A' ? "crash-after" : "hang-after", "a number");
            }
            break;
        case 'C':
            mock.crash_loading = true;
            break;
        case 'I':
            mock.ignore_port = true;
            break;
        case 'O':
            once = optarg;
            break;
        case 'd':
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            break;
        case 'h':
            help(stdout);
            return 0;
        default:
            help(stderr);
            return 2;
        }
    }
    if (optind != argc) {
        help(stderr);
        return 2;
    }
    if (once != NULL && !is_first_life(once)) {
        mock.hang_after = mock.crash_after = MOCK_NONE;
        mock.crash_loading = mock.ignore_port = false;
        mock.lives = true;
    }
    return mock_serve(&mock);
}
