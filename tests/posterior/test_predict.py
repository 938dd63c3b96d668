"""Areas and predicted histograms."""

import numpy as np
import pytest


def test_area_counts_what_was_seen_and_draws_what_was_not(planted, drawn):
    result, (_, label) = drawn(False), planted()
    area = result["growth"]["area_px"].values[..., 0]
    seen = label.sum()
    share = result["posterior"]["weights"].values[:, :, 0, 1].mean()
    assert area.mean() == pytest.approx(seen + share * (4096 - 512), rel=0.01)
    low, high = result.area_interval(0.999)
    assert low[0] < 4096 * 0.65 < high[0]
    assert np.all(area <= 4096)


def test_predictions_cover_the_histogram_that_was_seen(drawn):
    result = drawn(True)
    new = result["posterior_predictive"]["histogram"].values
    new = new.reshape(-1, *new.shape[2:])
    seen = result["observed_data"]["histogram"].values
    low, high = np.quantile(new, [0.025, 0.975], axis=0)
    assert np.all(new.sum(axis=-1) == 512)
    # 95 % intervals of counts are wide at the edges: at least nine bins of ten
    assert np.mean((low <= seen) & (seen <= high)) > 0.9
