"""Lightning callbacks, thin over pure functions.

`between` acts between the fits, in a pass of its own (see
``training.trainer.act_between``), so it also runs when a fit is cached or skipped. `fit` acts
within a fit.
"""
