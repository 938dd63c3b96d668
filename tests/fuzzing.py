"""Damaged files through the real command line, every case in processes of its own.

As a script it is a fork server: `python fuzzing.py SOURCES WORK CASES EVERY`. It imports what the
commands need, but starts neither JAX's backend nor a thread, and forks for each case. One line of
JSON on standard output for each source says what happened; damaged files that were not handled as
they should be are kept in WORK/bad.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import json
import os
import pathlib
import resource
import select
import shutil
import signal
import sys
import time
import traceback
import zlib
from collections.abc import Callable

import numpy as np

TIME_S, PEAK_GIB = 120.0, 4.0
MODEL = 'description = "two classes"\n[mixture]\nclasses = 2\n[fit]\nmax_steps = 200\n'
BAD = ("traceback", "crash", "lines", "left_over", "time", "memory")


# -- damage ------------------------------------------------------------------------------------


def _place(rng: np.random.Generator, size: int) -> int:
    """A byte: often in the first or last 1024, where formats keep their headers and tables."""
    where = rng.integers(4)
    if where < 2:
        return int(rng.integers(min(size, 1024)))
    if where == 2:
        return size - 1 - int(rng.integers(min(size, 1024)))
    return int(rng.integers(size))


def _cut(raw: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(raw[: _place(rng, len(raw))])


def _zero(raw: bytearray, rng: np.random.Generator) -> bytes:
    at = _place(rng, len(raw))
    n = min(int(rng.integers(1, 257)), len(raw) - at)
    raw[at : at + n] = bytes(n)
    return bytes(raw)


def _flip(raw: bytearray, rng: np.random.Generator) -> bytes:
    for _ in range(int(rng.integers(1, 17))):
        raw[_place(rng, len(raw))] ^= 1 << int(rng.integers(8))
    return bytes(raw)


def _insert(raw: bytearray, rng: np.random.Generator) -> bytes:
    at = _place(rng, len(raw))
    return bytes(raw[:at]) + rng.bytes(int(rng.integers(1, 65))) + bytes(raw[at:])


def _duplicate(raw: bytearray, rng: np.random.Generator) -> bytes:
    at = _place(rng, len(raw))
    block = bytes(raw[at : at + int(rng.integers(1, 513))])
    return bytes(raw[:at]) + block + bytes(raw[at:])


def _extreme(raw: bytearray, rng: np.random.Generator) -> bytes:
    """A number of the header becomes as large, or as small, as it can be."""
    words = (b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x7f" + b"\xff" * 7, b"9" * 8)
    word = words[int(rng.integers(len(words)))]
    at = _place(rng, len(raw))
    raw[at : at + len(word)] = word
    return bytes(raw)


DAMAGES: tuple[Callable[[bytearray, np.random.Generator], bytes], ...] = (
    _cut, _zero, _flip, _insert, _duplicate, _extreme,
)  # fmt: skip


def damaged(raw: bytes, name: str, case: int) -> bytes:
    """The bytes of case number `case`: the same each time."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), case])
    return DAMAGES[case % len(DAMAGES)](bytearray(raw), rng) if raw else raw


