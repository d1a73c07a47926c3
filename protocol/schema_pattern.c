/*
 * Patterns: none is understood.
 */
#include "protocol/schema_pattern.h"

tr_err tri_pattern_new(tr_str text, tri_pattern **ret, const char **ret_why) {
    (void)text;
    (void)ret;
    *ret_why = "patterns are not among what Troupe knows";
    return TR_ERR_UNSUPPORTED;
}

void tri_pattern_free(tri_pattern *pattern) {
    (void)pattern;
}
