"""A checkpoint is loaded whole or not at all: each missing, extra, misshapen or broken thing is named."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib.diffusion.latent.checkpoint import WEIGHTS
from lib.diffusion.latent.parts import Parts


def spoil(weights, change):
    """Write a file of weights again, its tensors by name changed in place."""
    tensors = load_file(weights)
    change(tensors)
    save_file(tensors, weights, metadata={"format": "pt"})


TENSORS = {"text_encoder": ".layer_norm1.weight", "vae": "decoder.conv_in.weight", "unet": "conv_out.bias"}


@pytest.mark.parametrize("part", TENSORS)
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda tensors, key: tensors.pop(key), "{key}"),
        (lambda tensors, key: tensors.update({key: torch.zeros(3, 2)}), r"{key}.*\[3, 2\].*\[\d.*\]"),
        (lambda tensors, key: tensors.update({"more.weight": torch.zeros(2)}), r"more\.weight"),
    ],
)
def test_a_missing_an_extra_and_a_misshapen_tensor_are_named(copy, part, change, fault):
    weights = copy / part / WEIGHTS[part]
    [key] = [key for key in load_file(weights) if key.endswith(TENSORS[part])]
    spoil(weights, lambda tensors: change(tensors, key))
    with pytest.raises(ValueError, match=rf"{part}/{weights.name}: {fault.format(key=key)}.*; fetch .* again"):
        Parts.load(copy)


def test_of_many_wrong_tensors_some_are_named_and_all_counted(copy):
    spoil(copy / "unet" / WEIGHTS["unet"], lambda tensors: [tensors.pop(key) for key in list(tensors)[:10]])
    with pytest.raises(ValueError, match=r"conv_in\.bias.*conv_in\.weight.*conv_norm_out\.bias.* 7 more.*fetch"):
        Parts.load(copy)


def test_what_older_checkpoints_call_otherwise_is_read(copy, parts):
    def as_of_old(tensors):
        for key in list(tensors):
            if ".attentions." in key:
                new = key.replace("to_q", "query").replace("to_k", "key").replace("to_v", "value")
                tensors[new.replace("to_out.0", "proj_attn")] = tensors.pop(key)

    def with_positions(tensors):
        for key in list(tensors):
            tensors[f"text_model.{key.removeprefix('text_model.')}"] = tensors.pop(key)
        tensors["text_model.embeddings.position_ids"] = torch.arange(24)[None]

    spoil(copy / "vae" / WEIGHTS["vae"], as_of_old)
    spoil(copy / "text_encoder" / WEIGHTS["text_encoder"], with_positions)
    again = Parts.load(copy)
    for part in ("vae", "text_encoder"):
        ours, theirs = getattr(again, part).state_dict(), getattr(parts, part).state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("tokenizer/tokenizer.json", "tokenizer"),
        ("tokenizer/tokenizer_config.json", "tokenizer"),
        ("text_encoder/config.json", "text_encoder"),
        ("vae/config.json", "vae"),
        ("unet/config.json", "unet"),
        ("scheduler/scheduler_config.json", "scheduler"),
    ],
)
@pytest.mark.parametrize("content", [None, '{"a": ', "[]", "é".encode("latin-1")])
def test_a_missing_file_and_broken_json_are_named(copy, file, part, content):
    path = copy / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=rf"{part}[ /]+.*{path.name}.*fetch"):
        Parts.load(copy)


def test_a_broken_index_is_named(copy):
    (copy / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match=r"model_index\.json.*fetch"):
        Parts.load(copy)


def test_a_part_that_the_index_leaves_out_is_missing(copy):
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps({**index, "vae": [None, None]}))
    with pytest.raises(ValueError, match="'vae'"):
        Parts.load(copy)


def as_vocabulary_and_merges(tokenizer):
    """Write a tokenizer's files anew as older checkpoints have them."""
    model = json.loads((tokenizer / "tokenizer.json").read_text())["model"]
    (tokenizer / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (tokenizer / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    (tokenizer / "tokenizer.json").unlink()


def test_a_vocabulary_with_its_merges_is_a_tokenizer_and_one_of_them_is_none(copy, parts):
    as_vocabulary_and_merges(copy / "tokenizer")
    prompt = "a small red star on a striped background"
    assert Parts.load(copy).tokenizer(prompt).input_ids == parts.tokenizer(prompt).input_ids
    (copy / "tokenizer" / "merges.txt").unlink()
    with pytest.raises(ValueError, match=r"tokenizer\.json.*vocab\.json.*merges\.txt.*fetch"):
        Parts.load(copy)


def test_a_tokenizer_of_no_use_or_of_another_text_encoder_is_named(copy):
    path = copy / "tokenizer" / "tokenizer.json"
    whole = path.read_text()
    path.write_text('{"model": 3}')
    with pytest.raises(ValueError, match=r"copy: .*tokenizer.*fetch"):
        Parts.load(copy)
    path.write_text(whole)
    config = copy / "tokenizer" / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_max_length": 77}))
    with pytest.raises(ValueError, match=r"tokenizer .* 77.* text_encoder .* 24"):
        Parts.load(copy)


def test_a_variant_alone_is_named(copy):
    for weights in (copy / part / name for part, name in WEIGHTS.items()):
        weights.rename(weights.with_suffix(".fp16.safetensors"))
    with pytest.raises(ValueError, match=r"text_encoder.*model\.safetensors.*fp16.*rename"):
        Parts.load(copy)
