/* `troupe limit`: what a provider's limiter allows, has learned and knows of its models, and how to
 * change the former. The raw JSON is PROTOCOL.md's. One thread. */
#include "tools/troupe/limit.h"

#include <stdio.h>
#include <stdlib.h>

static void print_rate(const tr_json_value *part, const char *what, const char *rate,
                       const char *free_now) {
    if (tri_int_of(part, rate) == 0) {
        printf("  %s a minute: no limit\n", what);
    } else {
        printf("  %s a minute: %lld, of which %lld may go now\n", what, tri_int_of(part, rate),
               tri_int_of(part, free_now));
    }
}

static void print_learned(const tr_json_value *part, const char *what) {
    const tr_json_value *learned = tr_json_get(tr_json_get(part, "learned"), what);
    if (learned != NULL) {
        printf("  the provider says: %lld %s left, all of them again in %.1f s\n",
               tri_int_of(learned, "left"), what, (double)tri_int_of(learned, "reset_ms") / 1000);
    }
}

static void print_open(const tr_json_value *part, const tr_json_value *target) {
    printf("%.*s/%.*s: not asked", STR(part, "provider"), STR(target, "model"));
    if (tr_json_get(target, "open_ms") != NULL) {
        printf(" for another %.1f s", (double)tri_int_of(target, "open_ms") / 1000);
    } else {
        fputs(" but by one request at a time", stdout);
    }
    printf(", it failed: %.*s\n", STR(target, "last_failure"));
}

void tri_print_open_targets(const tr_json_value *part) {
    const tr_json_value *target = tr_json_first(tr_json_get(part, "targets"));
    for (; target != NULL; target = tr_json_next(target)) {
        if (!tri_is(target, "breaker", "closed")) {
            print_open(part, target);
        }
    }
}

static void print_limiter(const tr_json_value *part) {
    printf("%.*s\n  %lld of %lld slots in use, %lld waiting\n", STR(part, "provider"),
           tri_int_of(part, "used"), tri_int_of(part, "at_once"), tri_int_of(part, "waiting"));
    if (tr_json_get(part, "adaptive") != NULL) {
        printf("  adaptive: %lld of them may be used now\n", tri_int_of(part, "adaptive"));
    }
    print_rate(part, "requests", "rpm", "requests_free");
    print_rate(part, "tokens", "tpm", "tokens_free");
    print_learned(part, "requests");
    print_learned(part, "tokens");
    const tr_json_value *target = tr_json_first(tr_json_get(part, "targets"));
    for (; target != NULL; target = tr_json_next(target)) {
        printf("  %.*s: %lld running", STR(target, "model"), tri_int_of(target, "running"));
        if (tri_int_of(target, "first_token_ms") > 0) {
            printf(", first token after %lld ms", tri_int_of(target, "first_token_ms"));
        }
        printf(", %lld retries left\n", tri_int_of(target, "retries_left"));
    }
    tri_print_open_targets(part);
}

static void add(tr_jsonw *w, const char *name, int64_t number) {
    if (number >= 0) {
        tr_jsonw_name(w, name);
        tr_jsonw_int(w, number);
    }
}

static void print_row_rate(const tr_json_value *part, const char *rate, const char *unit) {
    if (tri_int_of(part, rate) > 0) {
        printf(", %lld %s a minute", tri_int_of(part, rate), unit);
    }
}

/* A line each; with --json what `limit PROVIDER --json` prints of each. */
static int list_limits(const tri_args *args) {
    tri_args plain = *args;
    plain.json = false; /* the status has more than limits */
    int status;
    tr_json *json = tri_control(&plain, "status", NULL, NULL, &status);
    const tr_json_value *part =
        json != NULL ? tr_json_first(tr_json_get(tr_json_root(json), "parts")) : NULL;
    for (; part != NULL; part = tr_json_next(part)) {
        if (!tri_is(part, "gate", "limiter")) {
            continue;
        }
        if (args->json) {
            tr_str raw = tr_json_raw(part);
            printf("%.*s\n", (int)raw.size, raw.ptr);
            continue;
        }
        printf("%-22.*s %lld of %lld slots in use, %lld waiting", STR(part, "provider"),
               tri_int_of(part, "used"), tri_int_of(part, "at_once"), tri_int_of(part, "waiting"));
        print_row_rate(part, "rpm", "requests");
        print_row_rate(part, "tpm", "tokens");
        puts(tr_json_get(part, "adaptive") != NULL ? ", adaptive" : "");
        tri_print_open_targets(part);
    }
    tr_json_free(json);
    return status;
}

static bool changes(const tri_args *args) {
    return args->at_once > 0 || args->rpm >= 0 || args->tpm >= 0 || args->burst >= 0 ||
           args->adaptive >= 0;
}

int tri_cmd_limit(const tri_args *args) {
    if (args->rest_count == 0 && !changes(args)) {
        return list_limits(args);
    }
    if (args->rest_count != 1) {
        return tri_usage("limit", "expected one provider");
    }
    tr_jsonw w;
    char *request = NULL;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "do");
    tr_jsonw_text(&w, "limit");
    tr_jsonw_name(&w, "provider");
    tr_jsonw_text(&w, args->rest[0]);
    add(&w, "at_once", args->at_once > 0 ? (int64_t)args->at_once : -1);
    add(&w, "rpm", args->rpm);
    add(&w, "tpm", args->tpm);
    add(&w, "burst", args->burst);
    add(&w, "adaptive", args->adaptive);
    tr_jsonw_close(&w, '}');
    if (tr_jsonw_take(&w, &request, NULL) != TR_OK) {
        request = NULL;
    }
    int status;
    tr_json *json = tri_control_request(args, request, &status);
    if (json != NULL && !args->json) {
        print_limiter(tr_json_root(json));
    }
    tr_json_free(json);
    free(request);
    return status;
}
