"""Figures for a paper have its width, keep their text as text, and cut nothing off."""

import re
import zlib

import numpy as np
import pytest
from PIL import Image as Picture

from jaxmicro.app import canvas, page, palette
from jaxmicro.app.quantify import figures
from jaxmicro.app.quantify.run import quantify
from jaxmicro.app.quantify.spec import Foreground, Mixture, Variant
from jaxmicro.app.style import SCREEN, Style
from jaxmicro.data.movie import Movie
from jaxmicro.errors import UsageError
from jaxmicro.growth.plan import Sampling

SHAPE = (4, 30, 24)
STYLES = [Style.asked("png", width) for width in ("one", "two")]


@pytest.fixture(scope="module")
def found():
    """A bright half plane that grows, its pixels twice as high as wide."""
    noise = np.random.default_rng(4).normal(0, 6, SHAPE)
    inside = np.arange(SHAPE[2]) < 5 + 3 * np.arange(SHAPE[0])[:, None, None]
    grey = (np.where(inside, 180, 60) + noise).astype(np.float32)
    movie = Movie(grey, pixel_size_nm=(40.0, 20.0), times_s=0.5 * np.arange(SHAPE[0]))
    mixture = Mixture(classes=2, trend="x", share=["means", "sds"])
    variant = Variant(mixture=mixture, foreground=Foreground(rule="brightest"))
    return quantify(movie, variant, Sampling(0.2), thickness_um=0.3)


def _pixels(path):
    with Picture.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("style", STYLES, ids=["one", "two"])
def test_figures_have_the_width_of_a_column_and_nothing_is_cut_off(found, style, tmp_path):
    drawn = figures.all_figures(found, tmp_path / "figures", style)
    assert len(drawn) == 5
    for path in drawn.values():
        values = _pixels(path)
        assert values.shape[1] == pytest.approx(style.width_mm / 25.4 * 300, abs=1)
        assert values.shape[0] < 247 / 25.4 * 300  # the height of a page
        # what reaches the edge was cut there
        for edge in (values[:2], values[-2:], values[:, :2], values[:, -2:]):
            assert edge.min() == 255, path.name


def test_not_visited_is_neither_a_grey_value_nor_a_mark(found, tmp_path):
    values = _pixels(figures.strip(found, tmp_path / "strip.png"))
    colours, counts = np.unique(values.reshape(-1, 3), axis=0, return_counts=True)
    seen = {tuple(int(v) for v in c): n for c, n in zip(colours, counts, strict=True)}
    marked = [palette.NO_VALUE, palette.BACKGROUND, palette.FOREGROUND]
    for colour in marked:
        red, green, blue = palette.rgb(colour)
        assert seen[red, green, blue] > 500
        assert not red == green == blue  # no grey value


@pytest.mark.parametrize("width", ["one", "two"])
def test_a_svg_keeps_its_letters_and_a_pdf_its_fonts(found, width, tmp_path):
    points = Style.asked("svg", width).width_mm / 25.4 * 72
    shown = figures.growth_curve(found.growth, tmp_path / "a.png", style=Style.asked("svg", width))
    assert shown == tmp_path / "a.svg"
    text = shown.read_text("utf-8")
    assert float(re.search(r'width="([\d.]+)pt"', text)[1]) == pytest.approx(points, abs=0.01)
    assert "time (s)</text>" in text
    assert "data:image/svg+xml;base64," in page.figure(shown, "caption")
    shown = figures.growth_curve(found.growth, tmp_path / "b.png", style=Style.asked("pdf", width))
    assert shown == tmp_path / "b.png"  # what a page shows
    pdf = (tmp_path / "b.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", pdf)
    assert float(box[1]) == pytest.approx(points, abs=0.01)
    assert b"/FontFile2" in pdf  # an embedded TrueType font
    assert b"/Type3" not in pdf
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.S)
    assert any(b"BT" in zlib.decompress(s) for s in streams if s[:1] == b"x")


def test_the_same_run_draws_the_same_file(found, tmp_path):
    for suffix in ("svg", "pdf", "png"):
        style = Style.asked(suffix, "one")
        for name in ("a.png", "b.png"):
            figures.growth_curve(found.growth, tmp_path / name, style=style)
        one, other = (tmp_path / f"{n}.{suffix}" for n in "ab")
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("most", "length"), [(9.9, 5), (10.0, 10), (0.3, 0.2), (1.99e3, 1e3), (2e3, 2e3), (7e-3, 5e-3)]
)
def test_a_scale_bar_has_a_round_length(most, length):
    assert canvas.round_length(most) == pytest.approx(length)


@pytest.mark.parametrize("pixel_nm", [0.3, 28.2, 1500.0])
def test_a_scale_bar_is_as_long_as_it_says_and_inside(pixel_nm):
    figure = canvas.new_figure(3.0, 3.0)
    ax = figure.subplots()
    ax.imshow(np.zeros((50, 80)))
    canvas.scale_bar(ax, (50, 80), pixel_nm)
    figure.canvas.draw()
    (bar,) = ax.artists
    number, unit = bar.txt_label.get_text().split()
    length_nm = float(number) * {"nm": 1, "µm": 1000}[unit]
    drawn = bar.size_bar.get_children()[0].get_width()
    assert drawn * pixel_nm == pytest.approx(length_nm)
    assert 80 / 8 < drawn <= 80 / 3
    inside, around = bar.get_window_extent(), ax.get_window_extent()
    assert around.x0 < inside.x0 < inside.x1 < around.x1
    assert around.y0 < inside.y0 < inside.y1 < around.y1


def test_what_is_not_a_format_or_a_width_is_refused():
    assert Style.asked("png", None) == SCREEN
    assert Style.asked("svg", None).width_mm == 183
    with pytest.raises(UsageError, match="--figures 'jpg' is not known; use png, svg, pdf"):
        Style.asked("jpg", None)
    with pytest.raises(UsageError, match="--figure-width 'three' is not known; use one"):
        Style.asked("png", "three")
