"""Make roberta_mini: a RoBERTa of 15.5 M parameters, distilled from MiniLM-L6 in 20 minutes.

python tools/adapt_roberta_mini.py TEXTS OUT --minutes 20

It learns a lower-cased byte-level BPE vocabulary of its own on the texts. MiniLM-L6's body
(Apache-2.0) is the start of its own, and an embedding starts as the mean of MiniLM's for the word
pieces that the token is made of. Then every weight is trained so that the mean over the tokens
matches MiniLM's.

TEXTS holds, at any depth, train.jsonl, whose text columns are read and whose labels are not, two
columns also as a pair; and *.txt, a sentence a line. roberta_mini saw the train rows of sst2, mrpc,
cola, rte, cr, mpqa, sst5 and trecqa, and 66,665 public sentences of encyclopaedic, news and caption
sources: 118,611 texts in all. They are not shipped: each source has terms of its own.

The schedule follows the clock, so that two runs give like models, not the same one.
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer, normalizers, processors
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, mse_loss
from transformers import (
    AutoModel,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from skip_exp.backbones.embedded import find_embedded_folder

VOCABULARY = 12_000
SPECIAL = {  # our special tokens, in order of their ids, and MiniLM's
    "<s>": "[CLS]",
    "<pad>": "[PAD]",
    "</s>": "[SEP]",
    "<unk>": "[UNK]",
    "<mask>": "[MASK]",
}
LENGTH = 128  # tokens of a text or pair
BATCH = 48
RATES = {"embeddings": 1e-3, "body": 1e-4}

Text = tuple[str, ...]  # one, or the two of a pair


# --- texts ----------------------------------------------------------------------------------------


def read_texts(folder: Path) -> list[Text]:
    """Every text and pair once, shuffled."""
    found: list[Text] = []
    for path in sorted(folder.rglob("train.jsonl")):
        for line in path.read_text().splitlines():
            columns = [value for value in json.loads(line).values() if isinstance(value, str)]
            found += [(text,) for text in columns]
            found += [tuple(columns)] if len(columns) == 2 else []
    for path in sorted(folder.rglob("*.txt")):
        lines = path.read_text(errors="ignore").splitlines()
        found += [(line.strip(),) for line in lines if 8 < len(line) < 400]
    found = list(dict.fromkeys(found))
    random.shuffle(found)
    return found


def batches_of(texts: list[Text]) -> list[list[Text]]:
    """Texts of like length together, singles and pairs apart; none of fewer than four."""
    ordered = sorted(texts, key=lambda text: sum(map(len, text)))
    mixed = [ordered[i : i + BATCH] for i in range(0, len(ordered), BATCH)]
    split = [[text for text in batch if len(text) == n] for batch in mixed for n in (1, 2)]
    return [batch for batch in split if len(batch) >= 4]


# --- vocabulary -----------------------------------------------------------------------------------


def new_tokenizer(texts: list[Text]) -> PreTrainedTokenizerFast:
    """Lower-cased byte-level BPE; ``<s> a </s>``, ``<s> a </s></s> b </s>``.

    The generic class: RoBERTa's own builds its backend anew on loading and loses the lower-casing.
    """
    bpe = ByteLevelBPETokenizer()
    bpe.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    bpe.train_from_iterator(
        (part for text in texts for part in text),
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        show_progress=False,
    )
    bpe.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), add_prefix_space=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        **{f"{name}_token": "<s>" for name in ("bos", "cls")},
        **{f"{name}_token": "</s>" for name in ("eos", "sep")},
        **{f"{name}_token": f"<{name}>" for name in ("unk", "pad", "mask")},
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
    )


def pieces_of(token: str, ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase) -> list:
    """MiniLM's ids of a token of ours: of a whole word, or of what goes on with one."""
    vocabulary = theirs.get_vocab()
    if token in SPECIAL:
        return [vocabulary[SPECIAL[token]]]
    text = ours.convert_tokens_to_string([token])
    if not text.startswith(" ") and "##" + text in vocabulary:
        return [vocabulary["##" + text]]
    found = theirs(text.strip() or "-", add_special_tokens=False)["input_ids"]
    return found or [theirs.unk_token_id]


