/*
 * `troupe key`: the store of keys, one file a provider that the daemon reads by itself, and what
 * the daemon says of keys. A key is read from standard input, on a terminal without showing it; it
 * is never an argument, which other users could see. A file is replaced as a whole, by rename(2),
 * so that the daemon sees the old keys or the new ones. No key is ever printed. One thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "protocol/near.h"
#include "providers/key_file.h"
#include "providers/keys.h"
#include "tools/troupe/commands.h"

#define PATH_size 4096

typedef struct store {
    char folder[PATH_size];
    char file[PATH_size];
    char text[TR_KEY_FILE_max + 1]; /* what `keys` point into */
    tr_str keys[TR_KEYS_max];
    size_t count;
} store;

static int failed(const char *what, const char *path) {
    fprintf(stderr, "troupe: %s: %s: %s\n", path, what, strerror(errno));
    return TRI_EXIT_FAILED;
}

/* --- the file --- */

static int load(const char *provider, store *s) {
    tr_key_stamp stamp;
    char why[160];
    if (strlen(provider) > 48 || strpbrk(provider, " \t\n") != NULL ||
        !tr_key_store_file(tr_key_account(provider), s->file, sizeof s->file) ||
        !tr_key_store_folder(s->folder, sizeof s->folder)) {
        return tri_usage("key",
                         "\"%s\": no key can be stored under this name, or neither "
                         "XDG_CONFIG_HOME nor HOME says where",
                         provider);
    }
    tr_err err = tr_key_file_read(s->file, s->text, s->keys, TR_KEYS_max, &s->count, &stamp, why,
                                  sizeof why);
    if (err != TR_OK && err != TR_ERR_NOT_FOUND) {
        fprintf(stderr, "troupe: %s: %s\n", s->file, why);
        return TRI_EXIT_FAILED;
    }
    return TRI_EXIT_OK;
}

/* Its parents as they come, itself for this user alone. */
static int make_folder(const char *folder) {
    char path[PATH_size];
    snprintf(path, sizeof path, "%s", folder);
    for (char *at = path + 1; *at != '\0'; at++) {
        if (*at == '/') {
            *at = '\0';
            if (mkdir(path, 0700) != 0 && errno != EEXIST) {
                return failed("cannot be made", path);
            }
            *at = '/';
        }
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return failed("cannot be made", path);
    }
    return chmod(path, 0700) == 0 ? TRI_EXIT_OK : failed("cannot be closed to others", path);
}

static bool write_keys(int fd, const store *s) {
    for (size_t i = 0; i < s->count; i++) {
        if (dprintf(fd, "%.*s\n", (int)s->keys[i].size, s->keys[i].ptr) < 0) {
            return false;
        }
    }
    return fsync(fd) == 0;
}

static int save(const store *s) {
    char path[PATH_size + 16];
    int status = make_folder(s->folder);
    if (status != TRI_EXIT_OK) {
        return status;
    }
    if (s->count == 0) {
        return unlink(s->file) == 0 || errno == ENOENT ? TRI_EXIT_OK
                                                       : failed("cannot be removed", s->file);
    }
    snprintf(path, sizeof path, "%s/.new-XXXXXX", s->folder);
    int fd = mkostemp(path, O_CLOEXEC); /* 0600 */
    if (fd < 0) {
        return failed("cannot be written", s->folder);
    }
    bool written = write_keys(fd, s);
    written = close(fd) == 0 && written;
    if (!written || rename(path, s->file) != 0) {
        status = failed("cannot be written", s->file);
        unlink(path);
    }
    return status;
}

/* --- a key from outside --- */

static struct termios as_it_was;
static volatile sig_atomic_t hidden;

static void hide_typing(bool hide) {
    struct termios now;
    if (hide && tcgetattr(STDIN_FILENO, &as_it_was) == 0) {
        now = as_it_was;
        now.c_lflag &= ~(tcflag_t)ECHO;
        now.c_lflag |= ECHONL;
        hidden = tcsetattr(STDIN_FILENO, TCSAFLUSH, &now) == 0;
    } else if (!hide && hidden) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &as_it_was);
        hidden = 0;
    }
}

