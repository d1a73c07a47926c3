/* The configuration for people: effective values as YAML, and docs/config.md, both from the table.
 */
#include <inttypes.h>
#include <string.h>

#include "tools/trouped/config_table.h"

static void print_quoted(FILE *out, const char *text) {
    fputc('"', out);
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\') {
            fprintf(out, "\\%c", byte);
        } else if (byte < 0x20 || byte == 0x7f) {
            fprintf(out, "\\x%02x", byte);
        } else {
            fputc(byte, out);
        }
    }
    fputc('"', out);
}

static void print_section(FILE *out, const tri_section *section, const char *item, int depth);

static void print_entries(FILE *out, const tri_field *field, const char *member, int depth) {
    tr_config_list list;
    memcpy(&list, member, sizeof list);
    fprintf(out, list.count == 0 ? " {}\n" : "\n");
    for (size_t i = 0; i < list.count; i++) {
        const char *item = (const char *)list.items + i * field->inner->item_size;
        const char *name;
        memcpy(&name, item, sizeof name);
        fprintf(out, "%*s", 2 * depth, "");
        print_quoted(out, name);
        fprintf(out, ":\n");
        print_section(out, field->inner, item, depth + 1);
    }
}

static void print_value(FILE *out, const tri_field *field, const char *member) {
    switch (field->type) {
    case TRI_FIELD_TEXT:
    case TRI_FIELD_CHOICE: {
        const char *text;
        memcpy(&text, member, sizeof text);
        print_quoted(out, text);
        break;
    }
    case TRI_FIELD_NUMBER: {
        uint64_t number;
        memcpy(&number, member, sizeof number);
        fprintf(out, "%" PRIu64, number);
        break;
    }
    case TRI_FIELD_TIME: {
        uint64_t ms;
        char text[32];
        memcpy(&ms, member, sizeof ms);
        tri_time_format(ms, text, sizeof text);
        fputs(text, out);
        break;
    }
    case TRI_FIELD_SWITCH: {
        bool on;
        memcpy(&on, member, sizeof on);
        fputs(on ? "true" : "false", out);
        break;
    }
    case TRI_FIELD_TEXTS: {
        tr_config_strings strings;
        memcpy(&strings, member, sizeof strings);
        fputc('[', out);
        for (size_t i = 0; i < strings.count; i++) {
            fputs(i > 0 ? ", " : "", out);
            print_quoted(out, strings.items[i]);
        }
        fputc(']', out);
        break;
    }
    case TRI_FIELD_SECTION:
    case TRI_FIELD_ENTRIES:
        break;
    }
}

static void print_section(FILE *out, const tri_section *section, const char *item, int depth) {
    for (size_t i = 0; i < section->count; i++) {
        const tri_field *field = &section->fields[i];
        fprintf(out, "%*s%s:", 2 * depth, "", field->name);
        if (field->type == TRI_FIELD_SECTION) {
            fputc('\n', out);
            print_section(out, field->inner, item, depth + 1);
        } else if (field->type == TRI_FIELD_ENTRIES) {
            print_entries(out, field, item + field->offset, depth + 1);
        } else {
            fputc(' ', out);
            print_value(out, field, item + field->offset);
            fputc('\n', out);
        }
    }
}

void tr_config_print(const tr_config *config, FILE *out) {
    print_section(out, &tri_config_root, (const char *)config, 0);
}

static void document_range(FILE *out, const tri_field *field) {
    if (field->type == TRI_FIELD_CHOICE) {
        fputs("one of", out);
        for (const char *at = field->choices; *at != '\0';) {
            size_t size = strcspn(at, "|");
            fprintf(out, " `%.*s`", (int)size, at);
            at += size + (at[size] == '|');
        }
    } else if (field->type == TRI_FIELD_NUMBER) {
        fprintf(out, "%" PRIu64 " to %" PRIu64, field->min, field->max);
    } else if (field->type == TRI_FIELD_TIME) {
        char min[32];
        char max[32];
        tri_time_format(field->min, min, sizeof min);
        tri_time_format(field->max, max, sizeof max);
        fprintf(out, "a time, %s to %s", min, max);
    } else if (field->type == TRI_FIELD_SWITCH) {
        fputs("`true` or `false`", out);
    } else {
        fputs(field->type == TRI_FIELD_TEXTS ? "texts" : "text", out);
    }
}

