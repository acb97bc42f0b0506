"""Make a new post that runs, renders and passes the tests, to be filled with something worth reading."""

from __future__ import annotations

import datetime
import re
import struct
import zlib
from pathlib import Path

from publish import notebook, ours

COLAB_CELL = """\
#| include: false
# On Colab this fetches the repository that the page was opened from; anywhere else it does nothing.
import json
import os
import re
import subprocess
from importlib.util import find_spec
from urllib import parse, request

if "COLAB_RELEASE_TAG" in os.environ and find_spec("lib") is None:
    repository, branch = os.environ.get("LIB_REPOSITORY"), []
    if not repository:  # Colab's own server knows the address
        server = f"{os.environ.get('COLAB_JUPYTER_IP', '172.28.0.12')}:{os.environ.get('KMP_TARGET_PORT', '9000')}"
        sessions = json.load(request.urlopen(f"http://{server}/api/sessions", timeout=10))
        found = re.search(r"github\\.com/([^/]+/[^/]+)/blob/(.+?)/posts/", parse.unquote(sessions[0]["path"]))
        assert found, "not opened from GitHub: set os.environ['LIB_REPOSITORY'] = 'owner/name' and run this cell again"
        repository, branch = found[1], ["--branch", found[2]]
    clone = ["git", "clone", "-q", "--depth", "1", *branch, f"https://github.com/{repository}", "/content/site"]
    subprocess.run(clone, check=True)
    os.chdir("/content/site")
    from publish import colab

    colab.install()
"""

FRONT = """\
---
title: "{title}"
description: "What the reader will be able to do after this post, in a sentence."
date: {date}
order: {order}
categories: [draft]
image: thumbnail.png
image-alt: "What the picture on the card shows."
bibliography: ../../references.bib
---"""

CELLS = (
    ("code", 'budget = "auto"\nseed = 42'),
    ("code", COLAB_CELL.rstrip("\n")),
    ("markdown", "A question that the reader has, and @fig-answer as the picture of its answer."),
    ("code", "import torch\n\nfrom lib import plots, post\n\nrun = post.start(budget, seed)"),
    (
        "markdown",
        "## A first step\n\nThe mean of $n$ numbers is $\\frac{1}{n} \\sum_i x_i$. In code, checked against torch:",
    ),
    (
        "code",
        "n = run.pick(smoke=64, cpu=1024, gpu=4096)\n"
        "x = torch.randn(n, generator=torch.Generator().manual_seed(seed))\n"
        "mean = sum(x.tolist()) / n\n"
        'run.record("mean", mean, unit="1", note=f"{n} normal numbers");',
    ),
    (
        "code",
        "#| code-fold: true\n#| code-summary: The check, and a claim\n"
        "assert abs(mean - x.mean().item()) < 1e-5, (mean, x.mean().item())\n"
        'run.claim("The mean of normal numbers lies within 0.2 of zero.", abs(mean) < 0.2, seen=mean)',
    ),
    (
        "code",
        "#| label: fig-answer\n#| fig-cap: What the figure shows, and what to see in it.\n"
        "#| fig-alt: A histogram in the shape of a bell, centred on zero.\n"
        "plots.histogram(x)",
    ),
    ("markdown", "## Summary\n\n- What holds, in a line."),
    (
        "markdown",
        "## Exercises\n\n"
        + "\n\n".join(
            f'{number}. A question.\n\n::: {{.callout-tip collapse="true" title="Solution {number}"}}\nIts answer.\n:::'
            for number in (1, 2, 3)
        ),
    ),
    ("markdown", "## References\n\n::: {#refs}\n:::"),
    ("code", "run.colophon()"),
)


def new(root: Path, name: str, date: datetime.date | None = None) -> Path:
    """Make `posts/NN-slug/` with a notebook and a thumbnail, and return the notebook's path.

    Raises ValueError for a name of another form, and where the name or its number is taken.
    """
    if not notebook.NAME.fullmatch(name):
        raise ValueError(
            f"a post is named NN-slug, such as 03-mean-shift (small letters, digits, hyphens); got {name!r}"
        )
    number, _, slug = name.partition("-")
    taken = [path.name for path in (root / "posts").glob(f"{number}-*")]
    if taken:
        raise ValueError(f"number {number} is taken by {', '.join(taken)}; the next free one is {_next_free(root):02}")
    title = slug.replace("-", " ").capitalize()
    front = FRONT.format(title=title, date=date or datetime.date.today(), order=int(number))
    cells = [_cell(kind, text, position) for position, (kind, text) in enumerate((("raw", front), *CELLS), start=1)]
    nb = notebook.fill({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, [[]] * len(cells))
    for cell in notebook.code(nb):
        cell["execution_count"] = None
    path = root / "posts" / name / "index.ipynb"
    ours.write(path, notebook.encoded(nb), root)
    ours.write(path.with_name("thumbnail.png"), thumbnail(int(number)), root)
    return path


def thumbnail(number: int, width: int = 600, height: int = 340) -> bytes:
    """Return a PNG with a plain gradient, its colour from the number, until the post has a picture of its own."""
    red, green, blue = (70 + number * step % 120 for step in (37, 61, 89))
    rows = b"".join(
        b"\0" + bytes((red + y * 60 // height, green + y * 60 // height, blue + y * 60 // height)) * width
        for y in range(height)
    )
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def _cell(kind: str, text: str, position: int) -> dict:
    tags = {"tags": ["parameters"]} if text.startswith("budget =") else {}
    cell = {"cell_type": kind, "id": f"cell-{position}", "metadata": tags, "source": text}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def _next_free(root: Path) -> int:
    numbers = {int(match[0]) for path in (root / "posts").iterdir() if (match := re.match(r"\d\d", path.name))}
    return next(number for number in range(1, 101) if number not in numbers)
