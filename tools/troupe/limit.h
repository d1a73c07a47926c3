/* The limits of providers, for `troupe limit` and `troupe status`. One thread. */
#ifndef TR_TOOLS_TROUPE_LIMIT_H
#define TR_TOOLS_TROUPE_LIMIT_H

#include "tools/troupe/cli.h"

/* As tri_control, with a whole request; NULL (said) when `request` is NULL too. */
tr_json *tri_control_request(const tri_args *args, const char *request, int *ret_status);
/* Of a limiter's part of `status`: the targets that are not asked at the moment. */
void tri_print_open_targets(const tr_json_value *part);
int tri_cmd_limit(const tri_args *args);

#endif
