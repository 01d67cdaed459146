"""Packages that medlib can do without: an extra brings them."""

from collections.abc import Iterator
from contextlib import contextmanager


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
            f'{error.name} is not here; expected: pip install "medlib[{name}]"',
            name=error.name,
        ) from None
