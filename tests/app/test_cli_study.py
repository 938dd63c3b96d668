"""`jaxmicro study`: tables from chunks, going on, one answer wherever it is measured."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import zarr

from jaxmicro.app.study import store
from jaxmicro.app.study.folder import at_work, disk, unfinished
from jaxmicro.growth.study import QUANTITIES

MODEL = '[mixture]\nclasses = 2\n[foreground]\nrule = "brightest"\n'
HEADER = "plan,rate,replicates,bias_um3,width_um3,bias_percent,width_percent,cover80,failed_percent"
RATES = ("--rates", "0.3", "--rates", "0.1", "--replicates", 3)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "two.toml").write_text(MODEL)
    return folder


@pytest.fixture(scope="module")
def words(phantom, place):
    """The study of all tests: two plans, two rates, three replicates, four frames of 64 x 64."""
    movie, plan = phantom / "movie.tif", place / "two.toml"
    plans = ("--estimator", "count", "--estimator", "posterior")
    return ("study", movie, plan, *RATES, *plans, "--frames", "1:5", "--thickness", "0.5 um")


@pytest.fixture(scope="module")
def done(ran, words, place, phantom):
    ran(*words, "--truth", phantom / "truth.csv", "--out", place / "done")
    return place / "done"


@pytest.fixture
def copy(done, tmp_path):
    """The finished study in a folder of its own."""
    shutil.copytree(done, tmp_path / "out")
    return tmp_path / "out"


def _chunks(folder):
    found = sorted((folder / "study.zarr").rglob("c/*/*/*"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def _same(one, other):
    assert (one / "study.csv").read_bytes() == (other / "study.csv").read_bytes()
    assert _chunks(one) == _chunks(other)


# -- what it writes -----------------------------------------------------------------------------


def test_the_table_is_that_of_the_chunks(done):
    """Bias, width and coverage again, from the arrays, the calibration and the truth alone."""
    table = pd.read_csv(done / "study.csv")
    assert ",".join(table.columns).startswith(HEADER)
    assert table[["plan", "rate"]].values.tolist() == [
        [f"two_{e}", rate] for e in ("count", "posterior") for rate in (0.3, 0.1)
    ]
    group = zarr.open_group(done / "study.zarr", mode="r")
    truth = pd.read_csv(done.parent.parent / "nothing") if False else None
    assert truth is None
    for row in table.to_dict("records"):
        values = dict(zip(QUANTITIES, group[f"{row['plan']}/rate_{row['rate']}"][:], strict=True))
        full = group[f"{row['plan']}/all_pixels"][0, :, 0]
        area = values["area_px"]
        assert area.shape == (4, 3)
        um3 = row["bias_um3"] / np.mean(area - full[:, None])
        assert row["width_um3"] == pytest.approx(
            um3 * np.mean(np.quantile(area, 0.9, axis=1) - np.quantile(area, 0.1, axis=1))
        )
        low, high = values["area_px_lo80"], values["area_px_hi80"]
        inside = (low <= full[:, None]) & (full[:, None] <= high)
        assert row["cover80"] == pytest.approx(100 * inside.mean())
        assert row["failed_percent"] == pytest.approx(100 * np.mean(values["usable"] == 0))
        # the bias against the truth is that against all pixels, and how far these are off
        assert row["true_bias_um3"] == pytest.approx(row["bias_um3"] + um3 * _off(full, done))
        assert row["true_bias_percent"] / row["bias_percent"] == pytest.approx(
            row["true_bias_um3"] / row["bias_um3"]
        )


def _off(full, done):
    """Mean error of the curve of all pixels, in pixels."""
    curves = pd.read_csv(done / "curves.csv")
    first = curves[(curves["plan"] == "two_count") & (curves["rate"] == 0.3)]
    scale = (
        first["all_pixels_um3"].iloc[0]
        / zarr.open_group(done / "study.zarr", mode="r")["two_count/all_pixels"][0, 0, 0]
    )
    return np.mean(full - first["truth_um3"].to_numpy() / scale)


def test_curves_are_those_of_the_movie_s_frames(done, phantom):
    curves = pd.read_csv(done / "curves.csv")
    assert len(curves) == 2 * 2 * 4
    truth = pd.read_csv(phantom / "truth.csv").set_index("frame")
    one = curves[(curves["plan"] == "two_count") & (curves["rate"] == 0.1)]
    assert one["source_frame"].tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(one["truth_um3"], truth.loc[1:4, "volume_um3"], rtol=1e-4)
    np.testing.assert_allclose(one["time_s"], truth.loc[1:4, "time_s"], rtol=1e-6)
    ordered = one[["p10_um3", "p50_um3", "p90_um3"]].to_numpy()
    assert (np.diff(ordered, axis=1) >= 0).all()


def test_files_and_figures(done):
    names = {str(p.relative_to(done)) for p in done.rglob("*") if "study.zarr" not in str(p)}
    assert names == {
        "study.csv", "curves.csv", "study.json", "run.json", "report.html", "figures", "plans",
        "plans/two_count.toml", "plans/two_count.json", "plans/two_posterior.toml",
        "plans/two_posterior.json", "figures/bands_two_count.png", "figures/by_rate.png",
        "figures/bands_two_posterior.png",
    }  # fmt: skip
    assert "true_bias_um3" in (done / "report.html").read_text("utf-8")
    assert not list(done.rglob("*.partial"))
    assert not unfinished(done).exists()


# -- going on -----------------------------------------------------------------------------------


def test_a_finished_study_is_not_measured_again(ran, words, copy, done):
    text = ran(*words, "--out", copy)
    assert f"going on with the study in {copy}: 14 of 14 blocks are finished" in text
    assert "nothing is left to measure" in text
    assert _chunks(copy) == _chunks(done)
    assert "true_" not in (copy / "study.csv").read_text("utf-8")  # --truth was not given again


def test_a_rate_is_added_to_a_finished_study(ran, words, copy, done, phantom):
    """What holds one rate of the study alone becomes the whole of it."""
    request = json.loads((copy / "study.json").read_text("utf-8"))
    request["rates"] = [r for r in request["rates"] if r["rate"] == 0.3]
    (copy / "study.json").write_text(json.dumps(request))
    for plan in ("two_count", "two_posterior"):
        shutil.rmtree(copy / "study.zarr" / plan / "rate_0.1")
    text = ran(*words, "--truth", phantom / "truth.csv", "--out", copy)
    assert "8 of 14 blocks are finished" in text
    _same(copy, done)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (("--seed", 1), "another seed (0 there, 1 now)"),
        (("--frames", "0:4"), "another movie ("),
        (("--pattern", "stratified"), "another pattern"),
        (("--replicates", 4), "another rates (0.3 x 3 0.1 x 3 there, 0.3 x 4 0.1 x 4 now)"),
        (("--foreground", "darkest"), "another plans (two_count "),
    ],
)
def test_another_study_is_refused_by_what_differs(run, words, copy, done, change, differs):
    status, _, err = run(*words, *change, "--out", copy)
    assert status == 2
    assert differs in err
    assert len(err.splitlines()) == 1
    _same(copy, done) if False else None
    assert _chunks(copy) == _chunks(done)
    assert not unfinished(copy).exists()


def test_a_full_disk_is_one_line_and_the_study_goes_on(run, ran, words, done, tmp_path, phantom):
    out, kept = tmp_path / "out", store.Store.write
    room = [5]

    def write(self, task, values):
        room[0] -= 1
        if room[0] < 0:
            with disk(self.folder):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        kept(self, task, values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.Store, "write", write)
        status, _, err = run(*words, "--out", out)
    assert status == 1
    assert "No space left on device" in err
    assert f"finished blocks are kept in {unfinished(out)}: free some space, then repeat" in err
    assert len(err.splitlines()) == 1
    assert not out.exists()
    text = ran(*words, "--truth", phantom / "truth.csv", "--out", out)
    assert "5 of 14 blocks are finished" in text
    _same(out, done)


def test_what_a_kill_leaves_does_no_harm(ran, words, done, tmp_path, phantom):
    """Half-written files, a chunk that is missing: all is as if nothing had happened."""
    out = tmp_path / "out"
    folder = unfinished(out)
    shutil.copytree(done, folder)
    for name in ("study.csv", "run.json", "report.html", "curves.csv"):
        (folder / name).unlink()
    gone = folder / "study.zarr" / "two_count" / "rate_0.1" / "c" / "0" / "0" / "1"
    gone.rename(gone.with_name("1.0123456789abcdef.partial"))
    (folder / "plans" / "two_count.npz.part").write_bytes(b"half")
    text = ran(*words, "--truth", phantom / "truth.csv", "--out", out)
    assert "13 of 14 blocks are finished" in text
    _same(out, done)
    assert not list(out.rglob("*.part*"))


def test_a_second_run_is_told(run, words, tmp_path):
    with at_work(tmp_path / "out") as folder:
        status, _, err = run(*words, "--out", tmp_path / "out")
        assert status == 2
        assert f"another run is at work on this study (process {os.getpid()} on " in err
        assert folder.exists()
    assert not folder.exists()  # nothing was in it


# -- one answer everywhere ----------------------------------------------------------------------


def _alone(words, out, cwd, **environment):
    """The command in a process of its own, with the precision that tests have."""
    known = {**os.environ, "JAX_ENABLE_X64": "true", **environment}
    command = [sys.executable, "-m", "jaxmicro", *map(str, words), "--out", str(out)]
    return subprocess.run(command, cwd=cwd, env=known, capture_output=True, text=True, check=False)


@pytest.fixture
def truth(phantom):
    return ("--truth", phantom / "truth.csv")


@pytest.mark.slow
def test_two_workers_give_the_same_bits(words, truth, done, tmp_path):
    found = _alone((*words, *truth, "--workers", 2), tmp_path / "out", tmp_path)
    assert found.returncode == 0, found.stderr
    _same(tmp_path / "out", done)


@pytest.mark.slow
def test_eight_devices_give_the_same_bits(words, truth, done, tmp_path):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    found = _alone((*words, *truth), tmp_path / "out", tmp_path, XLA_FLAGS=flags)
    assert found.returncode == 0, found.stderr
    _same(tmp_path / "out", done)


@pytest.mark.slow
def test_workers_started_by_hand_give_the_same_bits(words, truth, done, tmp_path):
    """As on a cluster: a scheduler, four workers, and its address."""
    environment = {**os.environ, "JAX_ENABLE_X64": "true", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    page = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    started = [
        subprocess.Popen(
            [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
             "--scheduler-file", page],
            env=environment, stderr=subprocess.DEVNULL, cwd=tmp_path,
        )
    ]  # fmt: skip
    try:
        began = time.monotonic()
        while not page.exists() and time.monotonic() - began < 60:
            time.sleep(0.1)
        started += [
            subprocess.Popen(
                [*dask, "worker", "--scheduler-file", page, "--nthreads", "1", "--no-dashboard",
                 "--no-nanny", "--local-directory", tmp_path / f"worker{i}"],
                env=environment, stderr=subprocess.DEVNULL, cwd=tmp_path,
            )
            for i in range(4)
        ]  # fmt: skip
        address = json.loads(page.read_text("utf-8"))["address"]
        out = tmp_path / "out"
        found = _alone((*words, *truth, "--scheduler", address), out, tmp_path)
    finally:
        for process in started:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert found.returncode == 0, found.stderr
    _same(tmp_path / "out", done)
