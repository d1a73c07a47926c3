/*
 * See process_fake.h. A handle is freed when its owner has abandoned it and its process has ended,
 * as in the real table; an abandoned process that is still there counts as a leak of the test,
 * which sees it in tr_fake_process_pid. Called from the simulator's thread only.
 */
#include "runtime/process_fake.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "protocol/assert.h"
#include "runtime/memory.h"
#include "runtime/node.h"
#include "runtime/process_internal.h"

#define PID_first 1000

struct tr_process {
    tr_fake_processes *fakes;
    tr_process *next;
    tr_node *node;
    tr_id owner;
    uint64_t ref;
    int32_t pid;
    char **argv;
    char **env;
    bool started;
    bool ended;
    bool abandoned;
    size_t output_size;
    char output[TR_PROCESS_OUTPUT_max];
};

struct tr_fake_processes {
    tr_process_table table;
    tr_fake_hooks hooks;
    tr_process *processes; /* oldest first */
    int32_t next_pid;
};

static void free_strings(char **strings) {
    for (char **text = strings; text != NULL && *text != NULL; text++) {
        tr_free(*text);
    }
    tr_free(strings);
}

static char **copy_strings(const char *const *strings) {
    size_t count = 0;
    while (strings != NULL && strings[count] != NULL) {
        count++;
    }
    char **copy = tr_zalloc((count + 1) * sizeof *copy);
    for (size_t i = 0; copy != NULL && i < count; i++) {
        copy[i] = tr_strndup(strings[i], strlen(strings[i]));
        if (copy[i] == NULL) {
            free_strings(copy);
            return NULL;
        }
    }
    return copy;
}

static void free_process(tr_process *process) {
    free_strings(process->argv);
    free_strings(process->env);
    tr_free(process);
}

static void unlink_process(tr_process *process) {
    tr_process **link = &process->fakes->processes;
    while (*link != process) {
        link = &(*link)->next;
    }
    *link = process->next;
    free_process(process);
}

static tr_process *find(const tr_fake_processes *fakes, int32_t pid) {
    tr_process *process = fakes->processes;
    while (process != NULL && (process->pid != pid || process->ended)) {
        process = process->next;
    }
    return process;
}

static void tell(tr_process *process, const tr_process_event *event) {
    if (process->abandoned) {
        return;
    }
    tr_msg *msg = tr_msg_new(TR_KIND_PROCESS, sizeof *event);
    TR_ASSERT(msg != NULL); /* a simulation's failing allocations are not this table's */
    msg->ref = process->ref;
    *(tr_process_event *)(void *)msg->data = *event;
    tr_post(process->node, process->owner, msg);
}

static void end_process(tr_process *process, const tr_process_event *event) {
    tell(process, event);
    process->ended = true;
    if (process->abandoned) {
        unlink_process(process);
    }
}

static tr_err spawn(tr_process_table *table, tr_self *self, const tr_process_spec *spec,
                    uint64_t ref, tr_process **ret) {
    tr_fake_processes *fakes = (tr_fake_processes *)table;
    tr_process *process = tr_zalloc(sizeof *process);
    if (process == NULL) {
        return TR_ERR_NOMEM;
    }
    process->argv = copy_strings(spec->argv);
    process->env = copy_strings(spec->env_add);
    if (process->argv == NULL || process->env == NULL) {
        free_process(process);
        return TR_ERR_NOMEM;
    }
    process->fakes = fakes;
    process->node = tr_self_node(self);
    process->owner = tr_self_id(self);
    process->ref = ref;
    process->pid = fakes->next_pid++;
    tr_process **last = &fakes->processes;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = process;
    *ret = process;
    if (fakes->hooks.spawned != NULL) {
        fakes->hooks.spawned(fakes->hooks.arg, process->pid);
    }
    return TR_OK;
}

