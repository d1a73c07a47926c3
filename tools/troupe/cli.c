/* What the commands share: connecting, options, prompts, results as JSON, and what failures look
 * like. Everything but answers goes to standard error. */
#include "tools/troupe/cli.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/utf8.h"
#include "tools/troupe/limit.h"
#include "tools/troupe/plain.h"

#define PROMPT_max (32U * 1024U * 1024U)

int tri_exit_of(tr_err err) {
    switch (tr_err_class_of(err)) {
    case TR_CLASS_OK:
        return TRI_EXIT_OK;
    case TR_CLASS_INVALID_REQUEST:
    case TR_CLASS_NOT_FOUND:
        return TRI_EXIT_USAGE;
    case TR_CLASS_AUTH:
        return TRI_EXIT_AUTH;
    case TR_CLASS_QUOTA:
    case TR_CLASS_RATE_LIMIT:
        return TRI_EXIT_LIMIT;
    case TR_CLASS_TIMEOUT:
        return TRI_EXIT_TIMEOUT;
    case TR_CLASS_TRUNCATED:
        return TRI_EXIT_TRUNCATED;
    case TR_CLASS_CANCELLED:
        return TRI_EXIT_INTERRUPTED;
    case TR_CLASS_NO_DAEMON:
        return TRI_EXIT_NO_DAEMON;
    case TR_CLASS_OVERLOADED:
    case TR_CLASS_SERVER:
    case TR_CLASS_N:
        break;
    }
    return TRI_EXIT_FAILED;
}

/* The library tells C programs where the part of an answer is; nobody here has such a result. */
static const char library_words[] = "what had arrived is in the result; ";

int tri_fail(tr_err err, const char *sentence) {
    const char *shown = sentence[0] != '\0' ? sentence : tr_err_text(err);
    const char *words = strstr(shown, library_words);
    int size = (int)(words != NULL ? words - shown : 0);
    fflush(stdout);
    fprintf(stderr, "troupe: %.*s%s\n", size, shown,
            words != NULL ? words + strlen(library_words) : shown);
    return tri_exit_of(err);
}

int tri_usage(const char *command, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("troupe: ", stderr);
    vfprintf(stderr, format, args);
    va_end(args);
    if (command != NULL) {
        fprintf(stderr, "; `troupe help %s` lists what it takes\n", command);
    } else {
        fputs("; `troupe help` lists the commands\n", stderr);
    }
    return TRI_EXIT_USAGE;
}

tr_client *tri_connect_if_there(const tri_args *args) {
    tr_client_options options = TR_CLIENT_OPTIONS_INIT;
    tr_client *client = NULL;
    options.url = args->socket;
    options.token_file = args->token_file;
    options.ca_file = args->ca_file;
    options.connect_ms = 1000;
    return tr_client_open_with(&options, &client) == TR_OK ? client : NULL;
}

bool tri_connect(const tri_args *args, tr_client **ret, int *ret_status) {
    tr_client_options options = TR_CLIENT_OPTIONS_INIT;
    options.url = args->socket;
    options.token_file = args->token_file;
    options.ca_file = args->ca_file;
    options.software = "troupe/" TROUPE_VERSION;
    tr_err err = tr_client_open_with(&options, ret);
    if (err != TR_OK) {
        *ret_status = tri_fail(err, tr_client_error());
    }
    return err == TR_OK;
}

/* Up to the end of `file`; NULL (said) when it cannot be. */
static char *read_whole(FILE *file, const char *name) {
    char *text = malloc(PROMPT_max + 2);
    size_t size = text != NULL ? fread(text, 1, PROMPT_max + 1, file) : 0;
    if (text == NULL || ferror(file)) {
        fprintf(stderr, "troupe: %s cannot be read: %s\n", name, strerror(errno));
    } else if (size > PROMPT_max) {
        fprintf(stderr, "troupe: %s is longer than 32 MiB\n", name);
    } else if (memchr(text, '\0', size) != NULL) {
        fprintf(stderr, "troupe: %s contains a NUL byte\n", name);
    } else if (!tr_utf8_valid(text, size)) {
        fprintf(stderr, "troupe: %s is not valid UTF-8\n", name);
    } else {
        text[size] = '\0';
        return text;
    }
    free(text);
    return NULL;
}

char *tri_read_file(const char *path) {
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        fprintf(stderr, "troupe: %s cannot be read: %s\n", path, strerror(errno));
        return NULL;
    }
    char *text = read_whole(file, path);
    fclose(file);
    return text;
}

