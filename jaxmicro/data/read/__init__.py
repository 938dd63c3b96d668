"""Any microscope file to a `Movie`, an `Image`, a `Volume` or a mask.

All knowledge of file formats lives in this package; nothing else in jaxmicro has any. Importing it
is quick: the libraries behind each format are imported when such a file is opened. Files are never
executed or unpickled. A source is a file, a folder or a glob of images, or `FILE::PATH` for one
array inside an HDF5, Zarr, NPZ or EMD file.
"""

from jaxmicro.data.read.describe import Description, describe, sha256
from jaxmicro.data.read.formats import SUFFIXES
from jaxmicro.data.read.public import Volume, read_image, read_mask, read_movie, read_volume
from jaxmicro.data.read.roi import read_roi

__all__ = [
    "SUFFIXES",
    "Description",
    "Volume",
    "describe",
    "read_image",
    "read_mask",
    "read_movie",
    "read_roi",
    "read_volume",
    "sha256",
]
