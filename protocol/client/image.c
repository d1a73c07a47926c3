/*
 * Images as parts of the user's turn. A file is read at once and travels inside the request as a
 * data: URL, since the daemon need not see this machine's files; what it is, is told by its first
 * bytes, not by its name. A turn with an image becomes a list of parts. Blocks on the file only.
 */
#include "protocol/client/request.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/client/process.h"
#include "protocol/limits.h"

static const char *mime_of(const uint8_t *data, size_t size) {
    if (size >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0) {
        return "image/png";
    }
    if (size >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0) {
        return "image/jpeg";
    }
    if (size >= 6 && (memcmp(data, "GIF87a", 6) == 0 || memcmp(data, "GIF89a", 6) == 0)) {
        return "image/gif";
    }
    if (size >= 12 && memcmp(data, "RIFF", 4) == 0 && memcmp(data + 8, "WEBP", 4) == 0) {
        return "image/webp";
    }
    return NULL;
}

static tr_err read_all(int fd, const char *path, size_t size, tri_buffer *file) {
    uint8_t *data = tri_buffer_grow(file, size);
    if (data == NULL) {
        return tri_say_nomem();
    }
    size_t got = 0;
    while (got < size) {
        ssize_t count = read(fd, data + got, size - got);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return tri_say(TR_ERR_IO, "The image %s cannot be read: %s.", path,
                           count < 0 ? strerror(errno) : "it became shorter");
        }
        got += (size_t)count;
    }
    return TR_OK;
}

static tr_err read_file(const char *path, tri_buffer *file) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang us */
    struct stat seen;
    if (fd < 0 || fstat(fd, &seen) != 0) {
        tr_err err =
            tri_say(TR_ERR_IO, "The image %s cannot be opened: %s.", path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return err;
    }
    tr_err err;
    if (!S_ISREG(seen.st_mode)) {
        err = tri_say(TR_ERR_INVALID, "The image %s is not a file.", path);
    } else if (seen.st_size > TR_IMAGE_max) {
        err = tri_say(TR_ERR_TOO_LARGE, "The image %s is %lld bytes, at most %d are allowed.", path,
                      (long long)seen.st_size, TR_IMAGE_max);
    } else {
        err = read_all(fd, path, (size_t)seen.st_size, file);
    }
    close(fd);
    return err;
}

/* RFC 4648, section 4. */
static tr_err add_base64(tri_buffer *out, const uint8_t *data, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t *at = tri_buffer_grow(out, (size + 2) / 3 * 4);
    if (at == NULL) {
        return tri_say_nomem();
    }
    for (size_t i = 0; i < size; i += 3) {
        uint32_t bits = (uint32_t)data[i] << 16;
        bits |= i + 1 < size ? (uint32_t)data[i + 1] << 8 : 0;
        bits |= i + 2 < size ? data[i + 2] : 0;
        *at++ = (uint8_t)digits[bits >> 18];
        *at++ = (uint8_t)digits[bits >> 12 & 63];
        *at++ = i + 1 < size ? (uint8_t)digits[bits >> 6 & 63] : '=';
        *at++ = i + 2 < size ? (uint8_t)digits[bits & 63] : '=';
    }
    return TR_OK;
}

static tr_err data_url(const char *path, tri_buffer *url) {
    tri_buffer file = {0};
    tr_err err = read_file(path, &file);
    const char *mime = err == TR_OK ? mime_of(file.data, file.size) : NULL;
    if (err == TR_OK && mime == NULL) {
        err = tri_say(TR_ERR_INVALID, "The image %s is neither PNG, JPEG, GIF nor WebP.", path);
    }
    err = err == TR_OK ? tri_add(url, "\"data:") : err;
    err = err == TR_OK ? tri_add(url, mime) : err;
    err = err == TR_OK ? tri_add(url, ";base64,") : err;
    err = err == TR_OK ? add_base64(url, file.data, file.size) : err;
    err = err == TR_OK ? tri_add(url, "\"") : err;
    tri_buffer_fini(&file);
    return err;
}

static bool is_url(const char *text) {
    return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0 ||
           strncmp(text, "data:", 5) == 0;
}

/* The text that stood alone becomes the first part. */
static tr_err begin_parts(tri_turn *turn) {
    if (turn->parts.size > 0 || turn->text.size == 0) {
        return TR_OK;
    }
    tr_err err = tri_add(&turn->parts, "{\"type\":\"text\",\"text\":");
    err = err == TR_OK ? tri_buffer_add(&turn->parts, turn->text.data, turn->text.size) : err;
    return err == TR_OK ? tri_add(&turn->parts, "}") : err;
}

static tr_err add_part(tri_turn *turn, const tri_buffer *url) {
    tr_err err = begin_parts(turn);
    err = err == TR_OK ? tri_add(&turn->parts, turn->parts.size > 0 ? "," : "") : err;
    err = err == TR_OK ? tri_add(&turn->parts, "{\"type\":\"image_url\",\"image_url\":{\"url\":")
                       : err;
    err = err == TR_OK ? tri_buffer_add(&turn->parts, url->data, url->size) : err;
    return err == TR_OK ? tri_add(&turn->parts, "}}") : err;
}

tr_err tr_request_image(tr_request *request, const char *path_or_url) {
    if (path_or_url == NULL || path_or_url[0] == '\0') {
        return tri_say(TR_ERR_INVALID, "An image needs a path or a URL.");
    }
    tri_buffer url = {0};
    tr_err err =
        is_url(path_or_url) ? tri_json_string(&url, path_or_url) : data_url(path_or_url, &url);
    tri_turn *turn = request->turn_count > 0 ? &request->turns[request->turn_count - 1] : NULL;
    if (err == TR_OK && (turn == NULL || !turn->user)) {
        err = tri_request_turn(request, "user", &turn);
    }
    if (err == TR_OK) {
        size_t before = turn->parts.size;
        err = add_part(turn, &url);
        if (err != TR_OK) {
            turn->parts.size = before;
        }
    }
    tri_buffer_fini(&url);
    return err;
}
