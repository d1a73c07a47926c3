/* The two doors that need NNG; what door.h says holds for them. */
#ifndef TR_CLIENT_DOOR_NNG_H
#define TR_CLIENT_DOOR_NNG_H

#include "protocol/client/door.h"

TR_MUST_USE tr_err tri_door_dial_tls(const tri_place *place, tri_door **ret, const char **ret_why);
TR_MUST_USE tr_err tri_door_dial_inproc(const tri_place *place, tri_door **ret,
                                        const char **ret_why);

#endif
