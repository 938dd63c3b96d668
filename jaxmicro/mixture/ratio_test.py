"""The likelihood-ratio test of nested models by its chi-square.

2 (log L_1 - log L_0) is a chi-square with as many degrees of freedom as parameters were added
(Wilks 1938, Ann. Math. Stat. 9:60) where the smaller model lies inside the larger one, pixels are
independent and the model is true. Terms of a trend lie inside: a coefficient of 0 is a coefficient
like another. A number of classes does not: a weight of 0 lies on the boundary and leaves mean and
sd of its class undefined, so that there is no chi-square at all (McLachlan and Peel 2000, Finite
Mixture Models, ch. 6). In a real scene pixels are not independent and class proportions are not
the same everywhere: see `jaxmicro.spacetime.trend_score` for what holds there.
"""

from __future__ import annotations

import math

from scipy import stats

from jaxmicro.errors import UsageError


def ratio_test(null: float, alternative: float, more_parameters: int) -> tuple[float, float]:
    """Statistic and p-value from the two maximised log-likelihoods, in nats.

    A statistic below 0 (a fit that missed its optimum) has the p-value 1; NaN stays NaN.

    Raises:
      UsageError: the alternative has no more parameters than the null hypothesis.
    """
    if more_parameters < 1:
        raise UsageError(
            f"a likelihood-ratio test needs an alternative with more parameters, not "
            f"{more_parameters:+d}; give the smaller model first"
        )
    statistic = 2 * (alternative - null)
    if math.isnan(statistic):
        return math.nan, math.nan
    return statistic, float(stats.chi2.sf(max(statistic, 0.0), more_parameters))
