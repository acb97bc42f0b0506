"""Our rules win over Quarto's for the same property: they come later, so theirs must not be more specific.

The selectors are Quarto's own (1.10.18), from its SCSS; its style sheets themselves are not needed.
"""

import re
from pathlib import Path

import pytest

ASSETS = Path(__file__).parents[2] / "assets"
CARD, TITLE = ".quarto-grid-item", "#title-block-header.quarto-title-block.default"
TOC, TABLE = '.sidebar nav[role="doc-toc"] ul > li >', "main table.table"
REFERENCES = ".quarto-appendix-contents div.hanging-indent"
TOP = "figure.quarto-float-tbl figcaption.quarto-float-caption-top"

# Quarto's selector, ours for the same elements, and what ours says
RULES = [
    ("#quarto-sidebar .sidebar-menu-container", "nav#quarto-sidebar .sidebar-menu-container", "white-space: normal"),
    ("code", "main :is(h1, h2, h3, h4) code", "white-space: normal"),
    ("a", "main :is(h1, h2, h3, h4) :is(a, code)", "font-weight: inherit"),
    (f"{CARD} p.card-img-top > img", f"{CARD} p.card-img-top > img", "object-fit: contain"),
    (".table", TABLE, "width: fit-content"),
    ("table.table", TABLE, "margin: 1.4rem 0"),
    (".table > :not(caption) > * > *", f"{TABLE} :is(th, td)", "box-shadow: none"),
    (".table > :not(caption) > * > *", f"{TABLE} :is(th, td)", "padding: 0.4rem 0.9rem 0.4rem 0"),
    (TOP, f"main {TOP}", "text-align: left"),
    ("div.hanging-indent", "#refs.hanging-indent", "margin-left: 0"),
    (f"{REFERENCES} div.csl-entry", "#refs div.csl-entry", "text-indent: -1.5rem"),
    (".hanging-indent div.csl-entry", "#refs div.csl-entry", "margin: 0 0 0.6rem"),
    ("pre.sourceCode", "main pre.sourceCode", "padding: 0.8rem 1rem"),
    (".callout pre.sourceCode", "main .callout pre.sourceCode", "padding: 0.8rem 1rem"),
    (".code-copy-button", "main .code-copy-button", "background: var(--code)"),
    (f"{TITLE} .description", f"{TITLE} .description", "margin-top: 0.6rem"),
    (f"{TITLE} .description > p", f"{TITLE} .description > p", "font-size: inherit"),
    (
        ".quarto-title .quarto-categories .quarto-category",
        "main .quarto-title .quarto-categories .quarto-category",
        "text-transform: none",
    ),
    (
        f"{CARD} .listing-categories .listing-category",
        f"main {CARD} .listing-categories .listing-category",
        "border-radius: 999px",
    ),
    (
        f"{CARD} .card-other-values tr > td:first-of-type",
        f"main {CARD} .card-other-values tr > td:first-of-type",
        "font-weight: 400",
    ),
    (
        "#quarto-margin-sidebar .quarto-listing-category",
        "#quarto-margin-sidebar .quarto-listing-category",
        "display: flex",
    ),
    (f"{TOC} a.active", f"body {TOC} a.active", "color: var(--accent) !important"),
    (f"{TOC} ul > li > a.active", f"body {TOC} ul > li > a.active", "color: var(--accent) !important"),
]


def parts(text: str) -> list[str]:
    """Split a list of selectors at the commas that are outside brackets."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text)]


def specificity(selector: str) -> tuple[int, int, int]:
    """Count a selector's ids; its classes, attributes and pseudo-classes; its elements."""
    inner = (0, 0, 0)
    for choice in re.findall(r":(?:is|not|has)\(([^()]*)\)", selector):
        inner = tuple(map(sum, zip(inner, max(map(specificity, parts(choice))), strict=True)))
    plain = re.sub(r":(?:is|not|has|where)\([^()]*\)", "", selector)
    plain, attributes = re.subn(r"\[[^\]]*\]", "", plain)
    plain, pseudo_elements = re.subn(r"::[\w-]+", "", plain)
    found = (
        len(re.findall(r"#[\w-]+", plain)),
        len(re.findall(r"(?:\.|:)[\w-]+", plain)) + attributes,
        len(re.findall(r"(?:^|[\s>+~])[a-z][\w-]*", plain)) + pseudo_elements,
    )
    return tuple(map(sum, zip(found, inner, strict=True)))


def rules() -> dict[str, list[str]]:
    """Return what site.css declares for each of its selectors."""
    css = re.sub(r"/\*.*?\*/", "", (ASSETS / "site.css").read_text(), flags=re.DOTALL)
    found: dict[str, list[str]] = {}
    for selectors, block in re.findall(r"([^{}@]+)\{([^{}]*)\}", css):
        for selector in parts(selectors):
            found.setdefault(" ".join(selector.split()), []).extend(line.strip() for line in block.split(";"))
    return found


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("code", (0, 0, 1)),
        ("#a.b > c:not(.d)", (1, 2, 1)),
        ('nav[role="doc-toc"] ul > li > a.active', (0, 2, 4)),
        ("main :is(h1, .x) a:hover", (0, 2, 2)),
        (".table > :not(caption) > * > *", (0, 1, 1)),
        ("a .b::before", (0, 1, 2)),
    ],
)
def test_specificity(selector: str, expected: tuple[int, int, int]) -> None:
    assert specificity(selector) == expected


@pytest.mark.parametrize(("theirs", "ours", "declared"), RULES)
def test_our_rule_wins(theirs: str, ours: str, declared: str) -> None:
    assert declared in rules()[ours]
    assert specificity(ours) >= specificity(theirs)


def test_the_sidebar_numbers_every_post() -> None:
    """A loop of Sass over tens and ones, in both themes."""
    text = (ASSETS / "sidebar.scss").read_text()
    tens = re.search(r"@each \$tens in ([\d, ]+)", text)[1]
    assert [int(ten) for ten in tens.split(",")] == [0, 1, 2, 3]
    assert 'a[href*="posts/#{$tens}#{$ones}-"] .menu-text::before { content: "#{10 * $tens + $ones}"; }' in text