/* Ctrl-C at the prompt must not leave a terminal that shows nothing. */
static void interrupted(int number) {
    if (hidden) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &as_it_was);
    }
    _exit(128 + number);
}

/* One line; the buffer is the caller's to wipe. */
static int read_key(const char *provider, char *buf, size_t size, tr_str *ret) {
    bool terminal = isatty(STDIN_FILENO) == 1;
    size_t used = 0;
    ssize_t got = 0;
    if (terminal) {
        struct sigaction end = {.sa_handler = interrupted};
        sigaction(SIGINT, &end, NULL);
        sigaction(SIGTERM, &end, NULL);
        fprintf(stderr, "Key for %s (it is not shown): ", provider);
        hide_typing(true);
    }
    do {
        got = read(STDIN_FILENO, buf + used, size - used);
        used += got > 0 ? (size_t)got : 0;
    } while ((got > 0 && used < size && memchr(buf, '\n', used) == NULL) ||
             (got < 0 && errno == EINTR));
    hide_typing(false);
    size_t count = 0;
    char why[160] = "";
    tr_err err = tr_key_lines(buf, used, ret, 1, &count, why, sizeof why);
    if (err != TR_OK || count != 1) {
        return tri_usage("key", "expected one key on standard input%s%s",
                         why[0] != '\0' ? ": " : "", why);
    }
    return TRI_EXIT_OK;
}

/* --- whose key it is --- */

/* Whether one of the daemon's providers has that name. `meant` gets those that are alike. */
static bool is_among(const tr_json_value *providers, const char *provider, char *meant,
                     size_t size) {
    bool found = false;
    tr_near near;
    tr_near_init(&near, (tr_str){provider, strlen(provider)}, meant, size);
    for (const tr_json_value *one = tr_json_first(providers); one != NULL;
         one = tr_json_next(one)) {
        char name[TR_NAME_max + 1];
        tr_str text = tr_json_string(one);
        snprintf(name, sizeof name, "%.*s", (int)text.size, text.ptr != NULL ? text.ptr : "");
        found = found || strcmp(name, provider) == 0;
        tr_near_consider(&near, name);
    }
    return found;
}

/* The daemon knows the catalog and its configuration; without one, *ret_asked is false and any name
 * will do. Else the exit status (said). */
static int look_up(const tri_args *args, const char *provider, bool *ret_asked) {
    tr_client *client = args->force ? NULL : tri_connect_if_there(args);
    *ret_asked = client != NULL;
    if (client == NULL) {
        return TRI_EXIT_OK;
    }
    int status;
    char meant[200];
    tri_args plain = *args;
    plain.json = false; /* the list is no part of what is printed */
    tr_json *json = tri_control_on(client, &plain, "models", NULL, NULL, &status);
    if (json != NULL &&
        !is_among(tr_json_get(tr_json_root(json), "providers"), provider, meant, sizeof meant)) {
        status = tri_usage("key",
                           "there is no provider \"%s\"%s; one of your own stands in the daemon's "
                           "configuration first, or --force stores its key before",
                           provider, meant);
    }
    tr_json_free(json);
    tr_client_close(client);
    return status;
}

/* --- what is done --- */

