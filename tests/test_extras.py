"""A package that an extra brings is named with the command that installs it."""

import ast
import sys
import tomllib

import pytest
import torch
from torch import nn

from medlib import baselines, device, explain, paths
from medlib.extras import extra

PROJECT = tomllib.loads((paths.CHECKOUT / "pyproject.toml").read_text("utf-8"))[
    "project"
]


def test_the_error_names_package_and_extra(monkeypatch):
    monkeypatch.setattr(paths, "CHECKOUT", None)
    message = r'no_such is not here; expected: pip install "medlib\[build\]"'
    with pytest.raises(ModuleNotFoundError, match=message), extra("build"):
        import no_such  # noqa: F401


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), extra("chapters"):
        1 / 0  # noqa: B018


IMAGES = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
NET = nn.Conv2d(1, 1, 1)
NEEDY = {
    "skimage.feature": lambda: baselines.gradients(IMAGES),
    "captum.attr": lambda: explain.grad_cam(NET, NET, IMAGES, torch.zeros(1)),
}


@pytest.mark.parametrize("module", NEEDY)
def test_each_use_says_what_to_install(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install -e .*\[chapters\]"):
        NEEDY[module]()


def test_several_processes_want_accelerate(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ModuleNotFoundError, match="2 processes.*pip install acc"):
        device._accelerator.__wrapped__("2")


def advises(node):
    """Whether what is imported inside `node` is missed with advice."""
    if isinstance(node, ast.With):
        return "extra(" in ast.unparse(node.items[0])
    if isinstance(node, ast.Try):
        return any("ModuleNotFound" in ast.unparse(h) for h in node.handlers)
    return False


def imported(path):
    """{package: whether it is missed with advice, everywhere in the file at `path`}."""
    found = {}

    def visit(node, guarded):
        guarded |= advises(node)
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for name in names:
            package = name.split(".")[0]
            found[package] = found.get(package, True) and guarded
        for child in ast.iter_child_nodes(node):
            visit(child, guarded)

    visit(ast.parse(path.read_text(encoding="utf-8")), False)
    return found


def test_medlib_imports_what_pyproject_lists_and_extras_only_with_advice():
    modules = {"scikit-learn": "sklearn", "scikit-image": "skimage", "pillow": "PIL"}
    modules |= {"ipython": "IPython", "surface-distance": "surface_distance"}

    def tops(lines):
        names = [line.split(">")[0] for line in lines]
        return {modules.get(name, name) for name in names}

    own = tops(PROJECT["dependencies"]) | {"medlib"} | set(sys.stdlib_module_names)
    extras = tops(PROJECT["optional-dependencies"]["chapters"])
    wrong = [
        f"{path.relative_to(paths.PACKAGE)}: {package}"
        for path in sorted(paths.PACKAGE.rglob("*.py"))
        for package, guarded in imported(path).items()
        if package not in own and not (package in extras and guarded)
    ]
    assert not wrong
