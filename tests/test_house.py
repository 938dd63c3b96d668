"""The rules of the house, checked on the source itself."""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "jaxmicro"
ORDER = {
    "data": 0,
    "mixture": 1,
    "dictionary": 1,
    "spacetime": 2,
    "growth": 3,
    "posterior": 3,
    "app": 4,
}
# Packages beside the row: what they may import apart from themselves; only app imports them.
BESIDE = {"dictionary": ("data",), "posterior": ("data", "mixture", "spacetime")}
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
            # dictionary and posterior stand beside the others: who may see them, and what they see
            aside = any(
                one in BESIDE and other not in (one, "app", *BESIDE[one])
                for one, other in ((here, there), (there, here))
            )
            assert left, f"{here} imports {name}"
            assert not aside, f"{here} imports {name}"


def _module(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _loads(path: pathlib.Path) -> set[str]:
    """Modules of the package that are imported when the module itself is."""
    modules = {_module(p) for p in SOURCES}
    found, todo = set(), list(ast.parse(path.read_text(encoding="utf-8")).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If | ast.Try):
            todo += [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)]
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{a.name}" for a in node.names} & modules
            found |= inner
            # `from package import module` runs the package too, unless it is the package's own
            if len(inner) < len(node.names) or not _module(path).startswith(f"{node.module}."):
                found.add(node.module)
    return (found & modules) - {_module(path)}


def test_no_module_imports_itself_by_a_detour():
    graph = {_module(p): _loads(p) for p in SOURCES}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name in done:
            return
        for other in sorted(graph[name]):
            visit(other, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())


# packages kept to the rules below
SHORT = (
    "data/read",
    "mixture",
    "growth",
    "posterior",
    "app/quantify",
    "app/posterior",
    "app/enhance",
    "app/study",
    "app/dose",
)


@pytest.mark.parametrize("room", SHORT)
def test_functions_are_short_and_take_few_arguments(room):
    for path in (PACKAGE / room).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                a = node.args
                count = len(a.posonlyargs) + len(a.args) + len(a.kwonlyargs)
                assert count <= 8, f"{path.name}: {node.name} takes {count} arguments"
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= 80, f"{path.name}: {node.name} has {length} lines"


def test_no_function_compiles_another_at_each_call():
    """A function that is jitted inside another one is compiled again at every call."""
    for path in SOURCES:
        for outer in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(outer, ast.FunctionDef):
                inside = [n for stmt in outer.body for n in ast.walk(stmt)]
                names = {n.attr for n in inside if isinstance(n, ast.Attribute)}
                assert not names & {"jit", "filter_jit", "pmap"}, f"{path.name}: {outer.name}"


def _users_of(*libraries: str) -> set[str]:
    return {
        str(p.relative_to(PACKAGE))
        for p in SOURCES
        if any(n.split(".")[0] in libraries for n in _imports(p))
    }


def test_only_posterior_imports_numpyro_and_arviz():
    assert all(name.startswith("posterior/") for name in _users_of("numpyro", "arviz"))


def test_only_figure_modules_import_matplotlib():
    names = {pathlib.PurePath(name).name for name in _users_of("matplotlib")}
    assert names <= {"canvas.py", "figures.py"}


def test_only_the_reader_opens_image_formats():
    formats = ("rsciio", "imageio", "av", "olefile", "PIL", "h5py", "zarr")
    # write HyperSpy's format, and what only a study reads again
    users = _users_of(*formats) - {"app/hspy.py", "app/study/store.py"}
    assert all(name.startswith("data/read") for name in users)


def test_only_the_cluster_of_a_study_imports_dask():
    assert _users_of("dask", "distributed", "dask_jobqueue") == {"app/study/cluster.py"}


def test_nothing_is_unpickled_and_no_global_setting_is_changed():
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert not {"pickle", "dill", "joblib"} & _imports(path), path
        # but by `use_compilation_cache`, which a user calls to change one
        assert "config.update" not in text or path.name == "compilation.py", path
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
