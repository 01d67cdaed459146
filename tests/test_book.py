"""The built book (_build/html; `make book` makes it), page by page: as files, and in a
headless browser.
"""

import os
import re
import shutil
import threading
import tomllib
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from press import colab, first

ROOT = Path(__file__).resolve().parents[1]
BUILT = ROOT / "_build" / "html"
CONFIG, TOC = (
    yaml.safe_load((ROOT / name).read_text("utf-8"))
    for name in ("_config.yml", "_toc.yml")
)
PAGES = [
    TOC["root"],
    *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]),
]
CHAPTERS = [page for page in PAGES if page.startswith("chapters/")]
SEEN = r"""() => {
  const open = e => e.checkVisibility() && !e.closest("details, .toggle-hidden");
  const cut = [...document.querySelectorAll("div.highlight pre")]
    .filter(e => open(e) && e.scrollWidth > e.clientWidth + 1);
  const tops = [...document.querySelectorAll(".bd-article :is(img, svg)")]
    .filter(e => open(e) && !e.closest(".verdict, .start"))
    .map(e => e.getBoundingClientRect()).filter(box => box.width >= 150)
    .map(box => box.top);
  return [cut.map(e => e.textContent.slice(0, 60)), tops.length ? tops[0] : null];
}"""
ROLE = re.compile(r"\{[a-z:]+\}`")
LOOK = r"""async () => {
  if (window.MathJax?.startup) await MathJax.startup.promise;
  const body = document.body.cloneNode(true);
  const other = "code, pre, script, style, mjx-container";
  body.querySelectorAll(other).forEach(e => e.remove());
  const raw = e => !e.querySelector("mjx-container");
  const maths = [...document.querySelectorAll(".math")].filter(raw);
  return {
    text: body.textContent, unrendered: maths.map(e => e.textContent),
    links: [...document.links].map(e => e.href),
    images: [...document.images].filter(e => !(e.alt ?? "").trim()).map(e => e.src) };
}"""


