# ruff: noqa: E501
"""A small project with two posts that hold every construct; made on the fly, so that the outputs are exact."""

from __future__ import annotations

import base64
import json
import shutil
import struct
import zlib
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECORD = {
    "name": "speed",
    "value": 1.84,
    "unit": "time ratio",
    "peer": "torch",
    "ours": 0.0092,
    "theirs": 0.005,
    "low": 1.8,
    "high": 1.9,
    "same": True,
    "target": "<= 2.2",
    "n": 25,
    "note": "float32, 1024 x 1024 | rows",
    "machine": "A machine, 2 cores",
    "versions": {"python": "3.12.1"},
    "date": "2026-01-02",
}
BIB = "@book{knuth1997, title={The Art of Computer Programming}, author={Knuth, Donald}, year={1997}, publisher={AW}}\n"


def png(width: int = 320, height: int = 160, shade: int = 200) -> bytes:
    """Return a picture with a gradient."""
    rows = b"".join(b"\0" + bytes((x * 255 // width + shade) % 256 for x in range(width)) for _ in range(height))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    chunks = (struct.pack(">I", len(b)) + t + b + struct.pack(">I", zlib.crc32(t + b)) for t, b in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def picture(shade: int = 200) -> dict:
    return {"image/png": base64.b64encode(png(shade=shade)).decode(), "text/plain": "<Figure>"}


def markdown(text: str, **more: object) -> dict:
    return {"text/markdown": text, **more}


def flipbook() -> dict:
    frames = "\n".join(
        f'<img src="data:image/png;base64,{base64.b64encode(png(shade=20 * i)).decode()}" alt="Step {i} &amp; more"'
        f' data-label="step {i}"{" hidden" if i else ""}>'
        for i in range(3)
    )
    return markdown(f'<figure class="flipbook" data-interval="300">\n{frames}\n</figure>')


def prose(text: str) -> dict:
    return {"cell_type": "markdown", "id": f"m{abs(hash(text))}", "metadata": {}, "source": text}


def code(text: str, *outputs: dict | str) -> dict:
    made = [
        {"output_type": "stream", "name": "stdout", "text": output}
        if isinstance(output, str)
        else {"output_type": "display_data", "metadata": {}, "data": output}
        for output in outputs
    ]
    about = {"cell_type": "code", "id": f"c{abs(hash(text))}", "metadata": {}, "execution_count": 1}
    return about | {"source": text, "outputs": made}


def post(title: str, order: int, *cells: dict, date: str = "2026-01-02") -> dict:
    front = (
        f'---\ntitle: "{title}"\ndescription: "What {title} is about."\ndate: {date}\norder: {order}\n'
        f"categories: [demo, part {order}]\nimage: thumbnail.png\nimage-alt: A grey gradient.\n"
        "bibliography: ../../references.bib\n---"
    )
    raw = {"cell_type": "raw", "id": "front", "metadata": {}, "source": front}
    return {"cells": [raw, *cells], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


WIDE = "value = function_with_a_long_name(" + ", ".join(f"argument_{i}={i}" for i in range(30)) + ")"

CELLS = (
    prose("Why is *this* so? The answer is in @fig-plain, and @knuth1997 knew it [@knuth1997, p. 3]. See @sec-math."),
    code('budget = "auto"\nseed = 42'),
    code('#| include: false\nprint("never shown")', "never shown"),
    code(
        '#| label: fig-plain\n#| fig-cap: "A *gradient* with $x$, plain."\n#| fig-alt: "Grey, \\"darker\\" to the right."'
        "\n#| code-fold: true\n#| code-summary: Draw it\nimport math\nplot()",
        picture(),
    ),
    prose("## The mathematics {#sec-math}\n\nIn line $a_i$, then\n\n$$ c_{ij} = \\sum_k a_{ik} b_{kj} $$ {#eq-product}\n\nand "
          "by @eq-product, $$ \\text{wide} = " + " + ".join(f"x_{{{i}}}^{{2}}" for i in range(60)) + " $$"),
    code("#| label: fig-book\n#| fig-cap: Three steps.\nshow()", flipbook()),
    code(
        "#| label: fig-pair\n#| fig-cap: Two of them.\n#| fig-subcap: [Left one., Right one.]\n#| layout-ncol: 2\n"
        "#| fig-alt: [The left., The right.]\n#| echo: false\nboth()",
        picture(10),
        picture(90),
    ),
    code("#| label: tbl-made\n#| tbl-cap: Made by code.\nshow(table)", markdown("| a | b |\n|--:|:--|\n| 1 | two |")),
    prose("| " + " | ".join(f"column {i}" for i in range(14)) + " |\n|" + "---|" * 14 + "\n| "
          + " | ".join(f"{i * 1234567}" for i in range(14)) + " |\n\n: A wide one {#tbl-wide}\n\n"
          "Compare @fig-book, @fig-pair-2, [-@tbl-made] and @tbl-wide."),
    code(WIDE + "\nprint(value)", "x" * 300),
    code("run.record()", markdown("**speed**: 1.84", **{"application/vnd.lib.record+json": RECORD})),
    code("run.source(f)", markdown('```{.python filename="lib/a.py"}\ndef f(x: int) -> str:\n    """Doc."""\n    return "a"  # why\n```')),
    prose("\n\n".join(f"::: {{.callout-{kind}}}\n{kind} text\n:::" for kind in ("note", "tip", "warning", "important", "caution"))),
    prose('::: {.callout-tip collapse="true" title="Solution of *one*"}\nBecause of @tbl-inside.\n\n| q |\n|---|\n| 1 |\n\n: In it {#tbl-inside}\n:::'),
    prose("![Drawn beside the page](drawn.png){#fig-file fig-alt=\"A file.\"}\n\n@fig-file is a file; [the other](../02-second/index.ipynb#more) follows.\n\n::: {#refs}\n:::"),
)  # fmt: skip


def make(root: Path, *cells: dict) -> Path:
    """Write the project into `root`; the first post holds `cells`, or every construct."""
    for name in ("_quarto.yml", "index.qmd", "results.qmd", "404.qmd"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "assets", root / "assets")
    (root / "references.bib").write_text(BIB)
    first = post("First things", 1, *(cells or CELLS))
    second = post(
        "Second things", 2, prose("## More {#more}\n\nBack to [the first](../01-first/index.ipynb)."), code("1", "1")
    )
    for name, nb in (("01-first", first), ("02-second", second)):
        folder = root / "posts" / name
        folder.mkdir(parents=True)
        (folder / "index.ipynb").write_text(json.dumps(nb))
        (folder / "thumbnail.png").write_bytes(png(600, 400))
        (folder / "drawn.png").write_bytes(png())
    return root
