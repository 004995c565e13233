"""Lightning callbacks, thin over pure functions.

`attribution` and `pruning` act between the fits, in a pass of their own (see
``training.trainer.act_between``), so they also run when a fit is cached or skipped. `keep_best`,
`curves` and `epochs` act within a fit.
"""
