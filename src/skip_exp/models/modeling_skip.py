"""A text classifier made by skip_exp: a soft prompt on a language model cut to what it needs.

    AutoModelForSequenceClassification.from_pretrained(FOLDER, trust_remote_code=True)

It needs torch, transformers and the files beside this one. ``config.json`` holds the configuration
of the uncut language model, and what is left of it.
"""

# mypy: disable-error-code="no-untyped-call"
from dataclasses import field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from .families import FAMILIES
from .family import Keep
from .prompts import PROMPT_CLASSES
from .readouts import READOUT_CLASSES
from .soft_prompt import SoftPromptModel
from .surgery import narrow


class SkipConfig(PreTrainedConfig):
    """The settings in ``config.json``.

    Attributes:
        backbone: the configuration of the uncut language model.
        kept: by site, which heads or how many units are left.
        prompt: its ``kind``, and the arguments of its ``build``.
        readout: the same.
        logits_temperature: divides the logits, so that probabilities are calibrated.
        skill: where the model comes from.
    """

    model_type = "skip_exp"

    backbone: dict[str, Any] = field(default_factory=lambda: {"model_type": "bert"})
    kept: dict[str, Any] = field(default_factory=dict)
    prompt: dict[str, Any] = field(default_factory=lambda: {"kind": "none", "length": 0})
    readout: dict[str, Any] = field(default_factory=lambda: {"kind": "head", "pooling": "mean"})
    logits_temperature: float = 1.0
    skill: dict[str, Any] = field(default_factory=dict)


def build_model(config: SkipConfig) -> SoftPromptModel:
    """The model that ``config`` describes, with new weights."""
    prompt = dict(config.prompt)
    readout = dict(config.readout)
    prompt_class = PROMPT_CLASSES[prompt.pop("kind")]
    readout_class = READOUT_CLASSES[readout.pop("kind")]
    uncut = AutoConfig.for_model(**config.backbone)
    family = FAMILIES[uncut.model_type]
    needs = readout_class.needs
    backbone = family.loaders[needs].from_config(uncut, **family.loader_options(needs))
    family.prepare(backbone)
    # The library loads the weights into the model as it was cut: first built whole, then narrowed.
    model = SoftPromptModel(
        backbone,
        family,
        prompt_class.build(backbone, family, **prompt),
        readout_class.build(backbone, family, config.num_labels or 2, **readout),
    )
    keep: Keep = {}
    for site, left in config.kept.items():
        ids = left if isinstance(left, list) else range(left)
        # The library makes new tensors on the meta device while it loads.
        keep[site] = torch.tensor(ids, dtype=torch.long, device="cpu")
    narrow(model, keep)
    return model


class SkipForSequenceClassification(SoftPromptModel, PreTrainedModel):
    """Texts to class logits, as a model of the library.

    Args:
        model: whose modules it takes; None builds new ones.
    """

    config_class = SkipConfig
    _supports_sdpa = True
    _keep_in_fp32_modules_strict = {  # noqa: RUF012 (the library's own way)
        f"readout.{name}" for name in ("linear", "dense", "between", "out")
    }

    def __init__(self, config: SkipConfig, model: SoftPromptModel | None = None) -> None:
        PreTrainedModel.__init__(self, config)
        if model is None:
            model = build_model(config).requires_grad_(True)
        else:
            for module in model.modules():
                setattr(module, "_is_hf_initialized", True)  # noqa: B010 (its type is not known)
        # The prompt first: where a model does not fit on a device, the last modules are left out.
        self.prompt = model.prompt
        self.backbone = model.backbone
        self.readout = model.readout
        self.family = model.family
        self.temperature = config.logits_temperature
        self.set_attention("eager" if config._attn_implementation == "eager" else "sdpa")
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.get_input_embeddings()

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple[Tensor, ...]:
        """Token ids, 0/1 mask and types [B, T], labels [B] -> logits [B, labels] in fp32, loss.

        Where a text has any number of labels, these are 0 and 1 [B, labels].
        """
        limit = self.family.positions(self.backbone)
        length = input_ids.shape[1]
        added = self.prompt.input_length + self.readout.added
        if limit is not None and length + added > limit:
            raise ValueError(
                f"the text has {length} tokens, but at most {limit - added} have positions: "
                "tokenize with truncation=True"
            )
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        logits = super().forward(input_ids, attention_mask, token_type_ids)
        loss = None
        if labels is not None and self.config.problem_type == "multi_label_classification":
            loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits))
        elif labels is not None:
            loss = F.cross_entropy(logits, labels.to(logits.device))
        output = SequenceClassifierOutput(loss=loss, logits=logits)
        return output.to_tuple() if return_dict is False else output


# Lets `save_pretrained` copy the files into the folder and name this one in `config.json`.
SkipConfig.register_for_auto_class()
SkipForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
