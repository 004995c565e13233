"""``README.md`` of an export that skip_exp reads: the model card's parts, and how to feed it."""

import json

from skip_exp.skill.export.card import document
from skip_exp.skill.load import Skill
from skip_exp.skill.record import CONFIG, SkillRecord

MODEL = (
    "`model.onnx` runs in onnxruntime; neither torch nor transformers nor the backbone is "
    "needed. Without skip_exp, follow the steps below with onnxruntime, tokenizers and numpy: "
    "`examples/onnxruntime_only.py` of its repository does."
)
ROUNDED = " Weights of linears and embeddings are 8-bit integers; the scores below are of fp32."


def readme(skill: Skill, *, int8: bool = False) -> str:
    """What this is, its labels, how to load and feed it, its limits."""
    parts = {
        "Use": _use(skill.about) + (ROUNDED if int8 else ""),
        "Preprocessing": _preprocessing(skill),
        "Labels": _labels(skill.about),
    }
    return document(skill.about, skill.model, skill.folder, parts) + "\n"


def _use(about: SkillRecord) -> str:
    example = "a text" if len(about.text) == 1 else ("one text", "another")
    return f"""```python
from skip_exp import OnnxSkill

skill = OnnxSkill.load(FOLDER)
skill.predict([{json.dumps(example)}])  # a list of label and probabilities, in order
```

{MODEL} Several threads may ask one at once."""


def _preprocessing(skill: Skill) -> str:
    about, tokenizer = skill.about, skill.tokenizer
    columns = " and ".join(f"`{entry}`" for entry in about.text)
    two = len(about.text) == 2
    pair = " As long as a pair is too long, the longer of its texts loses a token." if two else ""
    names = tokenizer.model_input_names
    types = " `token_type_ids` are the tokenizer's, 0 on padding."
    return f"""`predict` does all of this; who feeds the model otherwise must do the same.

1. {"Two texts" if two else "One text"}: {columns} (`text` in `{CONFIG}`: a column of the task,
   or a template with columns in braces).
2. Tokens by `tokenizer.json`, special tokens {"of a pair " if two else ""}included, cut on the
   {tokenizer.truncation_side} to at most {about.max_length} (`max_length`).{pair}
3. Batches are padded on the right to their longest text with the id {tokenizer.pad_token_id}
   (`{tokenizer.pad_token}`, `pad_token` in `tokenizer_config.json`). `attention_mask` is 1 on
   tokens and 0 on padding.{types if "token_type_ids" in names else ""}
4. The model takes {", ".join(f"`{name}`" for name in names)}, int64 [batch, length], and gives
   logits [batch, {len(about.labels)}]; their softmax are the probabilities."""


def _labels(about: SkillRecord) -> str:
    rows = [f"| {i} | {label} |" for i, label in enumerate(about.labels)]
    head = [f"By logit, in the order of `labels` in `{CONFIG}` (what others call `id2label`).", ""]
    return "\n".join([*head, "| logit | label |", "|---|---|", *rows])
