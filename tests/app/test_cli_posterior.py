"""`jaxmicro posterior` from the command line: files, report, exit status, refusals."""

import csv
import json

import numpy as np
import pytest

import jaxmicro.app.posterior.run as job
from jaxmicro.app.quantify.spec import load
from jaxmicro.errors import UsageError
from jaxmicro.posterior.diagnostics import import_arviz

az = import_arviz()

MODEL = """
[mixture]
classes = 4
trend = "x + y"
share = ["means", "sds"]
[foreground]
rule = "brightest"
[posterior]
{extra}
"""


def model_file(tmp_path, extra):
    path = tmp_path / "model.toml"
    path.write_text(MODEL.format(extra=extra), encoding="utf-8")
    return path


def test_a_run_leaves_every_file_and_the_report_starts_with_diagnostics(run, phantom, tmp_path):
    model = model_file(tmp_path, "method = 'laplace'\ndraws = 100\nlog_likelihood_every = 10")
    out = tmp_path / "out"
    status, text, err = run(
        "posterior", phantom / "movie.tif", "--model", model, "--rate", 0.2, "--out", out
    )
    record = json.loads((out / "run.json").read_text("utf-8"))
    # a normal may be a poor stand-in for 50 dimensions: then the status says so
    assert status == (0 if record["trusted"] else 1), err
    assert bool(record["problems"]) == bool(err)
    data = az.from_netcdf(out / "posterior.nc")
    assert data["posterior"].sizes["draw"] == 100
    assert "time_s" in data["growth"].coords
    rows = list(csv.DictReader((out / "growth.csv").read_text("utf-8").splitlines()))
    assert len(rows) == 6
    lines = (phantom / "truth.csv").read_text("utf-8").splitlines()
    truth = [float(r["area_px"]) for r in csv.DictReader(lines)]
    peak = int(np.argmax(truth))
    area, se = float(rows[peak]["area_px"]), float(rows[peak]["area_px_se"])
    assert abs(area - truth[peak]) < 4 * se
    report = (out / "report.html").read_text("utf-8")
    assert report.index("Diagnostics") < report.index("Figures") < report.index("Parameters")
    assert {p.name for p in (out / "figures").iterdir()} == {
        "growth.png", "marginals.png", "predicted.png",
    }  # fmt: skip
    again = load(out / "model.toml")
    assert again.posterior is not None
    assert again.posterior.log_likelihood_every == 10
    assert "wrote" in text


def test_interruption_is_marked_in_report_and_exit_status(run, phantom, tmp_path, monkeypatch):
    model = model_file(tmp_path, "draws = 200\nwarmup = 50\nchains = 2")
    original = job.posterior

    def interrupted(*args, progress, **options):
        def stop(done, total):
            progress(done, total)
            if done == 3:
                raise KeyboardInterrupt

        return original(*args, progress=stop, **options)

    monkeypatch.setattr(job, "posterior", interrupted)
    out = tmp_path / "out"
    status, text, err = run(
        "posterior", phantom / "movie.tif", "--model", model, "--rate", 0.2, "--out", out
    )
    assert status == 1
    assert "interrupted" in err
    assert "WARNING: sampling was interrupted" in text
    data = az.from_netcdf(out / "posterior.nc")
    assert data["posterior"].sizes["draw"] == 100
    assert int(data["posterior"].attrs["complete"]) == 0
    header, first, *_ = (out / "growth.csv").read_text("utf-8").splitlines()
    row = dict(zip(header.split(","), first.split(","), strict=True))
    assert (row["usable"], row["check"]) == ("no", "draws not trusted")
    assert float(row["area_px"]) > 0
    report = (out / "report.html").read_text("utf-8")
    assert report.index("interrupted") < report.index("Diagnostics")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("metod = 'nuts'", "posterior.metod is not a known key"),
        ("method = 'gibbs'", "use 'nuts', 'svi' or 'laplace'"),
        ("likelihood = 'student-t'", "the key likelihood is now family in .mixture.; move it"),
        ("gain = 2.0", "line 8: posterior: the key gain is now grey_per_quantum in .mixture."),
        ("offset = 2.0", "line 8: posterior: the key offset is now offset in .mixture."),
        ("saturation = 255.0", "needs censoring = 'saturated'"),
        ("[posterior.priors]\ngap = [1.0]", "posterior.priors.gap"),
    ],
)
def test_mistakes_in_the_table_are_named(tmp_path, extra, words):
    with pytest.raises(UsageError, match=words):
        load(model_file(tmp_path, extra))


LOCAL = "proportions = 'local'"


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ("share = ['means']", "share = ['means']"),
        (LOCAL, f"{LOCAL} with share = []"),
        (f"share = ['means', 'sds']\n{LOCAL}\n[local]\ninteraction = 2.0", "interaction = 2"),
    ],
)
def test_a_variant_not_supported_by_the_posterior_is_wrong_usage(
    run, phantom, tmp_path, variant, words
):
    model = tmp_path / "model.toml"
    model.write_text(f"[mixture]\nclasses = 2\n{variant}\n", encoding="utf-8")
    status, _, err = run(
        "posterior", phantom / "movie.tif", "--model", model, "--rate", 0.2,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert status == 2
    assert f"{words} is not supported by the posterior" in err
    assert not (tmp_path / "out").exists()
