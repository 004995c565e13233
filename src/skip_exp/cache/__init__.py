"""Stage cache: a phase whose inputs are unchanged is loaded, not run again.

``skip-exp cache`` lists what is kept and removes what is of no use any more.
"""
