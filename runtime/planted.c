/* Which planted bug is at work; only in builds for the simulator's own test (planted.h). */
#include "runtime/planted.h"

#ifdef TR_PLANTED_BUGS
tr_planted_bug tr_planted_bug_now = TR_BUG_NONE;
#endif
