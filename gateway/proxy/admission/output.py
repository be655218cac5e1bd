"""What settled calls tell of the next ones: how long answers are, and how many tokens a byte of a body is."""

from collections import OrderedDict

_PARTS_BITS = 2
_PARTS = 1 << _PARTS_BITS  # buckets for each doubling, so that a bucket's ends are at most a quarter apart
_BUCKETS = 22 * _PARTS  # up to 4 million tokens
_TAIL = 20  # one in so many answers may be longer than the 95th percentile
_MEMORY = 1000  # answers after which all that were counted weigh half
_ENOUGH = 20  # answers from which there is a 95th percentile
_MUCH = 200  # answers from which on a sample of the others is enough
_MODELS_SHARE = 8  # one in so many answers to a key that is known counts for its model, all of the others'
_MOST_KNOWN = 8192  # pairs of key and model; some 1 KiB each
_FIRST = 2000.0  # tokens' worth of trust in the first density
_LONGEST = 400_000.0  # tokens; older calls fade
_LOWEST, _HIGHEST = 0.02, 2.0  # tokens a byte; beyond these it is not the body that was counted


def bucket_of(tokens: int) -> int:
    """Which bucket a number is counted in; the first ones hold one number each."""
    if tokens < _PARTS:
        return max(tokens, 0)
    doublings = tokens.bit_length() - _PARTS_BITS - 1
    return min(doublings * _PARTS + (tokens >> doublings), _BUCKETS - 1)


def largest_in(bucket: int) -> int:
    """The largest number that is counted in a bucket."""
    if bucket < 2 * _PARTS:
        return bucket
    doublings = bucket // _PARTS - 1
    return ((bucket - doublings * _PARTS + 1) << doublings) - 1


class Histogram:
    """Lengths of answers, in buckets that grow with them; `p95` is kept up to date. Older ones fade."""

    __slots__ = ("_above", "_at", "_counts", "p95", "total")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._at = 0  # the bucket of the 95th percentile
        self._above = 0  # how many are in the buckets above it
        self.total = 0
        self.p95 = 0  # the end of its bucket: at most a quarter too large, and never too small

    def add(self, tokens: int) -> None:
        bucket = bucket_of(tokens)
        counts = self._counts
        counts[bucket] += 1
        total = self.total = self.total + 1
        if bucket > self._at:
            above = self._above = self._above + 1
            if above * _TAIL > total:
                self._move()
        elif (self._above + counts[self._at]) * _TAIL <= total:
            self._move()
        if total >= _MEMORY:
            self._fade()

    def _fade(self) -> None:
        self._counts = [count // 2 for count in self._counts]
        self.total = sum(self._counts)
        self._above = sum(self._counts[self._at + 1 :])
        self._move()

    def _move(self) -> None:
        counts, at, above, total = self._counts, self._at, self._above, self.total
        while above * _TAIL > total:
            at += 1
            above -= counts[at]
        while at and (above + counts[at]) * _TAIL <= total:
            above += counts[at]
            at -= 1
        self._above = above
        if at != self._at:
            self._at = at
            self.p95 = largest_in(at)


class Outputs:
    """How many tokens answers have, for each key and model, and for each model. One per worker."""

    def __init__(self, most_known: int = _MOST_KNOWN) -> None:
        self._most = most_known
        self._of_keys: OrderedDict[tuple[str, str], Histogram] = OrderedDict()
        self._of_models: OrderedDict[str, Histogram] = OrderedDict()

    def p95(self, key_id: str, model: str) -> int | None:
        """The 95th percentile for a key and model, else the model's; None before enough was learned of either."""
        known = self._of_keys.get((key_id, model))
        if known is None or known.total < _ENOUGH:
            known = self._of_models.get(model)
            if known is None or known.total < _ENOUGH:
                return None
        return known.p95

    def knows(self, key_id: str, model: str) -> bool:
        """Whether so much is known of a key and model that some of its answers will do."""
        known = self._of_keys.get((key_id, model))
        return known is not None and known.total >= _MUCH

    def learn(self, key_id: str, model: str, tokens: int) -> None:
        """An answer had so many tokens. What was not used for longest is forgotten first."""
        pair = (key_id, model)
        known = self._of_keys.get(pair)
        if known is None:
            if len(self._of_keys) >= self._most:
                self._of_keys.popitem(last=False)
            known = self._of_keys[pair] = Histogram()
        else:
            self._of_keys.move_to_end(pair)
        known.add(tokens)
        if known.total > _ENOUGH and known.total % _MODELS_SHARE:
            return
        known = self._of_models.get(model)
        if known is None:
            if len(self._of_models) >= self._most:
                self._of_models.popitem(last=False)
            known = self._of_models[model] = Histogram()
        else:
            self._of_models.move_to_end(model)
        known.add(tokens)


class _Seen:
    __slots__ = ("ratio", "size", "tokens")

    def __init__(self, size: float, tokens: float) -> None:
        self.size = size
        self.tokens = tokens
        self.ratio = tokens / size


class Inputs:
    """How many tokens a byte of a body is, for each model. One per worker."""

    def __init__(self, first: float, most_known: int = _MOST_KNOWN) -> None:
        """first: tokens a byte before anything was learned."""
        self._first = first
        self._most = most_known
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def ratio(self, model: str) -> float:
        seen = self._seen.get(model)
        return seen.ratio if seen is not None else self._first

    def learn(self, model: str, size: int, tokens: int) -> None:
        """A body of so many bytes was so many tokens; nothing is learned of what cannot be its text alone."""
        if not _LOWEST * size <= tokens <= _HIGHEST * size or tokens <= 0:
            return
        seen = self._seen.get(model)
        if seen is None:
            if len(self._seen) >= self._most:
                self._seen.popitem(last=False)
            seen = self._seen[model] = _Seen(_FIRST / self._first, _FIRST)
        else:
            self._seen.move_to_end(model)
        seen.size += size
        seen.tokens += tokens
        seen.ratio = seen.tokens / seen.size
        if seen.tokens > _LONGEST:
            seen.tokens /= 2
            seen.size /= 2
