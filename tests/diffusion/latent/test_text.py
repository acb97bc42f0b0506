"""Prompts: what is cut off, and which words the model never saw."""

import pytest

from lib.diffusion.latent import encode_prompt, text, unknown_words


def test_prompts_too_long_say_what_was_cut_and_the_empty_one_works(parts):
    with pytest.warns(UserWarning, match="22 tokens.*'red circle'"):
        long = encode_prompt(parts, " ".join(["a"] * 22) + " red circle")
    assert long.shape == encode_prompt(parts, "").shape == (1, 24, 16)
    with pytest.raises(ValueError, match="prompt"):
        encode_prompt(parts, [])


def test_words_that_the_vocabulary_lacks_are_named(parts):
    assert unknown_words(parts, "a red circle on a white background") == []
    assert unknown_words(parts, "a red zebra, a zebra and 3 stars") == ["zebra", ",", "3", "stars"]
    with pytest.warns(UserWarning, match="zebra"):
        encode_prompt(parts, "a red zebra")


def test_a_large_vocabulary_has_no_unknown_words(parts, monkeypatch):
    monkeypatch.setattr(text, "LARGE_VOCABULARY", 10)
    assert unknown_words(parts, "a zebra") == []
