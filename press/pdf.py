"""The built book (_build/html) as one PDF, _build/book.pdf: Chromium prints each page,
pypdf binds them.

Links between pages become links inside the PDF; the contents become its outline.
`python -m press pdf` runs this.
"""

import io
import shutil
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import yaml
from playwright.sync_api import sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, NameObject
from tqdm import tqdm

from press.text import ROOT

HTML, TARGET = ROOT / "_build" / "html", ROOT / "_build" / "book.pdf"
READY = """async () => {
  if (window.MathJax?.startup) await MathJax.startup.promise;
  for (const image of document.images) image.loading = "eager";
  const images = [...document.images].map(image => image.decode().catch(() => null));
  await Promise.all(images);
}"""
FOOTER = (
    '<div style="width: 100%; text-align: center; font-size: 8px">'
    '<span class="pageNumber"></span></div>'
)


def contents() -> list[tuple[str, list[str]]]:
    """The parts of the book, each with its pages."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    parts: list[tuple[str, list[str]]] = [("", [toc["root"]])]
    for part in toc["parts"]:
        files = [entry["file"] for entry in part["chapters"]]
        if "caption" in part:
            parts.append((part["caption"], files))
        else:  # goes on with the part before it
            parts[-1][1].extend(files)
    return parts


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def printed(pages: list[str]) -> dict[str, tuple[str, bytes]]:
    """{page: its title and its PDF}."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=HTML))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found = {}
    with sync_playwright() as p:
        browser = p.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu"],
        )
        tab = browser.new_context(color_scheme="light").new_page()
        tab.route(
            lambda url: urlsplit(url).hostname != "127.0.0.1",
            lambda route: route.abort(),
        )
        for page in tqdm(pages, unit="page"):
            tab.goto(
                f"http://127.0.0.1:{server.server_port}/{page}.html",
                wait_until="networkidle",
            )
            tab.evaluate(READY)
            made = tab.pdf(
                format="A4",
                print_background=True,
                display_header_footer=True,
                header_template="<i></i>",
                footer_template=FOOTER.replace(
                    "<span", f"{page.split('/')[-1]} · <span"
                ),
                margin={
                    "top": "15mm",
                    "bottom": "17mm",
                    "left": "17mm",
                    "right": "17mm",
                },
            )
            found[page] = tab.title().split(" — ")[0], made
        browser.close()
    server.shutdown()
    server.server_close()
    return found


def bind(pages: dict[str, tuple[str, bytes]]) -> PdfWriter:
    writer, first = PdfWriter(), {}
    for page, (_, made) in pages.items():
        first[f"/{page}.html"] = len(writer.pages)
        writer.append(PdfReader(io.BytesIO(made)), import_outline=False)
    for caption, files in contents():
        start = first[f"/{files[0]}.html"]
        parent = (
            writer.add_outline_item(title=caption, page_number=start)
            if caption
            else None
        )
        for file in files:
            start = first[f"/{file}.html"]
            writer.add_outline_item(
                title=pages[file][0], page_number=start, parent=parent
            )
    for sheet in writer.pages:
        for link in [
            annotation.get_object() for annotation in sheet.get("/Annots", [])
        ]:
            target = urlsplit(str(link.get("/A", {}).get("/URI", "")))
            if target.hostname == "127.0.0.1" and target.path in first:
                del link["/A"]
                there = writer.pages[first[target.path]].indirect_reference
                link[NameObject("/Dest")] = ArrayObject([there, NameObject("/Fit")])
    return writer


def main() -> int:
    if not (HTML / "search.html").exists():
        print("no book in _build/html: run `make book`", file=sys.stderr)
        return 1
    writer = bind(printed([file for _, files in contents() for file in files]))
    writer.add_metadata(
        {"/Title": "Deep Learning for Medical Images: a review, tested claim by claim"}
    )
    writer.write(TARGET)
    print(
        f"{TARGET.relative_to(ROOT)}: {len(writer.pages)} pages, "
        f"{TARGET.stat().st_size / 1e6:.1f} MB"
    )
    return 0
