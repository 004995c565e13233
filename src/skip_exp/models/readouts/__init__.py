"""How class logits come out of the frozen backbone, one readout a file."""
