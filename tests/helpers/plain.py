"""Run by ``python -I``: what plain transformers makes of exports; skip_exp cannot be imported.

    python -I plain.py WORK [CHECK ...]

Every folder of WORK has ``out``, an export, and ``batch.pt``, inputs; ``found.pt`` is written
beside them: {"logits": ..., and what each CHECK finds}.
"""

import os
import sys
from pathlib import Path

sys.modules["skip_exp"] = None  # type: ignore[assignment]
work, checks = Path(sys.argv[1]), sys.argv[2:]
os.environ |= {"HF_HOME": str(work / "home"), "HF_HUB_OFFLINE": "1"}

import torch  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForSequenceClassification,
    AutoTokenizer,
    logging,
    pipeline,
)

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)


def load(folder, **options):
    return AutoModelForSequenceClassification.from_pretrained(
        folder, trust_remote_code=True, **options
    ).eval()


def halves(case, model, batch):
    """Logits with weights in half the bytes."""
    return [load(case / "out", dtype=t)(**batch).logits for t in (torch.bfloat16, torch.float16)]


def eager(case, model, batch):
    return load(case / "out", attn_implementation="eager")(**batch).logits


def devices(case, model, batch):
    """Logits with ``device_map="auto"``, and with a layer that waits on the disk."""
    auto = load(case / "out", device_map="auto")
    layers = next(n for n, m in model.named_modules() if type(m).__name__ == "ModuleList")
    places = {f"{layers}.0": "disk", f"{layers}.1": "cpu"}
    while layers:  # what is beside the layers, on every level
        above, _, name = layers.rpartition(".")
        beside = [n for n, _ in model.get_submodule(above).named_children() if n != name]
        places |= {f"{above}.{n}".removeprefix("."): "cpu" for n in beside}
        layers = above
    split = load(case / "out", device_map=places, offload_folder=case / "offloaded")
    return auto(**batch).logits, split(**batch).logits


def again(case, model, batch):
    """{file: whether it is the same} of the folder saved once more."""
    model.save_pretrained(case / "again")
    AutoTokenizer.from_pretrained(case / "out").save_pretrained(case / "again")
    files = [path.name for path in (case / "again").iterdir()]
    return {f: (case / "out" / f).read_bytes() == (case / "again" / f).read_bytes() for f in files}


def answer(case, model, batch):
    return pipeline("text-classification", model=str(case / "out"), trust_remote_code=True)(
        ["a warm film", "dull"], top_k=None
    )


def compiled(case, model, batch):
    return torch.compile(model, fullgraph=True, dynamic=True)(**batch).logits


def trained(case, model, batch):
    """Loss before and after a few steps of Trainer, and what it saved, loaded."""
    from transformers import Trainer, TrainingArguments  # takes seconds

    labels = torch.arange(len(batch["input_ids"])) % model.config.num_labels
    rows = [{k: v[i] for k, v in batch.items()} | {"labels": labels[i]} for i in range(len(labels))]
    options = {"per_device_train_batch_size": 4, "max_steps": 20, "learning_rate": 1e-3}
    settings = TrainingArguments(
        str(case / "trained"), report_to=[], use_cpu=True, disable_tqdm=True, **options
    )
    trainer = Trainer(load(case / "out"), settings, train_dataset=rows, eval_dataset=rows)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    trainer.save_model(str(case / "trained"))
    same = torch.equal(load(case / "trained")(**batch).logits, trainer.model(**batch).logits)
    return before, after, same


for case in sorted(path.parent for path in work.glob("*/batch.pt")):
    inputs = torch.load(case / "batch.pt")
    loaded = load(case / "out")
    with torch.no_grad():
        found = {"logits": loaded(**inputs).logits}
        for check in checks:
            with torch.set_grad_enabled(check == "trained"):
                found[check] = globals()[check](case, loaded, inputs)
    torch.save(found, case / "found.pt")
