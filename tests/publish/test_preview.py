"""The preview: each construct on a page, and each failure told with its place."""

import builtins
import json
import re
import sys
from pathlib import Path

import pytest

from publish import cells, ours, preview, render


@pytest.fixture(scope="module")
def page(demo_site: Path) -> str:
    return (demo_site / "posts/01-first/index.html").read_text()


@pytest.mark.parametrize(
    "expected",
    [
        # a figure with number, caption, alt text, size and lazy loading, from a file beside the page
        r'<div class="cell-output cell-output-display">\s*<figure id="fig-plain"',
        r'<img src="index_files/figure-html/fig-plain-output-1.png"[^>]*alt="Grey, &quot;darker&quot; to the right."',
        r'<img src="index_files/figure-html/fig-plain-output-1.png"[^>]*loading="lazy"[^>]*width="320"[^>]*height="160"'
        r'|<img src="index_files/figure-html/fig-plain-output-1.png"[^>]*width="320" height="160" loading="lazy"',
        r"<figcaption[^>]*>Figure 1: A <em>gradient</em> with <math",
        # references
        r'<a href="#fig-plain" class="quarto-xref">Figure\s1</a>',
        r'<a href="#fig-book" class="quarto-xref">Figure\s2</a>',
        r'<a href="#fig-pair-2" class="quarto-xref">Figure\s3 \(b\)</a>',
        r'<a href="#tbl-made" class="quarto-xref">1</a>',
        r'<a href="#eq-product" class="quarto-xref">Equation\s1</a>',
        r'<a href="#sec-math" class="quarto-xref">Section\s1</a>',
        # a flip-book is a figure, and stays inside the page
        r'(?s)<figure id="fig-book"[^>]*>.*?<figure class="flipbook" data-interval="300">.*?Figure 2: Three steps',
        r'(?s)<img src="data:image/png;base64,[^"]*" alt="Step 1 &amp; more"[^>]*hidden',
        # sub-figures side by side
        r'(?s)<figure id="fig-pair".*?grid-template-columns: repeat\(2.*?id="fig-pair-1".*?\(a\) Left one\.',
        r"\(b\) Right one\.</figcaption>",
        r"Figure 3: Two of them\.",
        # tables, also those that code made
        r'(?s)<figure id="tbl-made".*?<td style="text-align: right;">1</td>.*?Table 1: Made by code\.',
        r"Table 2: A wide one",
        # mathematics as MathML, with a number
        r'(?s)<span id="eq-product" class="equation"><math display="block".*?<span class="eq-number">\(1\)</span>',
        # citations
        r'<a href="#ref-knuth1997"',
        r'(?s)<div id="refs".*?<em>The Art of Computer Programming</em>',
        # code: folded, highlighted, with the file it is from
        r'<details class="code-fold"><summary>\s*Draw it\s*</summary>',
        r'<span class="im">import</span> math',
        r'(?s)class="code-with-filename-file">\s*<pre><strong>lib/a.py</strong></pre>.*?<span class="kw">def</span>',
        # callouts
        *(rf'(?s)class="callout callout-{kind}">\s*<div class="callout-title">\s*{kind.title()}\s*</div>' for kind in
          ("note", "tip", "warning", "important", "caution")),
        r'<details class="callout callout-tip"><summary class="callout-title">\s*Solution of <em>one</em>\s*</summary>',
        r"Table 3: In it",
        # the page: contents, previous and next, notebook, that it is a preview
        r'<a href="#sec-math"[^>]*>The mathematics</a>',
        r'<a rel="prev" href="../../index.html">',
        r'<a class="next" rel="next" href="../../posts/02-second/index.html">Second things',
        r'<a href="index.ipynb" download="01-first.ipynb"[^>]*>Download the notebook</a>',
        r'<a href="../02-second/index.html#more">the other</a>',
        r"A preview, made with Pandoc",
        r"Code under the MIT licence, text and figures under CC BY 4\.0</p>",
        r"<title>First things · Deep learning",
    ],
)  # fmt: skip
def test_a_page_holds_each_construct(page: str, expected: str) -> None:
    assert re.search(expected, page)


def test_hidden_code_stays_hidden(page: str) -> None:
    assert "never shown" not in page
    assert "both()" not in page
    assert "colab.research" not in page
    assert "{.cell" not in page
    assert ":::" not in page


def test_the_front_page_lists_the_posts_in_order(demo_site: Path) -> None:
    front = (demo_site / "index.html").read_text()
    assert re.findall(r'class="card-title">([^<]*)<', front) == ["First things", "Second things"]
    assert '<img src="posts/01-first/thumbnail.png" alt="A grey gradient."' in front
    assert 'data-category="part 2"' in front
    assert '<figure class="flipbook"' in front
    assert re.findall(r"<span>([^<]*)</span></a></li>", front) == [
        "All posts",
        "First things",
        "Second things",
        "Results",
    ]


