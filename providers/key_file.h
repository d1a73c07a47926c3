/*
 * A file with keys: one a line, blank lines and lines that begin with # left out. It must be a
 * regular file (possibly behind a symbolic link) of this process's user that nobody else may read
 * (0600). Used by the daemon and by `troupe key`. Any thread; reads files.
 */
#ifndef TR_PROVIDERS_KEY_FILE_H
#define TR_PROVIDERS_KEY_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/limits.h"
#include "protocol/wire.h"

/* What tells one state of a file from another. */
typedef struct tr_key_stamp {
    uint64_t device, inode;
    int64_t size, modified_ns, changed_ns;
    bool there;
    bool settled; /* it had not been written to a moment before it was read */
} tr_key_stamp;

/* Whether the file is certainly in the state that `stamp` tells of. */
bool tr_key_file_same(const char *path, const tr_key_stamp *stamp);

/* Its keys, at most `room`, as slices of `buf` (TR_KEY_FILE_max + 1 bytes, to be wiped by the
 * caller). TR_ERR_NOT_FOUND: it is not there; TR_ERR_AUTH: its owner or mode; TR_ERR_INVALID: what
 * it holds; TR_ERR_IO. `ret_why` says it behind the file's name. `ret_stamp` is written always. */
TR_MUST_USE tr_err tr_key_file_read(const char *path, char *buf, tr_str *ret_keys, size_t room,
                                    size_t *ret_count, tr_key_stamp *ret_stamp, char *ret_why,
                                    size_t why_size);

/* The same from text; pure. */
TR_MUST_USE tr_err tr_key_lines(const char *text, size_t size, tr_str *ret_keys, size_t room,
                                size_t *ret_count, char *ret_why, size_t why_size);

/* Whose file a built-in provider has: tr_catalog_account, for programs without the catalog. */
const char *tr_key_account(const char *provider);
/* The store: the folder "troupe/keys" in $XDG_CONFIG_HOME, else in ~/.config, with one file a
 * provider. False: there is no such folder, or the name cannot be a file's, or has no room. */
bool tr_key_store_folder(char *buf, size_t size);
bool tr_key_store_file(const char *provider, char *buf, size_t size);

#endif
