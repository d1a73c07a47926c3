/* Text that grows by doubling. Called by engine_tools.c and engine_turns.c, on any thread. */
#include "inference/engine_write.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/memory.h"

void tri_write_str(tri_write *w, tr_str text) {
    if (w->size + text.size + 1 > w->room && !w->failed) {
        size_t room = (w->size + text.size) * 2 + 256;
        char *grown = tr_realloc(w->text, room);
        w->failed = grown == NULL;
        w->text = grown != NULL ? grown : w->text;
        w->room = grown != NULL ? room : w->room;
    }
    if (w->failed) {
        return;
    }
    if (text.size > 0) {
        memcpy(w->text + w->size, text.ptr, text.size);
    }
    w->size += text.size;
    w->text[w->size] = '\0';
}

void tri_write_text(tri_write *w, const char *text) {
    tri_write_str(w, (tr_str){text, strlen(text)});
}

void tri_write_format(tri_write *w, const char *format, ...) {
    char buf[256];
    va_list args;
    va_start(args, format);
    vsnprintf(buf, sizeof buf, format, args);
    va_end(args);
    tri_write_text(w, buf);
}

char *tri_write_take(tri_write *w) {
    tri_write_text(w, "");
    char *text = w->text;
    if (w->failed) {
        tr_free(text);
        text = NULL;
    }
    *w = (tri_write){0};
    return text;
}
