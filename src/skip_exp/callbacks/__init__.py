"""What runs between the phases, as Lightning callbacks; thin, over pure functions.

Both act in ``setup`` of the first stage after ``tune``: before optimizers are built, and whether
that stage trains (``retune``) or only scores.
"""
