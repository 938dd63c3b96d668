"""The posterior of a GMRM over a movie: draws, areas with their uncertainty, diagnostics."""

import lazy_loader as _lazy

# The public names are listed, with their types, in `__init__.pyi`; a module is imported when its
# name is first used, so that settings can be read without the libraries that draw.
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
