"""The file formats that can be read: one row each.

A new one is a module with `open_...(path, select)`, which returns a Stack, and `failures()`, what
its library raises on damaged files; and a row here.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Format:
    """A family of files: who reads it, and how its files are recognised.

    `magic` are (offset, bytes) pairs, one of which a file of this format must have; empty where
    the format has no signature. `module` is imported when a file is opened.

    `shared_magic`: other files begin with these bytes too, so they do not tell the format.
    `has_parts`: `FILE::PATH` chooses one of several arrays. `in_folders`: a folder of such files is
    a movie, one file a frame. `may_circle`: its library can follow a damaged file for ever.
    """

    name: str
    suffixes: tuple[str, ...]
    magic: tuple[tuple[int, bytes], ...]
    module: str
    function: str
    shared_magic: bool = False
    has_parts: bool = False
    in_folders: bool = True
    may_circle: bool = False


_ROSETTA = "rosetta"
_HDF5 = ((0, b"\x89HDF\r\n\x1a\n"),)
FORMATS = (
    Format(
        "TIFF",
        (".tif", ".tiff"),
        ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")),
        "tiff",
        "open_tiff",
    ),
    Format("GIF", (".gif",), ((0, b"GIF8"),), "images", "open_gif"),
    Format("PNG", (".png",), ((0, b"\x89PNG"),), "images", "open_image"),
    Format("JPEG", (".jpg", ".jpeg"), ((0, b"\xff\xd8\xff"),), "images", "open_image"),
    Format("BMP", (".bmp",), ((0, b"BM"),), "images", "open_image", shared_magic=True),
    Format(
        "video",
        (".avi", ".mp4", ".mov", ".m4v", ".mkv"),
        (
            (8, b"AVI "),
            (4, b"ftyp"),
            (4, b"moov"),
            (4, b"mdat"),
            (4, b"wide"),
            (4, b"free"),
            (0, b"\x1a\x45\xdf\xa3"),
        ),
        "video",
        "open_video",
    ),
    Format("NPY", (".npy",), ((0, b"\x93NUMPY"),), "arrays", "open_npy"),
    Format(
        "NPZ",
        (".npz",),
        ((0, b"PK\x03\x04"),),
        "arrays",
        "open_npz",
        shared_magic=True,
        has_parts=True,
        in_folders=False,
    ),
    Format(
        "EMD",
        (".emd",),
        _HDF5,
        _ROSETTA,
        "open_emd",
        shared_magic=True,
        has_parts=True,
        may_circle=True,
    ),
    Format(
        "HSPY",
        (".hspy",),
        _HDF5,
        "hdf5",
        "open_hdf5",
        shared_magic=True,
        has_parts=True,
        may_circle=True,
    ),
    Format(
        "HDF5",
        (".h5", ".hdf5", ".hdf", ".nxs", ".nc"),
        _HDF5,
        "hdf5",
        "open_hdf5",
        has_parts=True,
        may_circle=True,
    ),
    Format("Zarr", (".zarr", ".zspy"), (), "zarrs", "open_zarr", has_parts=True, in_folders=False),
    Format(
        "DM3/DM4",
        (".dm3", ".dm4"),
        ((0, b"\0\0\0\x03"), (0, b"\0\0\0\x04")),
        _ROSETTA,
        "open_dm",
    ),
    Format("MRC", (".mrc", ".ali", ".rec", ".st"), (), _ROSETTA, "open_mrc"),
    Format("SER", (".ser",), ((0, b"II\x97\x01"),), _ROSETTA, "open_ser"),
    Format(
        "EMI", (".emi",), ((0, b"JK"),), _ROSETTA, "open_emi", shared_magic=True, in_folders=False
    ),
    Format("BLO", (".blo",), ((0, b"IMGBLO"),), _ROSETTA, "open_blo"),
    Format("TVIPS", (".tvips",), (), "tvips", "open_tvips", in_folders=False),
    Format("TXRM", (".txrm", ".xrm"), ((0, b"\xd0\xcf\x11\xe0"),), "xradia", "open_xradia"),
)
SUFFIXES = tuple(s for f in FORMATS for s in f.suffixes)
