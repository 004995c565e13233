"""Make t5_mini: a T5 of 8.8 M parameters, pre-trained on two CPU cores in about 70 minutes.

python tools/pretrain_t5_mini.py CORPUS TASKS OUT --minutes 60
python tools/pretrain_t5_mini.py CORPUS TASKS OUT --minutes 10 --second

The first stage distils the encoder from the token states of MiniLM-L6 (Apache-2.0), whose word
embeddings, reduced by PCA, are its start; the decoder learns span corruption, and every fourth step
the supervised text-to-text mixture of T5 1.0. The second stage, from OUT on, does without the
distillation and takes the mixture at every step.

CORPUS holds *.txt, documents apart by an empty line. t5_mini saw about 12 M tokens of English: BBC
news, 20 Newsgroups, Reuters-52, TV dialogue, film reviews, State of the Union and inaugural
addresses, radio news, web text. They are not shipped: each has terms of its own.

TASKS holds <task>/train.jsonl of sst2, mrpc, cola and rte (GLUE). Rows whose idx % 10 == 9, the
selection slice, are never seen.

The schedule follows the clock, so that two runs give like models, not the same one.
"""

import argparse
import collections
import json
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from skip_exp.backbones.embedded import find_embedded_folder

WORDS = {  # the target of each label, in label order
    "sst2": ["negative", "positive"],
    "mrpc": ["no", "yes"],
    "cola": ["no", "yes"],
    "rte": ["yes", "no"],
}
VOCABULARY = 14_000
WIDTH = 256
LENGTH = 64  # tokens of a chunk
EOS, FIRST_SENTINEL = 3, 5
SENTINELS = 99
BATCH = 16

Pair = tuple[list[int], list[int]]  # ids of the source, of the target


# --- texts ----------------------------------------------------------------------------------------


def documents(corpus: Path) -> list[str]:
    """The documents of more than 200 characters, shuffled."""
    texts = [path.read_text(errors="ignore") for path in sorted(corpus.glob("*.txt"))]
    found = [part for text in texts for part in text.split("\n\n") if len(part) > 200]
    random.shuffle(found)
    return found


def rows(tasks: Path, task: str) -> list[dict]:
    lines = (tasks / task / "train.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def texts_of(row: dict) -> list[str]:
    return [row[key] for key in ("sentence", "sentence1", "sentence2") if key in row]


# --- vocabulary -----------------------------------------------------------------------------------


def kept_pieces(teacher_tokenizer, docs: list[str], tasks: Path) -> list[int]:
    """Teacher ids of the word pieces that stay: specials, single characters, the most frequent."""
    count: collections.Counter = collections.Counter()
    for i in range(0, len(docs), 1000):
        batch = teacher_tokenizer.backend_tokenizer.encode_batch(
            docs[i : i + 1000], add_special_tokens=False
        )
        for encoded in batch:
            count.update(encoded.ids)
    for task in WORDS:
        for row in rows(tasks, task):
            for text in texts_of(row):
                count.update(teacher_tokenizer(text, add_special_tokens=False)["input_ids"])
    special = [0, 100, 101, 102, 103, *range(1, 1 + SENTINELS)]
    names = sorted(teacher_tokenizer.get_vocab().items(), key=lambda item: item[1])
    bare = [(number, name.replace("##", "")) for name, number in names]
    characters = [
        number
        for number, name in bare
        if len(name) == 1 and ord(name) < 0x250 and number not in special
    ]
    first = set(special) | set(characters)
    by_count = sorted(count.items(), key=lambda item: (-item[1], item[0]))
    frequent = [number for number, _ in by_count if number not in first]
    return [*special, *characters, *frequent][:VOCABULARY]


def tokenizer_of(teacher_tokenizer, kept: list[int]) -> PreTrainedTokenizerFast:
    """Lower-cased word pieces; pad 0, unk 1, eos 3, then the sentinels of span corruption."""
    names = dict(map(reversed, teacher_tokenizer.get_vocab().items()))
    pieces = [names[number] for number in kept]
    pieces[:FIRST_SENTINEL] = ["<pad>", "<unk>", "<unused_cls>", "</s>", "<unused_mask>"]
    sentinels = [f"<extra_id_{i}>" for i in range(SENTINELS)]
    pieces[FIRST_SENTINEL : FIRST_SENTINEL + SENTINELS] = sentinels
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    inner = Tokenizer(WordPiece(vocabulary, unk_token="<unk>"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    inner.post_processor = TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", EOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=sentinels,
        model_max_length=512,
    )


# --- batches --------------------------------------------------------------------------------------


def chunks_of(tokenizer: PreTrainedTokenizerFast, docs: list[str]) -> Tensor:
    """All documents in a row, cut into chunks: ids [chunks, LENGTH]."""
    stream: list[int] = []
    for i in range(0, len(docs), 1000):
        for encoded in tokenizer.backend_tokenizer.encode_batch(docs[i : i + 1000]):
            stream.extend(encoded.ids)
    count = len(stream) // LENGTH
    return torch.tensor(stream)[: count * LENGTH].view(count, LENGTH)


def supervised(tokenizer: PreTrainedTokenizerFast, tasks: Path) -> list[Pair]:
    """The train rows outside the selection slice as text and label word."""
    pairs = []
    for task, words in WORDS.items():
        for row in rows(tasks, task):
            if row["idx"] % 10 == 9:
                continue
            source = tokenizer(*texts_of(row), truncation=True, max_length=128)["input_ids"]
            pairs.append((source, tokenizer(words[row["label"]])["input_ids"]))
    return pairs


def corrupted(ids: list[int]) -> Pair:
    """Span corruption, 15 % in spans of 3 on average (Raffel et al. 2020)."""
    source: list[int] = []
    target: list[int] = []
    i = spans = 0
    while i < len(ids):
        if spans < 40 and random.random() < 0.15 / 3:
            length = min(max(1, round(random.expovariate(1 / 3))), 8)
            source.append(FIRST_SENTINEL + spans)
            target += [FIRST_SENTINEL + spans, *ids[i : i + length]]
            i += length
            spans += 1
        else:
            source.append(ids[i])
            i += 1
    if spans == 0:
        source[-1] = FIRST_SENTINEL
        target = [FIRST_SENTINEL, ids[-1]]
    return [*source, EOS], [*target, EOS]


def padded(lists: list[list[int]], value: int) -> Tensor:
    width = max(map(len, lists))
    return torch.tensor([ids + [value] * (width - len(ids)) for ids in lists])


@dataclass
class Stream:
    """Chunks in random order, again and again."""

    chunks: Tensor
    order: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))

    def take(self, count: int) -> Tensor:
        if len(self.order) < count:
            self.order = torch.randperm(len(self.chunks))
        taken, self.order = self.order[:count], self.order[count:]
        return self.chunks[taken]


