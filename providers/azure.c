/*
 * A URL from its parts. Lists of models concern no deployment and stand beside them. What a name
 * may not have in a path is written as %XX; a base URL that names a deployment is that one's; the
 * version too, which comes from the environment. Called by provider_start.c; pure.
 */
#include "providers/azure.h"

#include <stdio.h>
#include <string.h>

static bool ends_with(tr_str text, const char *end) {
    size_t size = strlen(end);
    return text.size >= size && memcmp(text.ptr + text.size - size, end, size) == 0;
}

static bool is_plain(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-._~", c) != NULL);
}

/* False: there is no room. */
static bool add(char *to, size_t size, size_t *used, tr_str text, bool escape) {
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        bool plain = !escape || is_plain((char)c);
        if (*used + (plain ? 1 : 3) >= size) {
            return false;
        }
        if (plain) {
            to[(*used)++] = (char)c;
        } else {
            to[(*used)++] = '%';
            to[(*used)++] = digits[c >> 4U];
            to[(*used)++] = digits[c & 15U];
        }
    }
    to[*used] = '\0';
    return true;
}

static bool add_text(char *to, size_t size, size_t *used, const char *text, bool escape) {
    return add(to, size, used, (tr_str){text, strlen(text)}, escape);
}

bool tri_azure_url(tr_str base, tr_str deployment, const char *path, const char *version, char *ret,
                   size_t size) {
    size_t used = 0;
    bool fits = size > 0;
    while (base.size > 0 && base.ptr[base.size - 1] == '/') {
        base.size--;
    }
    fits = fits && add(ret, size, &used, base, false);
    if (ends_with(base, "/openai/v1")) {
        return fits && add_text(ret, size, &used, path, false);
    }
    bool named = base.size > 0 && memmem(base.ptr, base.size, "/openai/deployments/", 20) != NULL;
    if (!named && !ends_with(base, "/openai")) {
        fits = fits && add_text(ret, size, &used, "/openai", false);
    }
    if (!named && strcmp(path, "/models") != 0) {
        fits = fits && add_text(ret, size, &used, "/deployments/", false) &&
               add(ret, size, &used, deployment, true);
    }
    fits = fits && add_text(ret, size, &used, path, false) &&
           add_text(ret, size, &used, "?api-version=", false);
    return fits &&
           add_text(ret, size, &used, version != NULL ? version : TR_AZURE_VERSION_default, true);
}
