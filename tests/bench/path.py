"""The measurements of path.sh, which says what they are and how they are asked for."""

import argparse
import json
import os
import resource
import statistics
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

import daemon
from daemon import Daemon, read, say

median = statistics.median


class Mock:
    """A troupe-mock of its own, with TLS by a certificate that it makes when it is told so."""

    def __init__(self, build, tls=False):
        self.folder = tempfile.TemporaryDirectory(prefix="troupe-bench-mock-")
        self.cert = self.folder.name + "/mock.pem" if tls else None
        more = ["--tls", self.cert] if tls else []
        self.process = subprocess.Popen([f"{build}/bin/troupe-mock", "--die-with-parent", *more], stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().split()[-1]

    def stats(self):
        # A connection of its own closes with the answer, and is not counted.
        trusts = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=self.cert))
        with urllib.request.build_opener(urllib.request.ProxyHandler({}), trusts).open(self.url[:-3] + "/stats") as answer:
            return json.load(answer)

    def cpu_ms(self):
        return int(read(f"/proc/{self.process.pid}/schedstat").split()[0]) / 1e6

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)
        self.folder.cleanup()


class Path:
    """A mock, a daemon that knows it as provider "mock", and the programs that ask."""

    def __init__(self, o, tls=False, more=""):
        self.build = o.build
        self.mock = Mock(o.build, tls)
        config = f"providers: {{mock: {{kind: openai-compatible, base_url: '{self.mock.url}', at_once: 65536{more}}}}}\n"
        self.daemon = Daemon(o.build, config, {"SSL_CERT_FILE": self.mock.cert} if tls else None)

    def path(self, what, plan, first, second, check=True):
        return self.run("bench_path", what, self.daemon.url, f"mock/mock:{plan}", first, second, check)

    def peer(self, what, plan, first, second):
        return self.run("bench_peer", what, self.mock.url, f"mock:{plan}", first, second, True)

    def run(self, program, what, where, model, first, second, check):
        before, mock = self.daemon.cpu_ms(), self.mock.cpu_ms()
        done = subprocess.run([f"{self.build}/tests/{program}", what, where, model, str(first), str(second)], check=check,
                              stdout=subprocess.PIPE, timeout=600)
        line = json.loads(done.stdout)
        line["daemon_cpu_us"] = (self.daemon.cpu_ms() - before) * 1000
        line["mock_cpu_us"] = (self.mock.cpu_ms() - mock) * 1000
        line["status"] = done.returncode
        return line

    def control(self, *words):
        return json.loads(daemon.output([f"{self.build}/bin/troupe", *words, "--json", "--socket", self.daemon.url]))

    def limiter(self):
        return self.control("limit", "mock")

    def stop(self):
        self.daemon.stop()
        self.mock.stop()


def figures(lines, *names):
    return {name: round(median(line[name] for line in lines), 1) for name in names}


def measure_unary(o):
    path = Path(o)
    ours, theirs = [], []
    count = 100 if o.short else 500
    try:
        for _ in range(o.rounds):
            theirs.append(path.peer("unary", "tokens=20", count, 100))
            ours.append(path.path("unary", "tokens=20", count, 100))
    finally:
        path.stop()
    for share in ("p50_us", "p99_us"):
        ratio = median(a[share] / b[share] for a, b in zip(ours, theirs))
        say(bench="unary", share=share[:3], us=round(median(a[share] for a in ours)), peers_us=round(median(b[share] for b in theirs)),
            ratio=round(ratio, 2), goal=2, met=ratio <= 2, rounds=o.rounds)
    say(bench="unary", client_cpu_us=round(median(a["cpu_us"] for a in ours)),
        daemon_cpu_us=round(median(a["daemon_cpu_us"] for a in ours) / (count + 10)), peers_cpu_us=round(median(b["cpu_us"] for b in theirs)),
        mock_cpu_us=round(median(a["mock_cpu_us"] for a in ours) / (count + 10)),
        **figures(theirs, "ping_p50_us", "ping_p99_us", "curl_p50_us", "curl_p99_us"))


def measure_load(o):
    path = Path(o)
    ours, theirs = [], []
    count = 3000 if o.short else 30000
    try:
        for _ in range(o.rounds):
            theirs.append(path.peer("load", "tokens=20", 64, count))
            ours.append(path.path("load", "tokens=20", 64, count))
    finally:
        path.stop()
    ratio = median(a["per_second"] / b["per_second"] for a, b in zip(ours, theirs))
    say(bench="load", at_once=64, per_second=median(a["per_second"] for a in ours), peers=median(b["per_second"] for b in theirs),
        ratio=round(ratio, 2), goal=0.5, met=ratio >= 0.5, rounds=o.rounds,
        daemon_cpu_us=round(median(a["daemon_cpu_us"] for a in ours) / count, 1), **figures(ours, "cpu_us"),
        peers_cpu_us=round(median(b["cpu_us"] for b in theirs), 1), mock_cpu_us=round(median(a["mock_cpu_us"] for a in ours) / count, 1))


