"""The command in a process of its own: a crash is one line, signals and terminals work as ever.

Everything here runs real processes. The crashes are those of a command of the test's own.
"""

import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from jaxmicro import activity

COMMAND = [sys.executable, "-m", "jaxmicro"]
# a shell that runs the tests in the background has its children ignore interrupts
# Whatever started the tests (nohup, a shell's background job) may have left these ignored.
HEARS_INTERRUPTS = (
    "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
)


def script(code):
    """A Python process whose code runs under the guard."""
    body = (
        HEARS_INTERRUPTS + "import os, pathlib, sys, time\nfrom jaxmicro import activity, guard\n"
    )
    return [sys.executable, "-c", body + "guard.watch()\n" + textwrap.dedent(code)]


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    return done.returncode, done.stdout, done.stderr


def crash(name):
    return f"os.kill(os.getpid(), signal.{name})\n"


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (("--version",), 0, "jaxmicro "),
        (("--help",), 0, "quantify"),
        (("info", "--help"), 0, "axes"),
        (("info", "no.tif"), 1, "jaxmicro: no.tif: there is no such file"),
        (("info",), 2, "Missing argument"),
        (("paint",), 2, "No such command"),
    ],
)
def test_ordinary_ends_are_as_without_it(tmp_path, args, status, says):
    code, out, err = run([*COMMAND, *args], cwd=tmp_path)
    assert code == status
    assert says in (err if status else out)
    assert not (out if status else err)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"])
def test_a_crash_while_reading_names_the_file(name):
    code, out, err = run(script("with activity.doing('reading x.emd'):\n    " + crash(name)))
    assert (code, out) == (1, "")
    assert err == (
        f"jaxmicro: reading x.emd crashed in a file library ({name}): the file is damaged, or of "
        "a kind the library cannot read; nothing was written\n"
    )


def test_a_crash_elsewhere_names_the_stage():
    _, _, err = run(script("with activity.doing(\"the stage 'fit'\"):\n    " + crash("SIGSEGV")))
    assert err.startswith("jaxmicro: the stage 'fit' crashed in a library (SIGSEGV): run it again")
    assert err.count("\n") == 1


def test_a_kill_is_most_likely_want_of_memory():
    _, _, err = run(script("with activity.doing('reading x.tif'):\n    " + crash("SIGKILL")))
    assert err == (
        "jaxmicro: reading x.tif was killed (SIGKILL), most likely because memory ran out: use "
        "--rate, --crop or fewer frames; nothing was written\n"
    )


def test_what_is_kept_is_said_where_a_command_goes_on(tmp_path):
    code, _, err = run(script(f"activity.keeping({str(tmp_path)!r})\n" + crash("SIGKILL")))
    assert code == 1
    assert f"; what is finished is kept in {tmp_path}, and the same command goes on" in err
    assert "nothing was written" not in err


def test_a_library_that_goes_in_circles_is_stopped():
    # an endless loop in C, as libhdf5's in damaged tables: only a signal can end it
    endless = "with activity.doing('reading x.emd'), activity.limited(0.2):\n    while True: pass"
    code, out, err = run(script(endless))
    assert (code, out) == (1, "")
    assert err == (
        "jaxmicro: reading x.emd came to no end in a file library: the file is damaged; nothing "
        "was written\n"
    )
    within = "with activity.limited(5.0):\n    sum(range(10**5))\ntime.sleep(0.1)\nprint('on')"
    assert run(script(within)) == (0, "on\n", "")
    alone = "from jaxmicro import activity\nwith activity.limited(0.01): sum(range(10**7))"
    assert run([sys.executable, "-c", alone]) == (0, "", "")  # no parent: nothing is limited


def test_what_c_libraries_print_stays_off_the_terminal():
    noise = "os.write(2, b'HDF5-DIAG: Error\\n\\nfree(): invalid pointer\\n')\n"
    assert run(script(noise + "print('mine', file=sys.stderr)")) == (0, "", "mine\n")
    _, _, err = run(script(noise + crash("SIGABRT")))
    assert "(SIGABRT: free(): invalid pointer)" in err
    assert err.count("\n") == 1


def test_a_traceback_is_still_seen():
    code, _, err = run(script("raise RuntimeError('a fault of ours')"))
    assert code == 1
    assert err.endswith("RuntimeError: a fault of ours\n")


