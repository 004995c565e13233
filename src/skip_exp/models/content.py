"""Whether two backbones are one: a hash of all that decides their answers and their training."""

import json

import torch
from transformers import PreTrainedTokenizerBase
from transformers.modeling_utils import PreTrainedModel
from xxhash import xxh3_128

# What changes the function though no weight changes.
SETTINGS = (
    *("model_type", "num_attention_heads", "num_heads", "hidden_act", "feed_forward_proj"),
    *("layer_norm_eps", "layer_norm_epsilon", "pad_token_id", "decoder_start_token_id"),
    *("relative_attention_num_buckets", "relative_attention_max_distance"),
    *("scale_decoder_outputs", "hidden_dropout_prob", "attention_probs_dropout_prob"),
    "dropout_rate",
)
SPECIAL = ("bos", "cls", "eos", "mask", "pad", "sep", "unk")


def content_hash(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of weights, tokenizer and settings: the same model gives it from any file.

    XXH3 with 128 bits: it tells models apart at the speed of memory; SHA-256 would take longer than
    loading them. It is no protection against who wants to forge one.
    """
    settings = {key: getattr(model.config, key, None) for key in SETTINGS}
    described = json.dumps([settings, _tokenizing(tokenizer)], sort_keys=True)
    digest = xxh3_128(described.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tokenizing(tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    """All that decides which ids a text becomes."""
    # A setting that is off says nothing: a later release of the library adds such ones.
    pipeline = json.loads(
        tokenizer.backend_tokenizer.to_str(),
        object_hook=lambda d: {key: value for key, value in d.items() if value is not False},
    )
    for last_call in ("truncation", "padding"):
        pipeline.pop(last_call, None)
    return {
        "vocabulary": json.dumps(pipeline["model"].pop("vocab")),  # in order: sorting is slow
        "pipeline": pipeline,
        "special": {name: getattr(tokenizer, f"{name}_token_id") for name in SPECIAL},
        "truncation": tokenizer.truncation_side,
        "inputs": tokenizer.model_input_names,
    }
