"""Lightning callbacks, thin over pure functions.

`attribution` and `pruning` act between the fits, in ``setup`` of a pass of their own (see
``training.trainer.act_between``): whether what follows trains or only scores, and whether what went
before was run or cached. `keep_best`, `curves` and `epochs` act within a fit.
"""
