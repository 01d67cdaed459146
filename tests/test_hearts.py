"""The room's door: names that lead into its modules."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from medlib import hearts


def test_every_name_leads_into_its_module():
    for name, module in hearts._HOME.items():
        found = getattr(hearts, name)
        home = getattr(found, "__module__", f"medlib.hearts.{module}")
        assert home in (f"medlib.hearts.{module}", "builtins")
        assert name in dir(hearts)
    with pytest.raises(AttributeError, match="no attribute 'kidneys'"):
        hearts.kidneys  # noqa: B018


def test_no_name_hides_a_module_of_the_room():
    """Else its meaning would hang on what was imported first."""
    modules = {p.stem for p in Path(hearts.__file__).parent.glob("*.py")}
    assert not modules & set(hearts._HOME)


def test_the_names_can_be_read_without_running_anything():
    tree = ast.parse(Path(hearts.__file__).read_text("utf-8"))
    (value,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "_HOME"
    ]
    assert ast.literal_eval(value) == hearts._HOME


@pytest.mark.parametrize(
    "wanted, unwanted",
    [
        ("medlib.hearts.phantom", ["medlib.train", "medlib.readers", "medlib.fetch"]),
        ("medlib.hearts.segmentation", ["medlib.readers"]),
        ("medlib.train", ["medlib.hearts"]),
        ("medlib.data", ["medlib.train", "medlib.fetch", "medlib.augment"]),
        ("medlib.readers", ["medlib.train", "medlib.hearts"]),
    ],
)
def test_what_a_module_does_not_bring_along(wanted, unwanted):
    code = f"import sys, {wanted}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(hearts.__file__).parents[2],
    )
    assert not set(unwanted) & set(done.stdout.split())
