/*
 * troupe-bench: runs one workload and prints one JSON line with its parameters and per_second.
 * Exit status: 0 fine, 1 it failed, 2 wrong usage.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench/bench.h"

static const tri_workload *const workloads[] = {&tri_bench_ring, &tri_bench_pingpong,
                                                &tri_bench_fanin, &tri_bench_spawn, &tri_bench_ipc};
#define WORKLOADS (sizeof workloads / sizeof workloads[0])

static int usage(void) {
    fputs("usage: troupe-bench WORKLOAD [--OPTION NUMBER]... [--mailbox direct|inproc]\n"
          "                             ipc also: [--socket URL] of a running daemon\n\n",
          stderr);
    for (size_t i = 0; i < WORKLOADS; i++) {
        fprintf(stderr, "  %-9s", workloads[i]->name);
        for (const tri_option *o = workloads[i]->options; o->name != NULL; o++) {
            fprintf(stderr, " --%s %" PRIu64, o->name, o->value);
        }
        fputs("\n", stderr);
    }
    return 2;
}

static bool number_of(const char *text, uint64_t *ret) {
    char *end;
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    *ret = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

/* One --name value pair. */
static bool set_option(const tri_workload *workload, tri_run *run, const char *name,
                       const char *value) {
    if (strcmp(name, "mailbox") == 0) {
        bool inproc = strcmp(value, "inproc") == 0;
        run->mailbox = inproc ? TR_MAILBOX_INPROC : TR_MAILBOX_DIRECT;
        return inproc || strcmp(value, "direct") == 0;
    }
    if (strcmp(name, "socket") == 0) {
        run->socket = value;
        return workload == &tri_bench_ipc;
    }
    for (size_t i = 0; workload->options[i].name != NULL; i++) {
        const tri_option *option = &workload->options[i];
        if (strcmp(option->name, name) == 0) {
            return number_of(value, &run->values[i]) && run->values[i] >= option->min &&
                   run->values[i] <= option->max;
        }
    }
    return false;
}

int main(int argc, char **argv) {
    const tri_workload *workload = NULL;
    for (size_t i = 0; argc > 1 && i < WORKLOADS; i++) {
        if (strcmp(workloads[i]->name, argv[1]) == 0) {
            workload = workloads[i];
        }
    }
    if (workload == NULL) {
        return usage();
    }
    tri_run run = {.mailbox = TR_MAILBOX_DIRECT};
    for (size_t i = 0; workload->options[i].name != NULL; i++) {
        run.values[i] = workload->options[i].value;
    }
    for (int i = 2; i < argc; i += 2) {
        if (strncmp(argv[i], "--", 2) != 0 || i + 1 >= argc ||
            !set_option(workload, &run, argv[i] + 2, argv[i + 1])) {
            fprintf(stderr, "troupe-bench: %s %s: not an option of %s, or out of its range\n",
                    argv[i], i + 1 < argc ? argv[i + 1] : "", workload->name);
            return usage();
        }
    }
    tri_result result;
    tr_err err = workload->run(&run, &result);
    if (err != TR_OK) {
        fprintf(stderr, "troupe-bench: %s: %s\n", workload->name, tr_err_text(err));
        return 1;
    }
    printf("{\"workload\": \"%s\"", workload->name);
    for (size_t i = 0; workload->options[i].name != NULL; i++) {
        printf(", \"%s\": %" PRIu64, workload->options[i].name, run.values[i]);
    }
    printf(", \"mailbox\": \"%s\", \"counts\": \"%s\", \"seconds\": %.6f, \"per_second\": %.0f}\n",
           run.mailbox == TR_MAILBOX_INPROC ? "inproc" : "direct", workload->counts, result.seconds,
           (double)result.count / result.seconds);
    return 0;
}
