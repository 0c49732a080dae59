"""Bad input: an error that names the argument, what was expected and what came; nothing written."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.exceptions import AxisError
from numpy.testing import assert_array_equal

import fastlse

X = np.zeros((4, 5))
TARGET = np.array([0, 1, 2, 4])
REDUCTIONS = ["logsumexp", "softmax", "log_softmax", "logsumexp_and_softmax"]
LOSSES = ["cross_entropy", "cross_entropy_and_grad"]

each_reduction = pytest.mark.parametrize("name", REDUCTIONS)
each_loss = pytest.mark.parametrize("name", LOSSES)


def read_only(array):
    array.flags.writeable = False
    return array


BAD_AXES = [
    (2, AxisError, "axis out of range: axis 2 is out of bounds for array of dimension 2"),
    (-3, AxisError, "axis out of range: axis -3 is out of bounds for array of dimension 2"),
    (10**20, AxisError, "out of range|out of bounds"),
    ((0, 2), AxisError, "axis 2 is out of bounds"),
    ((0, 0), ValueError, r"axis must not name an axis twice, got \(0, 0\)"),
    ((1, -1), ValueError, "axis must not name an axis twice"),
    (1.0, TypeError, r"axis must be an int.*got 1\.0"),
    ("1", TypeError, "axis must be an int.*got the string '1'"),
    ([0, 1], TypeError, "axis must be an int.*got list"),
    (True, TypeError, "axis must be an int.*got True"),
    ((0, 1.5), TypeError, r"axis must be an int.*got 1\.5"),
    (np.array([0, 1]), TypeError, "axis must be an int.*got ndarray of shape"),
]

BAD_N_THREADS = [
    (0, ValueError, "n_threads must be an integer of at least 1, got 0"),
    (-1, ValueError, "n_threads must be an integer of at least 1, got -1"),
    (1.5, TypeError, "n_threads must be an integer of at least 1, got"),
    ("2", TypeError, "n_threads must be an integer of at least 1, got"),
    (True, (TypeError, ValueError), "n_threads must be an integer of at least 1, got"),
]


@each_reduction
class TestReductions:
    @pytest.mark.parametrize(("axis", "error", "message"), BAD_AXES, ids=repr)
    def test_axis(self, backend, name, axis, error, message):
        with pytest.raises(error, match=message):
            getattr(fastlse, name)(X, axis=axis)

    @pytest.mark.parametrize(("n_threads", "error", "message"), BAD_N_THREADS, ids=repr)
    def test_n_threads(self, backend, name, n_threads, error, message):
        with pytest.raises(error, match=message):
            getattr(fastlse, name)(X, axis=1, n_threads=n_threads)

    def test_positional_arguments(self, backend, name):
        """SciPy's order, then keywords alone."""
        count = {"logsumexp": 5}.get(name, 2)
        arguments = [X, 1, None, False, False][:count]
        getattr(fastlse, name)(*arguments)
        with pytest.raises(TypeError, match="positional argument"):
            getattr(fastlse, name)(*arguments, None)

    def test_unknown_keyword(self, backend, name):
        with pytest.raises(TypeError, match="dtype"):
            getattr(fastlse, name)(X, dtype=np.float32)

    def test_out(self, backend, name):
        shape = (4,) if name == "logsumexp" else (4, 5)
        other = (5,) if name == "logsumexp" else (5, 4)
        for out, error, message in [
            (np.full(other, 7.0), ValueError, r"out must have shape \(.*\), got shape \("),
            (np.full((*shape, 1), 7.0), ValueError, "out must have shape"),
            (np.full((), 7.0), ValueError, "out must have shape"),
            (np.full(shape, 7, np.float32), TypeError, "out must have dtype float64, got.*float32"),
            (np.full(shape, 7, int), TypeError, "out must have dtype float64, got.*int64"),
            (np.full(shape, 7, ">f8"), TypeError, "out must have dtype float64, got.*>f8"),
            (read_only(np.full(shape, 7.0)), ValueError, "out must be writeable, got a read-only"),
            ([7.0] * 4, TypeError, "out must be a numpy.ndarray, got list"),
            (np.ma.masked_array(np.full(shape, 7.0)), TypeError, "out must be a numpy.ndarray"),
            (7.0, TypeError, "out must be a numpy.ndarray, got 7.0"),
        ]:
            options = {"b": np.ones((4, 5))} if name == "logsumexp" else {}
            for given in ({}, options):
                if name == "logsumexp_and_softmax" or name == "logsumexp" or not given:
                    with pytest.raises(error, match=message):
                        getattr(fastlse, name)(X, axis=1, out=out, **given)
            assert np.all(np.asarray(out) == 7)


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
def test_where(backend, name):
    function = getattr(fastlse, name)
    out = np.full((4,) if name == "logsumexp" else (4, 5), 7.0)
    for where, error, message in [
        (np.ones((5, 4), bool), ValueError, r"where must be broadcastable.*\(4, 5\).*\(5, 4\)"),
        (np.ones((2, 4, 5), bool), ValueError, "where must be broadcastable"),
        (np.ones((4, 5)), TypeError, "where must be an array of bools, got dtype float64"),
        (1, TypeError, "where must be an array of bools, got dtype int64"),
        ("yes", TypeError, "where must be an array"),
        ([[True], [True, False]], TypeError, "where must be an array"),
    ]:
        with pytest.raises(error, match=message):
            function(X, axis=1, where=where, out=out)
        assert_array_equal(out, np.full_like(out, 7))


