"""The repository's address and the book's version, set wherever they stand. Neither
makes a chapter stale, and none has to be run again.
"""

import re
import subprocess

from press import first
from press.text import ROOT, ChapterError


def address(url: str) -> None:
    """Lead everything to another repository on GitHub: texts, notebooks, buttons."""
    new = url.rstrip("/").removesuffix(".git")
    if not re.fullmatch(r"https://github\.com/[\w-]+/[\w.-]+", new):
        raise ChapterError(f"{url!r}: expected https://github.com/OWNER/NAME")
    old = first.address()
    pairs = zip(_forms(old), _forms(new), strict=True)
    _replace({rf"{re.escape(then)}(?![\w-])": now for then, now in pairs})


def _forms(address: str) -> list[str]:
    """An address as the repository's, on Colab, and as that of its pages."""
    return [address, first.on_colab(address), first.pages(address)]


def release(version: str) -> None:
    """Give texts, notebooks and buttons this version; they lead to its tag, or to main
    where it is a .dev one.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", version):
        raise ChapterError(f"{version!r}: expected such as 1.2.0 or 1.3.0.dev0")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if f"\n## {version}\n" not in changes:
        raise ChapterError(f"CHANGELOG.md: expected a section '## {version}'; write it")
    branch = "main" if "dev" in version else f"v{version}"
    then = re.escape(first.branch())
    _edit("pyproject.toml", r'^version = ".*"$', f'version = "{version}"')
    _edit("CITATION.cff", r"^version: .*$", f"version: {version}")
    _edit("_config.yml", r"(branch: &branch) \S+", rf"\1 {branch}")
    forms = _forms(first.address())[:2]
    _replace({rf"({re.escape(form)}/blob)/{then}/": rf"\1/{branch}/" for form in forms})
    first.put()


def _edit(name: str, pattern: str, words: str) -> None:
    """Replace what matches, once."""
    source = (ROOT / name).read_text(encoding="utf-8")
    made, found = re.subn(pattern, words, source, flags=re.MULTILINE)
    if found != 1:
        raise ChapterError(f"{name}: expected one line like {pattern}, found {found}")
    (ROOT / name).write_text(made, encoding="utf-8", newline="\n")


def _replace(words: dict[str, str]) -> None:
    """In every text that git knows, {pattern: what stands there instead}."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for path in (ROOT / name for name in listed.stdout.split("\0") if name):
        try:
            source = path.read_bytes().decode("utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # a picture; a file deleted since
        made = source
        for pattern, instead in words.items():
            made = re.sub(pattern, instead, made)
        if made != source:
            path.write_bytes(made.encode("utf-8"))
