"""Preference pairs: judgments aggregated into pairs, frozen in snapshots, and exported."""
