"""The lists that lead through the book: the sidebar's, with a chapter's number apart
from its name, and the bar's, with the question of the page before and after.
"""

import re

from . import plan

NUMBERED = re.compile(r"(\d+)\.\s+(.+)", re.DOTALL)


def guide(app, pagename, templatename, context, doctree):
    """Give a page's templates what they show, after the theme has given its own."""
    if made := context.get("generate_toctree_html"):
        context["generate_toctree_html"] = lambda *a, **k: apart(made(*a, **k))
    file = pagename.removeprefix("chapters/")
    context["part"] = plan.chapters().get(file, {}).get("part", "")
    for side, at in (("prev", 1), ("next", 2)):
        there = app.env.collect_relations().get(pagename, [None] * 3)[at] or ""
        chapter = plan.chapters().get(there.removeprefix("chapters/"), {})
        context[f"{side}_question"] = chapter.get("question", "")


def apart(soup):
    """Put each number of the sidebar into an element of its own."""
    for link in soup.select("a.internal") if soup else []:
        if link.find("span"):
            continue  # seen before: the theme keeps what it made
        whole = NUMBERED.fullmatch(link.get_text(strip=True))
        number, name = whole.groups() if whole else ("", link.get_text(strip=True))
        link.string = name
        before = soup.new_tag("span", attrs={"class": "number"})
        before.string = number
        link.insert(0, before)
    return soup
