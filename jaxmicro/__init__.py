"""jaxmicro: quantities with honest error bars from microscopy that saw too few counts."""

__version__ = "0.1.0"
