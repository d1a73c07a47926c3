/* Loading: whatever is wrong with a model file is said in a sentence, and nothing crashes. */
#include <errno.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/unit/inference/engine_rig.h"

static char why[TR_ENGINE_WHY_size];

static void no_message(void *arg, tr_msg *msg) {
    (void)arg;
    tr_msg_free(msg);
}

static tr_err load(const char *file, const char *chat_template) {
    tr_engine *engine = NULL;
    tr_engine_spec spec = {.model_file = file,
                           .model_name = "tiny",
                           .chat_template = chat_template,
                           .sequences = 1,
                           .context = 256,
                           .threads = 1,
                           .emit = no_message};
    tr_err err = tr_engine_new(&spec, &engine, why);
    if (err == TR_OK) {
        tr_engine_free(engine);
    }
    return err;
}

static bool why_has(const char *text) {
    bool has = strstr(why, text) != NULL;
    if (!has) {
        printf("\n  why: %s\n", why);
    }
    return has;
}

static void missing_file_is_named(void) {
    CU_ASSERT_EQUAL(load("/nonexistent/x.gguf", NULL), TR_ERR_NOT_FOUND);
    CU_ASSERT_TRUE(why_has("/nonexistent/x.gguf: No such file"));
    CU_ASSERT_EQUAL(load("/tmp", NULL), TR_ERR_INVALID);
    CU_ASSERT_TRUE(why_has("it is no file"));
}

static void other_formats_are_refused(void) {
    char *file = rig_write(&(tr_tiny_spec){.kind = TR_TINY_CHAIN});
    FILE *out = fopen(file, "wb");
    fputs("PK\003\004 this is a zip", out);
    fclose(out);
    CU_ASSERT_EQUAL(load(file, NULL), TR_ERR_INVALID);
    CU_ASSERT_TRUE(why_has("no GGUF"));
    CU_ASSERT_EQUAL(truncate(file, 0), 0);
    CU_ASSERT_EQUAL(load(file, NULL), TR_ERR_INVALID);
    unlink(file);
    free(file);
}

/* Bytes behind the tensors are nobody's, but they are mapped with them. */
static void an_intact_file_without_memory_for_it_is_called_that(void) {
    char *file = rig_write(&(tr_tiny_spec){.kind = TR_TINY_CHAIN});
    CU_ASSERT_EQUAL_FATAL(truncate(file, 512L << 20), 0);
    struct rlimit before, low;
    unsigned long long pages = 0;
    FILE *in = fopen("/proc/self/statm", "r");
    CU_ASSERT_FATAL(in != NULL && fscanf(in, "%llu", &pages) == 1);
    fclose(in);
    CU_ASSERT_EQUAL_FATAL(getrlimit(RLIMIT_AS, &before), 0);
    low = before;
    low.rlim_cur = pages * (unsigned long long)sysconf(_SC_PAGESIZE) + (256U << 20);
    CU_ASSERT_EQUAL_FATAL(setrlimit(RLIMIT_AS, &low), 0);
    tr_err err = load(file, NULL);
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_AS, &before), 0);
    CU_ASSERT_EQUAL(err, TR_ERR_NOMEM);
    CU_ASSERT_TRUE(why_has("there is not enough memory for it: the model takes 512 MiB"));
    CU_ASSERT_TRUE(why_has("fewer workers or sequences or a smaller context"));
    CU_ASSERT_PTR_NULL(strstr(why, "corrupt"));
    CU_ASSERT_EQUAL(load(file, NULL), TR_OK);
    unlink(file);
    free(file);
}

static void every_truncation_is_noticed(void) {
    char *file = rig_write(&(tr_tiny_spec){.kind = TR_TINY_CHAIN});
    struct stat st;
    CU_ASSERT_EQUAL_FATAL(stat(file, &st), 0);
    for (int i = 39; i >= 0; i--) {
        off_t size = i < 20 ? i * 7 : st.st_size * (i - 19) / 21;
        CU_ASSERT_EQUAL(truncate(file, size), 0);
        CU_ASSERT_EQUAL(load(file, NULL), TR_ERR_INVALID);
        CU_ASSERT_TRUE(why_has(file));
    }
    unlink(file);
    free(file);
}

/* Bytes overwritten in the head: libllama may still load it, but it must not crash on it. */
static void corrupt_head_is_survived(void) {
    int refused = 0;
    for (unsigned i = 0; i < 24; i++) {
        char *file = rig_write(&(tr_tiny_spec){.kind = TR_TINY_CHAIN});
        FILE *out = fopen(file, "r+b");
        fseek(out, 4 + (long)i * 17, SEEK_SET);
        fwrite("\xff\xff\xff\xff", 1, 4, out);
        fclose(out);
        refused += load(file, NULL) != TR_OK;
        unlink(file);
        free(file);
    }
    CU_ASSERT_TRUE(refused > 6);
}

