/*
 * tr_options into the members of the request's JSON and the numbers of SUBMIT. What libtroupe can
 * judge is refused here, with the option's name; what only the target can judge (a temperature's
 * range, a model's name) is left to it. A caller's struct may be older or newer than this library:
 * its `size` says how much of it is there. Any thread.
 */
#include "protocol/client/request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/client/process.h"
#include "protocol/json.h"
#include "protocol/limits.h"

static tr_err refuse(const char *option, const char *what) {
    return tri_say(TR_ERR_INVALID, "The option %s %s.", option, what);
}

static tr_err copy_name(const char *option, const char *value, size_t max, char **ret) {
    if (value == NULL) {
        value = "";
    }
    size_t size = strlen(value);
    if (size > max) {
        return refuse(option,
                      max == TR_URL_max ? "is longer than 2047 bytes" : "is longer than 255 bytes");
    }
    if (!tr_utf8_valid(value, size)) {
        return refuse(option, "is not valid UTF-8");
    }
    *ret = strdup(value);
    return *ret != NULL ? TR_OK : tri_say_nomem();
}

static tr_err check_numbers(const tr_options *o) {
    if (o->stop_count > TR_STOP_max) {
        return refuse("stop", "has more than 16 strings");
    }
    for (size_t i = 0; i < o->stop_count; i++) {
        if (o->stop == NULL || o->stop[i] == NULL || o->stop[i][0] == '\0' ||
            strlen(o->stop[i]) > TR_STOP_TEXT_max) {
            return refuse("stop", "must hold strings of 1 to 256 bytes");
        }
    }
    if (o->retries >= TR_ATTEMPTS_max && o->retries != TR_RETRIES_DEFAULT) {
        return refuse("retries", "must be 0 to 19");
    }
    if (o->priority < INT8_MIN || o->priority > INT8_MAX) {
        return refuse("priority", "must be -128 to 127");
    }
    if (o->seed < -1) {
        return refuse("seed", "must not be negative (-1 = the daemon chooses)");
    }
    if (o->window_messages > TR_CREDIT_MESSAGES_max) {
        return refuse("window_messages", "must be at most 65536");
    }
    if (o->window_bytes != 0 &&
        (o->window_bytes < TR_CREDIT_BYTES_min || o->window_bytes > TR_CREDIT_BYTES_max)) {
        return refuse("window_bytes", "must be 40 KiB to 16 MiB");
    }
    if (o->connect_ms > TR_TIMEOUT_MS_max || o->first_token_ms > TR_TIMEOUT_MS_max ||
        o->idle_ms > TR_TIMEOUT_MS_max || o->total_ms > TR_TIMEOUT_MS_max) {
        return refuse("connect_ms, first_token_ms, idle_ms or total_ms", "is more than 24 hours");
    }
    return TR_OK;
}

static void write_double(tr_jsonw *w, const char *name, double value) {
    if (!isnan(value)) {
        tr_jsonw_name(w, name);
        tr_jsonw_double(w, value);
    }
}

static void write_int(tr_jsonw *w, const char *name, int64_t value, int64_t absent) {
    if (value != absent) {
        tr_jsonw_name(w, name);
        tr_jsonw_int(w, value);
    }
}

static void write_own(tr_jsonw *w, const tr_options *o) {
    write_double(w, "temperature", o->temperature);
    write_double(w, "top_p", o->top_p);
    write_double(w, "min_p", o->min_p);
    write_double(w, "repeat_penalty", o->repeat_penalty);
    write_double(w, "frequency_penalty", o->frequency_penalty);
    write_double(w, "presence_penalty", o->presence_penalty);
    write_int(w, "top_k", o->top_k, -1);
    write_int(w, "seed", o->seed, -1);
    write_int(w, "max_tokens", o->max_tokens, 0);
    if (o->stop_count > 0) {
        tr_jsonw_name(w, "stop");
        tr_jsonw_open(w, '[');
        for (size_t i = 0; i < o->stop_count; i++) {
            tr_jsonw_text(w, o->stop[i]);
        }
        tr_jsonw_close(w, ']');
    }
    if (o->grammar != NULL) {
        tr_jsonw_name(w, "grammar");
        tr_jsonw_text(w, o->grammar);
    }
    if (o->reasoning_effort != NULL) {
        tr_jsonw_name(w, "reasoning_effort");
        tr_jsonw_text(w, o->reasoning_effort);
    }
    if (o->one_tool_call) {
        tr_jsonw_name(w, "parallel_tool_calls");
        tr_jsonw_bool(w, false);
    }
    if (o->json_schema != NULL) {
        tr_jsonw_name(w, "response_format");
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "type");
        tr_jsonw_text(w, "json_schema");
        tr_jsonw_name(w, "json_schema");
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "name");
        tr_jsonw_text(w, "answer");
        tr_jsonw_name(w, "schema");
        tr_jsonw_raw(w, (tr_str){o->json_schema, strlen(o->json_schema)});
        tr_jsonw_close(w, '}');
        tr_jsonw_close(w, '}');
    }
}

