"""The list of attention modules."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from medlib import attention
from medlib.attention import _families as families


@pytest.mark.parametrize("name", attention.__all__)
def test_every_name_is_where_the_list_says(name):
    module = f"medlib.attention.{attention._HOME[name]}"
    thing = getattr(attention, name)
    if isinstance(thing, tuple):
        assert thing is getattr(families, name)
    else:
        assert thing.__module__ == module
    assert name in dir(attention)


def test_every_module_of_a_family_is_in_the_list():
    names = {cls.__name__ for cls in families.SOFT + families.HARD}
    assert names < set(attention.__all__)


def test_the_list_can_be_read_without_running_it():
    tree = ast.parse(Path(attention.__file__).read_text("utf-8"))
    (home,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "_HOME"
    )
    assert ast.literal_eval(home) == attention._HOME


def test_one_family_does_not_load_the_others():
    code = (
        "import sys; from medlib import attention; attention.SE;"
        "print(*(m for m in sys.modules if m.startswith('medlib.attention.')))"
    )
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert set(loaded) == {"medlib.attention._common", "medlib.attention.channel"}


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="SE2"):
        getattr(attention, "SE2")  # noqa: B009
