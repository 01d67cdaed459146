"""Where files lie, in a checkout and without one."""

from pathlib import Path

import platformdirs
import pytest

from medlib import paths


def test_in_a_checkout(monkeypatch):
    monkeypatch.delenv("MEDLIB_CACHE", raising=False)
    root = Path(__file__).resolve().parents[1]
    assert paths.CHECKOUT == root
    assert paths.cache() == root / "data" / "cache"
    assert paths.resource("datasets.toml") == root / "data" / "datasets.toml"
    assert paths.resource("claims.toml") == root / "book" / "claims.toml"


def test_without_a_checkout(monkeypatch):
    monkeypatch.delenv("MEDLIB_CACHE", raising=False)
    monkeypatch.setattr(paths, "CHECKOUT", None)
    assert paths.cache() == platformdirs.user_cache_path("medlib")
    assert paths.resource("claims.toml") == paths.PACKAGE / "claims.toml"


@pytest.mark.parametrize("checkout", [paths.CHECKOUT, None])
def test_the_reader_names_another_cache(monkeypatch, checkout):
    monkeypatch.setattr(paths, "CHECKOUT", checkout)
    monkeypatch.setenv("MEDLIB_CACHE", "~/scans")
    assert paths.cache() == Path.home() / "scans"
