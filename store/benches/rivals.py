"""Other trackers on the work of `points`: points one a call, and runs of 10 params and 10 metrics, in CPU time of all processes.

    pip install tensorboardX wandb trackio aim mlflow==3.17.2
    python store/benches/rivals.py; cargo bench --workspace --profile release --bench points

Each rival runs in a process of its own, once with few and once with many of each; the difference is what one costs.
"""

import os
import resource
import subprocess
import sys
import tempfile

DEVNULL = subprocess.DEVNULL


def tensorboardX(folder, n_points, n_runs):
    from tensorboardX import SummaryWriter

    with SummaryWriter(os.path.join(folder, "run")) as writer:
        for step in range(n_points):
            writer.add_scalar("loss", 1 / (step + 1), step)
    for nth in range(n_runs):
        with SummaryWriter(os.path.join(folder, str(nth))) as writer:
            for key in range(10):
                writer.add_text(f"p{key}", "0.1")
                writer.add_scalar(f"m{key}", 0.5, 0)


def wandb(folder, n_points, n_runs):
    import wandb

    def run(params):
        return wandb.init(project="bench", dir=folder, mode="offline", config=params, settings=wandb.Settings(silent=True))

    if n_points:
        with run({}) as logged:
            for step in range(n_points):
                logged.log({"loss": 1 / (step + 1)})
    for _ in range(n_runs):
        with run({f"p{key}": 0.1 for key in range(10)}) as logged:
            logged.log({f"m{key}": 0.5 for key in range(10)})


def trackio(folder, n_points, n_runs):
    os.environ["TRACKIO_DIR"] = folder
    import trackio

    if n_points:
        trackio.init(project="bench", embed=False)
        for step in range(n_points):
            trackio.log({"loss": 1 / (step + 1)})
        trackio.finish()
    for nth in range(n_runs):
        trackio.init(project="bench", name=str(nth), config={f"p{key}": 0.1 for key in range(10)}, embed=False)
        trackio.log({f"m{key}": 0.5 for key in range(10)})
        trackio.finish()


def aim(folder, n_points, n_runs):
    from aim import Run

    def run():
        return Run(repo=folder, system_tracking_interval=None, capture_terminal_logs=False, log_system_params=False)

    if n_points:
        logged = run()
        for step in range(n_points):
            logged.track(1 / (step + 1), name="loss", step=step)
        logged.close()
    for _ in range(n_runs):
        logged = run()
        logged["hparams"] = {f"p{key}": 0.1 for key in range(10)}
        for key in range(10):
            logged.track(0.5, name=f"m{key}", step=0)
        logged.close()


def mlflow(folder, n_points, n_runs):
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    if n_points:
        with mlflow.start_run():
            for step in range(n_points):
                mlflow.log_metric("loss", 1 / (step + 1), step)
    for _ in range(n_runs):
        with mlflow.start_run():
            mlflow.log_params({f"p{key}": 0.1 for key in range(10)})
            mlflow.log_metrics({f"m{key}": 0.5 for key in range(10)}, step=0)


RIVALS = {"tensorboardX": 20_000, "wandb": 20_000, "trackio": 20_000, "aim": 5_000, "mlflow": 1_000}


def measure(name, n_points, n_runs):
    """CPU seconds, peak MB and bytes on disk of a process that logs so many."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, __file__, name, folder, str(n_points), str(n_runs)]
        done = subprocess.run(command, stdin=DEVNULL, stdout=DEVNULL, stderr=subprocess.PIPE, cwd=folder, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1:])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        n_bytes = sum(os.path.getsize(os.path.join(top, file)) for top, _, files in os.walk(folder) for file in files)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss / 1024, n_bytes


def main():
    if len(sys.argv) > 2:
        name, folder, n_points, n_runs = sys.argv[1:]
        globals()[name](folder, int(n_points), int(n_runs))
        return
    print(f"{'':14}{'µs CPU a point':>16}{'bytes a point':>16}{'ms CPU a run':>16}")
    for name, n_points in RIVALS.items():
        try:
            few, many, runs = measure(name, 10, 0), measure(name, n_points, 0), measure(name, 10, 20)
        except Exception as error:
            print(f"{name:14}not measured: {error}")
            continue
        point, size = (many[0] - few[0]) / (n_points - 10) * 1e6, (many[2] - few[2]) / (n_points - 10)
        print(f"{name:14}{point:16.1f}{size:16.1f}{(runs[0] - few[0]) / 20 * 1e3:16.1f}", flush=True)


if __name__ == "__main__":
    main()
