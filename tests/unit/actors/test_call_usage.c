/* What a call says was used when its backend does not say it. */
#include <CUnit/CUnit.h>
#include <math.h>
#include <string.h>

#include "protocol/tokens.h"
#include "tests/unit/actors/call_rig.h"

static call_rig rig;

/* Two pieces of 13 bytes together, then DONE with these figures. */
static void answer(tr_usage_wire usage) {
    tr_done head = {.finish = TR_FINISH_STOP, .usage = usage};
    rig_up(&rig, 1);
    rig_stream(&rig);
    stand_in_send(&rig.backend, rig.call, rig_delta(0, "thirteen ", NULL, 0), 1);
    stand_in_send(&rig.backend, rig.call, rig_delta(1, "by", NULL, 0), 1);
    stand_in_send(&rig.backend, rig.call, rig_delta(2, "te", NULL, 0), 1);
    stand_in_send(&rig.backend, rig.call, tr_msg_done(&head, &(tr_end_view){0}), 1);
    for (int i = 0; i < 3; i++) {
        tr_msg_free(stand_in_expect(&rig.door, TR_KIND_DELTA));
    }
}

/* The door and the gate hear the same. */
static void expect(uint64_t in, uint64_t out, uint8_t flags) {
    tr_msg *done = stand_in_expect(&rig.door, TR_KIND_DONE);
    const tr_done *end = (const tr_done *)(const void *)done->data;
    tr_msg *settled = stand_in_expect(&rig.gate, TR_KIND_SETTLE);
    const tr_settle *settle = (const tr_settle *)(const void *)settled->data;
    CU_ASSERT_EQUAL(end->usage.in, in);
    CU_ASSERT_EQUAL(end->usage.out, out);
    CU_ASSERT_EQUAL(end->flags, flags);
    CU_ASSERT_EQUAL(settle->tokens_in, in);
    CU_ASSERT_EQUAL(settle->tokens_out, out);
    CU_ASSERT_TRUE(flags == 0 || end->usage.cost == 0 || isnan(end->usage.cost));
    tr_msg_free(done);
    tr_msg_free(settled);
    stand_in_clear(&rig.door);
    rig_down(&rig);
}

static void figures_of_a_backend_are_told_as_they_are(void) {
    answer((tr_usage_wire){.in = 5, .out = 2, .cost = NAN});
    expect(5, 2, 0);
    answer((tr_usage_wire){.in = 5, .cost = NAN});
    expect(5, 0, 0);
}

static void answer_without_figures_is_estimated_and_says_so(void) {
    answer((tr_usage_wire){.cost = NAN});
    expect(tr_tokens_of_body("{}", 2), 4, TR_DONE_ESTIMATED); /* 13 bytes are 4 tokens */
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(figures_of_a_backend_are_told_as_they_are),
        PUPPET_TEST(answer_without_figures_is_estimated_and_says_so),
    };
    return puppet_main("call_usage", tests, sizeof tests / sizeof *tests);
}
