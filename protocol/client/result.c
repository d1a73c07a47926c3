/*
 * tr_result: what one request came to. Everything is kept as strings with a NUL, so that the
 * accessors only lend. A failed request keeps what had arrived. Total size is bounded, since a
 * broken backend could write for ever.
 */
#include "protocol/client/result.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/limits.h"

tr_result *tri_result_new(void) {
    tr_result *result = calloc(1, sizeof *result);
    if (result != NULL) {
        result->usage.cost = TR_NAN;
    }
    return result;
}

void tr_result_free(tr_result *result) {
    if (result == NULL) {
        return;
    }
    for (size_t i = 0; i < result->choice_count; i++) {
        tri_buffer_fini(&result->choices[i]);
    }
    for (size_t i = 0; i < result->call_count; i++) {
        tri_buffer_fini(&result->calls[i].id);
        tri_buffer_fini(&result->calls[i].name);
        tri_buffer_fini(&result->calls[i].arguments);
    }
    for (size_t i = 0; i < result->opaque_count; i++) {
        tri_buffer_fini(&result->opaques[i].name);
        tri_buffer_fini(&result->opaques[i].value);
    }
    free(result->choices);
    free(result->calls);
    free(result->opaques);
    tri_buffer_fini(&result->reasoning);
    tri_buffer_fini(&result->message);
    tri_buffer_fini(&result->target);
    tri_buffer_fini(&result->request_id);
    free(result);
}

static tr_err add_text(tr_result *result, size_t choice, tr_str text) {
    if (choice >= TRI_CHOICES_max) {
        return TR_ERR_TOO_LARGE;
    }
    if (choice >= result->choice_count) {
        tri_buffer *choices = realloc(result->choices, (choice + 1) * sizeof *choices);
        if (choices == NULL) {
            return TR_ERR_NOMEM;
        }
        memset(choices + result->choice_count, 0,
               (choice + 1 - result->choice_count) * sizeof *choices);
        result->choices = choices;
        result->choice_count = choice + 1;
    }
    return tri_buffer_add(&result->choices[choice], text.ptr, text.size);
}

static tri_result_call *call_of(tr_result *result, uint32_t index, tr_err *ret_err) {
    for (size_t i = result->call_count; i > 0; i--) {
        if (result->calls[i - 1].index == index) {
            return &result->calls[i - 1];
        }
    }
    if (result->call_count == TRI_TOOL_CALLS_max) {
        *ret_err = TR_ERR_TOO_LARGE;
        return NULL;
    }
    tri_result_call *calls = realloc(result->calls, (result->call_count + 1) * sizeof *calls);
    if (calls == NULL) {
        *ret_err = TR_ERR_NOMEM;
        return NULL;
    }
    result->calls = calls;
    calls[result->call_count] = (tri_result_call){.index = index};
    return &calls[result->call_count++];
}

static tr_err add_call(tr_result *result, uint32_t index, const tr_delta_view *view) {
    tr_err err = TR_OK;
    tri_result_call *call = call_of(result, index, &err);
    if (call == NULL) {
        return err;
    }
    if (view->id.size > 0) {
        err = tri_buffer_set(&call->id, view->id);
    }
    if (err == TR_OK && view->name.size > 0) {
        err = tri_buffer_set(&call->name, view->name);
    }
    return err == TR_OK ? tri_buffer_add(&call->arguments, view->text.ptr, view->text.size) : err;
}

/* A provider says such a field whole; when it says it again, the last word counts. One that is
 * longer than a DELTA goes on in DELTAs without a name. */
static tr_err add_opaque(tr_result *result, const tr_delta_view *view) {
    tri_result_opaque *found = NULL;
    if (view->name.size == 0 && result->opaque_last < result->opaque_count) {
        found = &result->opaques[result->opaque_last];
        return tri_buffer_add(&found->value, view->text.ptr, view->text.size);
    }
    for (size_t i = 0; i < result->opaque_count && found == NULL; i++) {
        const tri_buffer *name = &result->opaques[i].name;
        if (name->size == view->name.size &&
            memcmp(tri_buffer_text(name), view->name.ptr, name->size) == 0) {
            found = &result->opaques[i];
        }
    }
    if (found == NULL) {
        if (result->opaque_count == TRI_OPAQUES_max) {
            return TR_ERR_TOO_LARGE;
        }
        tri_result_opaque *opaques =
            realloc(result->opaques, (result->opaque_count + 1) * sizeof *opaques);
        if (opaques == NULL) {
            return TR_ERR_NOMEM;
        }
        result->opaques = opaques;
        found = &opaques[result->opaque_count++];
        *found = (tri_result_opaque){0};
        tr_err err = tri_buffer_set(&found->name, view->name);
        if (err != TR_OK) {
            return err;
        }
    }
    result->opaque_last = (size_t)(found - result->opaques);
    return tri_buffer_set(&found->value, view->text);
}

tr_err tri_result_add(tr_result *result, const tr_delta *delta, bool keep_text) {
    tr_delta_view view = tr_delta_read(delta);
    bool text = delta->kind == TR_DELTA_TEXT || delta->kind == TR_DELTA_REASONING;
    if (text && !keep_text) {
        return TR_OK;
    }
    size_t size = view.text.size + view.id.size + view.name.size;
    if (size > TR_RESULT_max - result->bytes) {
        return TR_ERR_TOO_LARGE;
    }
    result->bytes += size;
    switch ((tr_delta_kind)delta->kind) {
    case TR_DELTA_TEXT:
        return add_text(result, delta->choice, view.text);
    case TR_DELTA_REASONING:
        return tri_buffer_add(&result->reasoning, view.text.ptr, view.text.size);
    case TR_DELTA_TOOL_START:
    case TR_DELTA_TOOL_ARGS:
        return add_call(result, delta->tool, &view);
    case TR_DELTA_OPAQUE:
        return add_opaque(result, &view);
    }
    return TR_OK; /* a kind of a later version */
}

