/*
 * Two models, "mock:" and "mock:echo". What cannot be done is said in an object `error`, as LM
 * Studio does. Called by conn.c; pure but for the list it keeps.
 */
#include "tools/mock/lmstudio.h"

#include <string.h>

static const char *const models[] = {"mock:", "mock:echo"};

static bool is(tr_str path, const char *whole) {
    return path.size == strlen(whole) && memcmp(path.ptr, whole, path.size) == 0;
}

static char *list(const mock_loaded *loaded) {
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "models");
    tr_jsonw_open(&w, '[');
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        tr_jsonw_open(&w, '{');
        tr_jsonw_name(&w, "type");
        tr_jsonw_text(&w, "llm");
        tr_jsonw_name(&w, "key");
        tr_jsonw_text(&w, models[i]);
        tr_jsonw_name(&w, "size_bytes");
        tr_jsonw_uint(&w, 1000);
        tr_jsonw_name(&w, "max_context_length");
        tr_jsonw_uint(&w, 4096);
        tr_jsonw_name(&w, "loaded_instances");
        tr_jsonw_open(&w, '[');
        if (mock_loaded_has(loaded, models[i])) {
            tr_jsonw_open(&w, '{');
            tr_jsonw_name(&w, "id");
            tr_jsonw_text(&w, models[i]);
            tr_jsonw_name(&w, "config");
            tr_jsonw_raw(&w, (tr_str){"{\"context_length\":2048}", 23});
            tr_jsonw_close(&w, '}');
        }
        tr_jsonw_close(&w, ']');
        tr_jsonw_close(&w, '}');
    }
    tr_jsonw_close(&w, ']');
    tr_jsonw_close(&w, '}');
    return mock_take_text(&w, "", "\n");
}

/* {"<name>": "<value>"}, or an error that says `message`. */
static char *say(bool fine, const char *name, const char *value) {
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, fine ? name : "error");
    if (fine) {
        tr_jsonw_text(&w, value);
    } else {
        tr_jsonw_open(&w, '{');
        tr_jsonw_name(&w, "type");
        tr_jsonw_text(&w, "model_not_found");
        tr_jsonw_name(&w, "message");
        tr_jsonw_text(&w, value);
        tr_jsonw_close(&w, '}');
    }
    tr_jsonw_close(&w, '}');
    return mock_take_text(&w, "", "\n");
}

char *mock_lmstudio(mock_loaded *loaded, tr_str path, tr_str body, uint64_t *ret_status) {
    bool load = is(path, "/api/v1/models/load");
    bool unload = is(path, "/api/v1/models/unload");
    tr_json *json = NULL;
    char name[256] = "";
    *ret_status = 200;
    if (is(path, "/api/v1/models")) {
        return list(loaded);
    }
    if (!load && !unload) {
        return NULL;
    }
    if (tr_json_parse(body.ptr, body.size, &json, NULL) == TR_OK) {
        tr_str text =
            tr_json_string(tr_json_get(tr_json_root(json), load ? "model" : "instance_id"));
        snprintf(name, sizeof(name), "%.*s", (int)text.size, text.size == 0 ? "" : text.ptr);
        tr_json_free(json);
    }
    bool known = false;
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        known = known || strcmp(models[i], name) == 0;
    }
    bool fine = load ? known : mock_loaded_has(loaded, name);
    if (fine && load) {
        mock_loaded_add(loaded, name);
    } else if (fine) {
        mock_loaded_drop(loaded, name);
    }
    *ret_status = fine ? 200 : 404;
    return fine ? say(true, "instance_id", name)
                : say(false, "",
                      load ? "no such model is downloaded" : "no such instance is loaded");
}
