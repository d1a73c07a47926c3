/*
 * See socket_file.h. flock(2) and not a pid in a file decides who has the socket, since the kernel
 * drops the lock when its holder dies, however it dies. The pid is written into the lock file for
 * people only. Whether a socket file is stale is asked by connecting: nobody accepts at a dead one.
 * Called when a listener starts, on its owner's shard.
 */
#include "runtime/socket_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SUFFIX ".lock"

static tr_err make_directory(const char *path, char *why, size_t why_size) {
    char directory[sizeof((struct sockaddr_un *)NULL)->sun_path];
    const char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path) {
        return TR_OK;
    }
    snprintf(directory, sizeof directory, "%.*s", (int)(slash - path), path);
    if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
        snprintf(why, why_size, "cannot make the directory %s: %s", directory, strerror(errno));
        return TR_ERR_IO;
    }
    return TR_OK;
}

/* Whoever reads it may have no other way to that daemon than its pid: its socket may be gone. */
static void say_holder(const char *path, const char *holder, char *why, size_t why_size) {
    bool gone = access(path, F_OK) != 0;
    if (holder[0] == '\0') {
        snprintf(why, why_size, "another daemon has the lock of %s", path);
    } else if (gone) {
        snprintf(why, why_size,
                 "another daemon (process %s) has the lock of %s, but its socket is gone: "
                 "`kill %s` ends it, then start again",
                 holder, path, holder);
    } else {
        snprintf(why, why_size, "another daemon (process %s) listens at %s: `kill %s` ends it",
                 holder, path, holder);
    }
}

static tr_err take_lock(const char *path, char *why, size_t why_size, int *ret_fd) {
    char lock_path[sizeof((struct sockaddr_un *)NULL)->sun_path + sizeof SUFFIX];
    snprintf(lock_path, sizeof lock_path, "%s" SUFFIX, path);
    int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        snprintf(why, why_size, "cannot open %s: %s", lock_path, strerror(errno));
        return TR_ERR_IO;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        tr_err err = errno == EWOULDBLOCK ? TR_ERR_EXISTS : TR_ERR_IO;
        char holder[24] = "";
        ssize_t got = pread(fd, holder, sizeof holder - 1, 0);
        holder[got > 0 ? strspn(holder, "0123456789") : 0] = '\0';
        if (err == TR_ERR_EXISTS) {
            say_holder(path, holder, why, why_size);
        } else {
            snprintf(why, why_size, "cannot lock %s: %s", lock_path, strerror(errno));
        }
        close(fd);
        return err;
    }
    char text[24];
    int size = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)size, 0) != size) {
        snprintf(why, why_size, "cannot write %s: %s", lock_path, strerror(errno));
        close(fd);
        return TR_ERR_IO;
    }
    *ret_fd = fd;
    return TR_OK;
}

/* With the lock held: a socket at `path` belongs to nobody of ours. */
static tr_err remove_stale(const struct sockaddr_un *address, char *why, size_t why_size) {
    const char *path = address->sun_path;
    struct stat status;
    if (lstat(path, &status) != 0) {
        if (errno == ENOENT) {
            return TR_OK;
        }
        snprintf(why, why_size, "cannot look at %s: %s", path, strerror(errno));
        return TR_ERR_IO;
    }
    if (!S_ISSOCK(status.st_mode)) {
        snprintf(why, why_size, "%s exists and is not a socket", path);
        return TR_ERR_EXISTS;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        snprintf(why, why_size, "cannot make a socket: %s", strerror(errno));
        return TR_ERR_IO;
    }
    /* EAGAIN is a full queue of somebody who listens. */
    bool alive = connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ||
                 errno == EAGAIN || errno == EINPROGRESS;
    close(fd);
    if (alive) {
        snprintf(why, why_size, "another program listens at %s", path);
        return TR_ERR_EXISTS;
    }
    if (unlink(path) != 0 && errno != ENOENT) {
        snprintf(why, why_size, "cannot remove the stale socket %s: %s", path, strerror(errno));
        return TR_ERR_IO;
    }
    return TR_OK;
}

tr_err tri_socket_file_take(const char *path, char *why, size_t why_size, int *ret_lock_fd) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof address.sun_path) {
        snprintf(why, why_size, "the socket path must have 1 to %zu bytes: %s",
                 sizeof address.sun_path - 1, path);
        return TR_ERR_INVALID;
    }
    memcpy(address.sun_path, path, size);
    tr_err err = make_directory(path, why, why_size);
    if (err != TR_OK) {
        return err;
    }
    int fd;
    err = take_lock(path, why, why_size, &fd);
    if (err != TR_OK) {
        return err;
    }
    err = remove_stale(&address, why, why_size);
    if (err != TR_OK) {
        close(fd);
        return err;
    }
    *ret_lock_fd = fd;
    return TR_OK;
}
