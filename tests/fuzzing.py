"""Damaged files through the real command line, every case in processes of its own.

As a script it is a fork server: `python fuzzing.py WORK CASES EVERY SOURCE...`. It imports what the
commands need for these files (the less it has imported, the quicker it forks), starts neither
JAX's backend nor a thread, and forks for each case. One line of JSON for each source says what
happened; damaged files that were not handled as they should be are kept in WORK/SOURCE/bad.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import io
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
INFO = ["info", "FILE"]
QUANTIFY = ["quantify", "FILE", "--out", "out", "--model", "../model.toml", "--frames", "0:1"]
QUANTIFY += ["--crop", "0:12,0:12"]
_ALWAYS = ("jaxmicro.app.cli", "jaxmicro.__main__", "jaxmicro.data.read.stack", "rich.table")
_ALWAYS += (
    "jaxmicro.data.read.arrays",
    "pint",
    "pydantic.main",
    "encodings.cp437",
    "zoneinfo",
    "rich._emoji_codes",
)
_ROSETTA = ("jaxmicro.data.read.rosetta", "dask.array", "h5py._hl.dims")
_LIBRARIES = {
    ".tif": ("tifffile", "imagecodecs", "jaxmicro.data.read.tiff"),
    ".mp4": ("av.subtitles.stream", "numpy.ma", "jaxmicro.data.read.video"),
    ".zarr": ("zarr", "jaxmicro.data.read.zarrs"),
    ".txrm": ("olefile", "encodings.utf_16_le", "jaxmicro.data.read.xradia"),
    ".emd": ("rsciio.emd._emd_velox", "rsciio.utils.hdf5", *_ROSETTA),
    ".mrc": ("rsciio.mrc", *_ROSETTA),
    ".dm3": ("rsciio.digitalmicrograph", *_ROSETTA),
    **dict.fromkeys((".ser", ".emi"), ("rsciio.tia", *_ROSETTA)),
    **dict.fromkeys((".h5", ".hdf5"), ("h5py._hl.dims", "jaxmicro.data.read.hdf5")),
    **dict.fromkeys(
        (".gif", ".png", ".jpg", ".bmp"), ("PIL.GifImagePlugin", "jaxmicro.data.read.images")
    ),
}
BAD = ("traceback", "crash", "lines", "left_over", "time", "memory")
# guarded: a file library crashed, or came to no end, and the parent process said so in one line
COLUMNS = ("cases", "refused", "read", "quantified", "guarded", *BAD)


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


def put_damaged(source: pathlib.Path, folder: pathlib.Path, case: int | None) -> pathlib.Path:
    """A damaged copy of a file, or of a folder of which one file is damaged; whole if None."""
    target = folder / source.name
    if source.is_file():
        raw = source.read_bytes()
        target.write_bytes(raw if case is None else damaged(raw, source.name, case))
        for beside in source.parent.glob(f"{source.stem}_*.ser"):  # what an .emi stands for
            shutil.copyfile(beside, folder / beside.name)
        return target
    shutil.copytree(source, target)
    if case is None:
        return target
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
            "crash": self.status not in (0, 1, 2),
            "lines": len(lines) != (1 if self.status else 0),
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


@dataclasses.dataclass
class Row:
    """What happened to one source, and examples of what should not have."""

    file: str
    counts: dict[str, int]
    examples: list[str] = dataclasses.field(default_factory=list)
    peak_gib: float = 0.0
    slowest_s: float = 0.0

    def add(self, case: int, command: str, outcome: Outcome, left_over: bool) -> bool:
        """Count one run; whether anything about it was wrong."""
        self.counts["guarded"] += "in a file library" in outcome.err
        faults = outcome.faults() | ({"left_over"} if left_over else set())
        for fault in faults:
            self.counts[fault] += 1
        if faults:
            words = f"{' '.join(sorted(faults))}: {outcome.status} {outcome.err[-1500:]}"
            self.examples.append(f"{self.file} {case} {command}: {words}")
        self.peak_gib = max(self.peak_gib, outcome.peak_gib)
        self.slowest_s = max(self.slowest_s, outcome.seconds)
        return bool(faults)


def try_case(source: pathlib.Path, work: pathlib.Path, case: int, arguments: list[str], row: Row):
    """The exit status of `jaxmicro ARGUMENTS`, where FILE stands for the damaged file."""
    folder = work / "case"
    folder.mkdir()
    target = put_damaged(source, folder, case)
    before = sorted(folder.rglob("*"))
    command = [target.name if word == "FILE" else word for word in arguments]
    outcome = run(command, folder, work / "said")
    if outcome.status == 0:
        shutil.rmtree(folder / "out", ignore_errors=True)
    left_over = sorted(folder.rglob("*")) != before or any((work / "tmp").iterdir())
    if row.add(case, command[0], outcome, left_over):
        shutil.copytree(folder, work / "bad" / f"{source.name}-{case}", dirs_exist_ok=True)
    shutil.rmtree(folder)
    return outcome.status


def fuzz(source: pathlib.Path, work: pathlib.Path, cases: int, every: int) -> Row:
    """`info` on every case; every `every`-th that it read (0: none) goes through `quantify`."""
    row = Row(source.name, dict.fromkeys(COLUMNS, 0))
    _import(*_ALWAYS, *_LIBRARIES.get(source.suffix, ()))
    read = [case for case in range(cases) if try_case(source, work, case, INFO, row) == 0]
    row.counts |= {"cases": cases, "read": len(read), "refused": cases - len(read)}
    chosen = read[::every] if every else []
    if chosen:
        _import(*(f"jaxmicro.app.{m}" for m in ("quantify", "plot", "files", "report", "output")))
        _run_undamaged(source, work)
    for case in chosen:
        row.counts["quantified"] += try_case(source, work, case, QUANTIFY, row) == 0
    return row


def _run_undamaged(source: pathlib.Path, work: pathlib.Path) -> None:
    """Fills the compilation cache, so that the times of the cases are those of the cases."""
    folder = work / "case"
    folder.mkdir()
    put_damaged(source, folder, None)
    run([source.name if word == "FILE" else word for word in QUANTIFY], folder, work / "said")
    shutil.rmtree(folder)


def _import(*names: str) -> None:
    """Modules, not threads and not JAX's backend: neither lives through a fork."""
    for name in names:
        importlib.import_module(name)
    if pathlib.Path("/proc/self/task").exists():
        assert len(os.listdir("/proc/self/task")) == 1, "a thread does not live through a fork"
    importlib.import_module("jaxmicro.data.read.units").to_nm(1.0, "nm")  # builds a large table
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        importlib.import_module("jaxmicro.app.cli").app(["info", "no such file"])
    gc.collect()
    gc.freeze()


def serve(sources: list[str], work: pathlib.Path, cases: int, every: int) -> None:
    os.environ["MPLCONFIGDIR"] = str(work / "matplotlib")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(work / "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for source in map(pathlib.Path, sources):
        room = work / source.name
        for name in ("said", "tmp", "bad"):
            (room / name).mkdir(parents=True)
        (room / "model.toml").write_text(MODEL)
        os.environ["TMPDIR"] = str(room / "tmp")
        began = time.monotonic()
        row = dataclasses.asdict(fuzz(source, room, cases, every))
        row |= row.pop("counts") | {"total_s": time.monotonic() - began}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    serve(sys.argv[4:], pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
