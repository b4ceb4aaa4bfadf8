"""`tracker serve` beside MLflow's own server, in one run: the same requests over a kept connection, CPU of all processes of a server, and wall.

    pip install mlflow==3.17.2
    python cli/server/benches/rivals.py target/release/tracker
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

TICK = os.sysconf("SC_CLK_TCK")
API = "/api/2.0/mlflow/"
SIZES = {"tracker": (20_000, 500, 2_000), "mlflow": (300, 10, 200)}


def tree(pid):
    pids, found = [pid], []
    while pids:
        pid = pids.pop()
        try:
            with open(f"/proc/{pid}/task/{pid}/children") as children:
                pids += map(int, children.read().split())
            found.append(pid)
        except FileNotFoundError:
            pass
    return found


def used(pid):
    """CPU seconds and resident MB of a process and all it started."""
    cpu = resident = 0
    for pid in tree(pid):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            # Children that ended are counted in their parents.
            cpu += sum(map(int, fields[11:15])) / TICK
            resident += int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        except FileNotFoundError:
            pass
    return cpu, resident


class Server:
    def __init__(self, name, command, port):
        self.name, begun = name, time.time()
        null = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=null, stderr=null, start_new_session=True)
        while True:
            try:
                self.connection = http.client.HTTPConnection("127.0.0.1", port)
                self.connection.request("GET", "/health")
                self.connection.getresponse().read()
                break
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit(f"{name} did not start")
                time.sleep(0.002)
        self.ready = time.time() - begun

    def call(self, method, path, body=None):
        self.connection.request(method, API + path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{self.name}: {path}: {text[:300]}")
        return json.loads(text or "{}")

    def cost(self, work, n):
        """Microseconds of CPU and of wall for each of `n`."""
        before, begun = used(self.process.pid)[0], time.time()
        work()
        return (used(self.process.pid)[0] - before) / n * 1e6, (time.time() - begun) / n * 1e6


def measure(server):
    n_calls, n_batches, n_runs = SIZES[server.name]
    told = {"ready": (0, server.ready * 1e6), "start CPU": (used(server.process.pid)[0] * 1e6, 0)}
    told["idle MB"] = (used(server.process.pid)[1], 0)
    experiment = server.call("POST", "experiments/create", {"name": "bench"})["experiment_id"]

    def run(nth=0):
        asked = {"experiment_id": experiment, "start_time": nth, "run_name": f"run {nth}"}
        return server.call("POST", "runs/create", asked)["run"]["info"]["run_id"]

    one = run()

    def metric(step):
        point = {"run_id": one, "key": "loss", "value": 1 / (step + 1), "timestamp": step, "step": step}
        server.call("POST", "runs/log-metric", point)

    told["log-metric"] = server.cost(lambda: [metric(step) for step in range(n_calls)], n_calls)
    two = run()

    def batch(nth):
        steps = range(nth * 1000, nth * 1000 + 1000)
        points = [{"key": f"m{step % 10}", "value": 0.5, "timestamp": step, "step": step} for step in steps]
        server.call("POST", "runs/log-batch", {"run_id": two, "metrics": points})

    told["log-batch, a point"] = server.cost(lambda: [batch(nth) for nth in range(n_batches)], n_batches * 1000)

    def create(nth):
        made = run(nth)
        metrics = [{"key": f"m{key}", "value": (nth * 7919 + key) % 1000, "timestamp": 0, "step": 0} for key in range(5)]
        server.call("POST", "runs/log-batch", {"run_id": made, "metrics": metrics, "params": [{"key": "lr", "value": str(nth)}]})

    told["run of 5 metrics, a param"] = server.cost(lambda: [create(nth) for nth in range(n_runs)], n_runs)
    search = {"experiment_ids": [experiment], "filter": "metrics.m0 < 500", "order_by": ["metrics.m1 DESC"], "max_results": 100}
    n_searches = 5
    told["search of these runs, 100"] = server.cost(lambda: [server.call("POST", "runs/search", search) for _ in range(n_searches)], n_searches)
    told["MB after"] = (used(server.process.pid)[1], 0)
    return told


def main():
    tracker = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            "tracker": ([tracker, "--store", f"{folder}/t", "serve", "--port", "5117"], 5117),
            "mlflow": (
                [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/m.db",
                 "--artifacts-destination", f"{folder}/a", "--port", "5118"],
                5118,
            ),
        }
        told = {}
        for name, (command, port) in commands.items():
            server = Server(name, command, port)
            try:
                told[name] = measure(server)
            finally:
                os.killpg(server.process.pid, signal.SIGTERM)
                server.process.wait()
    print(f"runs searched: {SIZES['tracker'][2]} and {SIZES['mlflow'][2]}")
    print(f"{'':28}{'tracker':>24}{'mlflow':>28}{'ratio':>20}")
    for what in told["tracker"]:
        (cpu, wall), (their_cpu, their_wall) = told["tracker"][what], told["mlflow"][what]
        ratio = lambda a, b: f"{b / a:.0f}" if a else "-"
        print(f"{what:28}{cpu:12.1f}{wall:12.1f}{their_cpu:14.1f}{their_wall:14.1f}{ratio(cpu, their_cpu):>10}{ratio(wall, their_wall):>10}")


if __name__ == "__main__":
    main()
