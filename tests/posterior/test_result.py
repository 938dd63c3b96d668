"""The result as a file: ArviZ reads, summarises, compares and plots it."""

import pytest

from jaxmicro.posterior.diagnostics import import_arviz

az = import_arviz()


# ArviZ warns of few draws for importance weights, and of pandas' future on its own account
@pytest.mark.filterwarnings("ignore")
def test_arviz_reads_summarises_compares_and_draws_the_file(tmp_path, drawn):
    path = tmp_path / "posterior.nc"
    drawn(True).save(path)
    data = az.from_netcdf(path)
    table = az.summary(data, var_names=["means"])
    assert len(table) == 2
    assert az.loo(data) is not None
    other = tmp_path / "laplace.nc"
    drawn(True, "laplace").save(other)
    ranked = az.compare({"nuts": data, "laplace": az.from_netcdf(other)})
    assert set(ranked.index) == {"nuts", "laplace"}
    score = next(ranked[c] for c in ("elpd_loo", "elpd") if c in ranked.columns)
    # two sets of 200 draws of one posterior: their predictive scores agree to a few nats
    assert abs(float(score.iloc[0]) - float(score.iloc[1])) < 3
    posterior_group = data["posterior"]
    assert posterior_group["means"].attrs["units"] == "grey level"
    assert list(posterior_group["trend"].dims)[2:] == ["frame", "term"]
    assert data["growth"]["area_px"].attrs["units"] == "pixels"
    observed = data["observed_data"]["histogram"].values
    assert observed.sum() == 3 * 512


@pytest.mark.filterwarnings("ignore")
def test_trace_and_rank_plots_work_on_the_file(tmp_path, drawn):
    drawn(False).save(tmp_path / "posterior.nc")
    data = az.from_netcdf(tmp_path / "posterior.nc")
    assert az.plot_trace(data, var_names=["trend"]) is not None
    assert az.plot_rank(data, var_names=["trend"]) is not None