def test_half_written_folders_go_and_replaced_ones_come_back(tmp_path):
    new = """
        from jaxmicro.app import output
        with output.new_folder(pathlib.Path('out')) as folder:
            (folder / 'half.txt').write_text('half')
            os.kill(os.getpid(), signal.SIGKILL)
        """
    _, _, err = run(script(new), cwd=tmp_path)
    assert err.endswith("nothing was written\n")
    assert not list(tmp_path.iterdir())
    replacing = """
        work, old, out = (pathlib.Path(p) for p in ('.out.partial-1', '.out.old-1', 'out'))
        work.mkdir()
        activity.writing(work, out, old)
        out.rename(old)
        os.kill(os.getpid(), signal.SIGSEGV)
        """
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "former.txt").write_text("former")
    assert run(script(replacing), cwd=tmp_path)[0] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "former.txt").read_text() == "former"


def test_a_crash_after_the_end_changes_nothing():
    assert run(script("activity.ended(0)\n" + crash("SIGSEGV"))) == (0, "", "")
    failed = "print('one line', file=sys.stderr)\nactivity.ended(2)\n"
    assert run(script(failed + crash("SIGSEGV"))) == (2, "", "one line\n")


def _started(code):
    process = subprocess.Popen(
        script(code), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_signals_are_passed_on(name):
    process = _started("print('ready', flush=True)\ntime.sleep(60)")
    began = time.monotonic()
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 30
    assert process.returncode == 1
    assert err == f"jaxmicro: starting was stopped by {name}; nothing was written\n"


def test_an_interrupt_from_another_process_is_passed_on():
    waiting = """
        try:
            print('ready', flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            sys.exit(7)
        """
    process = _started(waiting)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 7


@pytest.mark.skipif(
    sys.platform != "linux",
    reason="needs PR_SET_PDEATHSIG (Linux), which ends a child with its parent",
)
def test_a_killed_parent_takes_its_child_with_it():
    process = _started("print('ready', flush=True)\ntime.sleep(60)")
    process.kill()
    process.communicate(timeout=30)  # ends only when the child's end of the pipes is closed


# a process of its own: this one may have started JAX, whose threads do not live through a fork
ON_A_TERMINAL = """
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
shown, pressed = b"", False
while True:
    try:
        chunk = os.read(terminal, 4096)
    except OSError:  # the terminal's other end is closed
        break
    shown += chunk
    if b"ready" in shown and not pressed:
        pressed = bool(os.write(terminal, b"\\x03"))  # Ctrl-C
    if not chunk:
        break
print(shown.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_terminal_is_still_one_and_ctrl_c_comes_once():
    code = """
        caught = 0
        print(sys.stdin.isatty(), sys.stdout.isatty(), sys.stderr.isatty())
        try:
            print('ready', file=sys.stderr)
            time.sleep(60)
        except KeyboardInterrupt:
            caught += 1
        time.sleep(0.2)
        print('interrupts:', caught)
        sys.exit(5)
        """
    status, shown, _ = run([sys.executable, "-c", ON_A_TERMINAL, *script(code)])
    assert status == 5
    assert "True True True" in shown
    assert "interrupts: 1" in shown


def test_a_real_run_and_its_interruption(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(100, 20, (200, 256, 256)).astype(np.float32)
    np.save(tmp_path / "movie.npy", values)
    start = HEARS_INTERRUPTS + "from jaxmicro.__main__ import main\nmain()"
    command = [sys.executable, "-c", start, "quantify", "movie.npy", "--out", "out"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()  # the first stage is over
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == "jaxmicro: interrupted; nothing was written\n"
    assert [p.name for p in tmp_path.iterdir()] == ["movie.npy"]


def test_activities_nest():
    with activity.doing("outer"):
        with activity.doing("inner"):
            assert activity.current() == "inner"
        assert activity.current() == "outer"


def test_nothing_large_is_imported_before_the_fork():
    code = (
        "import sys, jaxmicro.__main__\n"
        "print([m for m in ('numpy', 'jax', 'typer', 'rich', 'ctypes') if m in sys.modules])"
    )
    assert run([sys.executable, "-c", code]) == (0, "[]\n", "")


def test_jax_is_loaded_after_the_compilation_cache_is_chosen():
    code = "import sys, jaxmicro.app.cli\nprint('jax' in sys.modules)"
    assert run([sys.executable, "-c", code]) == (0, "False\n", "")