def test_b(backend):
    out = np.full(4, 7.0)
    for b, error, message in [
        (
            np.ones((5, 4)),
            ValueError,
            r"b must be broadcastable with a of .*\(4, 5\).*\(5, 4\)",
        ),
        (np.ones(3), ValueError, "b must be broadcastable"),
        ("2", TypeError, "b must be an array of numbers, got the string '2'"),
        ([None] * 5, TypeError, "b must be an array of numbers"),
    ]:
        with pytest.raises(error, match=message):
            fastlse.logsumexp(X, axis=1, b=b, out=out)
        assert_array_equal(out, np.full(4, 7.0))


@each_loss
class TestLosses:
    def call(self, name, logits=X, target=TARGET, error=ValueError, message="", **options):
        """Expect an error, and nothing written to `out`."""
        with pytest.raises(error, match=message):
            getattr(fastlse, name)(logits, target, **options)
        if name == "cross_entropy_and_grad" and isinstance(logits, np.ndarray):
            dtype = logits.dtype if logits.dtype.kind == "f" else float
            out = np.full(logits.shape, 7, dtype)
            with pytest.raises(error, match=message):
                fastlse.cross_entropy_and_grad(logits, target, out=out, **options)
            assert_array_equal(out, np.full_like(out, 7))
            if logits.dtype.kind == "f":
                in_place = logits.copy()
                with pytest.raises(error, match=message):
                    fastlse.cross_entropy_and_grad(in_place, target, out=in_place, **options)
                assert_array_equal(in_place, logits)

    def test_target_out_of_range(self, backend, name):
        for bad in (-1, 5, -5, 100, 2**40, -(2**63)):
            for row in range(4):
                target = TARGET.copy()
                target[row] = bad
                message = (
                    rf"target must be in \[0, 5\) or ignore_index \(-100\), got {bad} in row {row}$"
                )
                self.call(name, target=target, error=IndexError, message=message)
        self.call(
            name,
            target=[0, 1, -100, 2],
            ignore_index=-1,
            error=IndexError,
            message="got -100 in row 2",
        )
        message = r"got 9 in row \(1, 2\)"
        target = np.array([[0, 0, 0], [0, 0, 9]])
        self.call(name, np.zeros((2, 3, 5)), target, error=IndexError, message=message)
        message = "got 5 in row 0"
        self.call(name, np.zeros(5), 5, error=IndexError, message=message)
        self.call(
            name, np.zeros((70_000, 5)), np.full(70_000, 5), error=IndexError, message=message
        )

    def test_target_out_of_range_in_a_row_of_weight_zero(self, backend, name):
        """Only ignore_index excuses a target."""
        options = {"sample_weight": [1, 1, 0, 1]}
        self.call(name, target=[0, 1, 9, 2], error=IndexError, message="got 9 in row 2", **options)

    def test_target_shape(self, backend, name):
        message = r"target must have the logits' shape less .*, \(4,\), got shape \(3,\)"
        self.call(name, target=TARGET[:3], message=message)
        for target in (TARGET[:, None], np.zeros((4, 5), int), 0, np.zeros((0,), int)):
            self.call(name, target=target, message=r"target must have the logits' shape.*got shape")
        self.call(name, target=TARGET, axis=0, message=r"\(5,\), got shape \(4,\)")

    def test_target_dtype(self, backend, name):
        for target in (TARGET * 1.0, np.zeros((3, 5)), np.zeros((5, 4)), 1.0):
            message = (
                "target must be an integer array of class indices, or a floating array of class "
                r"probabilities with the logits' shape \(4, 5\), got dtype float64 and shape \("
            )
            self.call(name, target=target, error=TypeError, message=message)
        for target in (TARGET > 0, TARGET * 1j, np.zeros((4, 5), complex)):
            message = "target must be an integer array of class indices, got dtype"
            self.call(name, target=target, error=TypeError, message=message)
        self.call(name, target="0123", error=TypeError, message="target must be an")
        self.call(name, target=None, error=TypeError, message="target must be an")

    def test_logits(self, backend, name):
        self.call(name, 1.0, 0, message="logits must have a class axis")
        for bad in (X * 1j, X.astype(str), None, "text"):
            self.call(name, bad, error=TypeError, message="logits must be an array of real numbers")

    def test_axis(self, backend, name):
        for axis in (2, -3):
            self.call(name, axis=axis, error=AxisError, message=f"axis {axis} is out of bounds")
        for axis in ((0,), None, 1.0, "0"):
            self.call(name, axis=axis, error=TypeError, message="axis must be an int, got")

    def test_weight(self, backend, name):
        for weight in (np.ones(4), np.ones((1, 5)), 2.0, np.ones(0)):
            message = r"weight must have shape \(5,\) \(the number of classes\), got shape \("
            self.call(name, weight=weight, message=message)
        self.call(name, weight=["a"] * 5, error=TypeError, message="weight must be an array")

    def test_sample_weight(self, backend, name):
        for weight in (np.ones(5), np.ones((4, 1)), 2.0):
            message = r"sample_weight must have shape \(4,\).*got shape \("
            self.call(name, sample_weight=weight, message=message)
        message = "sample_weight must be an array"
        self.call(name, sample_weight=["a"] * 4, error=TypeError, message=message)

    def test_reduction(self, backend, name):
        for reduction in ("average", "", "MEAN", None, 0, ["mean"], np.array(["mean", "sum"])):
            message = r"reduction must be 'mean', 'sum' or 'none', got"
            self.call(name, reduction=reduction, message=message)

    def test_label_smoothing(self, backend, name):
        for smoothing in (-0.1, 1.1, np.nan, np.inf, 2):
            message = f"label_smoothing must be between 0 and 1, got {float(smoothing)}"
            self.call(name, label_smoothing=smoothing, message=message)
        for smoothing in ("0.1", None, [0.1], 1j):
            message = "label_smoothing must be a number, got"
            self.call(name, label_smoothing=smoothing, error=TypeError, message=message)

    def test_z_loss(self, backend, name):
        for z_loss in (-1e-9, -1, np.nan, np.inf, 10**400):
            message = "z_loss must be finite and not negative, got "
            self.call(name, z_loss=z_loss, message=message)
        for z_loss in ("0.1", None, [0.1], 1j):
            message = "z_loss must be a number, got"
            self.call(name, z_loss=z_loss, error=TypeError, message=message)

    def test_softcap(self, backend, name):
        for softcap in (0, -30.0, np.nan, np.inf, -(10**400)):
            message = "softcap must be finite and greater than 0, or None, got "
            self.call(name, softcap=softcap, message=message)
        for softcap in ("30", [30.0], 1j):
            message = "softcap must be a number or None, got"
            self.call(name, softcap=softcap, error=TypeError, message=message)

    def test_ignore_index_of_class_probabilities(self, backend, name):
        message = "ignore_index must be negative where the target is class probabilities.*got 2$"
        self.call(name, target=np.zeros((4, 5)), ignore_index=2, message=message)

    def test_ignore_index(self, backend, name):
        for index in (1.0, "1", None, [1]):
            message = "ignore_index must be an int, got"
            self.call(name, ignore_index=index, error=TypeError, message=message)
        self.call(name, ignore_index=2**63, message="ignore_index must fit into 64 bits, got")

    @pytest.mark.parametrize(("n_threads", "error", "message"), BAD_N_THREADS, ids=repr)
    def test_n_threads(self, backend, name, n_threads, error, message):
        self.call(name, n_threads=n_threads, error=error, message=message)

    def test_positional_arguments(self, backend, name):
        getattr(fastlse, name)(X, TARGET, np.ones(5))
        with pytest.raises(TypeError, match="positional argument"):
            getattr(fastlse, name)(X, TARGET, np.ones(5), -1)


