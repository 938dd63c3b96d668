"""Settings of a sampler that make no sense are refused."""

import pytest

from jaxmicro.errors import UsageError
from jaxmicro.posterior import Sampler


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "gibbs"}, "method 'gibbs' is not known"),
        ({"chains": 0}, "chains = 0 is not allowed; use 1 or more"),
        ({"draws": 10}, "draws = 10 is not allowed; use 50 or more"),
        ({"subsample": 0}, "subsample = 0 is not allowed"),
        ({"log_likelihood_every": 0}, "log_likelihood_every = 0 is not allowed"),
        ({"target_accept": 1.0}, "target_accept = 1.0"),
    ],
)
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(UsageError, match=words):
        Sampler(**settings)
