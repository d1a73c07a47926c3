/* What the commands of `troupe` share. One thread. */
#ifndef TR_TOOLS_TROUPE_CLI_H
#define TR_TOOLS_TROUPE_CLI_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#include "protocol/client/troupe.h"
#include "protocol/json.h"

/* Exit statuses, by error class; `troupe help` lists them. */
enum {
    TRI_EXIT_OK = 0,
    TRI_EXIT_FAILED = 1,
    TRI_EXIT_USAGE = 2,
    TRI_EXIT_NO_DAEMON = 3,
    TRI_EXIT_AUTH = 4,
    TRI_EXIT_LIMIT = 5,
    TRI_EXIT_TIMEOUT = 6,
    TRI_EXIT_TRUNCATED = 7,
    TRI_EXIT_INTERRUPTED = 130,
};

#define TRI_IMAGES_max 16

/* The options of all commands; each command says which it takes. */
typedef struct tri_args {
    const char *socket;
    const char *config;
    const char *token_file;
    const char *ca_file;
    const char *model;
    const char *provider;
    const char *base_url;
    const char *system;
    const char *grammar_file;
    const char *schema_file;
    const char *tools_file;
    const char *tool_choice;
    const char *effort;
    const char *extra;
    const char *images[TRI_IMAGES_max];
    size_t image_count;
    const char *stops[16];
    size_t stop_count;
    double temperature, top_p;
    int64_t seed;
    int64_t rpm, tpm, burst, adaptive; /* -1 = not given */
    uint32_t max_tokens;
    uint32_t timeout_ms, connect_ms, first_token_ms, idle_ms, retries;
    uint32_t at_once;
    bool no_stream, stream, hedge, show;
    bool json, quiet, verbose, once, force;
    char **rest; /* what is no option */
    int rest_count;
} tri_args;

typedef struct tri_command {
    const char *name;
    const char *synopsis;
    const char *text;
    const char *options; /* names of the options it takes besides --help, blank-separated */
    int (*run)(const tri_args *args);
} tri_command;

typedef struct tri_option {
    struct option option; /* val is the short option or above 255 */
    const char *value;    /* NULL = none */
    const char *text;
    const char *wants; /* what the value must be, where not every text will do */
} tri_option;

extern const tri_command tri_commands[];
extern const size_t tri_command_count;
extern const tri_option tri_options_known[];
extern const size_t tri_option_count;
bool tri_takes(const tri_command *command, const tri_option *option);

/* Says on standard error what failed, `troupe: …`, and returns the exit status of its class. */
int tri_fail(tr_err err, const char *sentence);
int tri_exit_of(tr_err err);
/* Wrong usage: the sentence, then where to look. */
int tri_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Connects; on failure it has said so and *ret_status is the exit status. */
bool tri_connect(const tri_args *args, tr_client **ret, int *ret_status);
/* The same without a word, and without patience: NULL when no daemon is there. */
tr_client *tri_connect_if_there(const tri_args *args);
/* tr_options of the arguments, without files; false (said) when one is wrong. */
bool tri_options(const tri_args *args, tr_options *ret);
/* The request that asks `prompt`; NULL and *ret_status (said) when an option is wrong. */
tr_request *tri_request(const tri_args *args, const char *prompt, int *ret_status);
/* tri_fail with the library's sentence, its option in our words. */
int tri_fail_option(const tri_args *args, tr_err err);
/* The result's sentence, also in our words; in `buf` or borrowed from the result. */
const char *tri_message(const tri_args *args, const tr_result *result, char *buf, size_t size);
/* The prompt: the arguments joined by blanks, an argument "-" being standard input, set off by
 * blank lines; without arguments standard input. NULL (said) when it cannot be read. To be freed.
 */
char *tri_prompt(const tri_args *args);
/* Standard input to its end, or, when `argument` is not "-", a copy of it. As tri_prompt. */
char *tri_text(const char *argument);
/* Something good to know, for a person: only when standard error is a terminal, and not with -q. */
void tri_note(const tri_args *args, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* That standard input has something to say that nobody asked for. */
void tri_note_unread(const tri_args *args);
/* That the answer was ended by its length, or came from a fallback; `prefix` names the prompt. */
void tri_note_answer(const tri_args *args, const char *prefix, const tr_result *result);
/* With -v a line about who answered and what it took. */
void tri_note_usage(const tri_args *args, const tr_result *result);
/* A whole file, NUL-terminated; NULL (said) when it cannot be read. To be freed. */
char *tri_read_file(const char *path);

/* One control request {"do": verb, name: value} (value NULL leaves it out): the parsed answer, or
 * NULL and *ret_status (said). With --json its raw text has been printed. */
tr_json *tri_control(const tri_args *args, const char *verb, const char *name, const char *value,
                     int *ret_status);
tr_json *tri_control_on(tr_client *client, const tri_args *args, const char *verb, const char *name,
                        const char *value, int *ret_status);

/* A result as one JSON object, to be freed; `index` -1 = it has none; result NULL = cancelled
 * before it was sent. */
char *tri_result_json(const tr_result *result, int64_t index);
/* Ctrl-C: from tri_interrupts_begin on, SIGINT and SIGTERM make this descriptor readable instead of
 * ending the program. */
int tri_interrupts_begin(void);

/* Members of the daemon's answers: "%.*s" of a string, a number (0), whether a string is `text`. */
#define STR(value, name)                                                                           \
    (int)tr_json_string(tr_json_get(value, name)).size,                                            \
        tr_json_string(tr_json_get(value, name)).ptr != NULL                                       \
            ? tr_json_string(tr_json_get(value, name)).ptr                                         \
            : ""
long long tri_int_of(const tr_json_value *value, const char *name);
/* An actor's id without its brackets, which a shell would take for redirections. */
tr_str tri_id(const tr_json_value *actor);
bool tri_is(const tr_json_value *value, const char *name, const char *text);

#endif