def test_out_of_the_gradient(backend):
    for out, error, message in [
        (np.full((5, 4), 7.0), ValueError, r"out must have shape \(4, 5\), got shape \(5, 4\)"),
        (np.full((4, 5), 7, np.float32), TypeError, "out must have dtype float64, got.*float32"),
        (read_only(np.full((4, 5), 7.0)), ValueError, "out must be writeable, got a read-only"),
        ([[7.0] * 5] * 4, TypeError, "out must be a numpy.ndarray, got list"),
    ]:
        with pytest.raises(error, match=message):
            fastlse.cross_entropy_and_grad(X, TARGET, out=out)
        assert np.all(np.asarray(out) == 7)


class TestThreadSettings:
    @pytest.mark.parametrize("bad", [0, -3, True])
    def test_values(self, bad):
        before = fastlse.get_num_threads()
        for function in (fastlse.set_num_threads, lambda n: fastlse.threads(n).__enter__()):
            with pytest.raises((TypeError, ValueError), match="n must be an integer of at least 1"):
                function(bad)
        assert fastlse.get_num_threads() == before

    @pytest.mark.parametrize("bad", [1.5, "2", None, [1]])
    def test_types(self, bad):
        before = fastlse.get_num_threads()
        for function in (fastlse.set_num_threads, lambda n: fastlse.threads(n).__enter__()):
            with pytest.raises(TypeError, match="n must be an integer of at least 1, got"):
                function(bad)
        assert fastlse.get_num_threads() == before