def measure_streams(o):
    """`steady`: the streams begin one after the other, so that their tokens come one after the other; `streams`: all in step."""
    for what, at_once, goal in [(what, *which) for what in ("steady", "streams")
                                for which in (((100, 5),) if o.short else ((1000, 5), (2000, 25)))]:
        path = Path(o)
        ours, theirs = [], []
        plan = "tokens=50,interval=20ms,stamp"
        try:
            for _ in range(o.rounds):
                theirs.append(path.peer(what, plan, at_once, at_once * 4))
                ours.append(path.path(what, plan, at_once, at_once * 4))
        finally:
            path.stop()
        added = median(a["added_p99_ms"] for a in ours)
        say(bench=what, at_once=at_once, added_p50_ms=median(a["added_p50_ms"] for a in ours), added_p99_ms=added,
            peers_p99_ms=median(b["added_p99_ms"] for b in theirs), goal=goal, met=added <= goal, rounds=o.rounds)
        ratio = median(a["daemon_cpu_us"] / a["chunks"] / b["cpu_us_per_chunk"] for a, b in zip(ours, theirs))
        say(bench=what + " chunk", at_once=at_once, daemon_cpu_us=round(median(a["daemon_cpu_us"] / a["chunks"] for a in ours), 2),
            peers_cpu_us=median(b["cpu_us_per_chunk"] for b in theirs), ratio=round(ratio, 2), goal=1.6, met=ratio <= 1.6,
            client_cpu_us=median(a["cpu_us_per_chunk"] for a in ours),
            mock_cpu_us=round(median(a["mock_cpu_us"] / a["chunks"] for a in ours), 2))


def hold_open(path, count, goal, name):
    """Memory a stream at `count` of them, and what remains when they are gone."""
    path.path("load", "tokens=2", 64, 640)
    fresh = path.daemon.rss_kib()
    plan = "tokens=100000,interval=2s,stamp"
    held = subprocess.Popen([f"{path.build}/tests/bench_path", "open", path.daemon.url, f"mock/mock:{plan}", str(count), "1"],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    line = json.loads(held.stdout.readline())
    time.sleep(2)
    full = path.daemon.rss_kib()
    held.stdin.close()
    held.wait(timeout=60)
    ended = time.monotonic()
    while path.mock.stats()["active"] > 0 and time.monotonic() - ended < 60:
        time.sleep(0.05)
    closed = time.monotonic() - ended
    for _ in range(50):
        time.sleep(0.1)
        after = path.daemon.rss_kib()
        if after <= 1.2 * fresh:
            break
    each = (full - fresh) / count
    say(False, bench=name, streams=count, open=line["open"], seconds=line["seconds"], kib_each=round(each, 1), goal=goal,
        met=line["open"] == count and each <= goal)
    say(False, bench=name + " afterwards", fresh_mib=round(fresh / 1024, 1), full_mib=round(full / 1024, 1),
        after_mib=round(after / 1024, 1), ratio=round(after / fresh, 2), goal=1.2, met=after <= 1.2 * fresh,
        closed_seconds=round(closed, 2), used=path.limiter()["used"])


def measure_open(o):
    for name, tls, goal in (("open", False, 32), ("open tls", True, 96)):
        path = Path(o, tls)
        try:
            hold_open(path, 500 if o.short else 9000, goal, name)
            if tls:
                resumed = path.mock.stats()["resumed"]
                say(False, bench=name + " sessions", resumed=resumed, accepted=path.mock.stats()["accepted"], met=resumed > 0)
        finally:
            path.stop()


def measure_storm(o):
    count = 2000 if o.short else 10000
    lines = []
    for _ in range(1 if o.short else o.rounds):
        path = Path(o, more=", rpm: 100000000, tpm: 1000000000, burst: 65536")
        try:
            line = path.path("storm", "told", 128, count, check=False)
            time.sleep(0.3)
            line["upstream"] = path.mock.stats()["requests"]
            limiter = path.limiter()
            line["held"] = limiter["used"] + limiter["waiting"] + limiter["tokens_reserved"]
            line["active"] = path.mock.stats()["active"]
        finally:
            path.stop()
        lines.append(line)
        ratio = line["upstream"] / count
        say(False, bench="storm", met=line["status"] == 0 and ratio <= 1.25 and line["held"] == 0,
            upstream_per_request=round(ratio, 3), goal=1.25, **{k: line[k] for k in line if k not in ("bench", "status", "mock_cpu_us")})
    rate = median(line["per_second"] for line in lines)
    say(bench="storm rate", per_second=rate, goal=500, met=rate >= 500, rounds=len(lines))


def main():
    parser = argparse.ArgumentParser(prog="path.sh")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--build", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build"))
    parser.add_argument("--short", action="store_true", help="fewer and smaller, for CTest")
    parts = {"unary": measure_unary, "load": measure_load, "streams": measure_streams, "open": measure_open, "storm": measure_storm}
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts) + "; all of them by default")
    o = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    say(bench="machine", processors=os.cpu_count(), load=round(os.getloadavg()[0], 1))
    for part in o.parts or parts:
        if part not in parts:
            parser.error(f"there is no part {part}")
        parts[part](o)
    if daemon.missed:
        sys.exit(f"missed: {', '.join(daemon.missed)}")


if __name__ == "__main__":
    main()
