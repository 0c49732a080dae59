"""Class probabilities, z_loss and softcap at the edges: infinities, zeros, dtypes, layouts."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from operations import assert_same_bits
from reference import DTYPES

import fastlse
from fastlse import cross_entropy, cross_entropy_and_grad

inf, nan = np.inf, np.nan

OPTIONS = {"z_loss": 1e-2, "softcap": 4.0, "label_smoothing": 0.1}

each_dtype = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def rows_of(x, q, **options):
    """Losses and gradients of rows that are repeated, so that every kernel sees them."""
    x, q = np.array(x), np.array(q)
    losses, grads = [], []
    for n_rows in (1, 70):
        loss, grad = cross_entropy_and_grad(
            np.tile(x, (n_rows, 1)), np.tile(q, (n_rows, 1)), reduction="none", **options
        )
        assert_array_equal(loss.reshape(n_rows, len(x)), np.tile(loss[: len(x)], (n_rows, 1)))
        losses.append(loss[: len(x)])
        grads.append(grad[: len(x)])
        assert_array_equal(grad, np.tile(grad[: len(x)], (n_rows, 1)))
    assert_array_equal(losses[0], losses[1])
    assert_array_equal(grads[0], grads[1])
    return losses[0], grads[0]


@each_dtype
class TestInfinities:
    def test_no_pull_on_a_class_that_cannot_be(self, backend, dtype):
        x = np.array([[0, -inf, 0], [-inf, 5, -inf]], dtype)
        loss, grad = rows_of(x, np.array([[0.25, 0, 0.75], [0, 1, 0]], dtype))
        assert_allclose(loss, [np.log(2), 0], rtol=1e-6)
        assert_allclose(grad, [[0.25, 0, -0.25], [0, 0, 0]], rtol=1e-6)

    def test_a_pull_on_a_class_that_cannot_be(self, backend, dtype):
        x = np.array([[0, -inf, 0]], dtype)
        loss, grad = rows_of(x, np.array([[0.5, 0.25, 0.25]], dtype))
        assert loss == inf
        assert_allclose(grad, [[0, -0.25, 0.25]], atol=1e-7)
        loss, _ = rows_of(x, np.array([[0.5, -0.25, 0.25]], dtype))
        assert loss == -inf
        loss, _ = rows_of(x, np.array([[0.5, 0, 0.5]], dtype), label_smoothing=0.1)
        assert loss == inf

    def test_a_weight_of_zero_drops_a_class(self, backend, dtype):
        x, q = np.array([[0, -inf, 0]], dtype), np.array([[0.25, 0.5, 0.25]], dtype)
        loss, grad = rows_of(x, q, weight=[1, 0, 1], label_smoothing=0.1)
        pull = np.array([0.225, 0, 0.225]) + np.array([0.1, 0, 0.1]) / 3
        assert_allclose(loss, pull.sum() * np.log(2), rtol=1e-6)
        assert_allclose(grad, [[0, 0, 0]], atol=1e-7)

    @pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"z_loss": 0.1}], ids=str)
    @pytest.mark.parametrize("n_rows", [1, 70])
    def test_a_target_of_weight_zero(self, backend, dtype, n_rows, options):
        """Costs nothing that its -inf could reach; a NaN in its row is NaN all the same."""
        for n in (3, 50):
            x = np.zeros((n_rows, n), dtype)
            x[:, 0] = -inf
            weight = np.ones(n)
            weight[0] = 0
            target = np.zeros(n_rows, np.intp)
            loss, grad = cross_entropy_and_grad(x, target, weight, reduction="none", **options)
            of_others = cross_entropy(x[:1, 1:], [0], label_smoothing=1.0)
            expected = options.get("label_smoothing", 0) * of_others * (n - 1) / n
            expected += options.get("z_loss", 0) * np.log(n - 1) ** 2
            assert_allclose(loss, np.full(n_rows, expected), rtol=1e-6)
            assert np.isfinite(grad).all()
            x[:, 1] = nan
            loss, grad = cross_entropy_and_grad(x, target, weight, reduction="none", **options)
            assert np.isnan(loss).all()
            assert np.isnan(grad).all()

    def test_nothing_is_possible(self, backend, dtype):
        """The loss of a row of only -inf is NaN, its gradient 0."""
        x = np.full((2, 3), -inf, dtype)
        for q in (np.full((2, 3), 0.3), np.zeros((2, 3))):
            for options in ({}, {"z_loss": 0.1}, {"label_smoothing": 0.1}):
                loss, grad = rows_of(x, q.astype(dtype), **options)
                assert np.isnan(loss).all()
                assert_array_equal(grad, np.zeros_like(x))

    @pytest.mark.parametrize("bad", [nan, inf])
    def test_nan_and_plus_inf(self, backend, dtype, bad):
        x = np.array([[0, bad, 0], [1, 2, 3]], dtype)
        good, _ = rows_of(x[1:], np.array([[0.5, 0, 0.5]], dtype), z_loss=0.1)
        loss, grad = rows_of(x, np.array([[0.5, 0, 0.5]] * 2, dtype), z_loss=0.1)
        assert np.isnan(loss[0])
        assert np.isnan(grad[0]).all()
        assert loss[1] == good
        assert np.isfinite(grad[1]).all()

    def test_nan_probability(self, backend, dtype):
        x = np.array([[1, 2, 3], [1, 2, 3]], dtype)
        loss, grad = rows_of(x, np.array([[0.5, nan, 0.5], [0.5, 0, 0.5]], dtype))
        assert_array_equal(np.isnan(loss), [True, False])
        assert_array_equal(np.isnan(grad).any(axis=1), [True, False])

    def test_a_cap_makes_infinities_finite(self, backend, dtype):
        x = np.array([[inf, 0, -inf], [-inf, -inf, -inf], [inf, inf, inf]], dtype)
        for q in (None, np.eye(3, dtype=dtype)):
            target = np.arange(3) if q is None else q
            loss, grad = cross_entropy_and_grad(x, target, softcap=2.0, reduction="none")
            total = np.exp(2) + 1 + np.exp(-2)
            assert_allclose(loss, [np.log(total) - 2, np.log(3), np.log(3)], rtol=2e-6)
            expected = np.zeros((3, 3))
            expected[0, 1] = 1 / total
            assert_allclose(grad, expected, rtol=1e-6)
        x[0, 1] = nan
        loss, grad = cross_entropy_and_grad(x, [0, 1, 2], softcap=2.0, reduction="none")
        assert_array_equal(np.isnan(loss), [True, False, False])
        assert_array_equal(np.isnan(grad[0]), [True] * 3)

    @pytest.mark.parametrize("softcap", [1e-3, 1e6, 1e30])
    def test_caps_of_every_size(self, backend, dtype, softcap):
        x = np.array([[3e4, -2e4, 0.125], [1, 2, 3]], dtype)
        y = softcap * np.tanh(x.astype(float) / softcap)
        expected = cross_entropy(y, [1, 0], reduction="none")
        loss, grad = cross_entropy_and_grad(x, [1, 0], softcap=softcap, reduction="none")
        assert_allclose(loss, expected, rtol=1e-5)
        assert np.isfinite(grad).all()
        if softcap == 1e30:  # as if there were none
            plain = cross_entropy_and_grad(x, [1, 0], reduction="none")
            assert_allclose(grad, plain[1], rtol=1e-5, atol=np.finfo(dtype).tiny)


class TestRowsThatDoNotCount:
    EACH = ({}, {"z_loss": 0.1}, {"softcap": 3.0}, {"label_smoothing": 0.1, "weight": [1, 2, 3]})

    @each_dtype
    @pytest.mark.parametrize("options", EACH, ids=str)
    @pytest.mark.parametrize("bad", [nan, inf, -inf])
    def test_are_exactly_zero(self, backend, dtype, bad, options):
        """Even where logits or probabilities are NaN or infinite."""
        x = np.array([[1, 2, 3], [bad, bad, 0], [bad] * 3, [3, 1, 2]], dtype)
        q = np.array([[0.2, 0.3, 0.5], [nan, 1, 0], [inf, nan, 1], [1, 0, 0]], dtype)
        weights = [2.0, 0.0, 0.0, 1.0]
        for target in (q, np.array([2, 0, 1, 0])):
            loss, grad = cross_entropy_and_grad(
                x, target, sample_weight=weights, reduction="none", **options
            )
            assert_array_equal(loss[1:3], [0, 0])
            assert_array_equal(grad[1:3], np.zeros((2, 3)))
            alone = cross_entropy_and_grad(
                x[[0, 3]], target[[0, 3]], sample_weight=[2.0, 1.0], reduction="none", **options
            )
            assert_same_bits((loss[[0, 3]], grad[[0, 3]]), alone)
            total = cross_entropy(x, target, sample_weight=weights, reduction="sum", **options)
            assert total == pytest.approx(float(loss.sum()), rel=1e-6)

    @pytest.mark.parametrize("options", EACH, ids=str)
    def test_ignored(self, backend, options):
        x = np.array([[1.0, 2, 3], [nan, inf, 0], [3, 1, 2]])
        loss, grad = cross_entropy_and_grad(x, [2, -100, 0], reduction="none", **options)
        assert loss[1] == 0
        assert_array_equal(grad[1], np.zeros(3))
        loss, grad = cross_entropy_and_grad(x, [-100] * 3, **options)
        assert np.isnan(loss)
        assert_array_equal(grad, np.zeros((3, 3)))
        assert cross_entropy(x, [-100] * 3, reduction="sum", **options) == 0

    @each_dtype
    @pytest.mark.parametrize("special", [nan, inf, -inf])
    @pytest.mark.parametrize("options", [{}, {"softcap": 3.0}, {"softcap": 3.0, "z_loss": 0.1}])
    def test_ignored_among_many(self, backend, dtype, options, special):
        """Rows that are worked on side by side: what an ignored one holds reaches no result."""
        for n in (5, 50):
            x = np.random.default_rng(n).standard_normal((70, n)).astype(dtype)
            x[7, 2] = x[69] = special
            target = np.ones(70, np.intp)
            target[[7, 69]] = -100
            loss, grad = cross_entropy_and_grad(x, target, reduction="none", **options)
            assert_array_equal(loss[[7, 69]], [0, 0])
            assert_array_equal(grad[[7, 69]], np.zeros((2, n)))
            assert np.isfinite(grad).all()


def test_mean_of_class_probabilities(backend):
    """Divides by the number of rows, whatever they weigh."""
    x, q = np.random.default_rng(0).standard_normal((2, 6, 4))
    options = {"weight": [1.0, 2, 3, 0.5], "sample_weight": [0, 0.5, 3, 1, 0, 2]}
    total, grads = cross_entropy_and_grad(x, q, reduction="sum", **options)
    mean, mean_grads = cross_entropy_and_grad(x, q, **options)
    assert mean == pytest.approx(total / 6, rel=1e-15)
    # A difference of two numbers of about 1 each: accurate to roundings of those.
    assert_allclose(mean_grads, grads / 6, rtol=1e-15, atol=1e-15)
    loss, grad = cross_entropy_and_grad(x, q, sample_weight=np.zeros(6))
    assert loss == 0
    assert_array_equal(grad, np.zeros((6, 4)))


def test_z_loss_is_of_the_row(backend):
    """It takes the sample weight, but neither the class weights nor the smoothing."""
    x = np.random.default_rng(0).standard_normal((5, 4))
    squares = fastlse.logsumexp(x, axis=1) ** 2
    s = np.array([1.0, 2, 0, 3, 0.5])
    options = {"weight": [1.0, 2, 3, 0.5], "label_smoothing": 0.1, "sample_weight": s}
    for target in (np.array([0, 1, 2, -100, 3]), np.abs(x)):
        kept = np.ones(5) if target.ndim == 2 else target != -100
        plain = cross_entropy(x, target, reduction="none", **options)
        loss = cross_entropy(x, target, reduction="none", z_loss=0.25, **options)
        assert_allclose(loss, plain + 0.25 * squares * s * kept, rtol=1e-14)


class TestShapes:
    @pytest.mark.parametrize("shape", [(0, 5), (2, 0, 3), (0,), (3, 0), (0, 0)])
    def test_empty(self, backend, shape):
        x = np.zeros(shape)
        n_rows = int(np.prod(shape[:-1]))
        for target in (x, x.astype(np.float32)):
            loss, grad = cross_entropy_and_grad(x, target, z_loss=0.1, softcap=3.0)
            assert grad.shape == shape
            assert np.isnan(loss) if n_rows == 0 else loss == 0
            assert cross_entropy(x, target, reduction="sum") == 0
            losses = cross_entropy(x, target, reduction="none")
            assert_array_equal(losses, np.zeros(shape[:-1]))

    def test_an_empty_list_has_no_dtype(self, backend):
        assert cross_entropy(np.zeros((0, 5)), [], reduction="sum") == 0

    @each_dtype
    def test_one_class(self, backend, dtype):
        """Its share is 1 whatever the logits: no loss, no gradient, but for z_loss."""
        x = np.array([[3], [-5], [0]], dtype)
        q = np.array([[1], [0.5], [2]], dtype)
        loss, grad = rows_of(x, q)
        assert_array_equal(loss, [0, 0, 0])
        assert_array_equal(grad, np.zeros((3, 1)))
        loss, grad = rows_of(x, q, z_loss=0.5)
        assert_array_equal(loss, [4.5, 12.5, 0])
        assert_array_equal(grad, [[3], [-5], [0]])

    def test_one_row(self, backend):
        x, q = np.array([1.0, 3, 2]), np.array([0.2, 0.5, 0.3])
        expected = cross_entropy_and_grad(x[None], q[None], softcap=2.0, z_loss=0.1)
        loss, grad = cross_entropy_and_grad(x, q, softcap=2.0, z_loss=0.1)
        assert_same_bits((loss, grad), (expected[0], expected[1][0]))
        assert loss.shape == ()
        assert cross_entropy(x, q.tolist(), softcap=2.0, z_loss=0.1) == loss

    def test_as_many_classes_as_rows(self, backend):
        """The dtype says what a square target is, and its dimensions what its shape is."""
        x = np.random.default_rng(0).standard_normal((3, 3, 3))
        indices = np.array([[0, 1, 2]] * 3)
        by_index = cross_entropy(x, indices)
        q = (indices[..., None] == np.arange(3)).astype(float)
        assert cross_entropy(x, q) == pytest.approx(by_index, rel=1e-15)
        with pytest.raises(TypeError, match="or a floating array of class probabilities"):
            cross_entropy(x, indices.astype(float))
        with pytest.raises(ValueError, match="less the class axis"):
            cross_entropy(x, q.astype(int))


class TestDtypes:
    @pytest.mark.parametrize("of_target", ["float16", "float32", "float64", ">f8", "g"])
    @pytest.mark.parametrize("of_logits", ["float16", "float32", "float64", ">f4", "int8", "g"])
    def test_the_logits_decide(self, backend, of_logits, of_target):
        x = np.array([[1, 5, 2], [0, 0, 7]], of_logits)
        q = np.array([[0.25, 0.5, 0.25], [0, 0.125, 0.875]])
        dtype = np.dtype(float if of_logits == "int8" else of_logits).newbyteorder("=")
        options = {"z_loss": 1e-2, "softcap": 5.0, "reduction": "none"}
        loss, grad = cross_entropy_and_grad(x, q.astype(of_target), **options)
        assert loss.dtype == grad.dtype == dtype
        expected = cross_entropy_and_grad(x.astype(float), q, **options)
        tolerance = 8 * max(float(np.finfo(dtype).eps), 2e-16)
        assert_allclose(loss.astype(float), expected[0], rtol=tolerance)
        assert_allclose(grad.astype(float), expected[1], rtol=5 * tolerance, atol=tolerance)

    def test_masked_probabilities_count_as_zero(self, backend):
        q = np.ma.array([[0.5, 0.25, nan], [0, 1, 0]], mask=[[0, 0, 1], [0, 0, 0]])
        x = np.array([[1.0, 2, 3], [3, 2, 1]])
        expected = cross_entropy_and_grad(x, q.filled(0))
        assert_same_bits(cross_entropy_and_grad(x, q), expected)

    @pytest.mark.parametrize("softcap", [None, 2.0])
    def test_a_masked_logit_cannot_be(self, backend, softcap):
        """With a cap too, which lets -inf itself be."""
        rng = np.random.default_rng(0)
        data, mask = rng.standard_normal((6, 5)), np.zeros((6, 5), bool)
        mask[:, 3] = True
        options = {"softcap": softcap, "z_loss": 0.1}
        for q in (np.array([0, 1, 2, 4, -100, 0]), rng.random((6, 5))):
            target = q if q.ndim == 1 else np.where(mask, 0, q)
            loss, grad = cross_entropy_and_grad(np.ma.array(data, mask=mask), target, **options)
            if target.ndim == 2:
                target = np.delete(target, 3, axis=1)
            else:
                target = np.where(target == 4, 3, target)
            expected = cross_entropy_and_grad(np.delete(data, 3, axis=1), target, **options)
            assert loss == pytest.approx(expected[0], rel=1e-14)
            assert_allclose(np.delete(grad, 3, axis=1), expected[1], rtol=1e-13)
            assert_array_equal(grad[:, 3], np.zeros(6))


def layouts(x):
    """The same numbers in other layouts."""
    wide = np.zeros((2 * x.shape[0], 3 * x.shape[1]), x.dtype)
    wide[::2, ::3] = x
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    return {
        "F": np.asfortranarray(x),
        "strided": wide[::2, ::3],
        "reversed": x[::-1, ::-1].copy()[::-1, ::-1],
        "byte-swapped": x.astype(x.dtype.newbyteorder()),
        "unaligned": unaligned,
        "read-only": read_only,
    }


@each_dtype
@pytest.mark.parametrize("shape", [(7, 5), (70, 16), (33, 41), (9, 300), (3, 3000)], ids=str)
def test_layouts_of_the_probabilities(backend, dtype, shape):
    """Any layout of either array, and the logits' class axis in front."""
    rng = np.random.default_rng(shape)
    x, q = rng.standard_normal(shape).astype(dtype), rng.random(shape).astype(dtype)
    options = {"reduction": "none", "z_loss": 1e-2, "softcap": 3.0, "label_smoothing": 0.1}
    expected = cross_entropy_and_grad(x, q, **options)
    eps = np.finfo(dtype).eps
    for of_x, x_there in {"C": x, **layouts(x)}.items():
        for of_q, q_there in {"C": q, **layouts(q)}.items():
            loss, grad = cross_entropy_and_grad(x_there, q_there, **options)
            transposed = cross_entropy_and_grad(x_there.T, q_there.T, axis=0, **options)
            if backend == "numpy":
                assert_allclose(loss, expected[0], rtol=8 * eps)
                assert_allclose(grad, expected[1], rtol=8 * eps, atol=eps)
                assert_allclose(transposed[1].T, expected[1], rtol=8 * eps, atol=eps)
            else:
                assert_same_bits((loss, grad), expected)
                assert_same_bits((transposed[0], transposed[1].T), expected)
            assert loss.dtype == dtype, (of_x, of_q)


