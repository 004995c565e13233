"""One job around its phases: prepare, identity, timing, finish."""
