"""Pure numbers: no torch, no I/O, no clock. Effects are logarithms of ratios, positive = worse."""
