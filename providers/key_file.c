/*
 * Key files, checked on the descriptor that is read, so that what was looked at is what is used. A
 * state of the file is told by inode, size and times; a file that was written to within the last
 * moments may be written to again within one tick of the file system's clock, so its state is not
 * trusted and it is read once more.
 *
 * Called by keychain.c under its mutex and by `troupe key`. Small local files: read where they are
 * needed, on a shard as well.
 */
#include "providers/key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "providers/keys.h"

#define SETTLING_NS 100000000

static int64_t ns_of(const struct timespec *at) {
    return (int64_t)at->tv_sec * 1000000000 + at->tv_nsec;
}

static tr_key_stamp stamp_of(const struct stat *status) {
    return (tr_key_stamp){.device = (uint64_t)status->st_dev,
                          .inode = (uint64_t)status->st_ino,
                          .size = (int64_t)status->st_size,
                          .modified_ns = ns_of(&status->st_mtim),
                          .changed_ns = ns_of(&status->st_ctim),
                          .there = true};
}

bool tr_key_file_same(const char *path, const tr_key_stamp *stamp) {
    struct stat status;
    if (stat(path, &status) != 0) {
        return !stamp->there && stamp->settled;
    }
    tr_key_stamp now = stamp_of(&status);
    return stamp->there && stamp->settled && now.device == stamp->device &&
           now.inode == stamp->inode && now.size == stamp->size &&
           now.modified_ns == stamp->modified_ns && now.changed_ns == stamp->changed_ns;
}

static tr_err check(const struct stat *status, char *why, size_t why_size) {
    if (!S_ISREG(status->st_mode)) {
        snprintf(why, why_size, "it is no file");
        return TR_ERR_AUTH;
    }
    if (status->st_uid != geteuid()) {
        snprintf(why, why_size, "it belongs to user %u and not to user %u, who reads it",
                 (unsigned)status->st_uid, (unsigned)geteuid());
        return TR_ERR_AUTH;
    }
    if ((status->st_mode & 077) != 0) {
        snprintf(why, why_size, "others may read it: chmod 600 it");
        return TR_ERR_AUTH;
    }
    return TR_OK;
}

static tr_err read_all(int fd, char *buf, size_t *ret_size, char *why, size_t why_size) {
    size_t size = 0;
    ssize_t got = 0;
    while (size <= TR_KEY_FILE_max &&
           (got = read(fd, buf + size, TR_KEY_FILE_max + 1 - size)) != 0) {
        if (got < 0 && errno != EINTR) {
            snprintf(why, why_size, "it cannot be read: %s", strerror(errno));
            return TR_ERR_IO;
        }
        size += got > 0 ? (size_t)got : 0;
    }
    if (size > TR_KEY_FILE_max) {
        snprintf(why, why_size, "it is larger than %d bytes", TR_KEY_FILE_max);
        return TR_ERR_INVALID;
    }
    *ret_size = size;
    return TR_OK;
}

tr_err tr_key_file_read(const char *path, char *buf, tr_str *ret_keys, size_t room,
                        size_t *ret_count, tr_key_stamp *ret_stamp, char *ret_why,
                        size_t why_size) {
    struct stat status;
    struct timespec now;
    size_t size = 0;
    *ret_stamp = (tr_key_stamp){.settled = true};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        bool missing = errno == ENOENT || errno == ENOTDIR;
        ret_stamp->settled = missing; /* it may become readable without a change that shows */
        snprintf(ret_why, why_size, "it cannot be read: %s", strerror(errno));
        return missing ? TR_ERR_NOT_FOUND : TR_ERR_IO;
    }
    tr_err err = TR_ERR_IO;
    if (fstat(fd, &status) != 0) {
        snprintf(ret_why, why_size, "it cannot be read: %s", strerror(errno));
    } else {
        *ret_stamp = stamp_of(&status);
        clock_gettime(CLOCK_REALTIME, &now);
        ret_stamp->settled = ns_of(&now) - ret_stamp->changed_ns > SETTLING_NS;
        err = check(&status, ret_why, why_size);
    }
    if (err == TR_OK) {
        err = read_all(fd, buf, &size, ret_why, why_size);
    }
    close(fd);
    return err == TR_OK ? tr_key_lines(buf, size, ret_keys, room, ret_count, ret_why, why_size)
                        : err;
}

static tr_str trimmed(const char *text, size_t size) {
    while (size > 0 && strchr(" \t\r", *text) != NULL && *text != '\0') {
        text++;
        size--;
    }
    while (size > 0 && strchr(" \t\r", text[size - 1]) != NULL && text[size - 1] != '\0') {
        size--;
    }
    return (tr_str){text, size};
}

tr_err tr_key_lines(const char *text, size_t size, tr_str *ret_keys, size_t room, size_t *ret_count,
                    char *ret_why, size_t why_size) {
    const char *end = text + size;
    size_t count = 0;
    for (size_t number = 1; text < end; number++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        stop = stop != NULL ? stop : end;
        tr_str line = trimmed(text, (size_t)(stop - text));
        text = stop + 1;
        if (line.size == 0 || line.ptr[0] == '#') {
            continue;
        }
        if (!tr_key_valid(line)) {
            snprintf(ret_why, why_size, "line %zu holds what no key is made of", number);
            return TR_ERR_INVALID;
        }
        if (count == room) {
            snprintf(ret_why, why_size, "it holds more than %zu keys", room);
            return TR_ERR_INVALID;
        }
        ret_keys[count++] = line;
    }
    *ret_count = count;
    return TR_OK;
}

bool tr_key_store_folder(char *buf, size_t size) {
    const char *xdg = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    int used = 0;
    if (xdg != NULL && xdg[0] == '/') {
        used = snprintf(buf, size, "%s/troupe/keys", xdg);
    } else if (home != NULL && home[0] == '/') {
        used = snprintf(buf, size, "%s/.config/troupe/keys", home);
    }
    return used > 0 && (size_t)used < size;
}

const char *tr_key_account(const char *provider) {
    return strcmp(provider, "openai-responses") == 0 ? "openai" : provider;
}

bool tr_key_store_file(const char *provider, char *buf, size_t size) {
    if (provider[0] == '\0' || provider[0] == '.' || strchr(provider, '/') != NULL ||
        !tr_key_store_folder(buf, size)) {
        return false;
    }
    size_t used = strlen(buf);
    int added = snprintf(buf + used, size - used, "/%s", provider);
    return added > 0 && (size_t)added < size - used;
}