static void document_section(FILE *out, const tri_section *section, const char *path) {
    for (size_t i = 0; i < section->count; i++) {
        const tri_field *field = &section->fields[i];
        char name[128];
        snprintf(name, sizeof name, "%s%s", path, field->name);
        if (field->inner == NULL) {
            fprintf(out, "| `%s` | ", name);
            document_range(out, field);
            fprintf(out, " | `%s` | `%s` | %s | %s |\n",
                    field->otherwise[0] != '\0' ? field->otherwise : "\"\"", field->example,
                    field->at_reload ? "SIGHUP" : "restart", field->text);
        } else {
            fprintf(out, "| **`%s`** | | | | | %s |\n", name, field->text);
            char inner[160];
            snprintf(inner, sizeof inner, "%s.%s", name,
                     field->type == TRI_FIELD_ENTRIES ? "NAME." : "");
            document_section(out, field->inner, inner);
        }
    }
}

static const char introduction[] =
    "# Configuration\n"
    "`trouped` needs no configuration. It reads the file given by `--config`, else\n"
    "`$XDG_CONFIG_HOME/troupe/troupe.yaml`, else `~/.config/troupe/troupe.yaml`, else\n"
    "`/etc/troupe/troupe.yaml`, where there is one: YAML in UTF-8, one document, at most 1 MiB.\n\n"
    "`trouped --check` names the first fault by file, line, column and key (exit status 2) and\n"
    "warns of what is missing on this machine: a model file, the variable of a key. A warning\n"
    "stops nothing, since the file may come later; the daemon logs it at start and a request for\n"
    "that model says it again. `trouped --print` shows all effective values.\n\n"
    "SIGHUP (`systemctl reload`) reads the file again; a daemon that started without one looks\n"
    "for one then. A file with a fault changes nothing. The\n"
    "column \"changed by\" says which keys a reload applies; the others take a restart, and the "
    "log\n"
    "says so. Times are written 500ms, 10s, 5m or 1h; numbers are whole. This page is printed by\n"
    "`trouped --document`.\n\n"
    "| key | value | default | example | changed by | what it does |\n"
    "| --- | --- | --- | --- | --- | --- |\n";

static const char names[] =
    "\n## Names\n"
    "- A model is asked for as `provider/model`, as `local/NAME`, or by a bare name: an alias, "
    "else a\n"
    "  local model. An alias may lead to several models and to other aliases; those of an alias "
    "in\n"
    "  an alias stand in its place with its weight. It must not have a local model's name.\n"
    "- A name has 1 to 48 letters, digits and `. _ - :`; a provider's 1 to 40 and no colon. A\n"
    "  provider cannot be called `local` or `echo`: these two are always there.\n"
    "- `default_model` and each alias must lead to a local model or to a provider of the catalog "
    "or\n"
    "  of this file. Whether the provider has the model is known when it is asked.\n\n"
    "## Example\n"
    "```yaml\n"
    "default_model: local/smollm2-135m\n"
    "local:\n"
    "  smollm2-135m: {file: default, workers: 1}\n"
    "  qwen: {file: /models/qwen3-4b-q4_k_m.gguf, context: 8192}\n"
    "providers:\n"
    "  openai: {at_once: 50}\n"
    "  lmbox: {kind: openai-compatible, base_url: \"http://127.0.0.1:1234/v1\"}\n"
    "aliases:\n"
    "  fast: openai/gpt-4o-mini\n"
    "  good: [anthropic/claude-haiku-4-5, openai/gpt-4o-mini, smollm2-135m]\n"
    "  spread: {targets: [openai/gpt-4o-mini, lmbox/m], policy: weight, weights: [3, 1]}\n"
    "```\n\n"
    "## As a service\n"
    "`cmake --install` puts `trouped.service` (Type=notify) where systemd looks. The daemon says\n"
    "READY, RELOADING, STOPPING and STATUS by sd_notify(3); it asks for the time that `drain` "
    "needs,\n"
    "so `TimeoutStopSec` need not follow it. With `WatchdogSec=30s` it says WATCHDOG as long as "
    "all\n"
    "of its shards answer, and systemd restarts it when one hangs.\n";

void tr_config_document(FILE *out) {
    fputs(introduction, out);
    document_section(out, &tri_config_root, "");
    fputs(names, out);
}
