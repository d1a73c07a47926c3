#!/usr/bin/env bash
# Local inference against llama.cpp's own server: the same libllama, model, threads and questions. For 1, 4 and 16 streams
# it prints one JSON line of each, and their ratio (above 1: the worker does more). Rounds of the two alternate, and medians
# count, since a shared machine changes its mind between two runs; processor time a token is the steadiest of the three.
#
#   tests/bench/local.sh [--rounds N] [--streams "1 4 16"] [--tokens N] [--words N] [--threads N] [--build DIR] [--model FILE]
#
# --words N puts so many words before the question. Both sample greedily, use libllama's own chat templates, give each stream
# the same room, and answer prompts that no cache knows. The server is asked over loopback, with one kept connection a stream;
# the worker is measured in its own process (troupe-worker --bench), and what link and daemon add to it is measured elsewhere.
# tools/setup --llama-server builds the server.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=${TROUPE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/troupe}
build=build words=0 rounds=3 streams="1 4 16" tokens=48 threads=$(nproc) model=$cache/models/default.gguf
while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=$2 ;;
    --streams) streams=$2 ;;
    --tokens) tokens=$2 ;;
    --words) words=$2 ;;
    --threads) threads=$2 ;;
    --build) build=$2 ;;
    --model) model=$2 ;;
    *) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
  shift 2
done
worker=$build/bin/troupe-worker server=$cache/llama/bin/llama-server
for file in "$worker" "$server" "$model"; do
  [ -e "$file" ] || { echo "not run: $file is missing (tools/setup --llama-server, and a build)"; exit 77; }
done
export OMP_WAIT_POLICY=passive GGML_NO_BACKTRACE=1
prompt="Explain in a few sentences what an actor is and how actors in a program talk to each other."
exec python3 - "$worker" "$server" "$model" "$prompt" "$rounds" "$streams" "$tokens" "$threads" "$words" <<'END'
import http.client, json, os, socket, statistics, subprocess, sys, threading, time

worker, server, model, prompt, rounds, streams, tokens, threads, words = sys.argv[1:]
rounds, tokens = int(rounds), int(tokens)
prompt = "".join(f"w{i % 10} " for i in range(int(words))) + prompt
room = 512 + 4 * int(words)  # tokens a stream


def run_worker(count):
    line = subprocess.run(
        [worker, "--model", model, "--bench", prompt, "--streams", str(count), "--tokens", str(tokens), "--rounds", "1",
         "--threads", threads, "--context", str(room)], check=True, stdout=subprocess.PIPE).stdout
    result = json.loads(line)
    return result["per_second"], result["first_token_ms"], result["cpu_ms_per_token"], result["prompt_tokens"]


class Server:
    def __init__(self, count):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [server, "-m", model, "--host", "127.0.0.1", "--port", str(self.port), "-t", threads, "-tb", threads,
             "-np", str(count), "-c", str(room * count), "--no-jinja", "--no-ui"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise SystemExit("llama-server did not come up")

    def ask(self, connection, number, result):
        body = {"messages": [{"role": "user", "content": f"{number}: {prompt}"}], "temperature": 0, "max_tokens": tokens,
                "stream": True, "stream_options": {"include_usage": True}, "cache_prompt": False}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        first, usage = None, {}
        for line in connection.getresponse():
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            usage = chunk.get("usage") or usage
            if first is None and any(c["delta"].get("content") for c in chunk["choices"]):
                first = time.monotonic()
        result.append((first, usage["completion_tokens"], usage["prompt_tokens"]))

    def cpu_ms(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    def round(self, count, number):
        connections = [http.client.HTTPConnection("127.0.0.1", self.port) for _ in range(count)]
        for connection in connections:
            connection.connect()
        result, cpu = [], self.cpu_ms()
        asking = [threading.Thread(target=self.ask, args=(c, f"{number}.{i}", result)) for i, c in enumerate(connections)]
        start = time.monotonic()
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        spent = time.monotonic() - start
        first = statistics.median((r[0] - start) * 1000 for r in result)
        used = sum(r[1] for r in result)
        return used / spent, first, (self.cpu_ms() - cpu) / used, result[0][2]

    def stop(self):
        self.process.kill()
        self.process.wait()


for count in map(int, streams.split()):
    ours, theirs = [], []
    llama = Server(count)
    try:
        llama.round(count, 99)
        for number in range(rounds):
            ours.append(run_worker(count))
            theirs.append(llama.round(count, number))
    finally:
        llama.stop()
    medians = {}
    for name, runs in (("troupe-worker", ours), ("llama-server", theirs)):
        medians[name] = [statistics.median(column) for column in zip(*runs)]
        print(json.dumps({"bench": "local", "program": name, "streams": count, "tokens": tokens, "threads": int(threads),
                          "prompt_tokens": medians[name][3], "rounds": rounds, "per_second": round(medians[name][0], 1),
                          "first_token_ms": round(medians[name][1], 1),
                          "cpu_ms_per_token": round(medians[name][2], 2)}), flush=True)
    print(json.dumps({"bench": "local", "streams": count,
                      "rate_ratio": round(medians["troupe-worker"][0] / medians["llama-server"][0], 2),
                      "first_token_ratio": round(medians["troupe-worker"][1] / medians["llama-server"][1], 2),
                      "cpu_ratio": round(medians["troupe-worker"][2] / medians["llama-server"][2], 2)}), flush=True)
END