def put_damaged(source: pathlib.Path, folder: pathlib.Path, case: int) -> pathlib.Path:
    """A damaged copy of a file, or of a folder of which one file is damaged."""
    target = folder / source.name
    if source.is_file():
        target.write_bytes(damaged(source.read_bytes(), source.name, case))
        for beside in source.parent.glob(f"{source.stem}_*.ser"):  # what an .emi stands for
            shutil.copyfile(beside, folder / beside.name)
        return target
    shutil.copytree(source, target)
    files = sorted(p for p in target.rglob("*") if p.is_file())
    file = files[(case // len(DAMAGES)) % len(files)]
    file.write_bytes(damaged(file.read_bytes(), source.name, case))
    return target


# -- one case ----------------------------------------------------------------------------------


@dataclasses.dataclass
class Outcome:
    """How one run of the command ended."""

    status: int
    out: str
    err: str
    seconds: float
    peak_gib: float

    def faults(self) -> set[str]:
        """Which of the bad columns this run belongs to."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        found = {
            "traceback": "Traceback" in self.err,
            "crash": self.status not in (0, 1),
            "lines": len(lines) != (1 if self.status == 1 else 0),
            "time": self.seconds > TIME_S,
            "memory": self.peak_gib > PEAK_GIB,
        }
        return {name for name, bad in found.items() if bad}


def run(arguments: list[str], folder: pathlib.Path, said: pathlib.Path) -> Outcome:
    """`jaxmicro ARGUMENTS` in `folder`, in a fork of this process."""
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _become_command(arguments, folder, said)
    watched = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    if not poll.poll(1000 * (TIME_S + 1)):
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    os.close(watched)
    out, err = ((said / n).read_text("utf-8", "replace") for n in ("out", "err"))
    return Outcome(
        os.waitstatus_to_exitcode(status), out, err, time.monotonic() - began,
        usage.ru_maxrss / 2**20,
    )  # fmt: skip


def _become_command(arguments: list[str], folder: pathlib.Path, said: pathlib.Path) -> None:
    """Never returns. Leaves without Python's farewell, which takes longer than most cases."""
    status = 1
    try:
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))  # spares the machine
        for descriptor, name in ((1, "out"), (2, "err")):
            file = os.open(said / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            os.dup2(file, descriptor)
        sys.argv = ["jaxmicro", *arguments]
        importlib.import_module("jaxmicro.__main__").main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


# -- the server --------------------------------------------------------------------------------


def fuzz(source: pathlib.Path, work: pathlib.Path, cases: int, every: int) -> dict[str, object]:
    """All cases of one source; every `every`-th that `info` read (0: none) goes through `quantify`."""
    row = dict.fromkeys(("cases", "refused", "read", "quantified", *BAD), 0)
    peak = slowest = 0.0
    examples: list[str] = []
    said, temporary = work / "said", work / "tmp"
    began = time.monotonic()
    for case in range(cases):
        folder = work / "case"
        folder.mkdir()
        target = put_damaged(source, folder, case)
        before = sorted(folder.rglob("*"))
        commands = [["info", target.name]]
        quantify = ["quantify", target.name, "--out", "out", "--model", str(work / "model.toml")]
        quantify += ["--frames", "0:1", "--crop", "0:12,0:12"]
        for command in commands:
            outcome = run(command, folder, said)
            faults = outcome.faults()
            if command[0] == "info":
                row["cases"] += 1
                row["read" if outcome.status == 0 else "refused"] += 1
                if outcome.status == 0 and every and row["read"] % every == 1 % every:
                    commands.append(quantify)
            elif outcome.status == 0:
                row["quantified"] += 1
                shutil.rmtree(folder / "out")
            if sorted(folder.rglob("*")) != before or any(temporary.iterdir()):
                faults.add("left_over")
            for fault in faults:
                row[fault] += 1
            if faults:
                shutil.copytree(folder, work / "bad" / f"{source.name}-{case}", dirs_exist_ok=True)
                words = f"{' '.join(sorted(faults))}: {outcome.status} {outcome.err[-1500:]}"
                examples.append(f"{source.name} {case} {command[0]}: {words}")
            peak, slowest = max(peak, outcome.peak_gib), max(slowest, outcome.seconds)
        shutil.rmtree(folder)
    figures = {"peak_gib": round(peak, 2), "slowest_s": round(slowest, 1)}
    figures["total_s"] = round(time.monotonic() - began)
    return {"file": source.name, **row, **figures, "examples": examples}


def _import_what_commands_need() -> None:
    """Modules, not threads and not JAX's backend: neither lives through a fork."""
    readers = ("arrays", "hdf5", "images", "rosetta", "tiff", "video", "xradia", "zarrs")
    formats = ("digitalmicrograph", "emd", "mrc", "tia")
    libraries = ("pint", "dask.array", "zarr", "h5py", "av", "olefile", "tifffile", "imagecodecs")
    names = (
        *(f"jaxmicro.data.read.{r}" for r in readers),
        *(f"rsciio.{f}" for f in formats),
        *libraries, "PIL.Image", "jaxmicro.app.cli", "jaxmicro.app.quantify", "jaxmicro.app.plot",
        "jaxmicro.app.files", "jaxmicro.app.report", "jaxmicro.app.output", "jaxmicro.__main__",
    )  # fmt: skip
    for name in names:
        importlib.import_module(name)
    from PIL import Image

    Image.init()


def serve(sources: pathlib.Path, work: pathlib.Path, cases: int, every: int) -> None:
    for name in ("said", "tmp", "bad"):
        (work / name).mkdir(parents=True, exist_ok=True)
    (work / "model.toml").write_text(MODEL)
    os.environ["TMPDIR"] = str(work / "tmp")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(work / "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["MPLCONFIGDIR"] = str(work / "matplotlib")
    sys.stdin = open(os.devnull)
    _import_what_commands_need()
    if pathlib.Path("/proc/self/task").exists():
        assert len(os.listdir("/proc/self/task")) == 1, "a thread does not live through a fork"
    gc.collect()
    gc.freeze()
    # Files that stand for others (.ser beside .emi) are sources as well.
    for source in sorted(sources.iterdir()):
        print(json.dumps(fuzz(source, work, cases, every)), flush=True)


if __name__ == "__main__":
    serve(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
