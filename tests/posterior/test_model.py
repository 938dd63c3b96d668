"""Priors that make no sense are refused."""

import pytest

from jaxmicro.errors import UsageError
from jaxmicro.posterior import Priors


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gap": (0.0, 1.0)}, "prior gap = .* its numbers must be above 0"),
        ({"log_odds": (-1.0, 0.0)}, "prior log_odds = .* its scale must be above 0"),
        ({"scaling": (100.0, 0.0)}, "prior scaling = .* its scale must be above 0"),
    ],
)
def test_priors_that_make_no_sense(settings, words):
    with pytest.raises(UsageError, match=words):
        Priors(**settings)
