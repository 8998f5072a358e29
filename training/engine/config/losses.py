"""The table of losses, and the options that each honours."""

# What each loss honours beyond beta, labels and weights. `training.engine.optimize.losses` holds the functions.
LOSS_OPTIONS: dict[str, frozenset[str]] = {
    "sigmoid": frozenset({"label_smoothing", "margin"}),
    "sigmoid_norm": frozenset({"label_smoothing", "margin"}),
    "odpo": frozenset({"label_smoothing", "margin", "offset_scale"}),
    "robust": frozenset({"label_smoothing"}),
    "ipo": frozenset(),
    "ipo_norm": frozenset(),
    "hinge": frozenset(),
    "simpo": frozenset({"label_smoothing", "simpo_gamma"}),
    "dpop": frozenset({"dpop_lambda", "margin"}),
    "apo_zero": frozenset(),
    "apo_down": frozenset(),
    "kto": frozenset({"desirable_weight", "undesirable_weight"}),
    "rao_kupper": frozenset({"tie_nu"}),
    "davidson": frozenset({"tie_nu"}),
}

# Those that are ln 2 for a pair that asks for no margin, where the policy is its reference.
LN2_LOSSES = ("sigmoid", "sigmoid_norm", "odpo", "robust", "dpop")
OF_RATINGS = frozenset({"kto"})  # losses that learn from single completions, too: a pair is two of them