bool tri_options(const tri_args *args, tr_options *ret) {
    tr_options options = TR_OPTIONS_INIT;
    if (args->system != NULL && !tr_utf8_valid(args->system, strlen(args->system))) {
        fputs("troupe: --system is not valid UTF-8\n", stderr);
        return false;
    }
    options.model = args->model;
    options.provider = args->provider;
    options.base_url = args->base_url;
    if (args->base_url != NULL && args->provider == NULL) {
        options.provider = "openai-compatible";
    }
    options.system = args->system;
    options.extra_json = args->extra;
    options.tool_choice = args->tool_choice;
    options.stop = args->stops;
    options.stop_count = args->stop_count;
    options.temperature = args->temperature;
    options.top_p = args->top_p;
    options.seed = args->seed;
    options.max_tokens = args->max_tokens;
    options.reasoning_effort = args->effort;
    options.connect_ms = args->connect_ms;
    options.first_token_ms = args->first_token_ms;
    options.idle_ms = args->idle_ms;
    options.total_ms = args->timeout_ms;
    options.retries = args->retries;
    options.whole = args->no_stream;
    options.hedge = args->hedge;
    options.show = args->show;
    *ret = options;
    return true;
}

typedef struct wording {
    const char *start; /* of the sentence */
    const char *ours;
    const char *value; /* behind it, or NULL */
} wording;

/* The sentence with its start in the words that were typed here. */
static const char *reword(const wording *list, size_t count, const char *sentence, char *buf,
                          size_t size) {
    for (size_t i = 0; i < count; i++) {
        size_t known = strlen(list[i].start);
        if (strncmp(sentence, list[i].start, known) == 0) {
            snprintf(buf, size, "%s%s%s", list[i].ours, list[i].value != NULL ? list[i].value : "",
                     sentence + known);
            return buf;
        }
    }
    return sentence;
}

/* The library names the fields of tr_options, which nobody has typed here. */
int tri_fail_option(const tri_args *args, tr_err err) {
    const wording list[] = {
        {"The option json_schema", "--schema ", args->schema_file},
        {"The option grammar", "--grammar ", args->grammar_file},
        {"The option extra_json", "--extra", NULL},
        {"A tool is", "--tools: a tool is", NULL},
        {"The tools are", "--tools: they are", NULL},
        {"The image ", "--image ", NULL},
        {"The option base_url", "--base-url", NULL},
        {"The option model", "--model", NULL},
        {"The option provider", "--provider", NULL},
        {"input: entry ", "text ", NULL},
    };
    char buf[768];
    return tri_fail(err,
                    reword(list, sizeof list / sizeof *list, tr_client_error(), buf, sizeof buf));
}

/* The daemon names the fields of the request's JSON; those that --extra gave stay as they are. */
const char *tri_message(const tri_args *args, const tr_result *result, char *buf, size_t size) {
    static const char none[] = "\n"; /* begins no sentence */
    const wording list[] = {
        {"messages: ", "", NULL},
        {args->schema_file != NULL ? "response_format" : none, "--schema ", args->schema_file},
        {args->grammar_file != NULL ? "grammar" : none, "--grammar ", args->grammar_file},
        {args->stop_count > 0 ? "stop:" : none, "--stop:", NULL},
        {args->tool_choice != NULL ? "tool_choice:" : none, "--tool-choice:", NULL},
        {args->effort != NULL ? "reasoning_effort:" : none, "--effort:", NULL},
        {!isnan(args->temperature) ? "temperature:" : none, "--temperature:", NULL},
        {!isnan(args->top_p) ? "top_p:" : none, "--top-p:", NULL},
        {args->max_tokens > 0 ? "max_tokens:" : none, "--max-tokens:", NULL},
    };
    const char *sentence = tr_result_message(result);
    uint32_t after_ms = tr_result_retry_after_ms(result);
    const char *words = strstr(sentence, library_words);
    if (words != NULL) {
        snprintf(buf, size, "%.*s%s%s", (int)(words - sentence), sentence,
                 tr_result_text(result)[0] == '\0' ? "nothing of the answer had come; "
                                                   : "what is printed is not the whole answer; ",
                 words + strlen(library_words));
        return buf;
    }
    if (tr_err_class_of(tr_result_error(result)) == TR_CLASS_INVALID_REQUEST) {
        return reword(list, sizeof list / sizeof *list, sentence, buf, size);
    }
    if (after_ms == 0 || tr_result_status(result) == 0) { /* the daemon's own refusals say it */
        return sentence;
    }
    snprintf(buf, size, "%s; it may be asked again in %u s", sentence, (after_ms + 999) / 1000);
    return buf;
}

