"""The posterior of a GMRM over a movie: draws, areas with their uncertainty, diagnostics."""

from jaxmicro.posterior.diagnostics import Diagnostics as Diagnostics
from jaxmicro.posterior.inference import check as check
from jaxmicro.posterior.inference import posterior as posterior
from jaxmicro.posterior.likelihood import Mixture as Mixture
from jaxmicro.posterior.likelihood import Noise as Noise
from jaxmicro.posterior.model import Priors as Priors
from jaxmicro.posterior.model import Problem as Problem
from jaxmicro.posterior.result import Posterior as Posterior
from jaxmicro.posterior.sampler import Draws as Draws
from jaxmicro.posterior.sampler import Sampler as Sampler
