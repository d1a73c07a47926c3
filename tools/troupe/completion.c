/*
 * `troupe completion`: scripts for bash, zsh (through its bashcompinit) and fish, made from the
 * tables of commands and options. What can stand for a value is read from how the help calls it:
 * MODEL and NAME are asked of the running daemon by `troupe models`, ID by `troupe requests`, words
 * joined by | are themselves, FILE is the shell's own matter. One thread.
 */
#include <stdio.h>
#include <string.h>

#include "tools/troupe/commands.h"

/* Lists what `troupe models` says: the argument "all" = what -m takes, "local" = what load takes,
 * "providers". The program is the one that is being completed, which need not be in PATH. */
static const char bash_lists[] =
    "_troupe_list() {\n"
    "  local name rest\n"
    "  \"${COMP_WORDS[0]}\" \"$([ \"$1\" = requests ] && echo requests || echo models)\" -q "
    "2>/dev/null </dev/null |\n"
    "    while read -r name rest; do\n"
    "      case $1:$name:$rest in\n"
    "        *:default::* | *:default:) ;;\n"
    "        all:*/MODEL:*) echo \"${name%MODEL}\" ;;\n"
    "        providers:*/MODEL:*) echo \"${name%/MODEL}\" ;;\n"
    "        providers:* | local:*/MODEL:* | local:*:'alias of'*) ;;\n"
    "        *) echo \"$name\" ;;\n"
    "      esac\n"
    "    done\n"
    "}\n";

static bool means(const char *synopsis, const char *word) {
    return strcmp(synopsis, word) == 0;
}

static void words(FILE *out, const char *joined) {
    for (const char *at = joined; *at != '\0'; at++) {
        fputc(*at == '|' ? ' ' : *at, out);
    }
}

static void command_names(FILE *out) {
    for (size_t i = 0; i < tri_command_count; i++) {
        fprintf(out, "%s%s", i > 0 ? " " : "", tri_commands[i].name);
    }
}

/* After an option that has a value: the values known, or none, which leaves it to file names. */
static void bash_values(FILE *out) {
    fputs("  case ${COMP_WORDS[COMP_CWORD-1]} in\n"
          "    -m | --model) COMPREPLY=($(compgen -W \"$(_troupe_list all)\" -- \"$word\"))\n"
          "      [[ ${COMPREPLY[*]} != */ ]] || compopt -o nospace 2>/dev/null\n"
          "      return ;;\n"
          "    --provider) COMPREPLY=($(compgen -W \"$(_troupe_list providers)\" -- \"$word\"))\n"
          "      return ;;\n    ",
          out);
    const char *gap = "";
    for (size_t k = 0; k < tri_option_count; k++) {
        const tri_option *option = &tri_options_known[k];
        if (option->value != NULL && !means(option->value, "MODEL") &&
            !means(option->value, "NAME")) {
            fprintf(out, "%s--%s", gap, option->option.name);
            gap = " | ";
        }
    }
    fputs(") return ;;\n  esac\n", out);
}

/* What may stand as the argument, as a part of the list of words. */
static void bash_arguments(FILE *out, const tri_command *command) {
    if (means(command->synopsis, "MODEL")) {
        fputs("$(_troupe_list local)", out);
    } else if (means(command->synopsis, "ID")) {
        fputs("$(_troupe_list requests)", out);
    } else if (means(command->synopsis, "[PROVIDER]")) {
        fputs("$(_troupe_list providers)", out);
    } else if (means(command->synopsis, "[COMMAND]")) {
        command_names(out);
    } else if (strchr(command->synopsis, '|') != NULL) {
        words(out, command->synopsis);
    }
}

static void complete_bash(FILE *out) {
    fputs(bash_lists, out);
    fputs("_troupe() {\n  local word=${COMP_WORDS[COMP_CWORD]} arguments='' options=''\n"
          "  COMPREPLY=()\n"
          "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    COMPREPLY=($(compgen -W '",
          out);
    command_names(out);
    fputs("' -- \"$word\"))\n    return\n  fi\n", out);
    bash_values(out);
    fputs("  case ${COMP_WORDS[1]} in\n", out);
    for (size_t i = 0; i < tri_command_count; i++) {
        fprintf(out, "    %s) options='", tri_commands[i].name);
        for (size_t k = 0; k < tri_option_count; k++) {
            if (tri_takes(&tri_commands[i], &tri_options_known[k])) {
                fprintf(out, "--%s ", tri_options_known[k].option.name);
            }
        }
        fputs("'\n      [[ $word == -* ]] || arguments=\"", out);
        bash_arguments(out, &tri_commands[i]);
        fputs("\" ;;\n", out);
    }
    fputs("  esac\n"
          "  [[ $word == -* || -z $arguments ]] || options=''\n"
          "  COMPREPLY=($(compgen -W \"$arguments $options\" -- \"$word\"))\n"
          "}\ncomplete -o default -F _troupe troupe\n",
          out);
}