# --- model ----------------------------------------------------------------------------------------


def new_model(
    teacher: nn.Module, ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase
) -> RobertaModel:
    """A RoBERTa that starts from the teacher's body and embeddings, without dropout."""
    config = teacher.config
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    settings = RobertaConfig(
        vocab_size=len(ours),
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        layer_norm_eps=config.layer_norm_eps,
        **{name: getattr(config, name) for name in names},
    )
    model = RobertaModel(settings, add_pooling_layer=False)
    body = {
        name: weights
        for name, weights in teacher.state_dict().items()
        if name.startswith("encoder") or "LayerNorm" in name
    }
    model.load_state_dict(body, strict=False)
    new, old = model.embeddings, teacher.embeddings
    with torch.no_grad():
        new.position_embeddings.weight[2:] = old.position_embeddings.weight[:512]
        new.token_type_embeddings.weight[0] = old.token_type_embeddings.weight.mean(0)
        for token, number in ours.get_vocab().items():
            pieces = torch.tensor(pieces_of(token, ours, theirs))
            new.word_embeddings.weight[number] = old.word_embeddings.weight[pieces].mean(0)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.train()


def sentence_vectors(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: list[Text]
) -> Tensor:
    """Mean over the tokens [texts, hidden]; texts are all single, or all pairs."""
    columns = [list(column) for column in zip(*texts, strict=True)]
    batch = tokenizer(
        *columns, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt"
    )
    with torch.autocast("cpu", torch.bfloat16):
        states = model(**batch).last_hidden_state.float()
    mask = batch["attention_mask"]
    return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def train(
    model: RobertaModel,
    ours: PreTrainedTokenizerBase,
    teacher: nn.Module,
    theirs: PreTrainedTokenizerBase,
    batches: list[list[Text]],
    minutes: float,
) -> int:
    """Match the teacher's sentence vectors until the time is over. Steps done."""
    embeddings = model.embeddings.word_embeddings.weight
    body = [weights for weights in model.parameters() if weights is not embeddings]
    groups = [{"params": [embeddings]}, {"params": body}]
    optimizer = torch.optim.AdamW(groups, lr=RATES["body"], weight_decay=0.01)
    start, step = time.time(), 0
    while (done := (time.time() - start) / (minutes * 60)) < 1:
        if step % len(batches) == 0:
            random.shuffle(batches)
        texts = batches[step % len(batches)]
        for group, rate in zip(optimizer.param_groups, RATES.values(), strict=True):
            group["lr"] = rate * min(1, (step + 1) / 100) * max(0.02, 1 - done)
        with torch.no_grad():
            wanted = sentence_vectors(teacher, theirs, texts)
        found = sentence_vectors(model, ours, texts)
        loss = (1 - cosine_similarity(found, wanted)).mean()
        loss = loss + mse_loss(found, wanted) / wanted.var()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 200 == 0:
            print(f"step {step}, {100 * done:.0f} %, loss {loss.item():.3f}", flush=True)
        step += 1
    return step


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path, help="folder of train.jsonl and *.txt, at any depth")
    parser.add_argument("out", type=Path, help="folder of the model")
    parser.add_argument("--minutes", type=float, required=True)
    given = parser.parse_args(arguments)
    random.seed(0)
    torch.manual_seed(0)

    texts = read_texts(given.texts)
    folder = find_embedded_folder("minilm")
    teacher, theirs = (
        AutoModel.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    ours = new_tokenizer(texts)
    print(f"{len(texts)} texts, {len(ours)} tokens", flush=True)
    model = new_model(teacher, ours, theirs)
    steps = train(model, ours, teacher, theirs, batches_of(texts), given.minutes)
    ours.save_pretrained(given.out)
    model.half().save_pretrained(given.out)
    print(f"{steps} steps; saved in {given.out}")


if __name__ == "__main__":
    main()
