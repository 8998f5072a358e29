"""Text from outside: the values that JSON may hold, usernames that look alike, and model text made safe to show.

Functions of text alone. No module here knows a model, a request or a project.
"""
