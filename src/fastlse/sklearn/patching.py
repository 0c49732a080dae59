"""scikit-learn's own estimators with fastlse's kernels: `patch`, `unpatch`, `patched`."""

from __future__ import annotations

import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ._places import PLACES, Place, places_of
from ._requirements import require_sklearn

__all__ = ["patch", "patched", "unpatch"]


@dataclass(slots=True)
class _Change:
    """What was put into a place, what stood there, and for how many."""

    original: Any
    replacement: Any
    holders: int = 0


_lock = threading.RLock()
_changes: dict[Place, _Change] = {}
# Changes that somebody else's change covers: they cannot be undone, only known again.
_covered: dict[Place, _Change] = {}
# How often `patch` has asked for each estimator, less `unpatch`.
_patched_names: Counter[str] = Counter()


def patch(names: str | Iterable[str] | None = None, verbose: bool = False) -> tuple[str, ...]:
    """Have scikit-learn's estimators compute logsumexp, softmax and their losses by fastlse.

    Parameters
    ----------
    names : str or iterable of str, optional
        Classes of scikit-learn, such as "GaussianMixture"; None is all that are known.
    verbose : bool, default False
        Tell on standard error what was changed.

    Returns
    -------
    names : tuple of str
        The classes that were asked for.

    Raises
    ------
    ImportError
        If scikit-learn is missing or of a version that is not supported, or lacks what is to be
        replaced; the message names it, and nothing was changed.
    ValueError
        If a name is unknown; the message lists those that are.

    See Also
    --------
    unpatch : Undo it.
    patched : The same for a ``with`` block.

    Notes
    -----
    The change is the whole process's, threads included, and for models that were made before, too.
    Functions are replaced where the estimators' modules look them up; what the same function
    replaces for several estimators (a mixture, a naive Bayes model, a loss object) changes for all
    of them. "LogisticRegression" is another class, `fastlse.sklearn.LogisticRegression`, which is
    there for imports from then on: names that were imported before keep scikit-learn's.

    Calls count: what was patched twice has to be unpatched twice. Results are scikit-learn's within
    rounding. A model that was fitted meanwhile is pickled as scikit-learn's own, but for
    LogisticRegression, whose pickles need fastlse.

    Examples
    --------
    >>> from fastlse.sklearn import patch, unpatch
    >>> patch(["GaussianMixture", "GaussianNB"])
    ('GaussianMixture', 'GaussianNB')
    >>> unpatch()
    ('GaussianMixture', 'GaussianNB')
    """
    asked = _as_names(names)
    with _lock:
        _acquire(asked)
        _patched_names.update(asked)
    if verbose:
        _tell(asked)
    return asked


def unpatch(names: str | Iterable[str] | None = None) -> tuple[str, ...]:
    """Undo `patch`.

    Parameters
    ----------
    names : str or iterable of str, optional
        Classes that were patched; None is all that still are.

    Returns
    -------
    names : tuple of str
        The classes for which one call of `patch` was undone: none if nothing was patched.

    Raises
    ------
    ValueError
        If a name is unknown; the message lists those that are.

    Warns
    -----
    RuntimeWarning
        If somebody else has replaced the same function since: theirs is left as it is.

    Notes
    -----
    What a `patched` block needs stays until it ends.

    Examples
    --------
    >>> from fastlse.sklearn import patch, unpatch
    >>> patch("MLPClassifier")
    ('MLPClassifier',)
    >>> unpatch()
    ('MLPClassifier',)
    >>> unpatch()
    ()
    """
    asked = _as_names(names)
    with _lock:
        undone = tuple(name for name in asked if _patched_names[name] > 0)
        _patched_names.subtract(undone)
        left = _release(undone)
    _warn(left)
    return undone


@contextmanager
def patched(names: str | Iterable[str] | None = None, verbose: bool = False) -> Iterator[None]:
    """`patch` for the length of a ``with`` block, or of a function that it decorates.

    Parameters
    ----------
    names, verbose
        As for `patch`.

    Raises
    ------
    ImportError, ValueError
        As from `patch`.

    Warns
    -----
    RuntimeWarning
        As from `unpatch`.

    Notes
    -----
    Blocks may be nested, and may overlap in several threads: scikit-learn's functions are back when
    the last one ends.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.mixture import GaussianMixture
    >>> from fastlse.sklearn import patched
    >>> X, _ = load_iris(return_X_y=True)
    >>> with patched("GaussianMixture"):
    ...     model = GaussianMixture(3, random_state=0).fit(X)
    >>> model.converged_
    True
    """
    asked = _as_names(names)
    with _lock:
        _acquire(asked)
    try:
        if verbose:
            _tell(asked)
        yield
    finally:
        with _lock:
            left = _release(asked)
        _warn(left)


def _as_names(names: object) -> tuple[str, ...]:
    """The classes' names, each once."""
    if names is None:
        return tuple(PLACES)
    given = (names,) if isinstance(names, str) else names
    if not isinstance(given, Iterable):
        raise ValueError(f"names must be strings or None, got {given!r}")
    asked = tuple(dict.fromkeys(given))
    for name in asked:
        if name not in PLACES:
            raise ValueError(f"names must be among {', '.join(PLACES)}, got {name!r}")
    return asked


def _places(names: Iterable[str]) -> list[tuple[str, Place]]:
    """The names' places, one that several share several times."""
    import sklearn

    return [(name, place) for name in names for place in places_of(name, sklearn.__version__)]


def _acquire(names: tuple[str, ...]) -> None:
    """Count one holder more for each name's places, after making the changes that are new."""
    require_sklearn()
    places = _places(names)
    new = {place: _new_change(name, place) for name, place in places if place not in _changes}
    for place, change in new.items():
        place.write(change.replacement)
    _changes.update(new)
    for _, place in places:
        _changes[place].holders += 1


def _new_change(name: str, place: Place) -> _Change:
    import sklearn

    try:
        original = place.read()
    except (ImportError, AttributeError, KeyError) as error:
        message = f"scikit-learn {sklearn.__version__} has no {place}, which patching {name} needs"
        raise ImportError(message) from error
    covered = _covered.get(place)
    if covered is not None and original is covered.replacement:
        return covered
    return _Change(original, place.make(original))


def _release(names: tuple[str, ...]) -> list[Place]:
    """Count one holder less, and restore what nobody holds; the places that are not ours now."""
    left = []
    for _, place in _places(names):
        change = _changes[place]
        change.holders -= 1
        if change.holders:
            continue
        del _changes[place]
        if place.read() is change.replacement:
            place.write(change.original)
        else:
            _covered[place] = change
            left.append(place)
    return left


def _warn(left: list[Place]) -> None:
    for place in left:
        message = f"{place} was replaced by somebody else since it was patched: it stays as it is"
        warnings.warn(message, RuntimeWarning, stacklevel=3)


def _tell(names: tuple[str, ...]) -> None:
    lines = []
    for name in names:
        places = ", ".join(str(place) for _, place in _places([name]))
        lines.append(f"fastlse: {name} by way of {places}\n")
    sys.stderr.write("".join(lines))
