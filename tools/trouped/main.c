/*
 * trouped, the program around libtrouped: arguments, signals, and telling whoever waits that it is
 * ready (systemd by notify.h, `troupe start` by --ready-fd). The main thread does nothing but wait
 * for signals and feed a watchdog: SIGTERM and SIGINT drain and end, SIGHUP reads the configuration
 * again.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "protocol/json.h"
#include "tools/trouped/config.h"
#include "tools/trouped/daemon_internal.h"
#include "tools/trouped/notify.h"

static const char usage[] =
    "usage: trouped [OPTION...]\n"
    "  --config FILE    the configuration; without it the user's or the machine's, if there is "
    "one\n"
    "  --check          read the configuration, name its first fault and what is missing on this\n"
    "                   machine, start nothing\n"
    "  --print          the same, and print the effective values as YAML\n"
    "  --document       print the reference of all configuration keys (docs/config.md)\n"
    "  --worker FILE    the troupe-worker program to start for local models\n"
    "  --ready-fd N     write \"ready\" to this descriptor, or the reason why not\n"
    "  --version        print the version\n"
    "  --help           this text\n"
    "Signals: SIGTERM and SIGINT finish running requests and end, SIGHUP reads the configuration "
    "again.\n"
    "Exit status: 0 ended as asked, 1 could not start or gave up, 2 wrong usage or "
    "configuration,\n3 another daemon has its socket.\n";

/* The configuration file that is meant without --config, or NULL. */
static const char *find_config(char *buf, size_t size) {
    const char *config_home = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    if (config_home != NULL && config_home[0] == '/') {
        snprintf(buf, size, "%s/troupe/troupe.yaml", config_home);
        if (access(buf, F_OK) == 0) {
            return buf;
        }
    } else if (home != NULL && home[0] == '/') {
        snprintf(buf, size, "%s/.config/troupe/troupe.yaml", home);
        if (access(buf, F_OK) == 0) {
            return buf;
        }
    }
    snprintf(buf, size, "/etc/troupe/troupe.yaml");
    return access(buf, F_OK) == 0 ? buf : NULL;
}

static void tell_ready(int fd, const char *text) {
    if (fd >= 0) {
        (void)!write(fd, text, strlen(text));
        close(fd);
    }
}

/* Asked by a client to stop: the same as SIGTERM. */
static void stop_requested(void *arg) {
    (void)arg;
    kill(getpid(), SIGTERM);
}

static void warn(void *arg, const char *sentence) {
    (void)arg;
    fprintf(stderr, "trouped: warning: %s\n", sentence);
}

static int check(const char *config_file, bool print) {
    tr_config config;
    char why[TR_CONFIG_WHY_size];
    if (tr_config_load(config_file, &config, why) != TR_OK) {
        fprintf(stderr, "trouped: %s\n", why);
        return 2;
    }
    bool fine = tr_config_check(&config, why) == TR_OK;
    if (!fine) {
        fprintf(stderr, "trouped: %s\n", why);
    } else {
        tr_config_warn(&config, warn, NULL);
        if (print) {
            printf("# effective values; read from: %s\n",
                   config_file != NULL ? config_file : "no file, all defaults");
            tr_config_print(&config, stdout);
            fine = fflush(stdout) == 0 && ferror(stdout) == 0;
        } else {
            fprintf(stderr, "trouped: %s: fine\n",
                    config_file != NULL ? config_file : "no file: defaults");
        }
    }
    tr_config_fini(&config);
    return fine ? 0 : 2;
}

/* Waits for one of the signals and meanwhile feeds the service manager's watchdog. */
static int wait_for_signal(const sigset_t *signals, tr_daemon *daemon) {
    uint64_t ms = tri_notify_watchdog_ms();
    struct timespec tick = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    for (;;) {
        int number = ms > 0 ? sigtimedwait(signals, NULL, &tick) : sigwaitinfo(signals, NULL);
        if (number > 0) {
            return number;
        }
        if (errno == EAGAIN && tri_daemon_pulse(daemon)) {
            tri_notify("WATCHDOG=1");
        }
    }
}

/* Who started without a file may have written one since. */
static void find_late_config(tr_daemon *daemon, tr_daemon_options *options) {
    static char found[4096];
    if (options->config_file == NULL) {
        options->config_file = find_config(found, sizeof found);
        tri_daemon_set_config_file(daemon, options->config_file);
    }
}

