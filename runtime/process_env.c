/*
 * What a process table keeps of a child: copies of its arguments and of what it may have of the
 * environment, and the end of its output. The environment is cut down to what is known to be
 * needed, since the rest may be providers' keys, and children read files from foreign hands.
 *
 * Called by the tables, the output's part under their lock.
 */
#include "runtime/process_internal.h"

#include <string.h>

#include "protocol/assert.h"
#include "protocol/wire.h"
#include "runtime/memory.h"

static size_t add_string(char **copy, size_t at, char **out, const char *text) {
    size_t size = strlen(text) + 1;
    copy[at] = *out;
    memcpy(*out, text, size);
    *out += size;
    return at + 1;
}

static void measure(const char *const *list, size_t *count, size_t *size) {
    for (; list != NULL && *list != NULL; list++) {
        ++*count;
        *size += strlen(*list) + 1;
    }
}

static bool is_among(const char *variable, const char *const *names, bool whole) {
    for (; *names != NULL; names++) {
        size_t size = strlen(*names);
        if (strncmp(variable, *names, size) == 0 && (!whole || variable[size] == '=')) {
            return true;
        }
    }
    return false;
}

bool tr_process_env_may_pass(const char *variable) {
    static const char *const names[] = {"PATH",
                                        "HOME",
                                        "USER",
                                        "LOGNAME",
                                        "TZ",
                                        "LANG",
                                        "LANGUAGE",
                                        "TMPDIR",
                                        "XDG_RUNTIME_DIR",
                                        "XDG_CACHE_HOME",
                                        "LD_LIBRARY_PATH",
                                        "LD_PRELOAD",
                                        "ASAN_OPTIONS",
                                        "LSAN_OPTIONS",
                                        "TSAN_OPTIONS",
                                        "UBSAN_OPTIONS",
                                        "LLVM_PROFILE_FILE",
                                        NULL};
    static const char *const beginnings[] = {
        "LC_",   "OMP_",  "GOMP_", "KMP_", "GGML_", "LLAMA_", "CUDA_",   "NVIDIA_", "HIP_", "HSA_",
        "ROCR_", "ROCM_", "GPU_",  "VK_",  "MESA_", "SYCL_",  "ONEAPI_", "ZE_",     NULL};
    return is_among(variable, names, true) ||
           (is_among(variable, beginnings, false) && !tr_process_env_may_be_secret(variable));
}

/* LLAMA_API_KEY is a provider's. */
bool tr_process_env_may_be_secret(const char *variable) {
    static const char *const secret[] = {"KEY", "TOKEN", "SECRET", "PASSW", NULL};
    const char *end = strchr(variable, '=');
    for (const char *at = variable; end != NULL && at < end; at++) {
        if (is_among(at, secret, false)) {
            return true;
        }
    }
    return false;
}

/* tr_process_spec.env_pass. */
static bool is_passed(const char *variable, const char *const *names) {
    for (; names != NULL && *names != NULL; names++) {
        size_t size = strlen(*names);
        bool many = size > 0 && (*names)[size - 1] == '*';
        size -= many ? 1 : 0;
        if (strncmp(variable, *names, size) == 0 &&
            (many ? !tr_process_env_may_be_secret(variable) : variable[size] == '=')) {
            return true;
        }
    }
    return false;
}

/* One block: the pointers, then the strings. Of `second`, a name that `first` has is left out, and
 * so is what a child must not have. */
static char **copy_strings(const char *const *first, const char *const *second,
                           const char *const *pass) {
    size_t count = 1;
    size_t size = 0;
    measure(first, &count, &size);
    measure(second, &count, &size);
    char **copy = tr_alloc(count * sizeof *copy + size);
    if (copy == NULL) {
        return NULL;
    }
    char *out = (char *)(copy + count);
    size_t at = 0;
    for (; first != NULL && *first != NULL; first++) {
        at = add_string(copy, at, &out, *first);
    }
    size_t firsts = at;
    for (; second != NULL && *second != NULL; second++) {
        size_t name = strcspn(*second, "=") + 1;
        bool hidden = !tr_process_env_may_pass(*second) && !is_passed(*second, pass);
        for (size_t i = 0; i < firsts && !hidden; i++) {
            hidden = strncmp(copy[i], *second, name) == 0;
        }
        if (!hidden) {
            at = add_string(copy, at, &out, *second);
        }
    }
    copy[at] = NULL;
    return copy;
}

char **tri_process_copy_argv(const char *const *argv) {
    return copy_strings(argv, NULL, NULL);
}

char **tri_process_copy_env(const tr_process_spec *spec, const char *const *environment) {
    return copy_strings(spec->env_add, environment, spec->env_pass);
}

/* The older half makes room. */
void tri_process_keep_output(char kept[TR_PROCESS_OUTPUT_max], size_t *size, const char *piece,
                             size_t piece_size) {
    const size_t half = TR_PROCESS_OUTPUT_max / 2;
    TR_ASSERT(piece_size <= half && *size <= TR_PROCESS_OUTPUT_max);
    if (*size + piece_size > TR_PROCESS_OUTPUT_max) {
        memmove(kept, kept + *size - half, half);
        *size = half;
    }
    memcpy(kept + *size, piece, piece_size);
    *size += piece_size;
}

/* The end of an escape sequence (ESC [ … letter) or of one byte after ESC. */
static size_t skip_escape(const char *text, size_t at, size_t size) {
    at++;
    if (at < size && text[at] == '[') {
        at++;
        while (at < size && (unsigned char)text[at] < '@') {
            at++;
        }
    }
    return at < size ? at + 1 : size;
}

void tri_process_tell_output(const char *kept, size_t size, char *buf, size_t room) {
    size_t used = 0;
    TR_ASSERT(room > 0);
    size_t at = size >= room ? size - (room - 1) : 0;
    while (at < size) {
        unsigned char c = (unsigned char)kept[at];
        if (c == 0x1b) {
            at = skip_escape(kept, at, size);
            continue;
        }
        bool line = c == '\n' || c == '\r'; /* a progress bar goes back to its line's start */
        if (line || c == '\t' || c >= ' ') {
            buf[used++] = line ? '\n' : (char)c;
        }
        at++;
    }
    buf[used] = '\0';
    used = tr_utf8_mend(buf, used);
    buf[used] = '\0';
}