/* The description, in fish's quotes. */
static void fish_text(FILE *out, const char *text) {
    fputs(" -d '", out);
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '\'' || *at == '\\') {
            fputc('\\', out);
        }
        fputc(*at, out);
    }
    fputs("'\n", out);
}

static const char fish_lists[] =
    "function __troupe_list\n"
    "  set -l lines (troupe models -q 2>/dev/null </dev/null | string match -v 'default:*')\n"
    "  switch $argv[1]\n"
    "    case all\n"
    "      string replace -r ' .*' '' -- $lines | string replace -r 'MODEL$' ''\n"
    "    case providers\n"
    "      string replace -f -r '/MODEL$' '' -- $lines\n"
    "    case local\n"
    "      string match -v '*/MODEL' -- $lines | string match -v '* alias of *' |"
    " string replace -r ' .*' ''\n"
    "    case requests\n"
    "      troupe requests -q 2>/dev/null </dev/null | string replace -r ' .*' ''\n"
    "  end\n"
    "end\n";

static void fish_arguments(FILE *out, const tri_command *command) {
    if (strchr(command->synopsis, '|') == NULL && !means(command->synopsis, "MODEL") &&
        !means(command->synopsis, "ID") && !means(command->synopsis, "[PROVIDER]") &&
        !means(command->synopsis, "[COMMAND]")) {
        return;
    }
    fprintf(out, "complete -c troupe -f -n '__fish_seen_subcommand_from %s' -a '", command->name);
    if (means(command->synopsis, "MODEL")) {
        fputs("(__troupe_list local)", out);
    } else if (means(command->synopsis, "ID")) {
        fputs("(__troupe_list requests)", out);
    } else if (means(command->synopsis, "[PROVIDER]")) {
        fputs("(__troupe_list providers)", out);
    } else if (means(command->synopsis, "[COMMAND]")) {
        command_names(out);
    } else {
        words(out, command->synopsis);
    }
    fputs("'\n", out);
}

static void fish_option(FILE *out, const tri_command *command, const tri_option *option) {
    fprintf(out, "complete -c troupe -n '__fish_seen_subcommand_from %s' -l %s", command->name,
            option->option.name);
    if (option->option.val < 256) {
        fprintf(out, " -s %c", option->option.val);
    }
    if (option->value != NULL) {
        fputs(means(option->value, "MODEL")  ? " -x -a '(__troupe_list all)'"
              : means(option->value, "NAME") ? " -x -a '(__troupe_list providers)'"
              : means(option->value, "FILE") ? " -r"
                                             : " -x",
              out);
    }
    fish_text(out, option->text);
}

static void complete_fish(FILE *out) {
    fputs(fish_lists, out);
    for (size_t i = 0; i < tri_command_count; i++) {
        const tri_command *command = &tri_commands[i];
        fprintf(out, "complete -c troupe -n __fish_use_subcommand -a %s", command->name);
        fish_text(out, command->text);
        fish_arguments(out, command);
        for (size_t k = 0; k < tri_option_count; k++) {
            if (tri_takes(command, &tri_options_known[k])) {
                fish_option(out, command, &tri_options_known[k]);
            }
        }
    }
}

int tri_cmd_completion(const tri_args *args) {
    const char *shell = args->rest_count == 1 ? args->rest[0] : "";
    if (strcmp(shell, "bash") == 0) {
        complete_bash(stdout);
    } else if (strcmp(shell, "zsh") == 0) {
        fputs("autoload -U +X bashcompinit && bashcompinit\n", stdout);
        complete_bash(stdout);
    } else if (strcmp(shell, "fish") == 0) {
        complete_fish(stdout);
    } else {
        return tri_usage("completion", "expected bash, zsh or fish");
    }
    return TRI_EXIT_OK;
}
