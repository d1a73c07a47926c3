/*
 * An answer as it is written, with options, a time limit, and what it cost. Chunks hold whole
 * characters; the end of the loop says whether the answer is complete.
 */
#include <stdio.h>
#include <troupe.h>

static tr_err print_stream(tr_client *client, const tr_request *request) {
    tr_stream *stream;
    tr_err err = tr_stream_open(client, request, &stream);
    if (err != TR_OK) {
        return err;
    }
    tr_chunk chunk;
    while ((err = tr_stream_next(stream, -1, &chunk)) == TR_OK) {
        if (chunk.kind == TR_CHUNK_TEXT) {
            fwrite(chunk.text, 1, chunk.size, stdout);
            fflush(stdout);
        }
    }
    if (err == TR_DONE) {
        tr_usage usage = tr_result_usage(tr_stream_result(stream));
        printf("\n");
        fprintf(stderr, "%llu tokens in %u ms\n", (unsigned long long)usage.out, usage.total_ms);
        err = TR_OK;
    }
    tr_stream_close(stream);
    return err;
}

int main(int argc, char **argv) {
    tr_client *client = NULL;
    tr_request *request = NULL;
    tr_options options = TR_OPTIONS_INIT;
    options.system = "Answer in one sentence.";
    options.temperature = 0;
    options.max_tokens = 64;
    options.total_ms = 60000;
    tr_err err = tr_client_open(NULL, &client);
    if (err == TR_OK) {
        err = tr_request_new(&options, &request);
    }
    if (err == TR_OK) {
        err = tr_request_text(request, "user", argc > 1 ? argv[1] : "What is an actor?");
    }
    if (err == TR_OK) {
        err = print_stream(client, request);
    }
    if (err != TR_OK) {
        fprintf(stderr, "%s\n", tr_client_error());
    }
    tr_request_free(request);
    tr_client_close(client);
    return err == TR_OK ? 0 : 1;
}
