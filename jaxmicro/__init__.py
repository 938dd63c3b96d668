"""jaxmicro: quantities with honest error bars from low-dose and sub-sampled microscopy.

The names most sessions need are here; `__init__.pyi` lists them for readers, editors and type
checkers, and each is loaded when it is first used (Scientific Python's SPEC 1).
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
