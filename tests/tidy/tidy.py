"""Checks of the sources that a compiler does not make; CTest runs each one as tidy_<name>.

usage: tidy.py CHECK SOURCE_FOLDER BUILD_FOLDER

A check returns the list of what is wrong, each as "file:line: sentence". Exit status: 0 fine, 1 something is wrong,
77 the program that the check needs is not installed (tools/setup --dev installs it).
"""

import concurrent.futures
import fnmatch
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

FOLDERS = ["protocol", "runtime", "providers", "inference", "actors", "tools", "tests"]

# Whose headers each folder may include, beside its own. The client library is at protocol's side, not inside it.
MAY_INCLUDE = {
    "protocol": [],
    "protocol/client": ["protocol"],
    "runtime": ["protocol"],
    "providers": ["protocol", "runtime"],
    "inference": ["protocol", "runtime"],
    "actors": ["protocol", "runtime", "providers", "inference"],
    "tools": ["protocol", "protocol/client", "runtime", "providers", "inference", "actors"],
    "tests": ["protocol", "protocol/client", "runtime", "providers", "inference", "actors", "tools"],
}

# Where each library may be included. Tests may reach any of them.
DOORS = [
    ("nng/*", ["runtime/transport_nng*.[ch]", "protocol/client/*"]),
    ("curl/*", ["providers/http*.[ch]"]),
    ("llama*.h", ["inference/engine*.[ch]"]),
    ("ggml*.h", ["inference/engine*.[ch]"]),
    ("gguf.h", ["inference/engine*.[ch]"]),
    ("yaml.h", ["tools/*config*.[ch]"]),
    ("*cJSON*.h", ["protocol/json*.c"]),
    ("openssl/*", ["tools/mock/tls.[ch]"]),
    ("CUnit/*", []),
]

PUBLIC_HEADER = "protocol/client/troupe.h"
SOURCE_LINES_MAX, SOURCE_LINES_SOFT, HEADER_LINES_MAX, COLUMNS_MAX, FUNCTION_LINES_SOFT = 800, 400, 150, 100, 70
BANNED = ["strcpy", "strcat", "sprintf", "vsprintf", "gets", "strtok", "system", "sleep", "usleep", "nanosleep"]
# Written apart, so that this file passes its own check.
OPEN_WORDS = ["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]


def walk(root, *patterns):
    """The project's files whose names match, as paths relative to the root, sorted."""
    found = []
    for top in FOLDERS + ["cmake", "docs", ".ci"]:
        for folder, _, names in os.walk(os.path.join(root, top)):
            found += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    found += [name for name in os.listdir(root) if os.path.isfile(os.path.join(root, name))]
    return sorted(path for path in found if any(fnmatch.fnmatch(os.path.basename(path), p) for p in patterns))


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


def lines_of(root, path):
    return list(enumerate(read(root, path).splitlines(), 1))


def code_of(text):
    """C source with comments and the insides of literals blanked out, line by line as before."""
    literal = r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    comment = r"/\*.*?\*/|//[^\n]*"
    blank = lambda match: re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(f"{literal}|{comment}", blank, text, flags=re.S)


def includes_of(root, path):
    """(line number, "header" or <header>, whether in angle brackets)"""
    for number, line in lines_of(root, path):
        match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)', line)
        if match:
            yield number, match.group(2), match.group(1) == "<"


def folder_of(path):
    return "protocol/client" if path.startswith("protocol/client/") else path.split("/")[0]


def check_layers(root, _build):
    bad = []
    for path in walk(root, "*.[ch]"):
        mine = folder_of(path)
        for number, header, angle in includes_of(root, path):
            if angle or (header == "troupe.h" and mine in ("tools", "tests")):
                continue
            theirs = folder_of(header)
            if header.startswith(".") or theirs not in MAY_INCLUDE:
                bad.append(f'{path}:{number}: "{header}" is not a path from the root of the project')
            elif theirs != mine and theirs not in MAY_INCLUDE.get(mine, []):
                bad.append(f"{path}:{number}: {mine}/ may not include {theirs}/ ({header})")
    return bad