/* The files are read now; one that is none is wrong usage, whatever is the matter with it. */
static tr_err add_images(const tri_args *args, tr_request *request) {
    tr_err err = TR_OK;
    for (size_t i = 0; i < args->image_count && err == TR_OK; i++) {
        err = tr_request_image(request, args->images[i]);
    }
    return err == TR_ERR_IO ? TR_ERR_INVALID : err;
}

tr_request *tri_request(const tri_args *args, const char *prompt, int *ret_status) {
    tr_options options;
    tr_request *request = NULL;
    char *grammar = args->grammar_file != NULL ? tri_read_file(args->grammar_file) : NULL;
    char *schema = args->schema_file != NULL ? tri_read_file(args->schema_file) : NULL;
    char *tools = args->tools_file != NULL ? tri_read_file(args->tools_file) : NULL;
    *ret_status = TRI_EXIT_USAGE;
    if ((grammar != NULL || args->grammar_file == NULL) &&
        (schema != NULL || args->schema_file == NULL) &&
        (tools != NULL || args->tools_file == NULL) && tri_options(args, &options)) {
        options.grammar = grammar;
        options.json_schema = schema;
        tr_err err = tr_request_new(&options, &request);
        if (err == TR_OK) {
            err = tr_request_text(request, "user", prompt);
        }
        if (err == TR_OK) {
            err = add_images(args, request);
        }
        if (err == TR_OK && tools != NULL) {
            err = tr_request_tools_json(request, tools);
        }
        if (err != TR_OK) {
            *ret_status = tri_fail_option(args, err);
            tr_request_free(request);
            request = NULL;
        }
    }
    free(grammar);
    free(schema);
    free(tools);
    return request;
}

void tri_note(const tri_args *args, const char *format, ...) {
    if (args->quiet || !isatty(STDERR_FILENO)) {
        return;
    }
    va_list list;
    va_start(list, format);
    fflush(stdout);
    fputs("troupe: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
}

/* Where standard error goes does not matter: the answer on standard output does not show it. */
static void note_length(const tri_args *args, const char *prefix, const tr_result *result) {
    char tokens[40] = "";
    if (args->quiet || (args->json && !isatty(STDERR_FILENO))) { /* the JSON has the finish */
        return;
    }
    if (tr_result_usage(result).out > 0) {
        snprintf(tokens, sizeof tokens, " at %llu tokens",
                 (unsigned long long)tr_result_usage(result).out);
    }
    fflush(stdout);
    fprintf(stderr, "troupe: %sthe answer was cut%s by %s (finish: length)\n", prefix, tokens,
            args->max_tokens > 0 ? "--max-tokens" : "the model's limit");
}

void tri_note_answer(const tri_args *args, const char *prefix, const tr_result *result) {
    if (tr_result_error(result) == TR_OK && strcmp(tr_result_finish(result), "length") == 0) {
        note_length(args, prefix, result);
    }
    if (tr_result_fallback(result)) {
        tri_note(args, "%sanswered by %s, since what was asked before it failed", prefix,
                 tr_result_target(result));
    }
}

void tri_note_usage(const tri_args *args, const tr_result *result) {
    if (!args->verbose) {
        return;
    }
    tr_usage usage = tr_result_usage(result);
    const char *id = tr_result_request_id(result);
    fprintf(stderr, "troupe: %s: ", tr_result_target(result));
    if (usage.in == 0 && usage.out == 0) {
        fputs("tokens unknown", stderr);
    } else {
        fprintf(stderr, "%llu tokens in", (unsigned long long)usage.in);
        if (usage.cached > 0) {
            fprintf(stderr, " (%llu cached)", (unsigned long long)usage.cached);
        }
        fprintf(stderr, ", %llu out", (unsigned long long)usage.out);
        if (usage.reasoning > 0) {
            fprintf(stderr, " (%llu reasoning)", (unsigned long long)usage.reasoning);
        }
        fputs(tr_result_estimated(result) ? ", estimated" : "", stderr);
    }
    if (isnan(usage.cost)) {
        fputs(", cost unknown", stderr);
    } else {
        fprintf(stderr, ", cost $%.*f", usage.cost > 0 ? 6 : 0, usage.cost);
    }
    if (usage.first_token_ms > 0) {
        fprintf(stderr, ", first token after %u ms", usage.first_token_ms);
    }
    fprintf(stderr, ", whole %u ms, attempts %u%s%s%s\n", usage.total_ms,
            tr_result_attempts(result), tr_result_hedged(result) ? ", the second served" : "",
            id[0] != '\0' ? ", request id " : "", id);
}

char *tri_text(const char *argument) {
    if (strcmp(argument, "-") != 0) {
        char *copy = tr_utf8_valid(argument, strlen(argument)) ? strdup(argument) : NULL;
        if (copy == NULL) {
            fputs("troupe: the prompt is not valid UTF-8\n", stderr);
        }
        return copy;
    }
    if (isatty(STDIN_FILENO)) {
        fputs("troupe: type the prompt, then Ctrl-D\n", stderr);
    }
    char *text = read_whole(stdin, "standard input");
    size_t size = text != NULL ? strlen(text) : 0;
    while (size > 0 && text[size - 1] == '\n') {
        text[--size] = '\0';
    }
    return text;
}

char *tri_prompt(const tri_args *args) {
    char *whole = args->rest_count == 0 ? tri_text("-") : strdup("");
    bool piped = false;
    for (int i = 0; whole != NULL && i < args->rest_count; i++) {
        bool was_piped = piped;
        piped = strcmp(args->rest[i], "-") == 0;
        const char *gap = i == 0 ? "" : (piped || was_piped) ? "\n\n" : " ";
        char *part = tri_text(args->rest[i]);
        char *longer = NULL;
        if (part != NULL && asprintf(&longer, "%s%s%s", whole, gap, part) < 0) {
            longer = NULL;
        }
        free(part);
        free(whole);
        whole = longer;
    }
    return whole;
}

void tri_note_unread(const tri_args *args) {
    struct stat st;
    int waiting = 0;
    for (int i = 0; i < args->rest_count; i++) {
        if (strcmp(args->rest[i], "-") == 0) {
            return;
        }
    }
    if (args->rest_count == 0 || fstat(STDIN_FILENO, &st) != 0) {
        return;
    }
    bool unread =
        S_ISREG(st.st_mode)
            ? lseek(STDIN_FILENO, 0, SEEK_CUR) < st.st_size
            : S_ISFIFO(st.st_mode) && ioctl(STDIN_FILENO, FIONREAD, &waiting) == 0 && waiting > 0;
    if (unread) {
        tri_note(args, "standard input was not read: an argument - stands for it");
    }
}

/* To be freed. */
static char *control_request(const char *verb, const char *name, const char *value) {
    tr_jsonw w;
    char *text = NULL;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "do");
    tr_jsonw_text(&w, verb);
    if (value != NULL) {
        tr_jsonw_name(&w, name);
        tr_jsonw_text(&w, value);
    }
    tr_jsonw_close(&w, '}');
    return tr_jsonw_take(&w, &text, NULL) == TR_OK ? text : NULL;
}

