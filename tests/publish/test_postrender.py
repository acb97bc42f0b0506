"""The pages that Quarto leaves for language models: no pictures inside them, and listed in reading order."""

import subprocess
import sys
from pathlib import Path

from publish import postrender

ROOT = Path(__file__).resolve().parents[2]
LLMS = """# A site

> About it.

## Pages

- [Results](https://a.b/notes/results.llms.md)
- [Second [one]](https://a.b/notes/posts/02-second/index.llms.md)
- [All](https://a.b/notes/index.llms.md)
- [First](https://a.b/notes/posts/01-first/index.llms.md)
"""


def test_pictures_inside_the_text_become_words() -> None:
    frames = "\n\n".join(f"![Noise \\[fades\\] (step {i})](data:image/png;base64,{'A' * 9}{i}=)" for i in range(3))
    text = f"Before.\n\n{frames}\n\nThen ![a plot](index_files/a.png) and ![b](data:image/jpeg;base64,/9j/4=)."
    assert postrender.without_pictures(text) == (
        "Before.\n\n(Picture: Noise \\[fades\\] (step 0))\n\nThen ![a plot](index_files/a.png) and (Picture: b)."
    )


def test_the_list_is_in_reading_order() -> None:
    ordered = postrender.in_reading_order(LLMS)
    assert [line.split("](")[0] for line in ordered.splitlines() if line.startswith("- ")] == [
        "- [All",
        "- [First",
        "- [Second [one]",
        "- [Results",
    ]
    assert ordered.startswith("# A site\n\n> About it.\n\n## Pages\n\n- ")
    assert sorted(ordered) == sorted(LLMS)


def test_it_runs_as_a_plain_script_and_never_fails(tmp_path: Path) -> None:
    page = tmp_path / "posts/01-first/index.llms.md"
    page.parent.mkdir(parents=True)
    page.write_text("![x](data:image/png;base64,AA)\n")
    (tmp_path / "llms.txt").write_text(LLMS)
    command = [sys.executable, "-S", str(ROOT / "publish/postrender.py")]

    def run() -> subprocess.CompletedProcess:
        env = {"QUARTO_PROJECT_OUTPUT_DIR": str(tmp_path)}
        return subprocess.run(command, capture_output=True, text=True, cwd="/", env=env)

    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert page.read_text() == "(Picture: x)\n"
    assert (tmp_path / "llms.txt").read_text() == postrender.in_reading_order(LLMS)
    page.write_bytes(b"\xff")
    done = run()
    assert done.returncode == 0
    assert "going on" in done.stderr