def check_doors(root, _build):
    bad = []
    for path in walk(root, "*.[ch]"):
        if path.startswith("tests/"):
            continue
        for number, header, _ in includes_of(root, path):
            for library, doors in DOORS:
                if fnmatch.fnmatch(header, library) and not any(fnmatch.fnmatch(path, door) for door in doors):
                    where = " and ".join(doors) or "tests/"
                    bad.append(f"{path}:{number}: <{header}> belongs in {where} only")
    return bad


def functions_of(text):
    """(first line, number of lines) of each function: from the line of its opening brace to a lone } in column 1."""
    start = None
    for number, line in enumerate(text.splitlines(), 1):
        if start is None and re.match(r"[^\s#}/].*\{$|\{$", line) and 'extern "C"' not in line:
            start = number
        elif start is not None and line.startswith("}"):
            if line.rstrip() == "}":
                yield start, number - start + 1
            start = None


def check_sizes(root, _build):
    bad, long_files, long_functions = [], 0, 0
    for path in walk(root, "*.[ch]"):
        text = read(root, path)
        length = text.count("\n")
        if path.endswith(".c") and length > SOURCE_LINES_MAX:
            bad.append(f"{path}:1: {length} lines, at most {SOURCE_LINES_MAX} are allowed")
        if path.endswith(".h") and length > HEADER_LINES_MAX and path != PUBLIC_HEADER:
            bad.append(f"{path}:1: {length} lines, at most {HEADER_LINES_MAX} are allowed in a header")
        if path.endswith(".c") and length > SOURCE_LINES_SOFT:
            long_files += 1
        for number, line in lines_of(root, path):
            if len(line) > COLUMNS_MAX:
                bad.append(f"{path}:{number}: {len(line)} columns, at most {COLUMNS_MAX} are allowed")
        for number, size in functions_of(code_of(text)):
            if size > FUNCTION_LINES_SOFT:
                long_functions += 1
                print(f"note: {path}:{number}: a function of {size} lines")
    print(f"{long_files} files over {SOURCE_LINES_SOFT} lines, {long_functions} functions over {FUNCTION_LINES_SOFT}")
    return bad


def check_banned(root, _build):
    call = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
    return [
        f"{path}:{number}: {match.group(1)} is banned (see CONTRIBUTING.md)"
        for path in walk(root, "*.[ch]")
        for number, line in enumerate(code_of(read(root, path)).splitlines(), 1)
        for match in call.finditer(line)
    ]


def check_words(root, _build):
    word = re.compile(r"\b(" + "|".join(OPEN_WORDS) + r")\b")
    scripts = ("setup", "quickstart", "check", "run")
    return [
        f"{path}:{number}: {word.search(line).group(1)}: finish it, or file an issue"
        for path in walk(root, "*.[ch]", "*.md", "*.sh", "*.py", "*.cmake", "CMakeLists.txt", "*.yaml", *scripts)
        for number, line in lines_of(root, path)
        if word.search(line)
    ]


def need(program):
    if shutil.which(program) is None:
        print(f"not run: {program} is not installed (tools/setup --dev installs it)")
        sys.exit(77)


def run(command, root):
    """(exit status, output) of a command at the root."""
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def check_format(root, _build):
    need("clang-format")
    files = walk(root, "*.[ch]")
    _, output = run(["clang-format", "--dry-run", "-Werror", *files], root) if files else (0, "")
    wrong = [line for line in output.splitlines() if "error:" in line]
    return wrong + ["put right by: clang-format -i FILE"] if wrong else []


def check_shell(root, _build):
    need("shellcheck")
    scripts = [path for path in walk(root, "*") if read_start(root, path).startswith(("#!/usr/bin/env bash", "#!/bin/sh"))]
    status, output = run(["shellcheck", "-x", *scripts], root) if scripts else (0, "")
    return output.splitlines() if status else []


def read_start(root, path):
    with open(os.path.join(root, path), "rb") as file:
        return file.read(40).decode("utf-8", "replace")


