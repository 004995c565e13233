"""Names that several rooms share, each list once. Imports nothing, so that refusals come first."""

FITS = ("tune", "retune")  # the phases that train, each with curves of its own
STATES = ("dense", "pruned", "final")  # the model after tune, after prune and after retune
KINDS = ("ffn", "heads")  # of neurons
# Fields of a result that a search may aim at; none is of the reported split, on which nothing is
# chosen. Those of the latency need a timing.
OBJECTIVES = (
    *("select/final", "select/pruned", "ratio_reached"),
    *("params/block_pruned", "params/all_after", "flops/after", "flops/ratio"),
    *("latency/speedup", "latency/final_ms"),
)
# Arguments of Lightning's Trainer that `trainer.extra` may give it.
TRAINER_EXTRA = (
    *("accumulate_grad_batches", "limit_train_batches", "max_time", "detect_anomaly", "profiler"),
)
# Parts that come with the package; what they do is in `models.prompts`, `models.readouts` (by
# family) and `pruning.allocate`.
PROMPTS = ("input", "prefix", "none")
READOUTS = {
    "bert": ("head", "mlm", "classifier"),
    "roberta": ("head", "mlm", "classifier"),
    "xlm-roberta": ("head", "mlm", "classifier"),
    "modernbert": ("head", "mlm", "classifier"),
    "t5": ("head", "seq2seq", "classifier"),
}
ALLOCATIONS = ("global", "uniform")
# Keys whose value may be a custom part.
PARTS = ("attribution._target_", "prune.allocation")
# Values of the attribution methods' options (`attribution.options`).
OPTIONS: dict[str, tuple[str | int, ...]] = {
    "tokens": ("max", "mean", "sum"),
    "sign": ("signed", "absolute", "text"),
    "target": ("probability", "log_probability", "log_odds"),
    "at": ("neurons", "linears"),
    "norm": (1, 2),
}
