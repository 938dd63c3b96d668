"""A study that is killed again and again ends with the table of an undisturbed one.

The same small study is run once undisturbed in one process, then with SIGKILLs at random moments:
of a worker of `--workers 2`, or of the whole run, in one process or with workers, which is then
started again. Where a study ends before all kills are spent another one begins. Tables and chunks
are compared byte by byte, and a finished chunk is never written again.

Command:   python experiments/study_kills.py      (--quick for three kills)
Run time:  9 minutes on 2 busy cores
Expected:  study 1: killed 14 runs and 6 workers; table and chunks bit-identical: yes; chunks
           written twice: 0. How many of which depends on the machine; the rest does not.
"""

import argparse
import hashlib
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

import psutil

from jaxmicro.app.phantoms import write_operando
from jaxmicro.data.phantom import operando

MODEL = '[mixture]\nclasses = 2\n[foreground]\nrule = "brightest"\n'
STUDY = [
    "study",
    "movie.tif",
    "two.toml",
    "--rates",
    "0.3",
    "0.1",
    "--replicates",
    "32",
    "--thickness",
]
WAYS = ([], ["--workers", "2"])


def command(out: str, way: list[str]) -> list[str]:
    return [sys.executable, "-m", "jaxmicro", *STUDY, "0.5 um", "--out", out, *way]


def start(folder: pathlib.Path, out: str, way: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        command(out, way), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def chunks(store: pathlib.Path) -> dict[str, pathlib.Path]:
    """Finished blocks by their place in the store."""
    found = [p for p in store.glob("*/*/c/*/*/*") if p.suffix != ".partial"]
    return {str(p.relative_to(store)): p for p in found}


def answer(out: pathlib.Path) -> str:
    """Hash of the table and of every chunk."""
    found = hashlib.sha256((out / "study.csv").read_bytes())
    for name, path in sorted(chunks(out / "study.zarr").items()):
        found.update(name.encode() + path.read_bytes())
    return found.hexdigest()


def workers_of(run: subprocess.Popen) -> list[psutil.Process]:
    """The Dask workers of a run, which are spawned by its process."""
    try:
        below = psutil.Process(run.pid).children(recursive=True)
        return [p for p in below if "spawn_main" in " ".join(p.cmdline())]
    except psutil.NoSuchProcess:
        return []


def strike(run: subprocess.Popen, rng: random.Random) -> str:
    """Kill a worker, where there is one, or the whole run; says which."""
    workers = workers_of(run)
    if workers and rng.random() < 0.5:
        rng.choice(workers).kill()
        return "worker"
    run.kill()
    return "run"


def disturbed(
    folder: pathlib.Path, out: str, kills: int, rng: random.Random
) -> tuple[list[str], int]:
    """Run a study to its end; returns what was killed and how many chunks were written twice."""
    killed: list[str] = []
    seen: dict[str, int] = {}
    twice = 0
    while not (folder / out).exists():
        run = start(folder, out, rng.choice(WAYS))
        while run.poll() is None:
            until = time.monotonic() + rng.uniform(0.5, 20.0)
            while run.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            if run.poll() is None and len(killed) < kills:
                killed.append(strike(run, rng))
            store = folder / f"{out}.unfinished" / "study.zarr"
            for name, path in chunks(store).items():
                try:
                    written = path.stat().st_mtime_ns
                except FileNotFoundError:  # the study has ended meanwhile
                    continue
                twice += seen.setdefault(name, written) != written
                seen[name] = written
        if run.returncode not in (0, -9):
            sys.exit(f"a run failed: {run.stderr.read().decode()}")
    return killed, twice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="three kills")
    args = parser.parse_args()
    kills, rng = 3 if args.quick else 20, random.Random(args.seed)
    began = time.perf_counter()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="jaxmicro-kills-"))
    try:
        write_operando(operando(args.seed, shape=(4, 64, 64)), folder)
        (folder / "two.toml").write_text(MODEL)
        subprocess.run(command("calm", []), cwd=folder, check=True, stdout=subprocess.DEVNULL)
        calm = answer(folder / "calm")
        spent: list[str] = []
        number = 0
        while len(spent) < kills:
            number += 1
            out = f"killed_{number}"
            killed, twice = disturbed(folder, out, kills - len(spent), rng)
            spent += killed
            same = "yes" if answer(folder / out) == calm else "NO"
            print(
                f"study {number}: killed {killed.count('run')} runs and {killed.count('worker')} "
                f"workers; table and chunks bit-identical: {same}; chunks written twice: {twice}",
                flush=True,
            )
            if same != "yes" or twice:
                sys.exit("the study did not survive")
        print(f"{len(spent)} kills of {kills} spent, {time.perf_counter() - began:.0f} s")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
