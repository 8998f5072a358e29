"""The demo, the simulation, and the film reviews and the starter model that both begin with."""
