/*
 * The place of the user's socket. A directory rather than the socket itself is protected, because
 * permissions of a socket file are set after it exists, and because lock file and log live there
 * too. Under /tmp anybody may have made /tmp/troupe-UID before us, hence owner, mode and kind are
 * verified, without following a symbolic link; $XDG_RUNTIME_DIR is verified in the same way, since
 * it costs nothing. Reads the environment and the file system, keeps no state. Called by trouped
 * (create), libtroupe and the command line; any thread.
 */
#include "protocol/client/socket_path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOCKET_NAME "troupe.sock"

static tr_err verify(const char *path, char *why, size_t why_size) {
    struct stat seen;
    if (lstat(path, &seen) != 0) {
        snprintf(why, why_size, "%s: %s", path, strerror(errno));
        return errno == ENOENT || errno == ENOTDIR ? TR_ERR_NOT_FOUND : TR_ERR_IO;
    }
    if (!S_ISDIR(seen.st_mode)) {
        snprintf(why, why_size, "%s is not a directory; remove it", path);
        return TR_ERR_IO;
    }
    if (seen.st_uid != geteuid()) {
        snprintf(why, why_size,
                 "%s belongs to user %u, not to you: it is not safe to use; remove it, or set "
                 "XDG_RUNTIME_DIR to a directory of your own",
                 path, (unsigned)seen.st_uid);
        return TR_ERR_IO;
    }
    if ((seen.st_mode & 077) != 0) {
        snprintf(why, why_size, "%s is open to other users (mode %04o): chmod 700 it", path,
                 (unsigned)(seen.st_mode & 07777));
        return TR_ERR_IO;
    }
    return TR_OK;
}

tr_err tr_socket_directory(bool create, char *buf, size_t size, char *ret_why, size_t why_size) {
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    int length;
    if (runtime != NULL && runtime[0] == '/') {
        length = snprintf(buf, size, "%s/troupe", runtime);
    } else if (geteuid() == 0) {
        length = snprintf(buf, size, "/run/troupe");
    } else {
        length = snprintf(buf, size, "/tmp/troupe-%u", (unsigned)geteuid());
    }
    if (length < 0 || (size_t)length >= size ||
        (size_t)length + sizeof "/" SOCKET_NAME - 1 > TR_SOCKET_PATH_max) {
        snprintf(
            ret_why, why_size,
            "the path of XDG_RUNTIME_DIR is too long for a socket in it (at most %d bytes with "
            "/troupe/" SOCKET_NAME ")",
            TR_SOCKET_PATH_max);
        return TR_ERR_TOO_LARGE;
    }
    if (create && mkdir(buf, 0700) != 0 && errno != EEXIST) {
        snprintf(ret_why, why_size, "%s cannot be made: %s", buf, strerror(errno));
        return TR_ERR_IO;
    }
    return verify(buf, ret_why, why_size);
}

tr_err tr_socket_url(bool create, char *buf, size_t size, char *ret_why, size_t why_size) {
    char directory[TR_SOCKET_PATH_max + 1];
    tr_err err = tr_socket_directory(create, directory, sizeof directory, ret_why, why_size);
    if (err == TR_ERR_TOO_LARGE) {
        return err;
    }
    int length = snprintf(buf, size, "ipc://%s/" SOCKET_NAME, directory);
    if (length < 0 || (size_t)length >= size) {
        snprintf(ret_why, why_size, "the socket's path does not fit");
        return TR_ERR_TOO_LARGE;
    }
    return err;
}

/* Whether /proc/locks names a lock of flock(2) on this file. */
static bool is_locked(const struct stat *file) {
    FILE *locks = fopen("/proc/locks", "re");
    char line[256];
    bool found = false;
    while (locks != NULL && !found && fgets(line, sizeof line, locks) != NULL) {
        unsigned long inode = 0;
        found = sscanf(line, "%*d: FLOCK %*s %*s %*d %*x:%*x:%lu", &inode) == 1 &&
                inode == (unsigned long)file->st_ino;
    }
    if (locks != NULL) {
        fclose(locks);
    }
    return found;
}

int tr_socket_holder(const char *path) {
    char lock[TR_SOCKET_PATH_max + sizeof ".lock"];
    char text[24] = "";
    struct stat seen;
    int length = snprintf(lock, sizeof lock, "%s.lock", path);
    if (length < 0 || (size_t)length >= sizeof lock) {
        return 0;
    }
    int fd = open(lock, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        return 0;
    }
    bool held = fstat(fd, &seen) == 0 && S_ISREG(seen.st_mode) && is_locked(&seen) &&
                read(fd, text, sizeof text - 1) > 0;
    close(fd);
    long pid = held ? strtol(text, NULL, 10) : 0;
    return pid > 0 && pid <= INT_MAX ? (int)pid : 0;
}