def absent(why: str):
    """What a check needs is not there: a failure where CI is set, a skip on a reader's
    machine.
    """
    (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


@pytest.fixture(scope="module")
def book() -> Path:
    return (
        BUILT
        if (BUILT / "search.html").exists()
        else absent("no book in _build/html: run `make book`")
    )


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright import sync_api as playwright
    except ImportError:
        absent("no playwright")
    path = shutil.which("chromium")  # None: Playwright's own
    with playwright.sync_playwright() as p:
        try:
            started = p.chromium.launch(
                executable_path=path, args=["--no-sandbox", "--disable-gpu"]
            )
        except playwright.Error as error:
            absent(f"no browser: {error.message.splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture
def serve():
    servers = []

    def start(root: Path) -> str:
        server = ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=root)
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@cache
def anchors(path: Path) -> set[str]:
    return set(re.findall(r'\b(?:id|name)="([^"]+)"', path.read_text(encoding="utf-8")))


def dead(link: str, folder: Path) -> bool:
    path, fragment = (
        folder / unquote(urlsplit(link).path).lstrip("/"),
        unquote(urlsplit(link).fragment),
    )
    path = path / "index.html" if path.is_dir() else path
    return not path.exists() or bool(
        fragment and path.suffix == ".html" and fragment not in anchors(path)
    )


def problems(browser, base: str, page: str, folder: Path) -> list[str]:
    """Everything that is wrong with one page, each a word (its kind), a colon and the
    evidence.
    """
    found, context, local = [], browser.new_context(), (base, "data:", "blob:")
    context.route(
        lambda url: urlsplit(url).hostname != "127.0.0.1", lambda route: route.abort()
    )
    tab = context.new_page()
    tab.on(
        "console", lambda m: found.extend([f"console: {m.text}"] * (m.type == "error"))
    )
    tab.on("pageerror", lambda e: found.append(f"exception: {e}"))
    tab.on(
        "request",
        lambda r: found.extend([f"host: {r.url}"] * (not r.url.startswith(local))),
    )
    tab.goto(f"{base}/{page}", wait_until="networkidle")
    seen = tab.evaluate(LOOK)
    context.close()
    found += [
        f"link: {link}"
        for link in seen["links"]
        if link.startswith(base) and dead(link, folder)
    ]
    found += [f"alt: {source}" for source in seen["images"]]
    found += [f"role: {role}" for role in ROLE.findall(seen["text"])]
    found += [
        f"maths: {text}"
        for text in seen["unrendered"] + re.findall(r"\\\(|\$\$", seen["text"])
    ]
    return found


def test_pages_are_those_of_the_contents(book):
    built = {
        path.relative_to(book).with_suffix("").as_posix()
        for path in book.rglob("*.html")
    }
    assert {page for page in built if not page.startswith("_")} == {
        *PAGES,
        "index",
        "search",
        "genindex",
    }


@pytest.mark.parametrize("page", PAGES)
def test_text_is_whole(book, page):
    html = (book / f"{page}.html").read_text(encoding="utf-8")
    text = re.sub(r"<(code|pre|script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    assert "Traceback" not in html and "{{" not in text and not ROLE.search(text)


@pytest.mark.parametrize("page", CHAPTERS)
def test_buttons_lead_to_the_readers_notebook(book, page):
    html = (book / f"{page}.html").read_text(encoding="utf-8")
    name = Path(page).name
    links = set(re.findall(r'href="(https://(?:colab|kaggle)[^"]+)"', html))
    assert links == set(colab.launchers(name).values())
    assert (colab.folder() / f"{name}.ipynb").exists()
    assert all(f"{first.branch()}/colab/{name}.ipynb" in link for link in links)


def test_ledger_has_every_claim_once_and_leads_to_the_cells(book):
    html = (book / "book" / "ledger.html").read_text(encoding="utf-8")
    assert sorted(re.findall(r'id="(c\d{3})"', html)) == [
        f"c{i:03}" for i in range(1, 114)
    ]
    led_to = set(re.findall(r'href="\.\./chapters/(\w+)\.html#(verdict-[\w-]+)"', html))
    made = {
        (f"{page}".split("/")[1], id)
        for page in CHAPTERS
        for id in anchors(book / f"{page}.html")
    }
    assert led_to == {(name, id) for name, id in made if id.startswith("verdict-")}


@pytest.mark.parametrize("page", PAGES)
def test_page_is_light(book, page):
    path = book / f"{page}.html"
    pictures = set(
        re.findall(r'<img [^>]*src="([^":]+)"', path.read_text(encoding="utf-8"))
    )
    assert (
        path.stat().st_size
        + sum((path.parent / unquote(p)).stat().st_size for p in pictures)
        < 3_000_000
    )


def test_every_network_is_held_against_its_paper(book):
    html = (book / "book" / "faithful.html").read_text(encoding="utf-8")
    networks = [
        p
        for folder in ("models", "attention")
        for p in (ROOT / "medlib" / folder).glob("[a-z]*.py")
    ]
    assert [
        p.name for p in networks if f"medlib/{p.parent.name}/{p.name}" not in html
    ] == []


def test_no_solution_of_an_assignment_leaks_into_the_pages(book):
    canary = re.search(
        r'^CANARY = "(.+)"',
        (ROOT / "assignments" / "make.py").read_text("utf-8"),
        re.MULTILINE,
    )[1]
    kinds = (".html", ".js", ".txt", ".md", ".py", ".ipynb")
    pages = [path for path in book.rglob("*") if path.suffix in kinds]
    assert (
        len(pages) > 50
        and [p for p in pages if canary in p.read_text(encoding="utf-8")] == []
    )
    assert all(
        canary in p.read_text(encoding="utf-8")
        for p in (ROOT / "assignments").glob("*/master.py")
    )


def test_map_has_every_chapter():
    known = tomllib.loads((ROOT / "book" / "map.toml").read_text("utf-8"))
    assert {f"chapters/{file}" for file in known} == set(CHAPTERS)


def test_quiz_answers_to_the_keyboard(book, browser, serve):
    tab = browser.new_page()
    tab.goto(f"{serve(book)}/chapters/05_shortcuts.html")
    first = tab.locator("fieldset.quiz").first
    right = first.locator("details strong").first.text_content()[0]
    first.locator("input").first.focus()
    tab.keyboard.press("Space")
    seen = set()
    for _ in range(first.locator("input").count()):
        seen.add(
            (
                first.locator("[role=status]").text_content()[0],
                first.locator("details").get_attribute("open"),
            )
        )
        tab.keyboard.press("ArrowDown")
    assert seen == {("✔", ""), ("✘", None)}
    assert first.locator(f"label:has(strong:text-is('{right}')) input").count() == 1
    tab.close()


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_the_heart_of_the_front_page_beats_when_asked(book, browser, serve, motion):
    tab = browser.new_page(reduced_motion=motion)
    tab.goto(f"{serve(book)}/book/intro.html")
    button, view = tab.locator("figure.beat button"), tab.locator(".beat [role=img]")
    still = motion == "reduce"
    assert ("Play" if still else "Pause") in button.text_content()
    if still:
        button.click()
    place = "e => getComputedStyle(e).backgroundPosition"
    tab.wait_for_function(
        "e => getComputedStyle(e).backgroundPosition !== '0% 0px' && "
        "getComputedStyle(e).backgroundPosition !== '0px 0px'",
        arg=view.element_handle(),
    )
    button.click()  # Pause: it rests at end-diastole
    assert view.evaluate(place).startswith("0") and "Play" in button.text_content()


def test_ledger_filter(book, browser, serve):
    tab = browser.new_page()
    tab.goto(f"{serve(book)}/book/ledger.html")
    assert tab.locator("#ledger-filter output").text_content() == "113 of 113 claims"
    tab.select_option("select[name=literature]", "wrong")
    shown = tab.locator(".ledger tbody tr:visible")
    assert 0 < shown.count() < 50 and all(
        text.startswith("Wrong")
        for text in shown.locator("td:nth-child(2)").all_text_contents()
    )
    tab.fill("input[name=words]", "no such words")
    assert shown.count() == 0 and tab.locator("section h2:visible").count() == 0
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_their_window(book, browser, serve, width, scheme):
    base, wide = serve(book), []
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    tab = context.new_page()
    for page in PAGES:
        tab.goto(f"{base}/{page}.html")
        shown = tab.evaluate(
            "[document.documentElement.scrollWidth, "
            "document.documentElement.dataset.theme]"
        )
        wide += [(page, shown)] * (shown != [width, scheme])
    context.close()
    assert wide == []


def test_rewritten_chapters_show_a_picture_first_and_no_line_is_cut(
    book, browser, serve
):
    """A chapter that does both leaves the list of those that are not rewritten yet,
    which only shrinks.
    """
    base, falls_short = serve(book), {}
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    for page in CHAPTERS:
        tab.goto(f"{base}/{page}.html", wait_until="domcontentloaded")
        wide, top = tab.evaluate(SEEN)
        if wide or top is None or top > 900:
            falls_short[Path(page).name] = f"first picture at {top}, cut: {wide}"
    tab.close()
    waits = (ROOT / "book" / "first_edition.txt").read_text("utf-8").splitlines()
    waits = {line for line in waits if not line.startswith("#")}
    assert {name: why for name, why in falls_short.items() if name not in waits} == {}
    assert waits - falls_short.keys() == set(), "to be taken off the list"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
@pytest.mark.parametrize(
    "page", ["book/intro", "book/how_to_use", "book/ledger", "chapters/11_unet"]
)
def test_page_is_accessible(book, browser, serve, page, scheme, width):
    found = barriers(browser, f"{serve(book)}/{page}.html", scheme, width)
    assert found == []


def barriers(browser, address: str, scheme: str, width: int) -> list[str]:
    """What axe calls serious or critical on a page."""
    try:
        axe = files("axe_playwright_python") / "axe.min.js"
    except ModuleNotFoundError:
        absent("no axe-playwright-python")
    size = {"width": width, "height": 900}
    context = browser.new_context(viewport=size, color_scheme=scheme)
    tab = context.new_page()
    tab.goto(address)
    tab.add_script_tag(content=axe.read_text(encoding="utf-8"))
    rules = tab.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    context.close()
    return [
        f"{rule['id']}: {node['html']}"
        for rule in rules
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def test_a_barrier_is_found(browser, serve, tmp_path):
    bad = """<!doctype html><html lang="en"><title>Bad</title><body><main>
      <h1>Bad</h1><p style="color: #aaa; background: #fff">Pale words.</p></main>"""
    (tmp_path / "bad.html").write_text(bad, encoding="utf-8")
    found = barriers(browser, f"{serve(tmp_path)}/bad.html", "light", 800)
    assert {problem.split(":")[0] for problem in found} == {"color-contrast"}


@pytest.mark.nightly
def test_pdf_has_every_page_in_its_outline(book):
    from pypdf import PdfReader

    path = ROOT / "_build" / "book.pdf"
    reader = PdfReader(path) if path.exists() else absent("no PDF: run `make pdf`")
    entries = [
        e
        for part in reader.outline
        for e in (part if isinstance(part, list) else [part])
    ]
    starts = [reader.get_destination_page_number(e) for e in entries]
    captions = [part for part in TOC["parts"] if "caption" in part]
    assert len(entries) == len(PAGES) + len(captions) and starts == sorted(starts)
    k = next(k for k, e in enumerate(entries) if e.title == "ResNet")
    text = "".join(
        reader.pages[i].extract_text() for i in range(starts[k], starts[k + 1])
    )
    assert (
        "A residual block adds its input" in text
        and "✔" in text
        and "Show code cell" not in text
    )


@pytest.mark.parametrize("page", [*PAGES, "index", "search", "genindex"])
def test_page_in_a_browser(book, browser, serve, page):
    assert not problems(browser, serve(book), f"{page}.html", book)


def test_checker_sees_each_problem(browser, serve, tmp_path):
    bad = r"""<!doctype html><body>
      <script>console.error("one"); throw Error("two")</script>
      <a href="none.html">a</a> <a href="#none">b</a>
      <img src="https://example.org/x.png">
      {cite:p}`key` \(x\) <span class="math">y</span>"""
    (tmp_path / "bad.html").write_text(bad, encoding="utf-8")
    found = problems(browser, serve(tmp_path), "bad.html", tmp_path)
    kinds = [problem.split(":")[0] for problem in found]
    assert set(kinds) == {
        "console",
        "exception",
        "host",
        "link",
        "alt",
        "role",
        "maths",
    }
    assert (
        kinds.count("link") == 2
        and kinds.count("maths") == 2
        and "console: one" in found
    )
