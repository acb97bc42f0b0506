"""One setting gives the addresses, and without it everything that needs one is left out."""

import threading
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from publish import address, links, preview, serve


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)


@pytest.fixture
def root(demo, tmp_path: Path) -> Path:
    return demo.make(tmp_path, demo.code("1", "1"))


def test_without_an_address_nothing_is_written(root: Path) -> None:
    assert address.write(root) is None
    assert not (root / "_quarto.yml.local").exists()
    assert not (root / "feed.xml").exists()


def test_the_setting_and_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = root / "_quarto.yml"
    config.write_text(config.read_text().replace('repository: ""', 'repository: "Ada/notes"  # here'))
    assert address.repository(root) == "Ada/notes"
    monkeypatch.setenv("GITHUB_REPOSITORY", "Bob/other")
    assert address.repository(root) == "Bob/other"
    monkeypatch.setenv("GITHUB_REPOSITORY", "no slash")
    with pytest.raises(ValueError, match=r"owner/name.*'no slash'"):
        address.repository(root)


def test_site_url() -> None:
    assert address.site_url("Ada/notes") == "https://ada.github.io/notes/"
    assert address.site_url("Ada/ada.github.io") == "https://ada.github.io/"


def test_what_is_derived(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", "Ada/notes")
    settings = yaml.safe_load(address.write(root).read_text())
    assert settings["repository"] == "Ada/notes"
    assert settings["website"]["site-url"] == "https://ada.github.io/notes/"
    assert settings["website"]["repo-url"] == "https://github.com/Ada/notes"
    assert settings["project"]["resources"] == ["/feed.xml"]
    licence = "](https://github.com/Ada/notes/blob/main/LICENSE)"
    assert settings["website"]["page-footer"]["center"].startswith("[Code under the MIT licence")
    assert settings["website"]["page-footer"]["center"].endswith(licence)
    items = ET.fromstring((root / "feed.xml").read_text()).findall("channel/item")
    assert [item.findtext("title") for item in items] == ["Second things", "First things"]
    assert items[1].findtext("link") == "https://ada.github.io/notes/posts/01-first/"
    assert items[1].findtext("pubDate") == "Fri, 02 Jan 2026 00:00:00 +0000"

    monkeypatch.delenv("GITHUB_REPOSITORY")
    assert address.write(root) is None
    assert not (root / "_quarto.yml.local").exists()
    assert not (root / "feed.xml").exists()


@pytest.mark.parametrize("name", ["Ada/notes", ""])
def test_files_of_the_authors_own_are_left_alone(root: Path, monkeypatch, capsys, name: str) -> None:
    own = {root / "_quarto.yml.local": "execute:\n  cache: true\n", root / "feed.xml": "<rss>mine</rss>"}
    for path, text in own.items():
        path.write_text(text)
    monkeypatch.setenv("GITHUB_REPOSITORY", name)
    assert address.write(root) is None
    assert {path: path.read_text() for path in own} == own
    said = capsys.readouterr().out
    assert [path.name in said and "stays as it is" in said for path in own] == [bool(name)] * 2


def test_what_is_the_same_is_not_written_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quarto's preview would see a change, and render again without end."""
    monkeypatch.setenv("GITHUB_REPOSITORY", "Ada/notes")
    before = address.write(root).stat().st_mtime_ns
    assert address.write(root).stat().st_mtime_ns == before


def test_the_preview_with_an_address(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", "Ada/notes")
    address.write(root)
    preview.render(root, root / "_site")
    page = (root / "_site/posts/01-first/index.html").read_text()
    colab = "https://colab.research.google.com/github/Ada/notes/blob/main/posts/01-first/index.ipynb"
    assert f'<a href="{colab}">Open in Colab</a>' in page
    assert '<link rel="canonical" href="https://ada.github.io/notes/posts/01-first/index.html">' in page
    assert 'content="https://ada.github.io/notes/posts/01-first/thumbnail.png"' in page
    assert 'href="https://ada.github.io/notes/feed.xml"' in page
    licences = "Code under the MIT licence, text and figures under CC BY 4.0"
    assert f'<a href="https://github.com/Ada/notes/blob/main/LICENSE">{licences}</a>' in page
    front = (root / "_site/index.html").read_text()
    assert '<meta property="og:image" content="https://ada.github.io/notes/assets/social.png">' in front
    assert 'href="/notes/index.html"' in (root / "_site/404.html").read_text()
    assert (root / "_site/feed.xml").exists()
    assert links.check(root / "_site") == []


def test_serving(demo_site: Path) -> None:
    with serve.server(demo_site, 0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        home = f"http://127.0.0.1:{running.server_port}"
        assert b"The posts" in urllib.request.urlopen(f"{home}/").read()
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{home}/nothing")
        assert caught.value.code == 404
        assert b"This page is not here" in caught.value.read()
        with pytest.raises(ValueError, match=f"port {running.server_port} .*--port"):
            serve.server(demo_site, running.server_port)
        running.shutdown()


def test_serving_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path} .*make site"):
        serve.server(tmp_path, 0)


def test_serve_prints_its_address_and_ends_with_ctrl_c(demo_site: Path, monkeypatch, capsys) -> None:
    def interrupted(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(serve.http.server.ThreadingHTTPServer, "serve_forever", interrupted)
    serve.serve(demo_site, 0)
    assert "the site is at http://localhost:" in capsys.readouterr().out
