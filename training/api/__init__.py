"""The part of the JSON API that is about rounds and policies."""
