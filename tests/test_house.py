"""The rules of the house, checked on the source itself."""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "jaxmicro"
ORDER = {"data": 0, "mixture": 1, "spacetime": 2, "growth": 3, "dictionary": 1, "app": 4}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def _imports(path: pathlib.Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{a.name}" for a in node.names}
    return found


def _room(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_packages_import_only_to_the_left(path):
    here = _room(path)
    if here not in ORDER:
        return
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "jaxmicro" and len(parts) > 1 and parts[1] in ORDER:
            there = parts[1]
            left = ORDER[there] < ORDER[here] or there == here
            # the dictionary stands beside the mixture's rooms: neither sees the other
            aside = "dictionary" in (here, there) and here != there and here != "app"
            assert left, f"{here} imports {name}"
            assert not aside or there == "data", f"{here} imports {name}"


def _users_of(*libraries: str) -> set[str]:
    return {
        str(p.relative_to(PACKAGE))
        for p in SOURCES
        if any(n.split(".")[0] in libraries for n in _imports(p))
    }


def test_only_posterior_imports_numpyro_and_arviz():
    assert all("posterior" in name for name in _users_of("numpyro", "arviz"))


def test_only_plot_imports_matplotlib():
    assert all(name.startswith("app/plot") for name in _users_of("matplotlib"))


def test_only_the_reader_opens_image_formats():
    formats = ("rsciio", "imageio", "av", "olefile", "PIL", "h5py", "zarr")
    assert all(name.startswith("data/read") for name in _users_of(*formats))


def test_nothing_is_unpickled_and_no_global_setting_is_changed():
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert not {"pickle", "dill", "joblib"} & _imports(path), path
        assert "config.update" not in text, path
        assert "allow_pickle=True" not in text, path


def test_only_the_command_line_prints():
    for path in SOURCES:
        calls = [
            node
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
        ]
        assert not calls or path.parent.name == "cli", path


def test_only_the_command_line_and_its_guard_write_to_the_standard_streams():
    # The guard must not import app/cli, whose imports are large: it speaks when all else is dead.
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        if path.parent.name != "cli" and path.name != "guard.py":
            assert "sys.stderr" not in text, path
            assert "sys.stdout" not in text, path


def test_the_guard_imports_only_the_standard_library():
    ours = {"jaxmicro", "jaxmicro.activity"}
    for name in ("guard.py", "activity.py"):
        found = _imports(PACKAGE / name) - ours
        assert all(n.split(".")[0] in sys.stdlib_module_names for n in found), found


def test_every_room_stays_one_room():
    long = {p.name: n for p in SOURCES if (n := len(p.read_text().splitlines())) > 350}
    assert not long


def test_every_model_file_has_a_row_in_the_models_readme():
    text = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "models").glob("*.toml"):
        assert f"`{path.name}`" in text
