"""The modules that the processes of the fixture `children` have loaded when they begin."""

import gc

gc.disable()  # nothing here is garbage

from training.engine import __main__, score, train  # noqa: E402, F401

gc.freeze()
gc.enable()
