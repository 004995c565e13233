"""Lightning callbacks, thin over pure functions.

`between` is for trainers of your own: the phases call its functions, also where a fit is cached.
`fit` acts within a fit.
"""