@each_dtype
@pytest.mark.parametrize("n", [2, 16, 40, 64, 100, 2560, 2561, 70_000])
@pytest.mark.parametrize("target", ["indices", "probabilities"])
def test_same_bits(compiled_backend, threads_for_small_problems, dtype, n, target):
    """In C order, in Fortran order, in slices, alone, in place, and with any number of threads."""
    rng = np.random.default_rng(n)
    n_rows = 70 if n < 1000 else 9
    x = (rng.standard_normal((n_rows, n)) * 5).astype(dtype)
    q = rng.random((n_rows, n)).astype(dtype)
    if target == "indices":
        q = rng.integers(n, size=n_rows)
    for options in (
        {},
        {"z_loss": 1e-2},
        {"softcap": 4.0},
        {"softcap": 20.0},  # some rows have a logit beyond 3/4 of it, and are capped otherwise
        {"z_loss": 1e-2, "softcap": 4.0, "label_smoothing": 0.1, "weight": rng.random(n)},
    ):
        options = {**options, "reduction": "none"}
        expected = cross_entropy_and_grad(x, q, n_threads=1, **options)
        by_column = q if target == "indices" else np.asfortranarray(q)
        result = cross_entropy_and_grad(np.asfortranarray(x), by_column, **options)
        assert_same_bits(result, expected)
        for n_threads in (2, 3):
            assert_same_bits(cross_entropy_and_grad(x, q, n_threads=n_threads, **options), expected)
        for rows in (slice(3, 8), slice(5, 6), slice(1, None, 2)):
            result = cross_entropy_and_grad(x[rows], q[rows], **options)
            assert_same_bits(result, (expected[0][rows], expected[1][rows]))
        in_place = x.copy()
        assert_same_bits(cross_entropy_and_grad(in_place, q, out=in_place, **options), expected)
        assert_same_bits((cross_entropy(x, q, **options),), expected[:1])


