"""The queue: which comparison an annotator gets next, and for how long they hold it.

Claims are made, renewed and freed here. A verdict settles them, in `annotate.judgments`.
"""
