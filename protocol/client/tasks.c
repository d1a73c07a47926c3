/*
 * What is asked of the daemon besides chat: embeddings, token counts, control requests. Each is one
 * call that is waited for; the answers are small (embeddings excepted, which are put into place as
 * they arrive) and their failures come back as the function's own error, with the daemon's
 * sentence. Runs on the caller's thread.
 */
#include "protocol/client/client_internal.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/assert.h"
#include "protocol/json.h"
#include "protocol/limits.h"

#define DIMENSION_max 65536

/* Runs it; its failure becomes the caller's. The result is freed unless wanted. */
static tr_err run_whole(tr_client *client, tri_call *call, tr_result **ret) {
    tr_result *result = NULL;
    tr_err err = tri_run(client, call, &result);
    if (err != TR_OK) {
        return err;
    }
    err = result->err;
    if (err != TR_OK) {
        tri_say_text("%s", tr_result_message(result));
        tr_result_free(result);
        return err;
    }
    *ret = result;
    return TR_OK;
}

/* Where the vectors go; the first one tells the dimension. */
typedef struct vectors {
    size_t count;
    tri_buffer *rows; /* bytes as they come */
} vectors;

static tr_err add_vector(tri_call *call, const tr_delta *delta) {
    vectors *v = call->delta_arg;
    tr_str bytes = tr_delta_read(delta).text;
    if (delta->kind != TR_DELTA_OPAQUE || delta->choice >= v->count) {
        return TR_OK; /* something of a later version */
    }
    tri_buffer *row = &v->rows[delta->choice];
    if (bytes.size > DIMENSION_max * sizeof(float) - row->size) {
        return TR_ERR_TOO_LARGE;
    }
    return tri_buffer_add(row, bytes.ptr, bytes.size);
}

static tr_err join_vectors(const vectors *v, float **ret, size_t *ret_dim) {
    size_t size = v->rows[0].size;
    bool fine = size > 0 && size % sizeof(float) == 0;
    for (size_t i = 0; i < v->count; i++) {
        fine = fine && v->rows[i].size == size;
    }
    if (!fine) {
        return tri_say(TR_ERR_PROTOCOL, "The daemon sent vectors of different or no length.");
    }
    TR_ASSERT(v->count > 0);
    float *all = malloc(v->count * size);
    if (all == NULL) {
        return tri_say_nomem();
    }
    for (size_t i = 0; i < v->count; i++) {
        memcpy((uint8_t *)all + i * size, v->rows[i].data, size);
    }
    *ret = all;
    *ret_dim = size / sizeof(float);
    return TR_OK;
}

static tr_err embed(tr_client *client, const tr_request *request, const char *const *texts,
                    vectors *v) {
    tri_buffer body = {0};
    tri_call *call = NULL;
    tr_result *result = NULL;
    tr_err err = tri_request_inputs(request, texts, v->count, &body);
    err = err == TR_OK ? tri_call_new(TR_OP_EMBED, TRI_COLLECT, request, &body, &call) : err;
    tri_buffer_fini(&body);
    if (err != TR_OK) {
        return err;
    }
    call->on_delta = add_vector;
    call->delta_arg = v;
    err = run_whole(client, call, &result);
    tr_result_free(result);
    return err;
}

tr_err tr_embed(tr_client *client, const tr_options *options, const char *const *texts, size_t n,
                float **ret, size_t *ret_dim) {
    if (n == 0 || n > TR_INPUTS_max) {
        return tri_say(TR_ERR_INVALID, "tr_embed takes 1 to %d texts, not %zu.", TR_INPUTS_max, n);
    }
    tr_request *request = NULL;
    tr_err err = tr_request_new(options, &request);
    if (err != TR_OK) {
        return err;
    }
    vectors v = {.count = n, .rows = calloc(n, sizeof(tri_buffer))};
    err = v.rows == NULL ? tri_say_nomem() : embed(client, request, texts, &v);
    err = err == TR_OK ? join_vectors(&v, ret, ret_dim) : err;
    for (size_t i = 0; v.rows != NULL && i < n; i++) {
        tri_buffer_fini(&v.rows[i]);
    }
    free(v.rows);
    tr_request_free(request);
    return err;
}

tr_err tr_count_tokens(tr_client *client, const tr_request *request, uint64_t *ret,
                       bool *ret_exact) {
    tri_call *call = NULL;
    tr_result *result = NULL;
    tr_err err = tri_call_chat(TR_OP_COUNT, TRI_COLLECT, request, &call);
    err = err == TR_OK ? run_whole(client, call, &result) : err;
    if (err != TR_OK) {
        return err;
    }
    const char *text = tr_result_text(result);
    tr_json *json = NULL;
    err = tr_json_parse(text, strlen(text), &json, NULL);
    const tr_json_value *root = err == TR_OK ? tr_json_root(json) : NULL;
    int64_t tokens = tr_json_int(tr_json_get(root, "tokens"), -1);
    if (tokens < 0) {
        err = tri_say(TR_ERR_PROTOCOL, "The daemon's count is not understood: %.200s", text);
    } else {
        *ret = (uint64_t)tokens;
        *ret_exact = tr_json_bool(tr_json_get(root, "exact"), false);
    }
    tr_json_free(json);
    tr_result_free(result);
    return err;
}

tr_err tr_control_json(tr_client *client, const char *request_json, char **ret) {
    if (request_json == NULL) {
        return tri_say(TR_ERR_INVALID, "A control request is a JSON object.");
    }
    tr_request *request = NULL;
    tr_err err = tr_request_new(NULL, &request);
    if (err != TR_OK) {
        return err;
    }
    tri_buffer body = {0};
    tri_call *call = NULL;
    tr_result *result = NULL;
    err = tri_add(&body, request_json);
    if (err == TR_OK && body.size > TR_FRAME_BODY_max) {
        err = tri_say(TR_ERR_TOO_LARGE, "The control request is too large.");
    }
    err = err == TR_OK ? tri_call_new(TR_OP_CONTROL, TRI_COLLECT, request, &body, &call) : err;
    tri_buffer_fini(&body);
    err = err == TR_OK ? run_whole(client, call, &result) : err;
    if (err == TR_OK) {
        char *text = strdup(tr_result_text(result));
        if (text != NULL) {
            *ret = text;
        } else {
            err = tri_say_nomem();
        }
    }
    tr_result_free(result);
    tr_request_free(request);
    return err;
}

tr_err tr_models_json(tr_client *client, char **ret) {
    return tr_control_json(client, "{\"do\":\"models\"}", ret);
}

static tr_err control_model(tr_client *client, const char *verb, const char *model) {
    if (model == NULL || model[0] == '\0') {
        return tri_say(TR_ERR_INVALID, "Which model? Its name is missing.");
    }
    tri_buffer body = {0};
    char *answer = NULL;
    tr_err err = tri_add(&body, "{\"do\":");
    err = err == TR_OK ? tri_json_string(&body, verb) : err;
    err = err == TR_OK ? tri_add(&body, ",\"model\":") : err;
    err = err == TR_OK ? tri_json_string(&body, model) : err;
    err = err == TR_OK ? tri_add(&body, "}") : err;
    err = err == TR_OK ? tr_control_json(client, tri_buffer_text(&body), &answer) : err;
    tri_buffer_fini(&body);
    free(answer);
    return err;
}

tr_err tr_load(tr_client *client, const char *model) {
    return control_model(client, "load", model);
}

tr_err tr_unload(tr_client *client, const char *model) {
    return control_model(client, "unload", model);
}