static void reload(tr_daemon *daemon, tr_daemon_options *options) {
    tri_notify_reloading();
    find_late_config(daemon, options);
    int err = tr_daemon_reload(daemon);
    if (err != 0) {
        fprintf(stderr, "trouped: the old configuration stays: %s\n", tr_daemon_error());
    }
    tri_notify("READY=1\nSTATUS=%s%.400s", err == 0 ? "ready" : "the old configuration stays: ",
               err == 0 ? "" : tr_daemon_error());
}

/* A core would hold keys: the copies in requests under way as well as the keychains, which
 * madvise(2) keeps out by themselves. Who looks for a fault may want one all the same. */
static void forbid_cores(void) {
    const char *wanted = getenv("TROUPE_CORE_DUMPS");
    if (wanted == NULL || strcmp(wanted, "1") != 0) {
        prctl(PR_SET_DUMPABLE, 0);
    }
}

static int serve(tr_daemon_options *options, int ready_fd) {
    forbid_cores();
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before any thread: all inherit it */
    signal(SIGPIPE, SIG_IGN);
    tri_notify_init();
    options->stop_requested = stop_requested;
    tr_daemon *daemon;
    int err = tr_daemon_start(options, &daemon);
    if (err != 0) {
        fprintf(stderr, "trouped: %s\n", tr_daemon_error());
        tri_notify("STATUS=%.400s", tr_daemon_error());
        tell_ready(ready_fd, tr_daemon_error());
        return err == TR_ERR_INVALID ? 2 : err == TR_ERR_EXISTS ? 3 : 1;
    }
    tri_notify("READY=1\nSTATUS=ready");
    tell_ready(ready_fd, "ready\n");
    while (wait_for_signal(&signals, daemon) == SIGHUP) {
        reload(daemon, options);
    }
    bool failed = tri_daemon_gave_up(daemon); /* systemd's on-failure starts another then */
    /* The manager's patience must outlast the drain, and stopping the children after it. */
    tri_notify("STOPPING=1\nSTATUS=finishing running requests\nEXTEND_TIMEOUT_USEC=%" PRIu64,
               (tri_daemon_drain_ms(daemon) + 30000) * 1000);
    tr_daemon_stop(daemon);
    return failed ? 1 : 0;
}

/* A stream is a descriptor, and a shell's usual 1,024 are for programs that use select(2). */
static void allow_all_files(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

int main(int argc, char **argv) {
    enum { CONFIG = 256, CHECK, PRINT, DOCUMENT, WORKER, READY, VERSION, HELP };
    static const struct option options[] = {
        {"config", required_argument, NULL, CONFIG},
        {"check", no_argument, NULL, CHECK},
        {"print", no_argument, NULL, PRINT},
        {"document", no_argument, NULL, DOCUMENT},
        {"worker", required_argument, NULL, WORKER},
        {"ready-fd", required_argument, NULL, READY},
        {"version", no_argument, NULL, VERSION},
        {"help", no_argument, NULL, HELP},
        {NULL, 0, NULL, 0},
    };
    /* Large requests get pages of their own, and give them back when they end: left alone, glibc
     * learns from the first one to keep them (mallopt(3), M_MMAP_THRESHOLD). */
    mallopt(M_MMAP_THRESHOLD, 256 * 1024);
    allow_all_files();
    tr_json_own_hooks();
    tr_daemon_options daemon = TR_DAEMON_OPTIONS_INIT;
    bool only_check = false;
    bool print = false;
    int ready_fd = -1;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case CONFIG:
            daemon.config_file = optarg;
            break;
        case CHECK:
            only_check = true;
            break;
        case PRINT:
            print = true;
            break;
        case DOCUMENT:
            tr_config_document(stdout);
            return 0;
        case WORKER:
            daemon.worker_program = optarg;
            break;
        case READY:
            ready_fd = atoi(optarg);
            break;
        case VERSION:
            printf("trouped %s\n", TROUPE_VERSION);
            return 0;
        case HELP:
            fputs(usage, stdout);
            return 0;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "trouped: \"%s\" is no option\n%s", argv[optind], usage);
        return 2;
    }
    char found[4096];
    if (daemon.config_file == NULL) {
        daemon.config_file = find_config(found, sizeof found);
    }
    return only_check || print ? check(daemon.config_file, print) : serve(&daemon, ready_fd);
}
