/* The commands: each reads its arguments, does its work and returns the exit status of cli.h. */
#ifndef TR_TOOLS_TROUPE_COMMANDS_H
#define TR_TOOLS_TROUPE_COMMANDS_H

#include "tools/troupe/cli.h"

int tri_cmd_ask(const tri_args *args);
int tri_cmd_gather(const tri_args *args);
int tri_cmd_embed(const tri_args *args);
int tri_cmd_tokens(const tri_args *args);
int tri_cmd_models(const tri_args *args);
int tri_cmd_load(const tri_args *args);
int tri_cmd_unload(const tri_args *args);
int tri_cmd_tree(const tri_args *args);
int tri_cmd_requests(const tri_args *args);
int tri_cmd_cancel(const tri_args *args);
int tri_cmd_key(const tri_args *args);
int tri_cmd_start(const tri_args *args);
int tri_cmd_stop(const tri_args *args);
int tri_cmd_status(const tri_args *args);
int tri_cmd_log_level(const tri_args *args);
int tri_cmd_version(const tri_args *args);
int tri_cmd_help(const tri_args *args);
int tri_cmd_completion(const tri_args *args);

/* key.c: where a provider's keys come from, of a part of the daemon's status; a line each. */
void tri_print_keys(const tr_json_value *part);

#endif
