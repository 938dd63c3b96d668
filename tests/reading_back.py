"""Every file that a command leaves opens in the program it is for."""

import base64
import html.parser
import io
import json
import tomllib
import zipfile
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import rsciio.hspy
import tifffile
import xarray as xr
import zarr
from PIL import Image as Picture

from jaxmicro.app.enhance.spec import EnhanceVariant
from jaxmicro.app.model_file import load_as
from jaxmicro.app.quantify.spec import Variant


class _Page(html.parser.HTMLParser):
    """Checks that elements close in order, and gathers the images inside the page."""

    def __init__(self):
        super().__init__()
        self.open, self.images = [], []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs)["src"])
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def _read_csv(path):
    table = pd.read_csv(path)
    assert len(table)
    assert len(table.columns) > 1


def _read_nc(path):
    tree = xr.open_datatree(path, engine="h5netcdf")
    assert sum(v.size for node in tree.subtree for v in node.data_vars.values())
    tree.close()


def _read_tif(path):
    values = tifffile.imread(path)
    assert values.size
    assert np.isfinite(values).any()


def _read_npz(path):
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
        assert "format" in file.files


def _read_html(path):
    page = _Page()
    page.feed(path.read_text("utf-8"))
    assert not page.open
    for source in page.images:
        kind, _, text = source.partition(";base64,")
        data = base64.b64decode(text, validate=True)
        if kind == "data:image/svg+xml":
            ElementTree.fromstring(data)
        else:
            assert kind == "data:image/png"
            Picture.open(io.BytesIO(data)).verify()


def _read_png(path):
    with Picture.open(path) as picture:
        values = np.asarray(picture.convert("L"))
    assert np.ptp(values) > 0


def _read_toml(path):
    tables = tomllib.loads(path.read_text("utf-8"))
    assert load_as(path, EnhanceVariant if "dictionary" in tables else Variant)


def _read_hspy(path):
    (signal,) = rsciio.hspy.file_reader(path)
    assert signal["data"].size


def _read_xlsx(path):
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None


READERS = {
    ".csv": _read_csv,
    ".nc": _read_nc,
    ".tif": _read_tif,
    ".npz": _read_npz,
    ".html": _read_html,
    ".png": _read_png,
    ".toml": _read_toml,
    ".svg": ElementTree.parse,
    ".pdf": lambda path: path.read_bytes().index(b"%PDF"),
    ".hspy": _read_hspy,
    ".xlsx": _read_xlsx,
    ".json": lambda path: json.loads(path.read_text("utf-8")),
}


def read_back(folder):
    """Open every file of a folder; run.json lists exactly these."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    for path in files:
        if "study.zarr" not in path.parts:
            READERS[path.suffix](path)
    if (folder / "study.zarr").exists():
        for _, group in zarr.open_group(folder / "study.zarr", mode="r").groups():
            assert all(np.isfinite(array[-1]).all() for _, array in group.arrays())
    record = json.loads((folder / "run.json").read_text("utf-8"))
    assert record["files"] == sorted(p.relative_to(folder).as_posix() for p in files)
