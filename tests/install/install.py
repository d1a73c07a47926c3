"""Checks of what is installed; CTest runs each one as install_<check>, on a tree of its own in a temporary folder.

usage: install.py CHECK BUILD_FOLDER SOURCE_FOLDER CC CXX FLAGS TINY_GGUF

TINY_GGUF writes the tests' model; "" where local models are not built. Exit status: 0 fine, 1 something is wrong, 77 a
program that the check needs is not installed.
"""

import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

CHECK, BUILD, SOURCE, CC, CXX, FLAGS, TINY = sys.argv[1:8]


def run(command, **more):
    more.setdefault("timeout", 120)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, **more)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)}\nexit status {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def expect(holds, sentence):
    if not holds:
        sys.exit(sentence)


def install(work):
    prefix = os.path.join(work, "prefix")
    run(["cmake", "--install", BUILD, "--prefix", prefix])
    return prefix


def one(prefix, pattern):
    found = glob.glob(os.path.join(prefix, pattern), recursive=True)
    expect(len(found) == 1, f"{pattern}: {len(found)} files installed instead of one: {found}")
    return found[0]


def symbols(path, *options):
    lines = [line.split() for line in run(["nm", *options, path]).splitlines()]
    return {line[-1] for line in lines if len(line) >= 2 and not line[-1].startswith("_")}


def check_exports(_work):
    """Both libraries show the public functions and nothing else of ours, and ask nobody for a function of ours."""
    with open(os.path.join(SOURCE, "tools/trouped/trouped.h"), encoding="utf-8") as file:
        header = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
    public = set(re.findall(r"\b(tr_daemon_\w+)\(", header))
    expect(len(public) >= 5, f"the header declares {public} only")
    for path, option in (("libtrouped.so", "-D"), ("libtrouped.a", "-g")):
        path = os.path.join(BUILD, "lib", path)
        shown = symbols(path, option, "--defined-only")
        expect(shown == public, f"{path} shows too much: {shown - public}; too little: {public - shown}")
        wanted = {name for name in symbols(path, option, "--undefined-only") if name.startswith(("tr_", "tri_"))}
        expect(not wanted, f"{path} lacks {wanted}")
    expect("libtrouped.so.0]" in run(["readelf", "-d", os.path.join(BUILD, "lib/libtrouped.so")]), "the soname is wrong")


def check_tree(work):
    """The files are where they are looked for, below $DESTDIR as well as below a prefix."""
    files = ["bin/trouped", "bin/troupe", "bin/troupe-bench", "bin/troupe-mock", "include/troupe.h", "include/trouped.h",
             "lib/**/libtroupe.a", "lib/**/libtroupe.so", "lib/**/libtrouped.a", "lib/**/libtrouped.so",
             "lib/**/pkgconfig/troupe.pc", "lib/**/pkgconfig/trouped.pc", "lib/systemd/system/trouped.service",
             "share/bash-completion/completions/troupe", "share/fish/vendor_completions.d/troupe.fish",
             "share/zsh/site-functions/_troupe"] + (["bin/troupe-worker"] if TINY else [])
    prefix = install(work)
    for file in files:
        one(prefix, file)
    stage = os.path.join(work, "stage")
    run(["cmake", "--install", BUILD, "--prefix", "/usr"], env=dict(os.environ, DESTDIR=stage))
    for file in files:
        one(stage + "/usr", file)
    with open(one(stage + "/usr", "lib/systemd/system/trouped.service"), encoding="utf-8") as file:
        expect("ExecStart=/usr/bin/trouped\n" in file.read(), "the unit names another program than /usr/bin/trouped")


def compile_all(work, prefix):
    """The example, built by pkg-config as C and as C++, with the shared and with the static libraries."""
    with open(os.path.join(SOURCE, "tools/examples/embedded.c"), encoding="utf-8") as file:
        text = file.read()
    libraries = os.path.dirname(one(prefix, "lib/**/libtrouped.so"))
    found = lambda *options: shlex.split(run(["pkg-config", *options, "trouped"], env=dict(
        os.environ, PKG_CONFIG_PATH=os.path.join(libraries, "pkgconfig"))))
    shared = found("--cflags", "--libs")
    expect("-ltroupe" in shared and "-lcurl" not in shared, f"pkg-config gives {shared}")
    static = [os.path.join(libraries, f"lib{f[2:]}.a") if f in ("-ltrouped", "-ltroupe") else f
              for f in found("--cflags", "--libs", "--static")]
    for compiler, suffix, standard in ((CC, ".c", "c17"), (CXX, ".cc", "c++11")):
        source = os.path.join(work, "program" + suffix)
        with open(source, "w", encoding="utf-8") as file:
            file.write(text)
        for kind, options in (("shared", shared), ("static", static)):
            program = os.path.join(work, kind + suffix + ".out")
            run([*shlex.split(compiler), *shlex.split(FLAGS), f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
                 source, *options, "-o", program])
            yield program, libraries


def check_programs(work):
    """Programs built against the tree run with the installed worker, and the installed daemon answers the installed CLI."""
    prefix = install(work)
    os.mkdir(os.path.join(work, "run"), 0o700)
    environment = dict(os.environ, PATH=os.path.join(prefix, "bin") + ":" + os.environ["PATH"],
                       XDG_RUNTIME_DIR=os.path.join(work, "run"), OMP_WAIT_POLICY="passive")
    model = os.path.join(work, "chain.gguf")
    if TINY:
        run([TINY, "chain", model])
    for program, libraries in compile_all(work, prefix):
        environment["LD_LIBRARY_PATH"] = libraries
        out = run([program, "echo/any"], env=environment)
        expect(out == "What is an actor?\n", f"{program} printed {out!r}")
        if TINY:
            out = run([program, "mine", "abc", model], env=environment)
            expect(out == "abcdefghijklmnopqrstuvwxyz\n", f"{program} with a model printed {out!r}")
    del environment["LD_LIBRARY_PATH"]
    troupe = os.path.join(prefix, "bin/troupe")
    config = os.path.join(work, "troupe.yaml")
    with open(config, "w", encoding="utf-8") as file:
        file.write("log: {level: warn}\n" + (f"local: {{chain: {{file: {model}}}}}\n" if TINY else ""))
    run([troupe, "start", "--config", config], env=environment)
    try:
        expect(run([troupe, "ask", "-m", "echo/any", "hello"], env=environment) == "hello\n", "echo does not answer")
        if TINY:
            out = run([troupe, "ask", "-m", "chain", "--temperature", "0", "abc"], env=environment)
            expect(out == "abcdefghijklmnopqrstuvwxyz\n", f"the model answered {out!r}")
    finally:
        run([troupe, "stop"], env=environment)


def check_service(work):
    """systemd understands the unit, and finds little that its service could still do to the machine."""
    if shutil.which("systemd-analyze") is None:
        print("not run: systemd-analyze is not installed (apt-get install systemd)")
        sys.exit(77)
    unit = one(install(work), "lib/systemd/system/trouped.service")
    said = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    ours = [line for line in said.stdout.splitlines() if "trouped" in line]
    expect(said.returncode == 0 and not ours, f"systemd-analyze verify: {said.stdout}")
    # 25 = exposure 2.5 of 10; without any of the options it is 9.6.
    run(["systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", unit])


def check_completions(work):
    """Each shell that is here completes a command and an option from its installed file."""
    share = os.path.join(install(work), "share")
    bash = (f"source {share}/bash-completion/completions/troupe; COMP_WORDS=(troupe as); COMP_CWORD=1; _troupe; "
            'echo "${COMPREPLY[@]}"; COMP_WORDS=(troupe ask --temp); COMP_CWORD=2; _troupe; echo "${COMPREPLY[@]}"')
    fish = (f"source {share}/fish/vendor_completions.d/troupe.fish; complete -C 'troupe as'; "
            "complete -C 'troupe ask --temp'")
    # zsh completes in an interactive shell only, here on a terminal of its own; each wait is for what has to appear.
    zsh = f"""zmodload zsh/zpty; zpty z zsh -f -i
zpty -w z 'PS1=; fpath=({share}/zsh/site-functions $fpath); autoload -Uz compinit; compinit -u -D; print -r re''ady'
zpty -r z out '*ready*'; zpty -w -n z $'troupe as\\t'; zpty -r -m z out '*ask*'; print -r -- $out
zpty -w -n z $'--temp\\t'; zpty -r -m z out '*ture*'; print -r -- $out"""
    scripts = {"bash": (bash, "ask", "--temperature"), "fish": (fish, "ask", "--temperature"),
               "zsh": (zsh, "troupe ask", "--temperature")}
    run(["bash", "-n", f"{share}/bash-completion/completions/troupe"])
    for shell, (script, *words) in scripts.items():
        if shutil.which(shell) is None:
            print(f"{shell} is not installed")
            continue
        out = run([shell, "-f", "-c", script] if shell == "zsh" else [shell, "-c", script], timeout=30)
        for word in words:
            expect(word in out, f"{shell} does not complete {word}: {out!r}")


with tempfile.TemporaryDirectory() as folder:
    globals()["check_" + CHECK](folder)