def check_cppcheck(root, build):
    need("cppcheck")
    work = os.path.join(build, "tidy-cppcheck")
    os.makedirs(work, exist_ok=True)
    folders = [folder for folder in FOLDERS if walk_has_c(root, folder)]
    status, output = run(
        ["cppcheck", "--quiet", "-j", str(os.cpu_count()), "--enable=warning,portability,performance", "--inline-suppr",
         "--error-exitcode=1", "--std=c11", "--suppress=missingIncludeSystem", f"--cppcheck-build-dir={work}",
         "-D_GNU_SOURCE", "-D__linux__", "-DTROUPE_VERSION=\"0\"", "-I", ".", "-i", "tests/fuzz", *folders], root)
    return output.splitlines() if status else []


def walk_has_c(root, folder):
    return any(path.startswith(folder + "/") for path in walk(root, "*.c"))


def tidy_one(command, root, stamps):
    """What clang-tidy says of one file; nothing is asked again for a file whose preprocessed text it found clean."""
    arguments = [a for a in shlex.split(command["command"])[1:] if a not in ("-c",)]
    if "-o" in arguments:
        at = arguments.index("-o")
        del arguments[at : at + 2]
    text = subprocess.run(["clang", "-E", "-w", *arguments], cwd=command["directory"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=False).stdout
    stamp = os.path.join(stamps, hashlib.sha256(read(root, ".clang-tidy").encode() + text).hexdigest())
    if text and os.path.exists(stamp):
        return []
    done = subprocess.run(["clang-tidy", "--quiet", command["file"], "--", "-Wno-unknown-warning-option", *arguments],
                          cwd=command["directory"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0 and "warning:" not in done.stdout:
        open(stamp, "w", encoding="utf-8").close()
        return []
    return done.stdout.splitlines() or done.stderr.splitlines()


def check_clang_tidy(root, build):
    need("clang-tidy")
    stamps = os.path.join(build, "tidy-clang")
    os.makedirs(stamps, exist_ok=True)
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        commands = {c["file"]: c for c in json.load(file)}
    ours = [c for name, c in sorted(commands.items()) if not os.path.relpath(name, root).startswith(("tests/", ".."))]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [line for lines in pool.map(lambda c: tidy_one(c, root, stamps), ours) for line in lines]


def check_selftest(_root, _build):
    """Each check of this file finds what was planted for it, and nothing in a clean file."""
    planted = {
        "runtime/bad.c": '#include "actors/call.h"\n#include <curl/curl.h>\n#include "../x.h"\n',
        "providers/bad.c": '#include "inference/pool.h"\n',
        "protocol/bad.h": "int a;\n" * 151,
        "protocol/wide.c": "int " + "a" * 100 + ";\n",
        "actors/bad.c": 'void f(char *a) {\n    strcpy(a, "strcat(");  // sprintf(\n    x->sleep(1);\n    sleep (1);\n}\n',
        "tools/bad.md": f"{OPEN_WORDS[0]}: later\n",
        "actors/good.c": '#include "runtime/actor.h"\n#include <stdio.h>\n/* sleep(1) */\nint f(void) {\n    return 0;\n}\n',
    }
    expected = {"layers": 3, "doors": 1, "sizes": 2, "banned": 2, "words": 1}
    bad = []
    with tempfile.TemporaryDirectory() as root:
        for path, text in planted.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(text)
        for name, count in expected.items():
            found = CHECKS[name](root, None)
            if len(found) != count or any("good.c" in line for line in found):
                bad.append(f"{name} found {len(found)} of {count} planted faults: {found}")
    long_function = "int f(void) {\n" + "    g();\n" * 70 + "}\nstatic int a[] = {\n" + "1,\n" * 80 + "};\n"
    if list(functions_of(long_function)) != [(1, 72)]:
        bad.append(f"functions_of gives {list(functions_of(long_function))}")
    return bad


CHECKS = {name[len("check_") :]: function for name, function in list(globals().items()) if name.startswith("check_")}


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in CHECKS:
        sys.exit(__doc__ + "\nchecks: " + ", ".join(CHECKS))
    wrong = CHECKS[sys.argv[1]](os.path.abspath(sys.argv[2]), os.path.abspath(sys.argv[3]))
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)


main()
