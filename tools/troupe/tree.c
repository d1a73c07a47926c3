/*
 * `troupe tree`: the supervision tree as a table. Its columns are as wide as what stands in them;
 * on a terminal the last one, what an actor says of its state, is cut at the terminal's edge, so
 * that each actor has one line at 80 columns too. One thread.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "protocol/utf8.h"
#include "tools/troupe/commands.h"

#define DEPTH_max 16

typedef struct table {
    const tr_json_value *actors;
    int name_width, id_width;
    int width; /* of a line, 0 = without limit */
    bool measure;
} table;

/* What the actor is called: its name, else its kind. */
static tr_str name_of(const tr_json_value *actor) {
    tr_str name = tr_json_string(tr_json_get(actor, "name"));
    return name.size > 0 ? name : tr_json_string(tr_json_get(actor, "kind"));
}

/* The text's start that fits, or all of it. */
static int cut(const table *t, int used, tr_str text) {
    if (t->width == 0) {
        return (int)text.size;
    }
    int room = t->width > used ? t->width - used : 0;
    return (int)tr_utf8_cut(text.ptr != NULL ? text.ptr : "", text.size, (size_t)room);
}

static void print_actor(table *t, const tr_json_value *actor, int depth) {
    tr_str name = name_of(actor);
    tr_str id = tri_id(actor);
    tr_str state = tr_json_string(tr_json_get(actor, "state"));
    if (t->measure) {
        int width = depth + (int)name.size;
        t->name_width = width > t->name_width ? width : t->name_width;
        t->id_width = (int)id.size > t->id_width ? (int)id.size : t->id_width;
        return;
    }
    int used =
        printf("%*s%-*.*s %-*.*s %3lld %4lld  ", depth, "", t->name_width - depth, (int)name.size,
               name.size > 0 ? name.ptr : "", t->id_width, (int)id.size, id.size > 0 ? id.ptr : "",
               tri_int_of(actor, "restarts"), tri_int_of(actor, "mailbox"));
    printf("%.*s\n", cut(t, used, state), state.size > 0 ? state.ptr : "");
}

static bool same(tr_str a, tr_str b) {
    return a.size == b.size && a.size > 0 && memcmp(a.ptr, b.ptr, a.size) == 0;
}

static bool is_there(const tr_json_value *actors, tr_str id) {
    for (const tr_json_value *a = tr_json_first(actors); a != NULL; a = tr_json_next(a)) {
        if (same(tr_json_string(tr_json_get(a, "id")), id)) {
            return true;
        }
    }
    return false;
}

/* The actors come shard by shard; a child is printed below its parent, one whose parent is gone or
 * is no actor at the left edge. */
static void print_below(table *t, const tr_str *parent, int depth) {
    for (const tr_json_value *a = tr_json_first(t->actors); a != NULL; a = tr_json_next(a)) {
        tr_str above = tr_json_string(tr_json_get(a, "parent"));
        bool here = parent != NULL ? same(above, *parent) : !is_there(t->actors, above);
        if (here && depth < DEPTH_max) {
            tr_str id = tr_json_string(tr_json_get(a, "id"));
            print_actor(t, a, depth);
            print_below(t, &id, depth + 1);
        }
    }
}

static void print_table(const tr_json_value *root) {
    struct winsize size = {0};
    bool terminal = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    table t = {.actors = tr_json_get(root, "actors"),
               .name_width = 5,
               .id_width = 2,
               .width = terminal ? size.ws_col : 0,
               .measure = true};
    print_below(&t, NULL, 0);
    t.measure = false;
    printf("%-*s %-*s RST MAIL  STATE\n", t.name_width, "ACTOR", t.id_width, "ID");
    print_below(&t, NULL, 0);
    printf("%zu actors on %lld shards (RST = restarts, MAIL = waiting in the mailbox)\n",
           tr_json_count(t.actors), tri_int_of(root, "shards"));
    if (tri_is(root, "mailbox", "inproc")) {
        printf("mailbox: inproc, %lld messages through NNG\n", tri_int_of(root, "inproc_messages"));
    }
}

static int print_tree(tr_client *client, const tri_args *args, bool clear) {
    int status;
    tr_json *json = tri_control_on(client, args, "tree", NULL, NULL, &status);
    if (json != NULL && !args->json) {
        fputs(clear ? "\033[H\033[2J" : "", stdout);
        print_table(tr_json_root(json));
    }
    fflush(stdout);
    tr_json_free(json);
    return status;
}

int tri_cmd_tree(const tri_args *args) {
    tr_client *client;
    int status;
    if (!tri_connect(args, &client, &status)) {
        return status;
    }
    bool live = !args->once && !args->json && isatty(STDOUT_FILENO);
    int interrupts = live ? tri_interrupts_begin() : -1;
    for (;;) {
        status = print_tree(client, args, live);
        struct pollfd stop = {.fd = interrupts, .events = POLLIN};
        if (!live || status != TRI_EXIT_OK || poll(&stop, 1, 1000) != 0) {
            break;
        }
    }
    tr_client_close(client);
    return status;
}