static void set(tri_buffer *buffer, tr_str text) {
    if (text.size > 0 && tri_buffer_set(buffer, text) != TR_OK) {
        tri_buffer_fini(buffer);
    }
}

static void end(tr_result *result, const tr_usage_wire *usage, const tr_end_view *view,
                uint16_t attempts) {
    result->usage = (tr_usage){.in = usage->in,
                               .out = usage->out,
                               .cached = usage->cached,
                               .reasoning = usage->reasoning,
                               .cost = usage->cost,
                               .queue_ms = usage->queue_ms,
                               .first_token_ms = usage->first_token_ms,
                               .total_ms = usage->total_ms};
    result->attempts = attempts;
    set(&result->message, view->message);
    set(&result->target, view->target);
    set(&result->request_id, view->request_id);
}

void tri_result_done(tr_result *result, const tr_done *done) {
    tr_end_view view = tr_done_read(done);
    end(result, &done->usage, &view, done->attempts);
    result->finish = done->finish;
    result->fallback = (done->flags & TR_DONE_FALLBACK) != 0;
    result->hedged = (done->flags & TR_DONE_HEDGED) != 0;
    result->estimated = (done->flags & TR_DONE_ESTIMATED) != 0;
}

void tri_result_fail(tr_result *result, const tr_fail *fail) {
    tr_end_view view = tr_fail_read(fail);
    end(result, &fail->usage, &view, fail->attempts);
    /* A number of a later version is a failure all the same. */
    result->err =
        fail->err >= TR_ERR_NOMEM && fail->err < TR_ERR_N ? (tr_err)fail->err : TR_ERR_BUG;
    result->status = fail->status;
    result->retry_after_ms = fail->retry_after_ms;
}

void tri_result_fail_here(tr_result *result, tr_err err, const char *message) {
    result->err = err;
    set(&result->message, (tr_str){.ptr = message, .size = strlen(message)});
}

tr_err tr_result_error(const tr_result *result) {
    return result->err;
}

const char *tr_result_message(const tr_result *result) {
    if (result->err != TR_OK && result->message.size == 0) {
        return tr_err_text(result->err);
    }
    return tri_buffer_text(&result->message);
}

const char *tr_result_text(const tr_result *result) {
    return result->choice_count > 0 ? tri_buffer_text(&result->choices[0]) : "";
}

const char *tr_result_reasoning(const tr_result *result) {
    return tri_buffer_text(&result->reasoning);
}

const char *tr_result_finish(const tr_result *result) {
    switch ((tr_finish)result->finish) {
    case TR_FINISH_STOP:
        return "stop";
    case TR_FINISH_LENGTH:
        return "length";
    case TR_FINISH_TOOL_CALLS:
        return "tool_calls";
    case TR_FINISH_FILTERED:
        return "content_filter";
    case TR_FINISH_OTHER:
        return "other";
    }
    return "";
}

const char *tr_result_target(const tr_result *result) {
    return tri_buffer_text(&result->target);
}

const char *tr_result_request_id(const tr_result *result) {
    return tri_buffer_text(&result->request_id);
}

uint32_t tr_result_attempts(const tr_result *result) {
    return result->attempts;
}

bool tr_result_hedged(const tr_result *result) {
    return result->hedged;
}

bool tr_result_estimated(const tr_result *result) {
    return result->estimated;
}

bool tr_result_fallback(const tr_result *result) {
    return result->fallback;
}

uint32_t tr_result_retry_after_ms(const tr_result *result) {
    return result->retry_after_ms;
}

uint32_t tr_result_status(const tr_result *result) {
    return result->status;
}

tr_usage tr_result_usage(const tr_result *result) {
    return result->usage;
}

size_t tr_result_choices(const tr_result *result) {
    return result->choice_count > 0 ? result->choice_count : 1;
}

const char *tr_result_choice(const tr_result *result, size_t choice) {
    if (choice < result->choice_count) {
        return tri_buffer_text(&result->choices[choice]);
    }
    return choice == 0 ? "" : NULL;
}

size_t tr_result_tool_calls(const tr_result *result) {
    return result->call_count;
}

tr_tool_call tr_result_tool_call(const tr_result *result, size_t i) {
    if (i >= result->call_count) {
        return (tr_tool_call){NULL, NULL, NULL};
    }
    const tri_result_call *call = &result->calls[i];
    return (tr_tool_call){tri_buffer_text(&call->id), tri_buffer_text(&call->name),
                          tri_buffer_text(&call->arguments)};
}

const char *tr_result_opaque(const tr_result *result, const char *name) {
    for (size_t i = 0; i < result->opaque_count; i++) {
        if (strcmp(tri_buffer_text(&result->opaques[i].name), name) == 0) {
            return tri_buffer_text(&result->opaques[i].value);
        }
    }
    return NULL;
}

void tr_memory_free(void *memory) {
    free(memory);
}

const char *tr_version(void) {
    return TROUPE_VERSION;
}
