"""The demo and the simulation: rounds with a seeded project, and with simulated annotators."""