static int put(const tri_args *args, const char *provider, bool add) {
    store *s = calloc(1, sizeof *s);
    char *buf = calloc(1, TR_KEY_max + 64);
    int status = s != NULL && buf != NULL ? load(provider, s) : TRI_EXIT_FAILED;
    bool asked = false;
    tr_str key;
    if (status == TRI_EXIT_OK) {
        status = look_up(args, provider, &asked);
    }
    if (status == TRI_EXIT_OK) {
        status = read_key(provider, buf, TR_KEY_max + 64, &key);
    }
    if (status == TRI_EXIT_OK && add && s->count == TR_KEYS_max) {
        status = tri_usage("key", "there are %d keys already; `troupe key rm %s N` removes one",
                           TR_KEYS_max, provider);
    }
    if (status == TRI_EXIT_OK) {
        s->count = add ? s->count : 0;
        s->keys[s->count++] = key;
        status = save(s);
    }
    if (status == TRI_EXIT_OK && !args->quiet) {
        fprintf(
            stderr,
            "troupe: %zu key%s in %s; a running daemon reads it by itself, and `troupe key check "
            "%s` tries it%s\n",
            s->count, s->count == 1 ? "" : "s", s->file, provider,
            asked || args->force ? "" : "; no daemon runs now to say whether it knows that name");
    }
    if (s != NULL) {
        explicit_bzero(s, sizeof *s);
    }
    if (buf != NULL) {
        explicit_bzero(buf, TR_KEY_max + 64);
    }
    free(s);
    free(buf);
    return status;
}

static int take_out(const char *provider, const char *number) {
    store *s = calloc(1, sizeof *s);
    int status = s != NULL ? load(provider, s) : TRI_EXIT_FAILED;
    char *end = NULL;
    unsigned long n = number != NULL ? strtoul(number, &end, 10) : 0;
    if (status == TRI_EXIT_OK && s->count == 0) {
        status = tri_fail(TR_ERR_NOT_FOUND, "no key is stored for it");
    } else if (status == TRI_EXIT_OK && number != NULL &&
               (*end != '\0' || n == 0 || n > s->count)) {
        status = tri_usage("key", "\"%s\": the keys have the numbers 1 to %zu", number, s->count);
    } else if (status == TRI_EXIT_OK) {
        for (size_t i = n; number != NULL && i < s->count; i++) {
            s->keys[i - 1] = s->keys[i];
        }
        s->count = number != NULL ? s->count - 1 : 0;
        status = save(s);
    }
    if (s != NULL) {
        explicit_bzero(s, sizeof *s);
    }
    free(s);
    return status;
}

void tri_print_keys(const tr_json_value *part) {
    const tr_json_value *source = tr_json_first(tr_json_get(part, "keys"));
    if (source == NULL) {
        printf("%-24.*s key %.*s: %.*s\n", STR(part, "provider"), STR(part, "key"),
               STR(part, "key_env"));
    }
    for (; source != NULL; source = tr_json_next(source)) {
        printf("%-24.*s %lld key%s from %.*s", STR(part, "provider"), tri_int_of(source, "count"),
               tri_int_of(source, "count") == 1 ? "" : "s", STR(source, "source"));
        if (tri_int_of(source, "refused") > 0) {
            printf(", %lld refused", tri_int_of(source, "refused"));
        }
        if (tri_int_of(source, "limited") > 0) {
            printf(", %lld at the rate limit", tri_int_of(source, "limited"));
        }
        if (tr_json_get(source, "why") != NULL) {
            printf(": %.*s", STR(source, "why"));
        }
        putchar('\n');
    }
}

static bool has_keys(const tr_json_value *part, const char *provider) {
    return tr_json_get(part, "keys") != NULL &&
           (provider != NULL ? tri_is(part, "provider", provider)
                             : tr_json_count(tr_json_get(part, "keys")) > 0);
}

static int list(const tri_args *args, const char *provider) {
    int status;
    bool found = false;
    tr_json *json = tri_control(args, "status", NULL, NULL, &status);
    const tr_json_value *part =
        json != NULL ? tr_json_first(tr_json_get(tr_json_root(json), "parts")) : NULL;
    for (; part != NULL && !args->json; part = tr_json_next(part)) {
        if (has_keys(part, provider)) {
            found = true;
            tri_print_keys(part);
        }
    }
    if (json != NULL && !args->json && !found && !args->quiet) {
        fprintf(stderr, "troupe: %s%s\n", provider != NULL ? provider : "no provider has a key",
                provider != NULL ? ": there is no such provider" : "");
        status = provider != NULL ? tri_exit_of(TR_ERR_NOT_FOUND) : status;
    }
    tr_json_free(json);
    return status;
}