@each_dtype
def test_sums_do_not_depend_on_threads(compiled_backend, threads_for_small_problems, dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5000, 10)).astype(dtype)
    q = rng.random(x.shape).astype(dtype)
    for options in ({}, {"z_loss": 1e-2, "softcap": 4.0}):
        expected = cross_entropy_and_grad(x, q, n_threads=1, **options)
        for n_threads in (2, 3, 8):
            result = cross_entropy_and_grad(x, q, n_threads=n_threads, **options)
            assert_same_bits(result, expected)


@each_dtype
@pytest.mark.parametrize("shape", [(20, 10), (6, 300), (2, 70_000)], ids=str)
class TestOut:
    def test_over_the_probabilities(self, backend, dtype, shape):
        """Over them, or a part of them, it is as if it lay apart."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal(shape).astype(dtype)
        memory = np.zeros(x.size + 8, dtype)
        q = memory[: x.size].reshape(shape)
        for out in (q, memory[5 : x.size + 5].reshape(shape)):
            q[...] = rng.random(shape)
            expected = cross_entropy_and_grad(x, q.copy(), **OPTIONS)
            loss, grad = cross_entropy_and_grad(x, q, out=out, **OPTIONS)
            assert grad is out
            assert_same_bits((loss, out), expected)

    def test_one_array_for_all(self, backend, dtype, shape):
        """Logits, probabilities and the gradient."""
        x = np.random.default_rng(0).random(shape).astype(dtype)
        expected = cross_entropy_and_grad(x.copy(), x.copy(), **OPTIONS)
        assert_same_bits(cross_entropy_and_grad(x, x, out=x, **OPTIONS), expected)

    def test_probabilities_are_left_alone(self, backend, dtype, shape):
        rng = np.random.default_rng(0)
        x, q = rng.random((2, *shape)).astype(dtype)
        before = q.copy()
        cross_entropy_and_grad(x, q, out=x, **OPTIONS)
        assert_array_equal(q, before)
