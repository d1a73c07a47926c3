"""The measurements of daemon.sh, which says what they are and how they are asked for."""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

PROMPT = "Explain in a few sentences what an actor is and how actors in a program talk to each other."
missed = []


def say(excusable=True, **fields):
    print(json.dumps(fields), flush=True)
    if not excusable and fields.get("met") is False:
        missed.append(fields["bench"])


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


class Daemon:
    """A trouped of its own in a temporary folder; `started` is how long it took from exec to ready, in ms."""

    def __init__(self, build, config="", environment=None):
        self.folder = tempfile.TemporaryDirectory(prefix="troupe-bench-")
        path = self.folder.name
        self.url = f"ipc://{path}/troupe.sock"
        with open(path + "/troupe.yaml", "w", encoding="utf-8") as file:
            file.write(f"listen: {{socket: 'ipc://{path}/troupe.sock'}}\nlog: {{level: error}}\n{config}")
        ready, told = os.pipe()
        begun = time.monotonic()
        self.process = subprocess.Popen([f"{build}/bin/trouped", "--config", path + "/troupe.yaml", "--ready-fd", str(told)],
                                        pass_fds=(told,), env={**os.environ, **(environment or {})})
        os.close(told)
        word = os.read(ready, 1000)
        self.started = (time.monotonic() - begun) * 1000
        os.close(ready)
        if word != b"ready\n":
            sys.exit(f"trouped: {word.decode()}")

    def cpu_ms(self, pid=None):
        """By the scheduler's clock; of the threads that live."""
        tasks = f"/proc/{pid or self.process.pid}/task"
        return sum(int(read(f"{tasks}/{task}/schedstat").split()[0]) for task in os.listdir(tasks)) / 1e6

    def workers_cpu_ms(self):
        tasks = f"/proc/{self.process.pid}/task"
        return sum(self.cpu_ms(pid) for task in os.listdir(tasks) for pid in read(f"{tasks}/{task}/children").split())

    def rss_kib(self):
        return int([line for line in read(f"/proc/{self.process.pid}/status").splitlines() if line.startswith("VmRSS")][0].split()[1])

    def wakes(self):
        tasks = f"/proc/{self.process.pid}/task"
        return sum(int(line.split()[1]) for task in os.listdir(tasks)
                   for line in read(f"{tasks}/{task}/status").splitlines() if line.startswith("voluntary"))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(timeout=60) != 0:
            sys.exit("trouped did not end well")
        self.folder.cleanup()


def output(command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=600).stdout


def measure_idle(o):
    starts, cpus = [], []
    for _ in range(max(o.rounds, 5)):
        daemon = Daemon(o.build)
        starts.append(daemon.started)
        cpus.append(daemon.cpu_ms())
        daemon.stop()
    median = statistics.median(starts)
    say(bench="ready", ms=round(median, 1), least_ms=round(min(starts), 1), cpu_ms=round(statistics.median(cpus), 1), goal=100,
        met=median <= 100)
    daemon = Daemon(o.build)
    fresh = daemon.rss_kib()
    output([f"{o.build}/tests/bench_ask", daemon.url, "echo/any", "hello", "16", "64", "20"])
    wakes, cpu, begun = daemon.wakes(), daemon.cpu_ms(), time.monotonic()
    time.sleep(o.seconds)
    spent = time.monotonic() - begun
    rate = (daemon.wakes() - wakes) / spent
    say(False, bench="memory", fresh_mib=round(fresh / 1024, 1), after_320_requests_mib=round(daemon.rss_kib() / 1024, 1),
        goal=16, met=max(fresh, daemon.rss_kib()) <= 16 * 1024)
    say(False, bench="wakes", per_second=round(rate, 1), seconds=round(spent, 1), cpu_ms=round(daemon.cpu_ms() - cpu, 2), goal=3,
        met=rate <= 3)
    daemon.stop()