# --- model ----------------------------------------------------------------------------------------


def new_model(teacher: nn.Module, kept: list[int]) -> T5ForConditionalGeneration:
    """A T5 v1.0 whose embeddings are the teacher's, reduced by PCA."""
    config = T5Config(
        vocab_size=len(kept),
        d_model=WIDTH,
        d_kv=32,
        num_heads=8,
        d_ff=1024,
        num_layers=4,
        num_decoder_layers=2,
        dropout_rate=0.0,
        feed_forward_proj="relu",
        pad_token_id=0,
        eos_token_id=EOS,
        decoder_start_token_id=0,
    )
    model = T5ForConditionalGeneration(config)
    theirs = teacher.embeddings.word_embeddings.weight[torch.tensor(kept)].detach()
    theirs = theirs - theirs.mean(0)
    _, _, directions = torch.linalg.svd(theirs, full_matrices=False)
    reduced = theirs @ directions[:WIDTH].T
    model.shared.weight.data = reduced / reduced.std() * 0.9
    model.lm_head.weight = model.shared.weight
    return model


def seq2seq_loss(model: T5ForConditionalGeneration, pairs: list[Pair]) -> Tensor:
    source = padded([pair[0] for pair in pairs], 0)
    labels = padded([pair[1] for pair in pairs], -100)
    return model(input_ids=source, attention_mask=(source != 0).long(), labels=labels).loss


@dataclass
class Distillation:
    """Mean squared error between the teacher's token states and a projection of the encoder's."""

    teacher: nn.Module
    to_teacher: Tensor  # id here -> id there
    projection: nn.Linear

    def loss(self, model: T5ForConditionalGeneration, ids: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.teacher(input_ids=self.to_teacher[ids]).last_hidden_state
        found = self.projection(model.encoder(input_ids=ids).last_hidden_state)
        return nn.functional.mse_loss(found.float(), wanted.float()) / wanted.float().var()


def train(
    model: T5ForConditionalGeneration,
    stream: Stream,
    rows_: list[Pair],
    distillation: Distillation | None,
    minutes: float,
) -> int:
    """Train until the time is over; without a distillation it is the second stage. Steps done."""
    parameters = list(model.parameters())
    if distillation:
        parameters += distillation.projection.parameters()
    peak, every, batch = (2e-3, 4, BATCH) if distillation else (8e-4, 1, 2 * BATCH)
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    start, step = time.time(), 0
    while (done := (time.time() - start) / (minutes * 60)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1, (step + 1) / 200) * max(0.02, 1 - done)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = torch.zeros(())
            if distillation:
                loss = loss + distillation.loss(model, stream.take(BATCH))
            spans = [corrupted(ids) for ids in stream.take(BATCH).tolist()]
            loss = loss + 0.5 * seq2seq_loss(model, spans)
            if step % every == 0:
                loss = loss + seq2seq_loss(model, random.sample(rows_, batch))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}, {100 * done:.0f} %, loss {loss.item():.3f}", flush=True)
        step += 1
    return step


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder of *.txt")
    parser.add_argument("tasks", type=Path, help="folder of <task>/train.jsonl")
    parser.add_argument("out", type=Path, help="folder of the model")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--second", action="store_true", help="go on from OUT, not distilled")
    given = parser.parse_args(arguments)
    random.seed(int(given.second))
    torch.manual_seed(int(given.second))

    docs = documents(given.corpus)
    distillation = None
    if given.second:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(given.out)
        model = T5ForConditionalGeneration.from_pretrained(given.out, dtype=torch.float32)
    else:
        folder = find_embedded_folder("minilm")
        teacher = AutoModel.from_pretrained(folder).eval()
        teacher_tokenizer = AutoTokenizer.from_pretrained(folder)
        kept = kept_pieces(teacher_tokenizer, docs, given.tasks)
        tokenizer = tokenizer_of(teacher_tokenizer, kept)
        model = new_model(teacher, kept)
        projection = nn.Linear(WIDTH, teacher.config.hidden_size)
        distillation = Distillation(teacher, torch.tensor(kept), projection)
    stream = Stream(chunks_of(tokenizer, docs))
    pairs = supervised(tokenizer, given.tasks)
    print(f"{len(tokenizer)} pieces, {len(stream.chunks)} chunks, {len(pairs)} rows", flush=True)
    steps = train(model, stream, pairs, distillation, given.minutes)
    tokenizer.save_pretrained(given.out)
    model.half().save_pretrained(given.out)
    print(f"{steps} steps; saved in {given.out}")


if __name__ == "__main__":
    main()