def test_the_badge_says_what_a_page_was_computed_on(demo, tmp_path: Path) -> None:
    root = demo.make(tmp_path, demo.code("1", "1"))
    path = root / "posts/01-first/index.ipynb"
    nb = json.loads(path.read_text())
    nb["metadata"]["provenance"] = {"device": "cuda", "machine": "A processor, NVIDIA H100", "date": "2026-01-02"}
    path.write_text(json.dumps(nb))
    (path.parent / "_metadata.yml").write_text("computed: a thing that Quarto reads\n")
    preview.render(root, root / "_site")
    page = (root / "_site/posts/01-first/index.html").read_text()
    by = "A processor, NVIDIA H100, 2026-01-02"
    assert f'<span class="computed">Computed on an NVIDIA H100<span class="computed-by">{by}</span></span>' in page
    assert "<span>Computed on an NVIDIA H100</span>" in (root / "_site/index.html").read_text()
    assert 'class="computed"' not in (root / "_site/posts/02-second/index.html").read_text()
    assert not (root / "_site/posts/01-first/_metadata.yml").exists()


@pytest.mark.parametrize(("words", "minutes"), [(1, 1), (200, 1), (201, 2)])
def test_the_reading_time_counts_prose_without_code(demo, tmp_path: Path, words: int, minutes: int) -> None:
    prose = [demo.prose("## A heading of some words"), demo.prose("word " * (words - 1) + "end")]
    root = demo.make(tmp_path, *prose, demo.code("many = words " * 500, "1"))
    preview.render(root, root / "_site")
    card = (root / "_site/index.html").read_text().partition("First things</h3>")[2]
    assert re.search(r"<span>(\d+) min</span>", card)[1] == str(minutes)


def test_other_pages(demo_site: Path) -> None:
    assert 'href="/index.html"' in (demo_site / "404.html").read_text()
    assert (demo_site / "pagefind" / "pagefind.js").exists()
    assert json.loads((demo_site / "posts/01-first/index.ipynb").read_text())["nbformat"] == 4


def failing(demo, root: Path, *added: dict) -> list[str]:
    demo.make(root, *(added or demo.CELLS))
    with pytest.raises(preview.RenderError) as caught:
        render.render(root, root / "_site", engine="preview")
    assert not (root / "_site").exists()
    return str(caught.value).splitlines()