/* The worst of both: a refused key first. */
static int worse(int a, int b) {
    return a == TRI_EXIT_AUTH || b == TRI_EXIT_OK ? a : b;
}

static int check_one(const tri_args *args, const char *provider) {
    int status;
    tr_json *json = tri_control(args, "key_check", "provider", provider, &status);
    const tr_json_value *check =
        json != NULL ? tr_json_first(tr_json_get(tr_json_root(json), "checks")) : NULL;
    for (; check != NULL; check = tr_json_next(check)) {
        tr_err err = (tr_err)tri_int_of(check, "code");
        bool reached = tri_int_of(check, "status") != 0;
        const char *what = err == TR_OK                    ? "ok"
                           : err == TR_ERR_AUTH && reached ? "refused"
                           : err == TR_ERR_AUTH            ? "missing"
                           : err == TR_ERR_RATE_LIMIT      ? "known, at its rate limit"
                           : err == TR_ERR_QUOTA           ? "known, its quota is used up"
                           : reached                       ? "not checked"
                           : err == TR_ERR_CONNECT || err == TR_ERR_TIMEOUT ? "unreachable"
                                                                            : "not checked";
        if (!args->json) {
            tr_str said = tr_json_string(tr_json_get(check, "message"));
            tr_str key = tr_json_string(tr_json_get(check, "key"));
            printf("%-24s %-11s %.*s%s%.*s\n", provider, what, (int)key.size,
                   key.size > 0 ? key.ptr : "", key.size > 0 && said.size > 0 ? ": " : "",
                   (int)said.size, said.size > 0 ? said.ptr : "");
        }
        status = worse(status, err == TR_OK ? TRI_EXIT_OK : tri_exit_of(err));
    }
    tr_json_free(json);
    return status;
}

static int check(const tri_args *args, const char *provider) {
    if (provider != NULL) {
        return check_one(args, provider);
    }
    tri_args plain = *args;
    plain.json = false; /* the status is no part of what is printed */
    int status;
    tr_json *json = tri_control(&plain, "status", NULL, NULL, &status);
    const tr_json_value *part =
        json != NULL ? tr_json_first(tr_json_get(tr_json_root(json), "parts")) : NULL;
    bool found = false;
    for (; part != NULL; part = tr_json_next(part)) {
        char name[TR_NAME_max + 1];
        if (has_keys(part, NULL)) {
            found = true;
            snprintf(name, sizeof name, "%.*s", STR(part, "provider"));
            status = worse(status, check_one(args, name));
        }
    }
    if (json != NULL && !found && !args->quiet) {
        fputs("troupe: no provider has a key; `troupe key set PROVIDER` stores one\n", stderr);
    }
    tr_json_free(json);
    return status;
}

int tri_cmd_key(const tri_args *args) {
    const char *what = args->rest_count > 0 ? args->rest[0] : "";
    const char *provider = args->rest_count > 1 ? args->rest[1] : NULL;
    bool removes = strcmp(what, "rm") == 0;
    bool needs = removes || strcmp(what, "set") == 0 || strcmp(what, "add") == 0;
    if (!needs && strcmp(what, "list") != 0 && strcmp(what, "check") != 0) {
        return tri_usage("key", "expected set, add, rm, list or check");
    }
    if (needs && provider == NULL) {
        return tri_usage("key", "%s: which provider's?", what);
    }
    if (args->rest_count > (removes ? 3 : 2)) {
        return tri_usage("key", removes ? "rm takes a provider and a number"
                                        : "a key is no argument, where others could see it: it is "
                                          "read from standard input");
    }
    if (removes) {
        return take_out(provider, args->rest_count > 2 ? args->rest[2] : NULL);
    }
    if (needs) {
        return put(args, provider, what[0] == 'a');
    }
    return what[0] == 'l' ? list(args, provider) : check(args, provider);
}
