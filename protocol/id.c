/* Ids as text: "<0.1.27.3>" is node 0, shard 1, slot 27, third life. */
#include "protocol/id.h"

#include <stdio.h>

const char *tr_id_format(tr_id id, char buf[TR_ID_FMT_size]) {
    snprintf(buf, TR_ID_FMT_size, "<%u.%u.%u.%u>", tr_id_node(id), tr_id_shard(id), tr_id_slot(id),
             tr_id_generation(id));
    return buf;
}