FAILURES = {
    "reference": ("@fig-none is not here", "cell 2: nothing has the label @fig-none"),
    "citation": ("[@nobody2020]", "cell 2: Citeproc: citation nobody2020 not found"),
    "picture": ("![Some text](gone.png)", "cell 2: picture gone.png is missing"),
    "alt text": ("![](drawn.png)", "cell 2: picture drawn.png has no alt text"),
    "host": ("![a](https://example.org/a.png)", "cell 2: picture https://example.org/a.png is on another host"),
    "link": ("[x](../03-gone/index.ipynb)", "link to ../03-gone/index.ipynb, which is missing"),
    "anchor": ("[x](#nowhere)", "link to #nowhere, where nothing has that anchor"),
    "other anchor": ("[x](../02-second/index.ipynb#no)", "link to ../02-second/index.html#no, where nothing has"),
    "callout": ("::: {.callout-danger}\nx\n:::", "there is no callout-danger"),
    "caption": ("::: {#fig-bare}\n![a](drawn.png)\n:::", "cell 2: label fig-bare has no caption"),
    "twice": ("# A {#sec-a}\n\n# B {#sec-a}", "cell 2: label sec-a is used twice"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_does_not_fit_fails_and_names_the_place(demo, tmp_path: Path, name: str) -> None:
    text, expected = FAILURES[name]
    problems = failing(demo, tmp_path, demo.prose(text), demo.code("1", "1"))
    assert any(problem.startswith("posts/01-first/index") and expected in problem for problem in problems), problems


def test_what_a_cell_must_not_hold_names_the_cell(demo, tmp_path: Path) -> None:
    figure = '#| label: fig-a\n#| fig-cap: "A."\n'
    cases = {
        "unknown": (demo.code("#| fig-kap: x\nplot()", "1"), "cell 2 (plot()): unknown option fig-kap"),
        "two": (demo.code(figure + "plot()", demo.picture(), demo.picture()), "fig-a has 2 outputs"),
        "html": (demo.code("show()", {"application/json": {}}), "cannot be shown: application/json"),
        "no outputs": (demo.prose("text"), "holds no outputs: execute it first"),
        "no alt": (demo.code(figure.replace("A.", "") + "plot()", demo.picture()), "cell 2: picture"),
        "yaml": (demo.code("#| fig-cap: a: b\nplot()", "1"), "cell 2 (plot())"),
    }
    for name, (cell, expected) in cases.items():
        root = tmp_path / name
        root.mkdir()
        assert any(expected in problem for problem in failing(demo, root, cell)), name


def test_all_problems_are_told_at_once(demo, tmp_path: Path) -> None:
    problems = failing(demo, tmp_path, demo.prose("@fig-a and @fig-b and [@c]"), demo.code("1", "1"))
    assert len(problems) == 3


def test_front_matter_is_checked(demo, tmp_path: Path) -> None:
    demo.make(tmp_path)
    path = tmp_path / "posts/02-second/index.ipynb"
    path.write_text(path.read_text().replace("image-alt: A grey gradient.", "picture-alt: x"))
    with pytest.raises(preview.RenderError, match=r"02-second/index\.ipynb.*picture-alt"):
        preview.render(tmp_path, tmp_path / "_site")
    path.write_text(path.read_text().replace("picture-alt: x", ""))
    with pytest.raises(preview.RenderError, match=r"02-second/index\.ipynb.*image-alt"):
        preview.render(tmp_path, tmp_path / "_site")


def test_a_failed_render_leaves_the_site_as_it_was(demo, tmp_path: Path) -> None:
    demo.make(tmp_path, demo.prose("@fig-none"), demo.code("1", "1"))
    site = ours.claim(tmp_path / "_site", ours.SITE, tmp_path)
    (site / "kept").write_text("old")
    with pytest.raises(preview.RenderError):
        render.render(tmp_path, site, engine="preview")
    assert {path.name for path in site.iterdir()} == {ours.MARKER, "kept"}
    assert not list(tmp_path.glob("._site*"))


def test_executed_copies_are_shown(demo, tmp_path: Path) -> None:
    root = demo.make(tmp_path, demo.code("old()", "old"))
    copy = tmp_path / "_build/posts/01-first/index.ipynb"
    copy.parent.mkdir(parents=True)
    copy.write_text(json.dumps(demo.post("First things", 1, demo.code("new()", "a new answer"))))
    report = render.render(root, tmp_path / "_site", tmp_path / "_build/posts", "preview")
    assert "a new answer" in (tmp_path / "_site/posts/01-first/index.html").read_text()
    assert "a new answer" in (tmp_path / "_site/posts/01-first/index.ipynb").read_text()
    assert report.pages == 5
    assert "preview" in str(report)


def test_without_pandoc_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: object) -> object:
        if name == "pypandoc":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(preview.RenderError, match="pip install pypandoc_binary"):
        preview.find_pandoc()


def test_without_pagefind_there_is_no_search(demo, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "pagefind", None)
    root = demo.make(tmp_path, demo.code("1", "1"))
    preview.render(root, tmp_path / "_site")
    assert "pagefind is not installed" in capsys.readouterr().out
    assert "<dialog" not in (tmp_path / "_site/index.html").read_text()


def test_includes(tmp_path: Path) -> None:
    page = tmp_path / "a.qmd"
    page.write_text("---\ntitle: A\n---\nx\n\n{{< include part.md >}}\n")
    with pytest.raises(cells.PageError, match=r"part\.md"):
        cells.from_qmd(page)
    (tmp_path / "part.md").write_text("from the part")
    assert cells.from_qmd(page).markdown == "x\n\nfrom the part\n"
    assert cells.from_qmd(page).meta == {"title": "A"}


def quarto(folder: Path, status: int = 0) -> Path:
    """Write a program in Quarto's place that notes how it is called."""
    program = folder / "quarto"
    program.write_text(f'#!/bin/sh\necho "$@" > {folder}/called\npwd >> {folder}/called\nexit {status}\n')
    program.chmod(0o755)
    return program


def test_quarto_is_used_where_it_is(demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    root = demo.make(tmp_path / "project", demo.code("1", "1"))
    monkeypatch.setenv("QUARTO_PATH", str(quarto(tmp_path)))
    report = render.render(root, root / "_site")
    assert report.engine == "Quarto"
    called = (tmp_path / "called").read_text().split()
    assert (*called[:3], *called[4:]) == ("render", str(root), "--output-dir", str(root))
    assert re.fullmatch(r"\._site-\w{8}/new", called[3])  # put into the place of _site when it is whole
    assert [path.name for path in (root / "_site").iterdir()] == [ours.MARKER]

    copy = root / "_build/posts/01-first/index.ipynb"
    copy.parent.mkdir(parents=True)
    copy.write_text(json.dumps(demo.post("First things", 1, demo.code("new()", "a new answer"))))
    render.render(root, root / "_site", root / "_build/posts")
    project = root / "_build/site"
    called = (tmp_path / "called").read_text().split()
    assert called[1:3] == [str(project), "--output-dir"]
    assert re.fullmatch(r"\.\./\.\./\._site-\w{8}/new", called[3])
    assert "a new answer" in (project / "posts/01-first/index.ipynb").read_text()
    assert (project / "posts/02-second/thumbnail.png").exists()

    monkeypatch.setenv("QUARTO_PATH", str(quarto(tmp_path, 1)))
    with pytest.raises(ValueError, match="Quarto"):
        render.render(root, root / "_site")


def test_engines(demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = demo.make(tmp_path, demo.code("1", "1"))
    monkeypatch.setattr(render, "find_quarto", lambda: None)
    with pytest.raises(ValueError, match=r"Quarto.*QUARTO_PATH.*--engine preview"):
        render.render(root, root / "_site", engine="quarto")
    with pytest.raises(ValueError, match=r"engine.*auto.*quarto.*preview.*'hugo'"):
        render.render(root, root / "_site", engine="hugo")
