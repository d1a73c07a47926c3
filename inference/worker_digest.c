/*
 * SHA-256 (FIPS 180-4), written out, since none of the libraries we stand on offers one to a
 * program that links neither TLS nor curl; and what of a model file goes into it. Called once, by
 * the worker's main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inference/worker_internal.h"
#include "runtime/memory.h"

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t turn(uint32_t x, int by) {
    return (x >> by) | (x << (32 - by));
}

static void block(tri_sha256 *sha, const uint8_t *in) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++) {
        w[i] = (uint32_t)in[4 * i] << 24 | (uint32_t)in[4 * i + 1] << 16 |
               (uint32_t)in[4 * i + 2] << 8 | in[4 * i + 3];
    }
    for (int i = 16; i < 64; i++) {
        uint32_t a = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ (w[i - 15] >> 3);
        uint32_t b = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ (w[i - 2] >> 10);
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    memcpy(s, sha->state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t e = turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25);
        uint32_t choose = (s[4] & s[5]) ^ (~s[4] & s[6]);
        uint32_t one = s[7] + e + choose + round_constants[i] + w[i];
        uint32_t a = turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22);
        uint32_t majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += one;
        s[0] = one + a + majority;
    }
    for (int i = 0; i < 8; i++) {
        sha->state[i] += s[i];
    }
}

void tri_sha256_init(tri_sha256 *sha) {
    *sha = (tri_sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                                  0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void tri_sha256_add(tri_sha256 *sha, const void *data, size_t size) {
    const uint8_t *at = data;
    sha->total += size;
    while (size > 0) {
        size_t now = sizeof sha->open - sha->open_size;
        now = size < now ? size : now;
        memcpy(sha->open + sha->open_size, at, now);
        sha->open_size += now;
        at += now;
        size -= now;
        if (sha->open_size == sizeof sha->open) {
            block(sha, sha->open);
            sha->open_size = 0;
        }
    }
}

void tri_sha256_end(tri_sha256 *sha, uint8_t out[32]) {
    uint64_t bits = sha->total * 8;
    uint8_t tail[72] = {0x80}, length[8];
    for (int i = 0; i < 8; i++) {
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    }
    size_t pad = (sha->open_size < 56 ? 56 : 120) - sha->open_size;
    tri_sha256_add(sha, tail, pad);
    tri_sha256_add(sha, length, 8);
    for (int i = 0; i < 32; i++) {
        out[i] = (uint8_t)(sha->state[i / 4] >> (24 - 8 * (i % 4)));
    }
}

static bool add_range(tri_sha256 *sha, int fd, uint64_t from, uint64_t size) {
    uint8_t buf[16384];
    while (size > 0) {
        ssize_t got = pread(fd, buf, size < sizeof buf ? size : sizeof buf, (off_t)from);
        if (got <= 0) {
            return false;
        }
        tri_sha256_add(sha, buf, (size_t)got);
        from += (uint64_t)got;
        size -= (uint64_t)got;
    }
    return true;
}

tr_err tr_worker_digest(const char *model_file, const char *chat_template, uint8_t ret_digest[32]) {
    static const uint64_t edge = 1 << 20, samples = 256, sample = 16384;
    struct stat st;
    int fd = open(model_file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        if (fd >= 0) {
            close(fd);
        }
        return errno == ENOENT ? TR_ERR_NOT_FOUND : TR_ERR_IO;
    }
    tri_sha256 sha;
    uint64_t size = (uint64_t)st.st_size;
    tri_sha256_init(&sha);
    tri_sha256_add(&sha, &size, sizeof size);
    bool ok;
    if (size <= 2 * edge + samples * sample) {
        ok = add_range(&sha, fd, 0, size);
    } else {
        ok = add_range(&sha, fd, 0, edge) && add_range(&sha, fd, size - edge, edge);
        uint64_t step = (size - 2 * edge - sample) / (samples - 1);
        for (uint64_t i = 0; i < samples && ok; i++) {
            ok = add_range(&sha, fd, edge + i * step, sample);
        }
    }
    close(fd);
    const char *version = tr_engine_version();
    tri_sha256_add(&sha, version, strlen(version) + 1);
    const char *asked = chat_template != NULL ? chat_template : "";
    tri_sha256_add(&sha, asked, strlen(asked) + 1);
    if (ok) {
        tri_sha256_end(&sha, ret_digest);
    }
    return ok ? TR_OK : TR_ERR_IO;
}
