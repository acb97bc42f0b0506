"""The site as its reader meets it: links, weight, hosts, contrast, a phone's width; and names that Quarto knows."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from publish import cells, links, notebook, preview

ROOT = Path(__file__).parents[2]
POSTS = notebook.find(ROOT)
THEMES = ("body", "body.quarto-dark")
KEYS = {
    "": {"repository", "project", "quarto-required", "lang", "website", "bibliography", "filters", "format"},
    "project": {"type", "output-dir", "render", "resources", "pre-render", "post-render"},
    "website": {"title", "description", "favicon", "image", "image-alt", "search", "sidebar", "page-navigation",
                "page-footer", "open-graph", "twitter-card", "llms-txt"},
    "website.search": {"location", "type"},
    "website.page-footer": {"center"},
    "website.sidebar": {"style", "collapse-level", "contents"},
    "format": {"html"},
    "format.html": {"theme", "respect-user-color-scheme", "css", "html-math-method", "toc", "toc-depth", "code-copy",
                    "code-overflow", "link-citations", "include-after-body"},
    "format.html.theme": {"light", "dark"},
}  # fmt: skip
LISTING = {"id", "contents", "type", "grid-columns", "image-height", "sort", "categories", "fields"}
LISTING |= {"max-description-length", "field-display-names", "page-size"}
FRONT = {*preview.KEYS} - {"listing", "toc", "page-layout", "search"}


def palette(selector: str) -> dict[str, str]:
    css = (ROOT / "assets/site.css").read_text()
    found = {}
    for name in dict.fromkeys((THEMES[0], selector)):
        block = re.search(rf"^{re.escape(name)} {{\n(  --.*?)}}", css, re.MULTILINE | re.DOTALL)
        found |= dict(re.findall(r"--([\w-]+): (#\w{6});", block[1]))
    return found


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2.2, from 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_of_black_on_white() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("theme", THEMES)
def test_text_stands_out_in_both_themes(theme: str) -> None:
    colours = palette(theme)
    text = colours.keys() - {"paper", "panel", "code", "line"}
    assert len(text) == 13
    for ground in ("paper", "panel", "code"):
        low = {name for name in text if contrast(colours[name], colours[ground]) < 4.5}
        assert not low, f"{low} on {ground}"


@pytest.mark.parametrize(("theme", "file"), [(THEMES[0], "light.scss"), (THEMES[1], "dark.scss")])
def test_quartos_theme_has_the_same_colours(theme: str, file: str) -> None:
    sass = dict(re.findall(r"^\$([\w-]+): (#\w{6});", (ROOT / "assets" / file).read_text(), re.MULTILINE))
    colours = palette(theme)
    same = {"body-bg": "paper", "body-color": "ink", "link-color": "accent", "border-color": "line"}
    same |= {"code-bg": "code", "code-block-bg": "code", "sidebar-bg": "panel", "text-muted": "muted"}
    assert {key: sass[key] for key in same} == {key: colours[name] for key, name in same.items()}


def test_the_project_uses_keys_that_quarto_knows() -> None:
    config = yaml.safe_load((ROOT / "_quarto.yml").read_text())
    for place, known in KEYS.items():
        here = config
        for key in filter(None, place.split(".")):
            here = here[key]
        assert set(here) <= known, place
    for path in [ROOT / name for name in (*config["filters"], config["website"]["favicon"], config["bibliography"])]:
        assert path.exists()
    themes = config["format"]["html"]["theme"]
    for name in (*config["format"]["html"]["css"], *themes["light"], *themes["dark"]):
        assert (ROOT / name).exists()
    for step in ("pre-render", "post-render"):
        assert (ROOT / config["project"][step]).exists()
    assert set(cells.from_qmd(ROOT / "index.qmd").meta["listing"]) <= LISTING


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.qmd")), ids=lambda path: path.name)
def test_every_page_names_the_picture_that_is_shown_where_it_is_shared(path: Path) -> None:
    """Without one Quarto takes the first picture of the page, which may be a frame of a flip-book inside it."""
    meta = cells.from_qmd(path).meta
    assert (ROOT / meta["image"]).exists()
    assert meta["image-alt"]


@pytest.mark.parametrize("path", POSTS, ids=lambda path: path.parent.name)
def test_posts_use_front_matter_and_options_that_quarto_knows(path: Path) -> None:
    nb = notebook.read(path)
    meta, _ = cells.front_matter(notebook.source(nb["cells"][0]))
    assert set(meta) <= FRONT
    assert set(preview.REQUIRED) <= set(meta)
    assert meta["order"] == int(path.parent.name[:2])
    assert (path.parent / meta["image"]).exists()
    for cell in nb["cells"]:
        if cell["cell_type"] == "code":
            chosen, _ = cells.options(notebook.source(cell))
            assert set(chosen) <= cells.OPTIONS, notebook.first_line(cell)


def test_pages_are_whole_light_and_ask_nobody(demo_site: Path) -> None:
    assert links.check(demo_site) == []


def test_what_is_wrong_with_a_site_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="top">x</h1><a href="b.html">gone</a><a href="#no">no</a><a href="#top">ok</a><a href="https://x.org">ok</a>'
        '<img src="c.png" alt="c"><img src="data:image/png;base64,AA"><script src="https://cdn.example/x.js"></script>'
        '<link rel="canonical" href="https://x.org/a.html"><div style="background: url(//cdn.example/y.png)"></div>'
    )
    assert sorted(links.check(tmp_path)) == [
        "a.html: asks another host for //cdn.example/y.png",
        "a.html: asks another host for https://cdn.example/x.js",
        "a.html: c.png is missing",
        "a.html: link to #no, where nothing has that anchor",
        "a.html: link to b.html, which is missing",
        "a.html: picture data:image/png;base64,AA has no alt text",
    ]
    (tmp_path / "a.html").write_text('<script src="big.js"></script>')
    (tmp_path / "big.js").write_bytes(b" " * (links.LIMIT + 1))
    assert links.check(tmp_path) == ["a.html: weighs 2.0 MB, over the limit of 2 MB"]
    assert links.check(tmp_path / "empty") == [f"no page in {tmp_path / 'empty'}"]


def test_what_all_pages_share_is_counted_once_and_apart(tmp_path: Path) -> None:
    (tmp_path / "site_libs").mkdir()
    (tmp_path / "site_libs/theme.css").write_bytes(b" " * (links.SHARED_LIMIT - 10))
    (tmp_path / "site_libs/unused.css").write_bytes(b" " * links.SHARED_LIMIT)
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(b" " * (links.LIMIT - 1000))
        (tmp_path / f"{name}.html").write_text(
            f'<link rel="stylesheet" href="site_libs/theme.css"><img src="{name}.png" alt="{name}">'
        )
    assert links.check(tmp_path) == []
    (tmp_path / "site_libs/theme.css").write_bytes(b" " * (links.SHARED_LIMIT + 1))
    assert links.check(tmp_path) == ["site_libs: weighs 2.0 MB, over the limit of 2 MB"]


def test_styles_ask_nobody() -> None:
    for path in [*(ROOT / "assets").rglob("*.css"), *(ROOT / "assets").rglob("*.scss")]:
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", path.read_text()), path.name


@pytest.mark.skipif(
    not (POSTS and all(notebook.outputs(notebook.read(path)) for path in POSTS)), reason="no outputs yet"
)
def test_the_site_itself_renders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_quarto.yml", "references.bib", *(path.name for path in ROOT.glob("*.qmd"))):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("assets", "posts", "bench/results"):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, tmp_path / name)
    assert len(preview.render(tmp_path, tmp_path / "_site")) == 3 + len(POSTS)


MEASURE = """<!DOCTYPE html><meta charset="utf-8"><body><script>
const widths = [];
const next = (names) => {
  if (!names.length) { document.title = "done"; document.body.textContent = JSON.stringify(widths); return; }
  const frame = document.createElement("iframe");
  frame.style.cssText = "width:360px;height:740px;border:0";
  frame.onload = () => {
    widths.push([names[0], frame.contentDocument.documentElement.scrollWidth]);
    frame.remove();
    next(names.slice(1));
  };
  frame.src = names[0];
  document.body.append(frame);
};
next(PAGES);
</script>"""


def test_a_phone_scrolls_only_downwards(demo_site: Path, tmp_path: Path) -> None:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not chromium:
        pytest.skip("no Chromium here to measure with")
    pages = [path.relative_to(demo_site).as_posix() for path in sorted(demo_site.rglob("*.html"))]
    site = tmp_path / "site"
    shutil.copytree(demo_site, site)
    (site / "measure.html").write_text(MEASURE.replace("PAGES", json.dumps(pages)))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    flags += [
        "--allow-file-access-from-files",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=10000",
    ]
    try:
        done = subprocess.run(
            [chromium, *flags, "--dump-dom", (site / "measure.html").as_uri()],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip("Chromium does not answer here")
    found = re.search(r"<body>(\[\[.*?\]\])</body>", done.stdout)
    if not found:
        pytest.skip("Chromium shows no pages here")
    widths = dict(json.loads(found[1]))
    assert set(widths) == set(pages)
    assert {name: width for name, width in widths.items() if width > 360} == {}


def test_a_render_leaves_the_tree_as_it_was() -> None:
    """Quarto appends its own line when it is not there; the rest is what our own steps derive."""
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"**/*.quarto_ipynb", "/.quarto/", "/_site/", "/results/", "/_quarto.yml.local", "/feed.xml"} <= set(ignored)
    assert "/posts/*/_metadata.yml" in ignored
