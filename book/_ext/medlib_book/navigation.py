"""The lists that lead through the book: the sidebar's, with a chapter's number apart
from its name, and the bar's, with the question of the page before and after.
"""

import re

from . import plan

NUMBERED = re.compile(r"(\d+)\.\s+(.+)", re.DOTALL)
SECTION = re.compile(r'<span class="section-number">.*?</span>')


def tell(app, pagename, templatename, context, doctree):
    """Give the bar's templates the part, the questions of the page before and after,
    and names without numbers, which the sidebar has.
    """
    found = plan.chapters()
    context["part"] = found.get(pagename.removeprefix("chapters/"), {}).get("part", "")
    beside = app.env.collect_relations().get(pagename, [None] * 3)[1:]
    for side, there in zip(("prev", "next"), beside, strict=True):
        chapter = found.get((there or "").removeprefix("chapters/"), {})
        context[f"{side}_question"] = chapter.get("question", "")
        if page := context.get(side):
            context[side] = page | {"title": SECTION.sub("", page["title"])}
    context["title"] = SECTION.sub("", context.get("title") or "")


def number(app, pagename, templatename, context, doctree):
    """Set the numbers of the sidebar apart, once the theme can make it."""
    made = context["generate_toctree_html"]
    context["generate_toctree_html"] = lambda *a, **k: apart(made(*a, **k))


def apart(soup):
    """Put each number of the sidebar into an element of its own."""
    for link in soup.select("a.internal") if soup else []:
        if link.find("span"):
            continue  # seen before: the theme keeps what it made
        whole = NUMBERED.fullmatch(link.get_text(strip=True))
        digits, name = whole.groups() if whole else ("·", link.get_text(strip=True))
        link.string = name
        before = soup.new_tag("span", attrs={"class": "number"})
        before.string = digits
        link.insert(0, before)
    return soup
