/*
 * troupe-mock: a server for tests that speaks several providers' APIs, answers as it is told and
 * fails as it is told. Reads its options and serves.
 */
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "tools/mock/server.h"

static void help(FILE *out) {
    fprintf(out,
            "usage: troupe-mock [--port N] [--key KEY] [--plan PLAN] [--die-with-parent]\n"
            "\n"
            "Serves OpenAI's chat completions (streamed and not), embeddings and models, and\n"
            "the same of Anthropic, Gemini, OpenAI's responses, Ollama (with its lists of\n"
            "models) and LM Studio (load and unload), on 127.0.0.1, and prints where. A\n"
            "request says by its model's name what it gets: model \"mock:PLAN\", where PLAN\n"
            "is a list such as tokens=50,interval=20ms,cut=300.\n"
            "A header \"X-Mock: PLAN\" or a query \"?mock=PLAN\" does the same, --plan for all.\n"
            "\n"
            "  --port N            listen there (otherwise on any free port)\n"
            "  --key KEY           answer 401 to requests without this key\n"
            "  --plan PLAN         what every request begins with\n"
            "  --die-with-parent   end when the process that started this one ends\n"
            "\n"
            "A plan's settings (a count, a time as 20ms or 1s, or nothing):\n");
    mock_plan_help(out);
    fprintf(out,
            "\n"
            "GET /stats answers with JSON: requests, active (answers unfinished), connections,\n"
            "accepted (connections so far), completed, aborted (closed by the client in the\n"
            "middle), bytes (of bodies sent).\n"
            "POST /reset sets the counts to 0.\n");
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'}, {"key", required_argument, NULL, 'k'},
        {"plan", required_argument, NULL, 'l'}, {"die-with-parent", no_argument, NULL, 'd'},
        {"help", no_argument, NULL, 'h'},       {NULL, 0, NULL, 0}};
    mock_options mock = {0};
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
        case 'k':
            mock.key = optarg;
            break;
        case 'l':
            if (!mock_plan_read(&mock.plan, (tr_str){optarg, strlen(optarg)}, why, sizeof(why))) {
                fprintf(stderr, "troupe-mock: --plan: %s\n", why);
                return 2;
            }
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
    return mock_serve(&mock);
}
