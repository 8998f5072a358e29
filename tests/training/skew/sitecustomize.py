"""Put the clock of a test's process wrong: Python imports this at its start where PYTHONPATH names the folder."""

import datetime
import os
import time

SECONDS = float(os.environ.get("WHETSTONE_TEST_SKEW", "0"))
told, Real = time.time, datetime.datetime


class _LikeReal(type(Real)):
    def __instancecheck__(cls, instance):
        return isinstance(instance, Real)

    def __subclasscheck__(cls, subclass):
        return issubclass(subclass, Real)


class Skewed(Real, metaclass=_LikeReal):
    @classmethod
    def now(cls, tz=None):
        return Real.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls):
        return Real.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)


if SECONDS:
    time.time = lambda: told() + SECONDS
    datetime.datetime = Skewed