static void unknown_chat_template_is_refused_with_the_fix(void) {
    char *file = rig_write(&(tr_tiny_spec){.kind = TR_TINY_CHAIN,
                                           .chat_template = "{{ some | jinja | nobody | knows }}"});
    CU_ASSERT_EQUAL(load(file, NULL), TR_ERR_UNSUPPORTED);
    CU_ASSERT_TRUE(why_has("--chat-template"));
    CU_ASSERT_TRUE(why_has("chatml"));
    CU_ASSERT_EQUAL(load(file, "chatml"), TR_OK);
    CU_ASSERT_EQUAL(load(file, "nonsense"), TR_ERR_UNSUPPORTED);
    CU_ASSERT_TRUE(why_has("vicuna"));
    unlink(file);
    free(file);
}

static void list_of_templates_ends_with_a_whole_name(void) {
    char *file = rig_write(&(tr_tiny_spec){.kind = TR_TINY_CHAIN});
    CU_ASSERT_EQUAL(load(file, "nonsense"), TR_ERR_UNSUPPORTED);
    CU_ASSERT_TRUE(why_has("vicuna")); /* there is room for all */
    char all[TR_ENGINE_WHY_size + 1];
    snprintf(all, sizeof all, "%s ", why);
    char path[700] = "/tmp";
    while (strlen(path) < 600) {
        strncat(path, "/.", sizeof path - strlen(path) - 1);
    }
    strncat(path, file + strlen("/tmp"), sizeof path - strlen(path) - 1);
    CU_ASSERT_EQUAL(load(path, "nonsense"), TR_ERR_UNSUPPORTED);
    CU_ASSERT_TRUE(why_has("one of: "));
    char *end = strstr(why, " \u2026");
    CU_ASSERT_PTR_NOT_NULL_FATAL(end);
    CU_ASSERT_STRING_EQUAL(end, " \u2026");
    end[0] = '\0';
    char last[64];
    snprintf(last, sizeof last, "%.60s ", strrchr(why, ' '));
    CU_ASSERT_PTR_NOT_NULL(strstr(all, last));
    unlink(file);
    free(file);
}

static void model_without_a_template_refuses_chats_only(void) {
    char *file = rig_write(&(tr_tiny_spec){.kind = TR_TINY_RANDOM, .chat_template = ""});
    rig r = {0};
    tr_engine_spec spec = {.model_file = file,
                           .model_name = "tiny",
                           .sequences = 1,
                           .context = 256,
                           .threads = 1,
                           .emit = rig_emit,
                           .arg = &r};
    CU_ASSERT_EQUAL_FATAL(tr_engine_new(&spec, &r.engine, why), TR_OK);
    rig_stream *s = rig_ask(&r, 1, "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    CU_ASSERT_EQUAL(s->err, TR_ERR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(s->message, "chat_template"));
    tr_submit head = rig_plenty;
    head.op = TR_OP_EMBED;
    rig_submit(&r, 2, &head, NULL, "{\"input\":\"hi\"}");
    while (tr_engine_step(r.engine)) {
    }
    CU_ASSERT_EQUAL(rig_of(&r, 2)->err, TR_OK);
    rig_close(&r);
    unlink(file);
    free(file);
}

static uint32_t percents[3];

static bool on_progress(void *arg, uint32_t percent) {
    percents[0] = percents[1]++ == 0 ? percent : percents[0];
    percents[2] = percent;
    return arg == NULL;
}

static void progress_is_told_and_a_load_can_be_stopped(void) {
    char *file = rig_write(&(tr_tiny_spec){.kind = TR_TINY_CHAIN});
    tr_engine *engine = NULL;
    tr_engine_spec spec = {.model_file = file,
                           .model_name = "tiny",
                           .threads = 1,
                           .context = 256,
                           .progress = on_progress,
                           .emit = no_message};
    CU_ASSERT_EQUAL(tr_engine_new(&spec, &engine, why), TR_OK);
    CU_ASSERT_TRUE(percents[1] > 1);
    CU_ASSERT_EQUAL(percents[2], 100);
    tr_engine_free(engine);
    spec.arg = percents;
    CU_ASSERT_EQUAL(tr_engine_new(&spec, &engine, why), TR_ERR_CANCELLED);
    unlink(file);
    free(file);
}

int main(void) {
    CU_TestInfo tests[] = {
#define T(name) {#name, name}
        T(missing_file_is_named),
        T(other_formats_are_refused),
        T(an_intact_file_without_memory_for_it_is_called_that),
        T(every_truncation_is_noticed),
        T(corrupt_head_is_survived),
        T(unknown_chat_template_is_refused_with_the_fix),
        T(list_of_templates_ends_with_a_whole_name),
        T(model_without_a_template_refuses_chats_only),
        T(progress_is_told_and_a_load_can_be_stopped),
        CU_TEST_INFO_NULL,
    };
    return rig_main("engine_load", tests);
}