static void send_signal(tr_process *process, int number) {
    const tr_fake_hooks *hooks = &process->fakes->hooks;
    TR_ASSERT(!process->abandoned);
    if (!process->ended && hooks->signalled != NULL) {
        hooks->signalled(hooks->arg, process->pid, number);
    }
}

static void output(tr_process *process, char *buf, size_t size) {
    tri_process_tell_output(process->output, process->output_size, buf, size);
}

static void abandon(tr_process *process) {
    TR_ASSERT(!process->abandoned);
    if (process->ended) {
        unlink_process(process);
        return;
    }
    send_signal(process, SIGKILL);
    process->abandoned = true;
}

static void free_table(tr_process_table *table) {
    tr_fake_processes *fakes = (tr_fake_processes *)table;
    while (fakes->processes != NULL) {
        unlink_process(fakes->processes);
    }
    tr_free(fakes);
}

tr_fake_processes *tr_fake_processes_new(const tr_fake_hooks *hooks) {
    tr_fake_processes *fakes = tr_zalloc(sizeof *fakes);
    if (fakes != NULL) {
        fakes->table = (tr_process_table){.spawn = spawn,
                                          .kill = send_signal,
                                          .output = output,
                                          .abandon = abandon,
                                          .free = free_table};
        fakes->next_pid = PID_first;
        if (hooks != NULL) {
            fakes->hooks = *hooks;
        }
    }
    return fakes;
}

tr_process_table *tr_fake_processes_table(tr_fake_processes *fakes) {
    return &fakes->table;
}

int32_t tr_fake_process_pid(const tr_fake_processes *fakes, uint32_t i) {
    for (const tr_process *process = fakes->processes; process != NULL; process = process->next) {
        if (!process->ended && i-- == 0) {
            return process->pid;
        }
    }
    return 0;
}

const char *tr_fake_process_arg(const tr_fake_processes *fakes, int32_t pid, uint32_t i) {
    const tr_process *process = find(fakes, pid);
    for (uint32_t at = 0; process != NULL && process->argv[at] != NULL; at++) {
        if (at == i) {
            return process->argv[at];
        }
    }
    return NULL;
}

const char *tr_fake_process_env(const tr_fake_processes *fakes, int32_t pid, const char *name) {
    const tr_process *process = find(fakes, pid);
    size_t size = strlen(name);
    for (char **text = process != NULL ? process->env : NULL; text != NULL && *text != NULL;
         text++) {
        if (strncmp(*text, name, size) == 0 && (*text)[size] == '=') {
            return *text + size + 1;
        }
    }
    return NULL;
}

bool tr_fake_process_start(tr_fake_processes *fakes, int32_t pid) {
    tr_process *process = find(fakes, pid);
    if (process == NULL || process->started) {
        return false;
    }
    process->started = true;
    tell(process, &(tr_process_event){.event = TR_PROCESS_SPAWNED, .pid = pid});
    return true;
}

bool tr_fake_process_fail(tr_fake_processes *fakes, int32_t pid, int32_t code) {
    tr_process *process = find(fakes, pid);
    if (process == NULL || process->started) {
        return false;
    }
    tr_err err = code == ENOENT ? TR_ERR_NOT_FOUND : TR_ERR_IO;
    end_process(process,
                &(tr_process_event){.event = TR_PROCESS_SPAWNED, .err = err, .code = code});
    return true;
}

bool tr_fake_process_exit(tr_fake_processes *fakes, int32_t pid, int32_t code, int32_t signal) {
    tr_process *process = find(fakes, pid);
    if (process == NULL || !process->started) {
        return false;
    }
    end_process(process,
                &(tr_process_event){
                    .event = TR_PROCESS_EXITED, .pid = pid, .code = code, .signal = signal});
    return true;
}

bool tr_fake_process_say(tr_fake_processes *fakes, int32_t pid, const char *text) {
    tr_process *process = find(fakes, pid);
    if (process == NULL || !process->started) {
        return false;
    }
    tri_process_keep_output(process->output, &process->output_size, text, strlen(text));
    return true;
}
