"""Checks of libtroupe as a library: what it exports, that its header stands alone in C and C++, and that a program
builds and runs against an installed tree, with the shared and with the static library.

usage: library.py BUILD_FOLDER CC CXX FLAGS
"""

import glob
import os
import re
import shlex
import subprocess
import sys
import tempfile

PROGRAM = """
#include <stdio.h>
#include <string.h>
#include <troupe.h>
int main(void) {
    tr_client *client = NULL;
    tr_request *request = NULL;
    tr_options options = TR_OPTIONS_INIT;
    tr_client_options client_options = TR_CLIENT_OPTIONS_INIT;
    client_options.url = "ipc:///tmp/troupe-none.sock";
    tr_err err = tr_client_open_with(&client_options, &client);
    if (err != TR_ERR_NO_DAEMON || strstr(tr_client_error(), "`troupe start`") == NULL) {
        return 1;
    }
    if (tr_request_new(&options, &request) != TR_OK || tr_request_text(request, "user", "hi") != TR_OK) {
        return 2;
    }
    char *json = NULL;
    if (tr_request_json(request, &json) != TR_OK) {
        return 3;
    }
    puts(json);
    tr_memory_free(json);
    tr_request_free(request);
    return 0;
}
"""


def run(command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **more)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)}\nexit status {done.returncode}\n{done.stdout}")
    return done.stdout


def symbols(path, *options):
    lines = run(["nm", "--defined-only", *options, path]).splitlines()
    return {line.split()[2] for line in lines if len(line.split()) == 3 and line.split()[1] in "TDBRVW"}


def declared(header):
    with open(header, encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
    typedefs = set(re.findall(r"typedef [^;(]*\b(tr_\w+)\(", text))
    return set(re.findall(r"\b(tr_[a-z_0-9]+)\(", text)) - typedefs


def check_exports(build, header):
    library = os.path.join(build, "lib", "libtroupe.so")
    exported = symbols(library, "-D")
    # A sanitizer or the linker may add names of its own, but nothing of ours may be missing or too much.
    ours = {name for name in exported if not name.startswith("_")}
    if ours != declared(header):
        sys.exit(f"exported, not declared: {ours - declared(header)}; declared, not exported: {declared(header) - ours}")
    if "libtroupe.so.0]" not in run(["readelf", "-d", library]):
        sys.exit("the soname is not libtroupe.so.0")


def check_names(build):
    """A program may hold the daemon and its client: no name may be in both."""
    client = symbols(os.path.join(build, "lib", "libtr_client.a"), "-g")
    for archive in glob.glob(os.path.join(build, "lib", "libtr_*.a")):
        if os.path.basename(archive) not in ("libtr_client.a", "libtr_testlib.a"):
            twice = client & symbols(archive, "-g")
            if twice:
                sys.exit(f"{archive} and libtr_client.a both define {twice}")


def check_header(header, cc, cxx, work):
    source = "#include <troupe.h>\ntr_options o = TR_OPTIONS_INIT;\ntr_client_options c = TR_CLIENT_OPTIONS_INIT;\n"
    for compiler, suffix, standards in ((cc, ".c", ("c11", "c17")), (cxx, ".cc", ("c++11", "c++17"))):
        path = os.path.join(work, "alone" + suffix)
        with open(path, "w", encoding="utf-8") as file:
            file.write(source)
        for standard in standards:
            run([*compiler, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I",
                 os.path.dirname(header), path])


def check_install(build, cc, cxx, flags, work):
    prefix = os.path.join(work, "prefix")
    run(["cmake", "--install", build, "--prefix", prefix, "--component", "client"])
    pc = glob.glob(os.path.join(prefix, "**", "troupe.pc"), recursive=True)
    environment = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(pc[0]))
    libraries = os.path.dirname(os.path.dirname(pc[0]))
    for compiler, suffix in ((cc, ".c"), (cxx, ".cc")):
        source = os.path.join(work, "program" + suffix)
        with open(source, "w", encoding="utf-8") as file:
            file.write(PROGRAM)
        for options in ([], ["--static"]):
            found = shlex.split(run(["pkg-config", "--cflags", "--libs", *options, "troupe"], env=environment))
            if options:  # the static library, and the shared ones of others
                found = [f for f in found if f != "-ltroupe"]
                found.insert(0, os.path.join(libraries, "libtroupe.a"))
            program = os.path.join(work, "program")
            run([*compiler, *flags, "-Wall", "-Werror", source, *found, "-o", program])
            out = run([program], env=dict(os.environ, LD_LIBRARY_PATH=libraries))
            if '{"role":"user","content":"hi"}' not in out:
                sys.exit(f"the program printed: {out}")


def main():
    build, cc, cxx = sys.argv[1], shlex.split(sys.argv[2]), shlex.split(sys.argv[3])
    flags = shlex.split(sys.argv[4]) if len(sys.argv) > 4 else []
    header = os.path.join(build, "include", "troupe.h")
    with tempfile.TemporaryDirectory() as work:
        check_exports(build, header)
        check_names(build)
        check_header(header, cc, cxx, work)
        check_install(build, cc, cxx, flags, work)


main()
