"""Packages that medlib can do without: an extra brings them."""

from collections.abc import Iterator
from contextlib import contextmanager

from medlib import paths


def command(name: str = "") -> str:
    """What installs medlib with its extra `name` here: from the checkout, if there is
    one.
    """
    named = f"[{name}]" if name else ""
    if paths.CHECKOUT:
        return f'pip install -e "{paths.CHECKOUT}{named}"'
    return f'pip install "medlib{named}"'


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around an import of what the extra `name` brings: where the package is missing,
    the ModuleNotFoundError says how to get it.

    >>> with extra("chapters"):
    ...     from skimage.feature import hog
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not here; expected: {command(name)}", name=error.name
        ) from None
