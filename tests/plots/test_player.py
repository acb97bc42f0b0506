"""A flip-book is one small output that the player, Pandoc and a reader without scripts can read."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lib import plots
from lib.plots.encode import render
from tests.plots.figures import decode

ASSETS = Path(__file__).parents[2] / "assets"


def line(figure, i):
    figure.subplots().plot([0, i])


def test_an_animation_saves_every_frame(tmp_path):
    film = plots.animate(line, 4, interval=250, size=(2, 1.5))
    film.save(tmp_path / "film.gif", writer="pillow", dpi=50)
    with Image.open(tmp_path / "film.gif") as picture:
        assert (picture.n_frames, picture.size) == (4, (100, 75))


@pytest.mark.parametrize(("frames", "interval"), [(0, 100), (3, 0)])
def test_an_animation_needs_frames_and_time(frames, interval):
    with pytest.raises(ValueError, match=f"frames={frames}, interval={interval}"):
        plots.animate(line, frames, interval=interval)


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setitem(plots.flipbook.__globals__, "display", outputs.append)
    return outputs


def pages(shown):
    [output] = shown
    assert output._repr_markdown_() == output.data
    assert not hasattr(output, "_repr_html_")
    (tag, figure), *images = Tags(output.data).tags
    assert (tag, figure["class"]) == ("figure", "flipbook")
    assert all(tag == "img" for tag, _ in images)
    return figure, [attributes for _, attributes in images]


def test_a_flip_book_is_one_markdown_output_of_labelled_pages(shown):
    returned = plots.flipbook(
        line, 3, alt='A "line" <rises>\n\nslowly', labels=["flat", "up & up", 2], interval=250, still=-1
    )
    assert returned is None, "a cell may end with it"
    figure, images = pages(shown)
    assert figure["data-interval"] == "250"
    assert [image["data-label"] for image in images] == ["flat", "up & up", "2"]
    assert images[1]["alt"] == 'A "line" <rises> slowly (up & up)'
    assert ["hidden" in image for image in images] == [True, True, False]
    pictures = [decode(base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))) for image in images]
    assert {picture.size for picture in pictures} == {(int(images[0]["width"]), int(images[0]["height"]))}
    base = pictures[2].convert("RGBA")
    pixels = [np.asarray(Image.alpha_composite(base, picture.convert("RGBA"))) for picture in pictures]
    figures = [Figure(figsize=(6.5, 3.6), layout="constrained") for _ in range(3)]
    for i, page in enumerate(figures):
        line(page, i)
        expected = render(page, 110, page.bbox_inches.padded(0.08)).astype(int)
        assert abs(pixels[i][..., :3] - expected).mean() < 0.5
    assert len({picture.tobytes() for picture in pixels}) == 3


def test_figures_of_pyplot_are_pages_too_and_are_closed(shown):
    def figures():
        for i in range(3):
            figure, ax = plt.subplots()
            ax.plot([0, i])
            yield figure

    plots.flipbook(list(figures()), alt=["one", "two", "three"])
    _, images = pages(shown)
    assert [image["alt"] for image in images] == ["one", "two", "three"]
    assert [image["data-label"] for image in images] == ["1 of 3", "2 of 3", "3 of 3"]


def test_twenty_pages_with_a_matrix_and_two_curves_stay_small(shown):
    def draw(figure, i):
        left, right = figure.subplots(1, 2)
        plots.heatmap(np.arange(24).reshape(4, 6), ax=left, highlight=[(i // 6, i % 6)])
        for phase in (2, 3):
            right.plot(np.sin(np.linspace(0, 6, 200) + i / phase))

    plots.flipbook(draw, 20, alt="Waves", size=(6.5, 3.2))
    _, images = pages(shown)
    assert sum(len(base64.b64decode(image["src"].partition(",")[2])) for image in images) < 150_000
    assert len(shown[0].data) < 200_000


def test_pandoc_reads_a_flip_book_as_html_with_its_caption_last(shown):
    pypandoc = pytest.importorskip("pypandoc")
    plots.flipbook(line, 2, alt="$a_b$ *not* Markdown @x")
    text = f"::: {{#fig-x}}\n{shown[0].data}\n\nThe caption\n:::\n"
    [div] = json.loads(pypandoc.convert_text(text, "json", format="markdown"))["blocks"]
    assert [block["t"] for block in div["c"][1]] == ["RawBlock", "Plain", "RawBlock", "Para"]
    assert {inline["t"] for inline in div["c"][1][1]["c"]} == {"RawInline", "SoftBreak"}


@pytest.mark.parametrize(
    ("frames", "options", "fault"),
    [
        ([], {"alt": "x"}, "frame.*count"),
        (line, {"alt": "x"}, "frame.*count"),
        ([Figure(), Figure()], {"alt": ["x"]}, "2 frames.*labels.*alt.* 2 and 1"),
        ([Figure(), Figure()], {"alt": "x", "labels": "abc"}, "2 frames.*labels.*alt.* 3 and 3"),
        ([Figure()], {"alt": " "}, "alt "),
        ([Figure()], {"alt": "x", "still": 1}, "still.*1 frame.* 1 and 800"),
        ([Figure()], {"alt": "x", "interval": 0}, "interval.* 0 and 0"),
        ([Figure(figsize=(1, 1)), Figure(figsize=(2, 1))], {"alt": "x"}, r"\(127, 127\).*\(237, 127\)"),
    ],
)
def test_what_is_no_flip_book_is_refused(shown, frames, options, fault):
    with pytest.raises(ValueError, match=fault):
        plots.flipbook(frames, **options)
    assert shown == []


def test_the_player_reads_what_the_flip_book_writes_and_asks_no_other_host(shown):
    script, style = ((ASSETS / name).read_text() for name in ("flipbook.js", "flipbook.css"))
    plots.flipbook(line, 2, alt="x")
    figure, images = pages(shown)
    written = {name for attributes in (figure, *images) for name in attributes if name.startswith("data-")}
    assert written == {f"data-{name}" for name in re.findall(r"dataset\.(\w+)", script)}
    assert ".hidden" in script
    assert "img[hidden] { display: none" in style
    assert not re.search(r"https?:|import\s|fetch\(|@import|url\(", script + style)
