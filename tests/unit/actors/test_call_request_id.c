/* The provider's id of a request is told whoever ends it: support wants to hear of it then most. */
#include <CUnit/Basic.h>
#include <stdio.h>

#include "tests/unit/actors/call_rig.h"

static call_rig rig;

static void serve(const char *id) {
    tr_msg *served = tr_msg_new(TR_KIND_SERVED, strlen(id));
    CU_ASSERT_PTR_NOT_NULL_FATAL(served);
    memcpy(served->data, id, strlen(id));
    stand_in_send(&rig.backend, rig.call, served, 1);
}

static void expect_fail(tr_err err, const char *id) {
    tr_msg *end = stand_in_expect(&rig.door, TR_KIND_FAIL);
    const tr_fail *fail = (const tr_fail *)(const void *)end->data;
    tr_end_view view = tr_fail_read(fail);
    CU_ASSERT_EQUAL(fail->err, err);
    CU_ASSERT_EQUAL(view.request_id.size, strlen(id));
    CU_ASSERT_EQUAL(memcmp(view.request_id.ptr, id, view.request_id.size), 0);
    tr_msg_free(end);
}

static void a_cancelled_request_names_its_id(void) {
    rig_up(&rig, 1);
    rig_stream(&rig);
    serve("req_123");
    stand_in_send(&rig.door, rig.call, tr_msg_cancel(TR_ERR_CANCELLED), DOOR_REF);
    expect_fail(TR_ERR_CANCELLED, "req_123");
    rig_down(&rig);
}

static void a_failure_of_the_providers_own_keeps_its_words(void) {
    rig_up(&rig, 1);
    rig_stream(&rig);
    serve("req_old");
    tr_fail head = {.err = TR_ERR_INVALID};
    tr_end_view view = {.message = {"no", 2}, .request_id = {"req_new", 7}};
    stand_in_send(&rig.backend, rig.call, tr_msg_fail(&head, &view), 1);
    expect_fail(TR_ERR_INVALID, "req_new");
    rig_down(&rig);
}

static void without_one_there_is_none(void) {
    rig_up(&rig, 1);
    rig_stream(&rig);
    stand_in_send(&rig.door, rig.call, tr_msg_cancel(TR_ERR_CANCELLED), DOOR_REF);
    expect_fail(TR_ERR_CANCELLED, "");
    rig_down(&rig);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(a_cancelled_request_names_its_id),
        PUPPET_TEST(a_failure_of_the_providers_own_keeps_its_words),
        PUPPET_TEST(without_one_there_is_none),
    };
    return puppet_main("call_request_id", tests, sizeof tests / sizeof *tests);
}
