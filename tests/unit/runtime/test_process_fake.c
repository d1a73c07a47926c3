/* The fake process table tells and obeys as the real one does, in a test's own time. */
#include <CUnit/Basic.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "runtime/process_fake.h"
#include "tests/lib/puppet.h"

/* An actor that starts processes and writes down what it hears of them. */
typedef struct owner {
    tr_process_table *table;
    tr_id id;
    tr_process *process;
    uint32_t count;
    tr_process_event got[8];
    uint64_t refs[8];
} owner;

typedef struct owner_state {
    owner *me;
} owner_state;

static tr_err owner_init(tr_self *self, void *state, const void *args) {
    owner *me = *(owner *const *)args;
    ((owner_state *)state)->me = me;
    me->id = tr_self_id(self);
    const char *argv[] = {"/bin/worker", "--model", "m.gguf", NULL};
    const char *env[] = {"A=1", "AB=2", NULL};
    tr_process_spec spec = {.argv = argv, .env_add = env};
    return me->table->spawn(me->table, self, &spec, 77, &me->process);
}

static tr_err owner_handle(tr_self *self, void *state, tr_msg **msg) {
    (void)self;
    owner *me = ((owner_state *)state)->me;
    CU_ASSERT_EQUAL_FATAL((*msg)->kind, TR_KIND_PROCESS);
    memcpy(&me->got[me->count], (*msg)->data, sizeof me->got[0]);
    me->refs[me->count++] = (*msg)->ref;
    return TR_OK;
}

static void owner_stop(tr_self *self, void *state, tr_err reason) {
    (void)self;
    (void)reason;
    owner *me = ((owner_state *)state)->me;
    me->table->abandon(me->process);
}

static const tr_behaviour owner_behaviour = {.name = "owner",
                                             .state_size = sizeof(owner_state),
                                             .init = owner_init,
                                             .handle = owner_handle,
                                             .stop = owner_stop};

typedef struct heard {
    uint32_t spawned;
    int32_t pid;
    int signal;
} heard;

static void on_spawned(void *arg, int32_t pid) {
    heard *h = arg;
    h->spawned++;
    h->pid = pid;
}

static void on_signalled(void *arg, int32_t pid, int signal) {
    heard *h = arg;
    h->pid = pid;
    h->signal = signal;
}

typedef struct stage {
    tr_node *node;
    tr_fake_processes *fakes;
    heard heard;
    owner owner;
} stage;

static void set_up(stage *s) {
    memset(s, 0, sizeof *s);
    tr_fake_hooks hooks = {.spawned = on_spawned, .signalled = on_signalled, .arg = &s->heard};
    s->fakes = tr_fake_processes_new(&hooks);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s->fakes);
    s->node = puppet_node(1);
    s->owner.table = tr_fake_processes_table(s->fakes);
    owner *args = &s->owner;
    tr_spawn_spec spec = {
        .behaviour = &owner_behaviour, .args = &args, .args_size = sizeof(owner *)};
    CU_ASSERT_EQUAL_FATAL(tr_node_spawn(s->node, 0, &spec), TR_OK);
    puppet_run(s->node);
}

static void tear_down(stage *s) {
    tr_node_free(s->node);
    tr_process_table_free(tr_fake_processes_table(s->fakes));
}

static void test_sees_what_was_asked_for(void) {
    stage s;
    set_up(&s);
    CU_ASSERT_EQUAL(s.heard.spawned, 1);
    int32_t pid = tr_fake_process_pid(s.fakes, 0);
    CU_ASSERT_EQUAL(s.heard.pid, pid);
    CU_ASSERT_STRING_EQUAL(tr_fake_process_arg(s.fakes, pid, 2), "m.gguf");
    CU_ASSERT_PTR_NULL(tr_fake_process_arg(s.fakes, pid, 3));
    CU_ASSERT_STRING_EQUAL(tr_fake_process_env(s.fakes, pid, "AB"), "2");
    CU_ASSERT_PTR_NULL(tr_fake_process_env(s.fakes, pid, "B"));
    CU_ASSERT_EQUAL(tr_fake_process_pid(s.fakes, 1), 0);
    CU_ASSERT_EQUAL(s.owner.count, 0); /* until the test says so */
    tear_down(&s);
}

static void life_of_a_process_is_told_in_order(void) {
    stage s;
    set_up(&s);
    int32_t pid = tr_fake_process_pid(s.fakes, 0);
    CU_ASSERT_FALSE(tr_fake_process_exit(s.fakes, pid, 0, 0)); /* it has not started */
    CU_ASSERT(tr_fake_process_start(s.fakes, pid));
    CU_ASSERT_FALSE(tr_fake_process_start(s.fakes, pid));
    CU_ASSERT(tr_fake_process_exit(s.fakes, pid, 0, SIGSEGV));
    CU_ASSERT_FALSE(tr_fake_process_exit(s.fakes, pid, 0, SIGSEGV));
    puppet_run(s.node);
    CU_ASSERT_EQUAL_FATAL(s.owner.count, 2);
    CU_ASSERT_EQUAL(s.owner.got[0].event, TR_PROCESS_SPAWNED);
    CU_ASSERT_EQUAL(s.owner.got[0].err, TR_OK);
    CU_ASSERT_EQUAL(s.owner.got[1].event, TR_PROCESS_EXITED);
    CU_ASSERT_EQUAL(s.owner.got[1].signal, SIGSEGV);
    CU_ASSERT_EQUAL(s.owner.refs[1], 77);
    tear_down(&s);
}

static void failed_start_says_why(void) {
    stage s;
    set_up(&s);
    CU_ASSERT(tr_fake_process_fail(s.fakes, tr_fake_process_pid(s.fakes, 0), ENOENT));
    puppet_run(s.node);
    CU_ASSERT_EQUAL_FATAL(s.owner.count, 1);
    CU_ASSERT_EQUAL(s.owner.got[0].err, TR_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(s.owner.got[0].code, ENOENT);
    CU_ASSERT_EQUAL(tr_fake_process_pid(s.fakes, 0), 0);
    tear_down(&s);
}

static void end_of_its_owner_kills_in_silence(void) {
    stage s;
    set_up(&s);
    int32_t pid = tr_fake_process_pid(s.fakes, 0);
    CU_ASSERT(tr_fake_process_start(s.fakes, pid));
    puppet_run(s.node);
    tr_msg *end = tr_msg_new(TR_KIND_EXIT, sizeof(tr_ended));
    CU_ASSERT_PTR_NOT_NULL_FATAL(end);
    tr_post(s.node, s.owner.id, end);
    puppet_run(s.node);
    CU_ASSERT_EQUAL(s.heard.signal, SIGKILL);
    CU_ASSERT_EQUAL(tr_fake_process_pid(s.fakes, 0), pid); /* it hangs: the test may see that */
    CU_ASSERT(tr_fake_process_exit(s.fakes, pid, 0, SIGKILL));
    CU_ASSERT_EQUAL(tr_fake_process_pid(s.fakes, 0), 0);
    CU_ASSERT_EQUAL(s.owner.count, 1);
    tear_down(&s);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(test_sees_what_was_asked_for),
        PUPPET_TEST(life_of_a_process_is_told_in_order),
        PUPPET_TEST(failed_start_says_why),
        PUPPET_TEST(end_of_its_owner_kills_in_silence),
    };
    return puppet_main("process_fake", tests, sizeof tests / sizeof tests[0]);
}