static tr_json *request_on(tr_client *client, const tri_args *args, const char *request,
                           int *ret_status) {
    char *answer = NULL;
    tr_json *json = NULL;
    tr_err err = request != NULL ? tr_control_json(client, request, &answer) : TR_ERR_INVALID;
    if (err == TR_OK) {
        size_t size = args->json ? strlen(answer) : tri_plain_json(answer, strlen(answer));
        err = tr_json_parse(answer, size, &json, NULL);
        if (err == TR_OK && args->json) {
            puts(answer);
        }
        *ret_status = err == TR_OK ? TRI_EXIT_OK : tri_fail(err, "the daemon's answer is no JSON");
    } else {
        *ret_status = tri_fail(err, tr_client_error());
    }
    tr_memory_free(answer);
    return json;
}

tr_json *tri_control_on(tr_client *client, const tri_args *args, const char *verb, const char *name,
                        const char *value, int *ret_status) {
    char *request = control_request(verb, name, value);
    tr_json *json = request_on(client, args, request, ret_status);
    free(request);
    return json;
}

tr_json *tri_control_request(const tri_args *args, const char *request, int *ret_status) {
    tr_client *client;
    if (!tri_connect(args, &client, ret_status)) {
        return NULL;
    }
    tr_json *json = request_on(client, args, request, ret_status);
    tr_client_close(client);
    return json;
}

tr_json *tri_control(const tri_args *args, const char *verb, const char *name, const char *value,
                     int *ret_status) {
    char *request = control_request(verb, name, value);
    tr_json *json = tri_control_request(args, request, ret_status);
    free(request);
    return json;
}

long long tri_int_of(const tr_json_value *value, const char *name) {
    return (long long)tr_json_int(tr_json_get(value, name), 0);
}

bool tri_is(const tr_json_value *value, const char *name, const char *text) {
    tr_str str = tr_json_string(tr_json_get(value, name));
    return str.size == strlen(text) && memcmp(str.ptr, text, str.size) == 0;
}

