/*
 * What is asked of the daemon besides chat and embeddings (embed.c): token counts, control
 * requests. Each is one call that is waited for; the answers are small and their failures come back
 * as the function's own error, with the daemon's sentence. Runs on the caller's thread.
 */
#include "protocol/client/client_internal.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/json.h"
#include "protocol/limits.h"

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
