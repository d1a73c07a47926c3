/*
 * trouped, the program around libtrouped: arguments, signals, and telling whoever waits that it is
 * ready (systemd by NOTIFY_SOCKET, `troupe start` by --ready-fd). The main thread does nothing but
 * wait for signals: SIGTERM and SIGINT drain and end, SIGHUP reads the configuration again.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/trouped/config.h"
#include "tools/trouped/daemon_internal.h"

static const char usage[] =
    "usage: trouped [OPTION...]\n"
    "  --config FILE    the configuration; without it the user's or the machine's, if there is "
    "one\n"
    "  --check          read the configuration, name its first fault, start nothing\n"
    "  --print          with --check: print the effective values\n"
    "  --document       print the reference of all configuration keys (docs/config.md)\n"
    "  --worker FILE    the troupe-worker program to start for local models\n"
    "  --ready-fd N     write \"ready\" to this descriptor, or the reason why not\n"
    "  --version        print the version\n"
    "  --help           this text\n"
    "Signals: SIGTERM and SIGINT finish running requests and end, SIGHUP reads the configuration "
    "again.\n"
    "Exit status: 0 ended as asked, 1 could not start or gave up, 2 wrong usage or "
    "configuration.\n";

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

/* sd_notify(3)'s protocol is one datagram; no library is needed for it. */
static void notify(const char *state) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path == NULL || (path[0] != '/' && path[0] != '@') ||
        strlen(path) >= sizeof address.sun_path) {
        return;
    }
    size_t size = strlen(path);
    memcpy(address.sun_path, path, size);
    if (path[0] == '@') {
        address.sun_path[0] = '\0';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
        (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
                     length);
        close(fd);
    }
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

static int check(const char *config_file, bool print) {
    tr_config config;
    char why[TR_CONFIG_WHY_size];
    if (tr_config_load(config_file, &config, why) != TR_OK) {
        fprintf(stderr, "trouped: %s\n", why);
        return 2;
    }
    if (print) {
        tr_config_print(&config, stdout);
    } else {
        fprintf(stderr, "trouped: %s: fine\n",
                config_file != NULL ? config_file : "no file: defaults");
    }
    tr_config_fini(&config);
    return 0;
}

static int serve(tr_daemon_options *options, int ready_fd) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before any thread: all inherit it */
    signal(SIGPIPE, SIG_IGN);
    options->stop_requested = stop_requested;
    tr_daemon *daemon;
    int err = tr_daemon_start(options, &daemon);
    if (err != 0) {
        fprintf(stderr, "trouped: %s\n", tr_daemon_error());
        tell_ready(ready_fd, tr_daemon_error());
        return err == TR_ERR_INVALID ? 2 : 1;
    }
    notify("READY=1");
    tell_ready(ready_fd, "ready\n");
    for (;;) {
        int number = sigwaitinfo(&signals, NULL);
        if (number == SIGHUP) {
            notify("RELOADING=1");
            if (tr_daemon_reload(daemon) != 0) {
                fprintf(stderr, "trouped: the old configuration stays: %s\n", tr_daemon_error());
            }
            notify("READY=1");
        } else if (number == SIGTERM || number == SIGINT) {
            break;
        }
    }
    notify("STOPPING=1");
    bool failed = tri_daemon_gave_up(daemon); /* systemd's on-failure starts another then */
    tr_daemon_stop(daemon);
    return failed ? 1 : 0;
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
    return only_check ? check(daemon.config_file, print) : serve(&daemon, ready_fd);
}