static tr_err parse_object(const char *option, const char *text, tr_json **ret) {
    tr_json *json = NULL;
    tr_json_fault fault = {0};
    tr_err err = tr_json_parse(text, strlen(text), &json, &fault);
    if (err == TR_ERR_INVALID) {
        return tri_say(err, "The option %s is not valid JSON: %s (at byte %zu).", option,
                       fault.reason, fault.offset);
    }
    if (err != TR_OK) {
        return tri_say_nomem();
    }
    if (tr_json_type_of(tr_json_root(json)) != TR_JSON_OBJECT) {
        tr_json_free(json);
        return refuse(option, "must be a JSON object");
    }
    *ret = json;
    return TR_OK;
}

/* A name that is already said would make the body ambiguous. */
static tr_err merge_extra(tri_buffer *own, const tr_json_value *extra, bool choice) {
    static const char *const taken[] = {"messages", "tools", "input", "stream"};
    tr_json *said = NULL;
    tr_err err = tr_json_parse((const char *)own->data, own->size, &said, NULL);
    if (err != TR_OK) {
        return tri_say(err, "The options are not valid UTF-8.");
    }
    own->size--; /* the closing brace */
    bool comma = own->size > 1;
    for (const tr_json_value *at = tr_json_first(extra); at != NULL && err == TR_OK;
         at = tr_json_next(at)) {
        tr_str name = tr_json_name(at);
        bool twice = tr_json_get(tr_json_root(said), name.ptr) != NULL ||
                     (choice && strcmp(name.ptr, "tool_choice") == 0);
        for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
            twice = twice || strcmp(name.ptr, taken[i]) == 0;
        }
        if (twice) {
            err = tri_say(TR_ERR_INVALID,
                          "The option extra_json has \"%.64s\", which is given in "
                          "another way already.",
                          name.ptr);
            break;
        }
        tr_str raw = tr_json_raw(at);
        err = comma ? tri_add(own, ",") : TR_OK;
        err = err == TR_OK ? tri_json_string(own, name.ptr) : err;
        err = err == TR_OK ? tri_add(own, ":") : err;
        err = err == TR_OK ? tri_buffer_add(own, raw.ptr, raw.size) : err;
        comma = true;
    }
    tr_json_free(said);
    return err == TR_OK ? tri_add(own, "}") : err;
}

static tr_err render(tr_request *request, const tr_options *o) {
    tr_json *schema = NULL, *extra = NULL;
    tr_err err =
        o->json_schema != NULL ? parse_object("json_schema", o->json_schema, &schema) : TR_OK;
    tr_json_free(schema);
    if (err == TR_OK && o->extra_json != NULL) {
        err = parse_object("extra_json", o->extra_json, &extra);
    }
    if (err != TR_OK) {
        return err;
    }
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    write_own(&w, o);
    tr_jsonw_close(&w, '}');
    char *text = NULL;
    size_t size = 0;
    tri_buffer own = {0};
    err = tr_jsonw_take(&w, &text, &size);
    if (err != TR_OK) {
        tri_say_text("An option's text is not valid UTF-8.");
    } else {
        err = tri_buffer_add(&own, text, size);
    }
    free(text);
    if (err == TR_OK && extra != NULL) {
        request->extra_choice = tr_json_get(tr_json_root(extra), "tool_choice") != NULL;
        err = merge_extra(&own, tr_json_root(extra), request->choice.size > 0);
    }
    tr_json_free(extra);
    if (err == TR_OK && own.size > 2) {
        err = tri_buffer_add(&request->fields, own.data + 1, own.size - 2);
    }
    tri_buffer_fini(&own);
    return err;
}

static void fill_head(tr_request *request, const tr_options *o) {
    request->forget = o->forget;
    request->head = (tr_submit){
        .priority = (int8_t)o->priority,
        .flags = (uint16_t)((o->whole ? TR_SUBMIT_NO_STREAM : 0) |
                            (o->hedge ? TR_SUBMIT_HEDGE : 0) | (o->show ? TR_SUBMIT_SHOW : 0)),
        .credit_messages =
            o->window_messages != 0 ? o->window_messages : TR_CREDIT_MESSAGES_default,
        .credit_bytes = o->window_bytes != 0 ? o->window_bytes : TR_CREDIT_BYTES_default,
        .connect_ms = o->connect_ms,
        .first_token_ms = o->first_token_ms,
        .idle_ms = o->idle_ms,
        .total_ms = o->total_ms,
        .attempts = (uint16_t)(o->retries + 1), /* of TR_RETRIES_DEFAULT 0: the daemon's */
    };
}

tr_err tri_request_options(tr_request *request, const tr_options *options) {
    tr_options o = TR_OPTIONS_INIT;
    if (options != NULL) {
        if (options->size < offsetof(tr_options, temperature)) {
            return tri_say(TR_ERR_INVALID, "tr_options must begin as TR_OPTIONS_INIT.");
        }
        memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    }
    tr_err err = check_numbers(&o);
    err = err == TR_OK ? copy_name("model", o.model, TR_NAME_max, &request->target) : err;
    err = err == TR_OK ? copy_name("provider", o.provider, TR_NAME_max, &request->provider) : err;
    err = err == TR_OK ? copy_name("base_url", o.base_url, TR_URL_max, &request->base_url) : err;
    err = err == TR_OK ? tr_request_tool_choice(request, o.tool_choice) : err;
    err = err == TR_OK ? render(request, &o) : err;
    if (err != TR_OK) {
        return err;
    }
    fill_head(request, &o);
    return o.system != NULL ? tr_request_text(request, "system", o.system) : TR_OK;
}
