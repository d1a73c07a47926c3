/* The plan of a managed server: its settings in memory that lives as long as the node, since its
 * supervisor starts the actor from it again and again. Made and freed by the program that holds the
 * node. */
#include <stdio.h>
#include <string.h>

#include "actors/command.h"
#include "actors/managed_internal.h"
#include "runtime/memory.h"

#define MANAGED_MAILBOX 16384 /* RESERVEs of calls on all shards */
#define MANAGED_SHUTDOWN_MS 2000

/* What model servers find their files, caches, proxies and Python by. Of these no secret passes but
 * the one that fetches gated models. */
static const char *const usual_env[] = {"HF_TOKEN",       "HUGGING_FACE_HUB_TOKEN",
                                        "HF_*",           "TRANSFORMERS_*",
                                        "TORCH*",         "PYTORCH_*",
                                        "PYTHON*",        "VIRTUAL_ENV",
                                        "CONDA_*",        "MLX_*",
                                        "VLLM_*",         "NCCL_*",
                                        "XDG_*",          "SSL_CERT_FILE",
                                        "SSL_CERT_DIR",   "REQUESTS_CA_BUNDLE",
                                        "CURL_CA_BUNDLE", "HTTP_PROXY",
                                        "HTTPS_PROXY",    "NO_PROXY",
                                        "ALL_PROXY",      "http_proxy",
                                        "https_proxy",    "no_proxy",
                                        "all_proxy"};
#define USUAL (sizeof usual_env / sizeof *usual_env)

static tr_err copy_env(tr_managed_plan *plan, const char *const *env) {
    size_t count = 0;
    size_t size = 0;
    for (; env != NULL && env[count] != NULL; count++) {
        size += strlen(env[count]) + 1;
    }
    plan->env = tr_zalloc((USUAL + count + 1) * sizeof *plan->env + size);
    if (plan->env == NULL) {
        return TR_ERR_NOMEM;
    }
    memcpy(plan->env, usual_env, sizeof usual_env);
    char *out = (char *)(plan->env + USUAL + count + 1);
    for (size_t i = 0; i < count; i++) {
        size_t bytes = strlen(env[i]) + 1;
        plan->env[USUAL + i] = memcpy(out, env[i], bytes);
        out += bytes;
    }
    plan->spec.env = plan->env;
    return TR_OK;
}

static tr_err copy_all(tr_managed_plan *plan) {
    const char **texts[TRI_MANAGED_TEXTS] = {&plan->spec.name,   &plan->spec.kind,
                                             &plan->spec.model,  &plan->spec.command,
                                             &plan->spec.health, &plan->spec.install};
    for (size_t i = 0; i < TRI_MANAGED_TEXTS; i++) {
        if (*texts[i] != NULL) {
            plan->texts[i] = tr_strndup(*texts[i], strlen(*texts[i]));
            *texts[i] = plan->texts[i];
            if (plan->texts[i] == NULL) {
                return TR_ERR_NOMEM;
            }
        }
    }
    return copy_env(plan, plan->spec.env);
}

static tr_err check(const tr_managed_spec *spec, char *why, size_t why_size) {
    size_t size = strlen(spec->name);
    if (size == 0 || size > TR_MANAGED_NAME_max) {
        snprintf(why, why_size, "the name of a managed server has 1 to %d characters",
                 TR_MANAGED_NAME_max);
        return TR_ERR_INVALID;
    }
    tr_command *command = tr_zalloc(sizeof *command);
    if (command == NULL) {
        snprintf(why, why_size, "out of memory");
        return TR_ERR_NOMEM;
    }
    tr_command_values values = {.model = spec->model, .host = "127.0.0.1", .port = 65535};
    tr_err err = tr_command_read(spec->command, &values, command, why, why_size);
    tr_free(command);
    return err;
}

tr_err tr_managed_plan_new(const tr_managed_spec *spec, tr_managed_plan **ret, char *why,
                           size_t why_size) {
    tr_err err = check(spec, why, why_size);
    if (err != TR_OK) {
        return err;
    }
    tr_managed_plan *plan = tr_zalloc(sizeof *plan);
    if (plan != NULL) {
        plan->spec = *spec;
    }
    if (plan == NULL || copy_all(plan) != TR_OK) {
        tr_managed_plan_free(plan);
        snprintf(why, why_size, "out of memory");
        return TR_ERR_NOMEM;
    }
    tr_managed_spec *own = &plan->spec;
    own->at_once = own->at_once > 0 ? own->at_once : 1;
    own->waiting_max = own->waiting_max > 0 ? own->waiting_max : TR_MANAGED_WAITING_max;
    own->load_ms = own->load_ms > 0 ? own->load_ms : TR_MANAGED_LOAD_MS_default;
    own->hang_ms = own->hang_ms > 0 ? own->hang_ms : TR_MANAGED_HANG_MS_default;
    snprintf(plan->name, sizeof plan->name, "pool:%s", own->name);
    plan->self = plan;
    *ret = plan;
    return TR_OK;
}

void tr_managed_plan_free(tr_managed_plan *plan) {
    if (plan == NULL) {
        return;
    }
    for (size_t i = 0; i < TRI_MANAGED_TEXTS; i++) {
        tr_free(plan->texts[i]);
    }
    tr_free(plan->env);
    tr_free(plan);
}

const _Atomic uint32_t *tr_managed_port(const tr_managed_plan *plan) {
    return &plan->port;
}

tr_child_spec tr_managed_child(const tr_managed_plan *plan) {
    return (tr_child_spec){.name = plan->name,
                           .behaviour = &tri_managed_behaviour,
                           .args = &plan->self,
                           .args_size = sizeof plan->self,
                           .restart = TR_PERMANENT,
                           .shutdown_ms = MANAGED_SHUTDOWN_MS,
                           .shard = TR_SHARD_SAME,
                           .mailbox_max = MANAGED_MAILBOX,
                           .registers = true};
}
