/*
 * The default model, SmolLM2-135M-Instruct, in two worker processes that are killed at every tenth
 * token: the answer stays the same. Without the model the test says that it was not run (CTest
 * shows it as skipped).
 */
#include "tests/lib/default_model.h"
#include "tests/lib/puppet.h"
#include "tests/local/local_stream.h"

static char model_file[512];

static void kills_change_nothing_of_a_real_models_answer(void) {
    local_prepare(&the, TR_TINY_CHAIN);
    tr_pool_spec pool = local_pool(&the, "tiny", 2);
    pool.file = model_file;
    local_start(&the, &pool, 1);
    tr_request *request = request_for("Tell me a story of a fox and a crow.", 0, 4);
    static reading whole, cut;
    open_stream(&whole, request);
    read_chunks(&whole, 60);
    tr_stream_close(whole.stream);
    open_stream(&cut, request);
    for (size_t at = 10; at < 60 && cut.end == TR_OK; at += 10) {
        read_chunks(&cut, at - cut.chunks);
        kill_its_worker();
    }
    read_chunks(&cut, 60 - cut.chunks);
    CU_ASSERT(whole.size > 100 && cut.size > 100);
    size_t both = cut.size < whole.size ? cut.size : whole.size;
    CU_ASSERT_EQUAL(memcmp(cut.text, whole.text, both), 0);
    tr_stream_close(cut.stream);
    tr_request_free(request);
    local_stop(&the);
}

int main(void) {
    enum { skipped = 77 };
    if (!tr_default_model(model_file, sizeof model_file)) {
        printf("not run: there is no %s (tools/setup puts it there)\n", model_file);
        return skipped;
    }
    static const puppet_test tests[] = {
        PUPPET_TEST(kills_change_nothing_of_a_real_models_answer),
    };
    return puppet_main("real workers, real model", tests, sizeof tests / sizeof *tests);
}
