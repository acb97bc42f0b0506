"""What a notebook may store, and what it may not."""

import pytest

from publish import notebook


def holding(mime: str) -> dict:
    output = {"output_type": "display_data", "data": {mime: "x", "text/plain": "x"}, "metadata": {}}
    return {"cells": [{"cell_type": "code", "source": "x", "outputs": [output], "metadata": {}}]}


@pytest.mark.parametrize("mime", ["image/png", "image/jpeg", "image/svg+xml", "text/markdown"])
def test_pictures_and_text_may_be_stored(mime):
    assert notebook.unwanted(holding(mime)) == []


@pytest.mark.parametrize("mime", ["text/html", "application/javascript", "image/gif"])
def test_what_runs_or_moves_may_not(mime):
    [(_, told)] = notebook.unwanted(holding(mime))
    assert told == f"stores {mime}"
