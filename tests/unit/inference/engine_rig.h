/* What the engine's tests share: an engine on a tiny model, and what each of its requests got. */
#ifndef TR_TESTS_ENGINE_RIG_H
#define TR_TESTS_ENGINE_RIG_H

#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inference/engine.h"
#include "protocol/limits.h"
#include "tests/gguf/tiny_gguf.h"

#define RIG_UNUSED __attribute__((unused))
enum { RIG_REFS = 64, RIG_TEXT = 32768, RIG_TOKENS = 8192 };

typedef struct rig_stream {
    char text[RIG_TEXT];
    size_t size;
    int32_t tokens[RIG_TOKENS];
    size_t token_count;
    uint32_t deltas, bytes;        /* what they cost in credit */
    uint32_t boundary[RIG_TOKENS]; /* token_count after each delta */
    size_t text_at[RIG_TOKENS];    /* size after each delta */
    int terminals;
    tr_err err; /* TR_OK of a DONE */
    tr_finish finish;
    uint16_t flags, last_choice;
    tr_usage_wire usage;
    char message[2048];
    uint32_t calls;    /* tool calls begun; each writes [id name] into text */
    size_t plain;      /* bytes of text deltas */
    bool order_broken; /* a message after the terminal, or a seq out of order */
} rig_stream;

typedef struct rig {
    tr_engine *engine;
    rig_stream *streams[RIG_REFS];
} rig;

static rig_stream *rig_of(rig *r, uint64_t ref) {
    rig_stream **at = &r->streams[ref];
    return *at != NULL ? *at : (*at = calloc(1, sizeof(rig_stream)));
}

static void rig_emit(void *arg, tr_msg *msg) {
    rig_stream *s = rig_of(arg, msg->ref);
    if (s->terminals > 0 || tr_wire_check(msg->kind, msg->data, msg->size) != TR_OK) {
        s->order_broken = true;
    }
    if (msg->kind == TR_KIND_DELTA) {
        const tr_delta *d = (const tr_delta *)msg->data;
        tr_delta_view view = tr_delta_read(d);
        s->order_broken = s->order_broken || d->seq != s->deltas;
        if (s->size + view.text.size < RIG_TEXT) {
            memcpy(s->text + s->size, view.text.ptr, view.text.size);
            s->size += view.text.size;
        }
        s->plain += d->kind == TR_DELTA_TEXT ? view.text.size : 0;
        if (d->kind == TR_DELTA_TOOL_START) {
            s->order_broken = s->order_broken || d->tool != s->calls++;
            s->size += (size_t)snprintf(s->text + s->size, RIG_TEXT - s->size, "[%.*s %.*s]",
                                        (int)view.id.size, view.id.ptr, (int)view.name.size,
                                        view.name.ptr);
        }
        for (uint32_t i = 0; i < d->token_count && s->token_count < RIG_TOKENS; i++) {
            s->tokens[s->token_count++] = view.tokens[i];
        }
        s->last_choice = d->choice;
        s->boundary[s->deltas] = (uint32_t)s->token_count;
        s->text_at[s->deltas] = s->size;
        s->deltas++;
        s->bytes += msg->size;
    } else if (msg->kind == TR_KIND_DONE) {
        s->terminals++;
        s->finish = (tr_finish)((const tr_done *)msg->data)->finish;
        s->usage = ((const tr_done *)msg->data)->usage;
    } else {
        const tr_fail *f = (const tr_fail *)msg->data;
        tr_end_view view = tr_fail_read(f);
        s->terminals++;
        s->err = (tr_err)f->err;
        s->flags = f->flags, s->usage = f->usage;
        snprintf(s->message, sizeof s->message, "%.*s", (int)view.message.size, view.message.ptr);
    }
    tr_msg_free(msg);
}

/* A model file that lives until rig_remove. */
static char *rig_write(const tr_tiny_spec *spec) {
    char *file = strdup("/tmp/troupe-test-XXXXXX");
    int fd = mkstemp(file);
    CU_ASSERT_TRUE_FATAL(fd >= 0 && tr_tiny_gguf_write(spec, file));
    close(fd);
    return file;
}

RIG_UNUSED static void rig_open(rig *r, tr_tiny_kind kind, uint32_t sequences, uint32_t context) {
    char why[TR_ENGINE_WHY_size], *file = rig_write(&(tr_tiny_spec){.kind = kind});
    *r = (rig){0};
    tr_engine_spec spec = {.model_file = file,
                           .model_name = "tiny",
                           .sequences = sequences,
                           .context = context,
                           .threads = 1,
                           .emit = rig_emit,
                           .arg = r};
    CU_ASSERT_EQUAL_FATAL(tr_engine_new(&spec, &r->engine, why), TR_OK);
    unlink(file);
    free(file);
}

RIG_UNUSED static void rig_close(rig *r) {
    tr_engine_free(r->engine);
    for (int i = 0; i < RIG_REFS; i++) {
        free(r->streams[i]);
    }
}

RIG_UNUSED static void rig_submit(rig *r, uint64_t ref, const tr_submit *head,
                                  const int32_t *resume, const char *json) {
    tr_body *body = tr_body_new(strlen(json));
    memcpy(body->bytes, json, strlen(json));
    tr_msg *msg = tr_msg_submit(head, &(tr_submit_view){.resume = resume}, body);
    msg->ref = ref;
    tr_engine_submit(r->engine, msg);
}

static const tr_submit rig_plenty = {
    .op = TR_OP_CHAT, .credit_messages = 60000, .credit_bytes = 16U << 20, .seed = 7};

RIG_UNUSED static rig_stream *rig_ask(rig *r, uint64_t ref, const char *json) {
    rig_submit(r, ref, &rig_plenty, NULL, json);
    while (tr_engine_step(r->engine)) {
    }
    return rig_of(r, ref);
}

static int rig_main(const char *name, CU_TestInfo *tests) {
    CU_SuiteInfo suites[] = {{name, NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    return CU_get_number_of_failures() > 0;
}

#endif
