/* See raw.h. */
#include "tests/e2e/raw.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "protocol/frame.h"
#include "tests/e2e/stage.h"

int raw_dial(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = tr_stage_now.url + strlen("ipc://");
    memcpy(address.sun_path, path, strnlen(path, sizeof address.sun_path - 1));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

bool raw_write(int fd, const void *data, size_t size) {
    const uint8_t *at = data;
    while (size > 0) {
        ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        at += sent;
        size -= (size_t)sent;
    }
    return true;
}

size_t raw_hello(uint8_t *out, uint16_t version) {
    _Alignas(8) uint8_t data[256];
    tr_hello head = {.magic = TR_HELLO_MAGIC,
                     .version_min = version,
                     .version_max = version,
                     .role = TR_ROLE_CLIENT};
    tr_hello_view view = {
        .token = {"", 0}, .software = {"raw/1", 5}, .model = {"", 0}, .engine = {"", 0}};
    size_t size = tr_hello_size(&view);
    tr_hello_write(data, &head, &view);
    tr_frame frame = {.kind = TR_KIND_HELLO, .inline_size = (uint32_t)size};
    tr_frame_encode(&frame, out);
    memcpy(out + TR_FRAME_HEADER_size, data, size);
    return TR_FRAME_HEADER_size + size;
}

size_t raw_submit(uint8_t *out, uint64_t ref, const char *target, const char *body,
                  uint32_t credit_messages, uint32_t credit_bytes) {
    _Alignas(8) uint8_t data[256];
    tr_submit head = {
        .op = TR_OP_CHAT, .credit_messages = credit_messages, .credit_bytes = credit_bytes};
    tr_submit_view view = {
        .target = {target, strlen(target)}, .provider = {"", 0}, .base_url = {"", 0}};
    size_t size = tr_submit_size(&head, &view);
    tr_submit_write(data, &head, &view);
    tr_frame frame = {.kind = TR_KIND_SUBMIT,
                      .ref = ref,
                      .inline_size = (uint32_t)size,
                      .body_size = (uint32_t)strlen(body)};
    tr_frame_encode(&frame, out);
    memcpy(out + TR_FRAME_HEADER_size, data, size);
    memcpy(out + TR_FRAME_HEADER_size + size, body, strlen(body) + 1); /* the NUL is not sent */
    return TR_FRAME_HEADER_size + size + strlen(body);
}

static bool read_some(int fd, void *out, size_t size, long until) {
    uint8_t *at = out;
    while (size > 0) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        long rest = until - tr_stage_now_ms();
        if (poll(&ready, 1, rest > 0 ? (int)rest : 0) <= 0) {
            return false;
        }
        ssize_t got = read(fd, at, size);
        if (got <= 0) {
            return false;
        }
        at += got;
        size -= (size_t)got;
    }
    return true;
}

bool raw_read(int fd, raw_frame *ret, int ms) {
    uint8_t header[TR_FRAME_HEADER_size];
    tr_frame frame;
    long until = tr_stage_now_ms() + ms;
    if (!read_some(fd, header, sizeof header, until) ||
        tr_frame_decode(header, sizeof header, 0, &frame) != TR_OK ||
        frame.inline_size > sizeof ret->data ||
        !read_some(fd, ret->data, frame.inline_size, until)) {
        return false;
    }
    ret->kind = frame.kind;
    ret->ref = frame.ref;
    ret->size = frame.inline_size;
    return tr_wire_check(ret->kind, ret->data, ret->size) == TR_OK;
}

bool raw_closes(int fd, int ms) {
    long until = tr_stage_now_ms() + ms;
    for (;;) {
        char bytes[4096];
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        long rest = until - tr_stage_now_ms();
        if (poll(&ready, 1, rest > 0 ? (int)rest : 0) <= 0) {
            return false;
        }
        if (read(fd, bytes, sizeof bytes) <= 0) {
            return true;
        }
    }
}