tr_str tri_id(const tr_json_value *actor) {
    tr_str id = tr_json_string(tr_json_get(actor, "id"));
    bool bracketed = id.size >= 2 && id.ptr[0] == '<' && id.ptr[id.size - 1] == '>';
    return bracketed ? (tr_str){id.ptr + 1, id.size - 2}
                     : (tr_str){id.size > 0 ? id.ptr : "", id.size};
}

static void write_usage(tr_jsonw *w, const tr_result *result) {
    tr_usage usage = tr_result_usage(result);
    const struct {
        const char *name;
        uint64_t number;
    } fields[] = {
        {"input_tokens", usage.in},      {"output_tokens", usage.out},
        {"cached_tokens", usage.cached}, {"reasoning_tokens", usage.reasoning},
        {"queue_ms", usage.queue_ms},    {"first_token_ms", usage.first_token_ms},
        {"total_ms", usage.total_ms},
    };
    tr_jsonw_name(w, "usage");
    tr_jsonw_open(w, '{');
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        tr_jsonw_name(w, fields[i].name);
        tr_jsonw_uint(w, fields[i].number);
    }
    tr_jsonw_name(w, "cost");
    tr_jsonw_double(w, usage.cost);
    if (tr_result_estimated(result)) {
        tr_jsonw_name(w, "estimated");
        tr_jsonw_bool(w, true);
    }
    tr_jsonw_close(w, '}');
}

static void write_text(tr_jsonw *w, const char *name, const char *text) {
    if (text != NULL && text[0] != '\0') {
        tr_jsonw_name(w, name);
        tr_jsonw_text(w, text);
    }
}

static void write_error(tr_jsonw *w, tr_err err, const char *message, uint32_t retry_after_ms) {
    tr_jsonw_name(w, "error");
    tr_jsonw_open(w, '{');
    write_text(w, "code", tr_err_name(err));
    write_text(w, "class", tr_err_class_name(tr_err_class_of(err)));
    write_text(w, "message", message);
    if (retry_after_ms > 0) {
        tr_jsonw_name(w, "retry_after_ms");
        tr_jsonw_uint(w, retry_after_ms);
    }
    tr_jsonw_close(w, '}');
}

static void write_tool_calls(tr_jsonw *w, const tr_result *result) {
    tr_jsonw_name(w, "tool_calls");
    tr_jsonw_open(w, '[');
    for (size_t i = 0; i < tr_result_tool_calls(result); i++) {
        tr_tool_call call = tr_result_tool_call(result, i);
        tr_jsonw_open(w, '{');
        write_text(w, "id", call.id);
        write_text(w, "name", call.name);
        write_text(w, "arguments", call.arguments_json);
        tr_jsonw_close(w, '}');
    }
    tr_jsonw_close(w, ']');
}

static void write_result(tr_jsonw *w, const tr_result *result) {
    tr_err err = tr_result_error(result);
    tr_jsonw_name(w, "text");
    tr_jsonw_text(w, tr_result_text(result));
    write_text(w, "reasoning", tr_result_reasoning(result));
    write_text(w, "finish", tr_result_finish(result));
    write_text(w, "target", tr_result_target(result));
    write_text(w, "request_id", tr_result_request_id(result));
    if (tr_result_tool_calls(result) > 0) {
        write_tool_calls(w, result);
    }
    tr_jsonw_name(w, "attempts");
    tr_jsonw_uint(w, tr_result_attempts(result));
    if (tr_result_hedged(result)) {
        tr_jsonw_name(w, "hedged");
        tr_jsonw_bool(w, true);
    }
    if (tr_result_fallback(result)) {
        tr_jsonw_name(w, "fallback");
        tr_jsonw_bool(w, true);
    }
    write_usage(w, result);
    if (err != TR_OK) {
        write_error(w, err, tr_result_message(result), tr_result_retry_after_ms(result));
    }
}

char *tri_result_json(const tr_result *result, int64_t index) {
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    if (index >= 0) {
        tr_jsonw_name(&w, "index");
        tr_jsonw_int(&w, index);
    }
    if (result != NULL) {
        write_result(&w, result);
    } else {
        tr_jsonw_name(&w, "text");
        tr_jsonw_text(&w, "");
        tr_jsonw_name(&w, "attempts");
        tr_jsonw_uint(&w, 0);
        write_error(&w, TR_ERR_CANCELLED, tr_err_text(TR_ERR_CANCELLED), 0);
    }
    tr_jsonw_close(&w, '}');
    char *text = NULL;
    return tr_jsonw_take(&w, &text, NULL) == TR_OK ? text : NULL;
}

int tri_interrupts_begin(void) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}
