"""A command in a process of its own, so that a crash of a C library is one line to the user.

File libraries can bring a whole process down on damaged files, which no `except` sees. So the
entry point forks before anything but the standard library is imported: the child runs the command,
the parent waits for it, tidies up and says what happened. Nothing else may be imported here.
"""

from __future__ import annotations

import os
import signal
import sys

from jaxmicro import activity

_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL")
_PASSED_ON = ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT")


def watch() -> None:
    """Fork. Returns in the child, whose parent leaves with the child's exit status.

    In the child file descriptor 2 goes to a temporary file, so that what C libraries print there
    does not reach the terminal; `sys.stderr` still does. Without `os.fork` nothing is done.
    """
    if not hasattr(os, "fork"):
        return
    waited_for = {getattr(signal, name) for name in (*_PASSED_ON, "SIGCHLD")}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    # a signal whose default is to be ignored is waited for only where it has a handler
    on_child = signal.signal(signal.SIGCHLD, lambda *_: None)
    said = _unnamed_file()
    activity.share()
    parent = os.getpid()
    child = os.fork()
    if child:
        os._exit(_reported(_awaited(child, waited_for), said))  # nothing here is left to finish
    _die_with(parent)
    _divert_descriptor_2(said)
    signal.signal(signal.SIGCHLD, on_child)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _unnamed_file() -> int:
    """A descriptor of a temporary file without a name, or of nothing where none can be made."""
    path = os.path.join(os.environ.get("TMPDIR") or "/tmp", f"jaxmicro-{os.getpid()}")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        os.unlink(path)
    except OSError:
        return os.open(os.devnull, os.O_RDWR)
    return descriptor


def _die_with(parent: int) -> None:
    """Have Linux end this process when its parent is killed; elsewhere it would go on alone."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # 1: PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def _divert_descriptor_2(said: int) -> None:
    """Python's messages stay on the terminal; what is printed below Python goes to `said`."""
    if sys.stderr is None:
        return
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(said, 2)
    sys.stderr = sys.__stderr__ = open(  # noqa: SIM115
        kept, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace"
    )


def _awaited(child: int, signals: set[int]) -> int:
    """The child's wait status; signals to this process are passed on until then."""
    while True:
        number, from_terminal = _next_signal(signals)
        if number != signal.SIGCHLD:
            if not from_terminal:  # the terminal has sent it to the child as well
                os.kill(child, number)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status


def _next_signal(signals: set[int]) -> tuple[int, bool]:
    """The next signal, and whether the kernel sent it (as for a key pressed) and not a process."""
    if hasattr(signal, "sigwaitinfo"):
        info = signal.sigwaitinfo(signals)
        return info.si_signo, info.si_code > 0
    number = signal.sigwait(signals)
    return number, number in (signal.SIGINT, signal.SIGQUIT)


def _reported(status: int, said: int) -> int:
    """The exit status of the command; says what happened if a signal ended it."""
    lost = _tidy_up()
    if not os.WIFSIGNALED(status):
        return os.waitstatus_to_exitcode(status)
    said_already = activity.status()
    if said_already is not None:  # a library crashed while the finished process was taken down
        return said_already
    if os.isatty(1):  # a progress bar may be half drawn, and the cursor hidden
        os.write(1, b"\r\x1b[2K\x1b[?25h")
    name = signal.Signals(os.WTERMSIG(status)).name
    sentence = " ".join(f"{_sentence(name, _last_line(said))}; {lost}".split())
    sys.stderr.write(f"jaxmicro: {sentence}\n")
    sys.stderr.flush()
    return 1


def _sentence(name: str, last: str) -> str:
    what = activity.current() or "starting"
    if name == "SIGKILL":
        return (
            f"{what} was killed (SIGKILL), most likely because memory ran out: "
            "use --rate, --crop or fewer frames"
        )
    if name == "SIGVTALRM":
        return f"{what} came to no end in a file library: the file is damaged"
    if name not in _CRASHES:
        return f"{what} was stopped by {name}"
    detail = f"{name}: {last}" if last else name
    if what.startswith("reading "):
        return (
            f"{what} crashed in a file library ({detail}): the file is damaged, or of a kind the "
            "library cannot read"
        )
    return (
        f"{what} crashed in a library ({detail}): run it again, and if it crashes again report "
        "it with the command line"
    )


def _last_line(said: int) -> str:
    """The last line that was printed on the child's descriptor 2, at most 200 characters."""
    try:
        size = os.lseek(said, 0, os.SEEK_END)
        os.lseek(said, max(0, size - 4096), os.SEEK_SET)
        lines = os.read(said, 4096).decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    text = next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "")
    return "".join(c for c in text if c.isprintable())[:200]


def _tidy_up() -> str:
    """Removes what the child left half written and puts back what it was replacing."""
    work, out, old = activity.folders()
    if old and not os.path.exists(out) and os.path.exists(old):
        os.rename(old, out)
    whole = bool(work) and not os.path.exists(work) and os.path.exists(out)
    if work and os.path.exists(work):
        import shutil

        shutil.rmtree(work, ignore_errors=True)
    if whole:
        return f"{out} is whole"
    kept = activity.kept()
    if kept and os.path.exists(kept):
        return f"what is finished is kept in {kept}, and the same command goes on from there"
    return "nothing was written"
