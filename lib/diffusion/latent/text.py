"""Prompts: words become tokens, and tokens the hidden states of the text encoder."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from lib.diffusion.latent.parts import Parts

LARGE_VOCABULARY = 10_000  # tokens, from which any word is made of pieces that mean something


@torch.no_grad()
def encode_prompt(parts: Parts, prompts: str | Sequence[str]) -> Tensor:
    """Return the text encoder's hidden state of each token of each prompt: [n, length, width].

    Prompts are padded to the tokenizer's length, or truncated, with a warning that says what was lost. A warning also
    names the words that a small vocabulary does not have.
    """
    prompts = [prompts] if isinstance(prompts, str) else prompts
    if not isinstance(prompts, Sequence) or not all(isinstance(prompt, str) for prompt in prompts):
        raise ValueError(f"prompts must be a text or several, got {prompts!r}")
    if not prompts:
        raise ValueError("at least one prompt is needed")
    prompts = list(prompts)
    length = parts.tokenizer.model_max_length
    for prompt in prompts:
        pieces = parts.tokenizer.tokenize(prompt, verbose=False)  # a warning for longer ones follows
        if len(pieces) > length - 2:
            lost = "".join(pieces[length - 2 :]).replace("</w>", " ").strip()
            warnings.warn(f"a prompt has {length - 2} tokens at most, this was cut off: {lost!r}", stacklevel=2)
        if strange := unknown_words(parts, prompt):
            warnings.warn(f"the model never saw these words: {', '.join(strange)}", stacklevel=2)
    tokens = parts.tokenizer(
        prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    return parts.text_encoder(tokens.to(parts.device)).last_hidden_state


def unknown_words(parts: Parts, prompt: str) -> list[str]:
    """Return the words of a prompt that a small vocabulary lacks, and that the tokenizer spells letter by letter.

    A large vocabulary, such as CLIP's, makes all words of pieces that it knows; for it no words are unknown.
    """
    if len(parts.tokenizer) >= LARGE_VOCABULARY:
        return []
    vocabulary = parts.tokenizer.get_vocab()
    words = re.findall(r"[^\W\d_]+|\S", prompt)
    return list(dict.fromkeys(word for word in words if f"{word.lower()}</w>" not in vocabulary))
