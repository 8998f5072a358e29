"""Rows that read one token more by kernels that are recorded once and then run again: a CUDA graph.

A step of a small model is hundreds of short kernels. Starting them one by one from Python takes several times as
long as running them, and a recording starts all of them at once. It always reads and writes the same memory. So the
cache has its columns from the start, and the next column, the positions and the mask are numbers on the device, which
the recording moves on.
"""

from collections.abc import Callable

import torch
from transformers import Cache

from training.engine.sampling.kvcache import ALIGNED, FixedLayer, keep_rows

# Feeds the newest tokens (R, 1), with a mask (R, 1, 1, T) and their places (R, 1). Returns logits (R, V).
Feed = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Cache], torch.Tensor]

_ROOM = 256  # columns that are added first; twice as many each further time


class RecordedRows:
    """Rows with a cache of fixed size. The logits that `add` returns are overwritten by its next call.

    On a CPU nothing is recorded, and the same computation runs step by step.
    """

    crowd = 0.5  # another number of rows is another recording, which costs as much as a dozen steps
    look = 8  # to ask the device more often would let it wait

    def __init__(self, feed: Feed, cache: Cache, mask: torch.Tensor, new: int) -> None:
        """`mask` (R, T) is 0 in padding. At most `new` tokens will be read."""
        self.feed, self.seen, self.places = feed, mask.bool(), mask.sum(dim=1)[:, None]
        self.width, self.most, self.room = mask.shape[1], mask.shape[1] + new, _ROOM
        self.place = torch.tensor([self.width], device=mask.device)  # the column that is written next
        self.cache, self.ids = cache, torch.empty_like(self.places)
        # Libraries set themselves up for a shape when it first comes, which cannot be recorded.
        self.is_warm = False
        self.recording: tuple[torch.cuda.CUDAGraph, torch.Tensor] | None = None  # and its logits
        self._enlarge()

    def add(self, tokens: torch.Tensor) -> torch.Tensor:
        """Let each row read one token (R,) more. Returns the logits (R, V) of the next."""
        if self.width == self.seen.shape[1]:
            self._enlarge()
        self.width += 1
        self.ids.copy_(tokens[:, None])
        if not self.is_warm:
            self.is_warm = self.ids.is_cuda
            return self._advance()
        if self.recording is None:
            self.recording = self._record()
        graph, logits = self.recording
        graph.replay()
        return logits

    def keep(self, kept: torch.Tensor, moved: torch.Tensor) -> None:
        """Go on with the rows `kept` (n,), of which only those at `moved` come from another place."""
        keep_rows(self.cache, kept, moved)
        self.seen, self.places = self.seen[kept], self.places[kept]
        self._forget()

    def _advance(self) -> torch.Tensor:
        """Feed the tokens of `ids` and move on to the next column."""
        self.seen.index_fill_(1, self.place, True)
        logits = self.feed(self.ids, self.seen[:, None, None], self.places, self.cache)
        self.places.add_(1)
        self.place.add_(1)
        return logits

    def _record(self) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        """Return `_advance` as a recording, and the memory into which it puts the logits. Nothing is computed yet."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph):
                logits = self._advance()
        except RuntimeError as error:  # mostly of ending it: what went wrong inside is its context
            raise (error.__context__ or error) from None
        finally:
            torch.cuda.set_stream(stream)  # an end that fails leaves the recording's
        return graph, logits

    def _enlarge(self) -> None:
        columns = min(self.width + self.room, self.most)
        columns += -columns % ALIGNED  # a mask hides those that are never written
        self.room *= 2
        self.cache = Cache(layers=[FixedLayer(layer, columns, self.place) for layer in self.cache.layers])
        seen = self.seen.new_zeros(len(self.seen), columns)
        seen[:, : self.width] = self.seen[:, : self.width]
        self.seen = seen
        self._forget()

    def _forget(self) -> None:
        """Drop the recording, as the rows or the columns are others."""
        self.ids, self.is_warm = torch.empty_like(self.places), False
        self.recording = None
