"""The phases of a round: each leads one verb of the engine, or writes by an endpoint, once."""
