/*
 * A model that uses tools: the answer is streamed, the model calls get_weather for several cities
 * at once, the program gives it the results, and the model answers with them. What a real program
 * changes is `get_weather` and the list of tools. The first turn must call, since a small model
 * would not do it by itself; then the model chooses, so that it can answer. It shows the mechanics:
 * the default model, of 135M parameters, often repeats its calls or ends in words that make no
 * sense.
 * Usage: weather [MODEL [QUESTION [CHOICE]]], CHOICE "auto" where a first turn cannot be told to
 * call (Ollama).
 */
#include <stdio.h>
#include <string.h>
#include <troupe.h>

enum { turns_max = 4 }; /* a model that calls for ever costs for ever */

static const char schema[] = "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}},"
                             "\"required\":[\"city\"],\"additionalProperties\":false}";

/* A real one would ask a weather service; the arguments are JSON, such as {"city":"Oslo"}. */
static const char *get_weather(const char *arguments_json) {
    return strstr(arguments_json, "Oslo") != NULL ? "Oslo: 4 degrees, snow"
                                                  : "elsewhere: 21 degrees, sun";
}

/* Prints what the model says as it says it. TR_DONE: the answer is complete. */
static tr_err print_answer(tr_stream *stream) {
    tr_chunk chunk;
    tr_err err;
    bool said = false;
    while ((err = tr_stream_next(stream, -1, &chunk)) == TR_OK) {
        if (chunk.kind == TR_CHUNK_TEXT) {
            fwrite(chunk.text, 1, chunk.size, stdout);
        } else if (chunk.kind == TR_CHUNK_TOOL_START) {
            printf("\n[%s] ", chunk.name);
        } else if (chunk.kind == TR_CHUNK_TOOL_ARGS) {
            fwrite(chunk.text, 1, chunk.size, stdout);
        }
        fflush(stdout);
        said = true;
    }
    if (said) {
        printf("\n");
    }
    return err;
}

/* The model's turn goes back as it came (some providers want their own fields again), then a result
 * for each call. Were the next turn forced to call as well, it would never answer. */
static tr_err give_results(tr_request *request, const tr_result *answer) {
    tr_err err = tr_request_tool_choice(request, NULL);
    if (err == TR_OK) {
        err = tr_request_answer(request, answer);
    }
    for (size_t i = 0; err == TR_OK && i < tr_result_tool_calls(answer); i++) {
        tr_tool_call call = tr_result_tool_call(answer, i);
        err = tr_request_tool_result(request, call.id, get_weather(call.arguments_json));
    }
    return err;
}

/* One answer; *ret_calls: it called tools and wants their results, which `request` now has. */
static tr_err take_turn(tr_client *client, tr_request *request, bool *ret_calls) {
    tr_stream *stream;
    tr_err err = tr_stream_open(client, request, &stream);
    if (err != TR_OK) {
        return err;
    }
    err = print_answer(stream);
    if (err == TR_DONE) {
        const tr_result *answer = tr_stream_result(stream);
        *ret_calls = strcmp(tr_result_finish(answer), "tool_calls") == 0;
        err = *ret_calls ? give_results(request, answer) : TR_OK;
    }
    tr_stream_close(stream);
    return err;
}

int main(int argc, char **argv) {
    tr_client *client = NULL;
    tr_request *request = NULL;
    tr_options options = TR_OPTIONS_INIT;
    options.model = argc > 1 ? argv[1] : NULL;
    options.tool_choice = argc > 3 ? argv[3] : "required";
    options.system = "Answer in one short sentence, with what the tools say.";
    options.max_tokens = 256;
    tr_err err = tr_client_open(NULL, &client);
    if (err == TR_OK) {
        err = tr_request_new(&options, &request);
    }
    if (err == TR_OK) {
        err = tr_request_text(request, "user",
                              argc > 2 ? argv[2] : "How is the weather in Oslo and in Rome?");
    }
    if (err == TR_OK) {
        err = tr_request_tool(request, "get_weather", "The weather in a city now", schema);
    }
    bool calls = true;
    for (int turn = 0; err == TR_OK && calls && turn < turns_max; turn++) {
        err = take_turn(client, request, &calls);
    }
    if (err != TR_OK) {
        fprintf(stderr, "%s\n", tr_client_error());
    }
    tr_request_free(request);
    tr_client_close(client);
    return err == TR_OK ? 0 : 1;
}