def measure_first(o):
    """The worker's own first token and the connected client's, in turn; and what a token costs the processor either way."""
    room = 512
    for streams in o.streams:
        daemon = Daemon(o.build, f"local: {{m: {{file: '{o.model}', preload: true, context: {room}, sequences: {streams}}}}}\n")
        client, worker, path, engine = [], [], [], []
        try:
            output([f"{o.build}/tests/bench_ask", daemon.url, "m", PROMPT, str(streams), str(o.tokens), "1"])  # loads the model
            for _ in range(o.rounds):
                before, engine_before = daemon.cpu_ms(), daemon.workers_cpu_ms()
                line = json.loads(output([f"{o.build}/tests/bench_ask", daemon.url, "m", PROMPT, str(streams), str(o.tokens), "3"]))
                client.append(line)
                path.append((daemon.cpu_ms() - before + 4 * line["client_cpu_ms_per_round"]) / line["tokens"])
                engine.append((daemon.workers_cpu_ms() - engine_before) / line["tokens"])
                worker.append(json.loads(output([f"{o.build}/bin/troupe-worker", "--log-level", "error", "--model", o.model,
                                                 "--bench", PROMPT, "--streams", str(streams), "--tokens", str(o.tokens), "--rounds", "3",
                                                 "--context", str(room)])))
        finally:
            daemon.stop()
        median = lambda rows, name, digits: round(statistics.median(row[name] for row in rows), digits)
        ratio = statistics.median(c["first_token_ms"] / w["first_token_ms"] for c, w in zip(client, worker))
        rate = statistics.median(c["per_second"] / w["per_second"] for c, w in zip(client, worker))
        say(bench="first", streams=streams, tokens=o.tokens, rounds=o.rounds, client_ms=median(client, "first_token_ms", 1),
            worker_ms=median(worker, "first_token_ms", 1), ratio=round(ratio, 2), goal=1.2, met=ratio <= 1.2, rate_ratio=round(rate, 2),
            bench_cpu_ms_per_token=median(worker, "cpu_ms_per_token", 2), worker_cpu_ms_per_token=round(statistics.median(engine), 2),
            daemon_and_client_cpu_ms_per_token=round(statistics.median(path), 3))


def run_cli(build, url):
    """(ms from exec to the first byte, ms of processor) of one `troupe ask`."""
    begun = time.monotonic()
    process = subprocess.Popen([f"{build}/bin/troupe", "ask", "--socket", url, "-m", "echo/any", "hello"], stdout=subprocess.PIPE)
    os.read(process.stdout.fileno(), 1)
    first = (time.monotonic() - begun) * 1000
    process.stdout.read()
    process.stdout.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = status
    return first, (used.ru_utime + used.ru_stime) * 1000


def measure_cli(o):
    daemon = Daemon(o.build)
    firsts, cpus, connected, nothing = [], [], [], []
    try:
        for _ in range(max(o.rounds * 4, 5)):
            first, cpu = run_cli(o.build, daemon.url)
            firsts.append(first)
            cpus.append(cpu)
            line = output([f"{o.build}/tests/bench_ask", daemon.url, "echo/any", "hello", "1", "8", "5"])
            connected.append(json.loads(line)["first_token_ms"])
            begun = time.monotonic()
            output(["/bin/true"])
            nothing.append((time.monotonic() - begun) * 1000)
    finally:
        daemon.stop()
    added = statistics.median(firsts) - statistics.median(connected)
    say(bench="cli", added_ms=round(added, 1), connected_ms=round(statistics.median(connected), 2), least_ms=round(min(firsts), 1),
        cpu_ms=round(statistics.median(cpus), 1), bin_true_ms=round(statistics.median(nothing), 1), goal=15, met=added <= 15)


def measure_ipc(o):
    for clients, shards in ((1, 1), (1, 2), (2, 2)):
        daemon = Daemon(o.build, f"shards: {shards}\n")
        rates, ours, theirs = [], [], []
        try:
            for _ in range(o.rounds):
                before, mine = daemon.cpu_ms(), sum(os.times()[2:4])
                line = json.loads(output([f"{o.build}/bin/troupe-bench", "ipc", "--socket", daemon.url, "--streams", "64", "--chunks",
                                          str(o.chunks), "--bytes", "64", "--clients", str(clients)]))
                count = 64 * o.chunks
                rates.append(line["per_second"])
                theirs.append((daemon.cpu_ms() - before) * 1000 / count)
                ours.append((sum(os.times()[2:4]) - mine) * 1e6 / count)
        finally:
            daemon.stop()
        median = statistics.median(rates)
        say(bench="ipc", streams=64, bytes=64, clients=clients, shards=shards, per_second=round(median), best=max(rates),
            daemon_cpu_us=round(statistics.median(theirs), 3), client_cpu_us=round(statistics.median(ours), 3),
            rounds=o.rounds, goal=1000000, met=median >= 1000000)


def main():
    cache = os.environ.get("TROUPE_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "troupe")
    parser = argparse.ArgumentParser(prog="daemon.sh")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--build", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build"))
    parser.add_argument("--model", default=cache + "/models/default.gguf")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--chunks", type=int, default=20000)
    parser.add_argument("--seconds", type=float, default=10)
    parts = {"idle": measure_idle, "first": measure_first, "cli": measure_cli, "ipc": measure_ipc}
    parser.add_argument("parts", nargs="*", metavar="PART", help="idle, first, cli, ipc; all of them by default")
    o = parser.parse_args()
    os.environ.update(OMP_WAIT_POLICY="passive", GGML_NO_BACKTRACE="1")
    say(bench="machine", processors=os.cpu_count(), load=round(os.getloadavg()[0], 1))
    for part in o.parts or parts:
        if part not in parts:
            parser.error(f"there is no part {part}")
        if part == "first" and not os.path.exists(o.model):
            print(f"not run: {part}: {o.model} is missing (tools/setup fetches it)", file=sys.stderr)
            continue
        parts[part](o)
    if missed:
        sys.exit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
