"""A row's result has the same bits whatever is around it and however it is stored or computed."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from operations import OPERATIONS, WITH_ROWS_OUT, assert_same_bits, rows_and_extras
from reference import DTYPES

import fastlse

pytestmark = pytest.mark.parametrize("dtype", DTYPES)

# Around the lanes (32, 64), a chunk (4096) and a block (32768, 65536); short rows in several tiles,
# and on both sides of where one kernel takes over from another.
SHAPES = [
    *((131, n) for n in (1, 2, 3, 5, 10, 14, 16, 17, 20, 23, 24, 27, 28, 32, 39, 40, 65, 96, 128)),
    *((300, 33), (40, 64), (20, 65), (70, 129), (9, 257), (7, 1000)),
]
LONG_SHAPES = [(3, 4097), (2, 40_000), (2, 70_001), (1, 140_000)]

# More than the elements that a thread takes at a time (65536), in one row, a few and many.
SHARED_SHAPES = [(40_000, 10), (3000, 130), (500, 1000), (5, 70_001), (1, 500_000)]

FUSED = [name for name in fastlse.available_backends() if name in ("avx512", "avx2", "neon")]

LOSS_OPTIONS = {
    "weight": lambda x: {"weight": np.linspace(0, 2, x.shape[1], dtype=x.dtype)},
    "sample_weight": lambda x: {"sample_weight": np.arange(len(x)) % 3 / 2},
    "sample_weight float32": lambda x: {
        "sample_weight": (np.arange(len(x)) % 7 / 10).astype(np.float32)
    },
    "ignore_index": lambda x: {"ignore_index": 0, "target": np.arange(len(x)) % x.shape[1]},
    "label_smoothing": lambda _: {"label_smoothing": 0.1},
    "z_loss": lambda _: {"z_loss": 1},
    "softcap": lambda _: {"softcap": 30},
    "probabilities": lambda x: {
        "target": np.abs(np.sin(x)),
        "weight": np.ones(x.shape[1], x.dtype),
    },
    "all": lambda x: {
        "weight": np.linspace(0, 2, x.shape[1], dtype=x.dtype),
        "sample_weight": np.arange(len(x)) % 3 / 2,
        "ignore_index": -1,
        "target": np.arange(len(x)) % (x.shape[1] + 1) - 1,
        "label_smoothing": 0.1,
        "z_loss": 1e-3,
        "softcap": 4.0,
    },
}

each_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


@lru_cache
def shared_rows(n_rows, n, dtype):
    return rows_and_extras(n_rows, n, dtype)


def columns(x):
    return np.ascontiguousarray(x.T)


@each_operation
class TestOneRow:
    def test_number_of_threads(
        self, compiled_backend, operation, dtype, threads_for_small_problems
    ):
        for shape in SHARED_SHAPES:
            x, extras = shared_rows(*shape, dtype)
            alone = operation(x, extras, n_threads=1)
            for n_threads in (2, 3, 7):
                assert_same_bits(operation(x, extras, n_threads=n_threads), alone)
            across = operation(columns(x), extras, axis=0, n_threads=7)
            assert_same_bits(across, alone)

    def test_the_usual_number_of_threads_and_the_fast_lane(self, backend, operation, dtype):
        for shape in [(1, 1), (1, 10), (8, 10), (9, 10), (3, 1000), *SHAPES]:
            x, extras = rows_and_extras(*shape, dtype)
            assert_same_bits(operation(x, extras), operation(x, extras, n_threads=1))

    def test_split_of_the_batch(self, backend, operation, dtype):
        for shape in [*SHAPES, (3, 70_001)]:
            x, extras = rows_and_extras(*shape, dtype)
            whole = operation(x, extras)
            for size in (1, 2, 5, 64):
                parts = [
                    operation(x[i : i + size], extras.of(slice(i, i + size)))
                    for i in range(0, len(x), size)
                ]
                joined = tuple(np.concatenate(part) for part in zip(*parts, strict=True))
                assert_same_bits(joined, whole)

    def test_position_in_the_batch(self, backend, operation, dtype):
        for shape in SHAPES:
            x, extras = rows_and_extras(*shape, dtype)
            whole = operation(x, extras)
            for shift in (1, 2, 3, 31):
                order = np.roll(np.arange(len(x)), shift)
                moved = operation(x[order], extras.of(order))
                assert_same_bits(moved, tuple(part[order] for part in whole))
                moved = operation(columns(x[order]), extras.of(order), axis=0)
                across = operation(columns(x), extras, axis=0)
                assert_same_bits(moved, tuple(part[order] for part in across))

    def test_rows_around_it(self, backend, operation, dtype):
        """NaN, infinities and other scales in the neighbours change nothing."""
        for shape in SHAPES:
            x, extras = rows_and_extras(*shape, dtype)
            whole = operation(x, extras)
            other = x.copy()
            other[1::4], other[2::4], other[3::4] = np.nan, np.inf, -1e30
            same = slice(0, None, 4)
            assert_same_bits(
                tuple(part[same] for part in operation(other, extras)),
                tuple(part[same] for part in whole),
            )

    def test_rows_without_a_finite_maximum(self, backend, operation, dtype):
        """Among many as alone."""
        for shape in SHAPES:
            x, extras = rows_and_extras(*shape, dtype)
            x[1::5], x[2::5], x[3::5], x[:, 0][4::5] = np.nan, np.inf, -np.inf, np.inf
            whole = operation(x, extras)
            parts = [
                operation(x[i : i + 3], extras.of(slice(i, i + 3))) for i in range(0, len(x), 3)
            ]
            joined = tuple(np.concatenate(part) for part in zip(*parts, strict=True))
            assert_same_bits(joined, whole)

    def test_byte_offset(self, backend, operation, dtype):
        for shape in [(5, 10), (20, 10), (3, 100), (1, 5000)]:
            x, extras = rows_and_extras(*shape, dtype)
            expected = operation(x, extras)
            buffer = bytearray(x.nbytes + 64)
            for offset in range(64):
                moved = np.ndarray(x.shape, dtype, buffer, offset)
                moved[...] = x
                assert_same_bits(operation(moved, extras), expected)

    def test_views_and_their_copies(self, backend, operation, dtype):
        for n_rows, n in [*SHAPES, (2, 40_000)]:
            wide, _ = rows_and_extras(2 * n_rows, 3 * n, dtype)
            _, extras = rows_and_extras(n_rows, n, dtype)
            for view in (
                wide[:n_rows, :n],
                wide[::2, :n],
                wide[:n_rows, ::3],
                wide[1::2, 1::3],
                wide[:n_rows, n - 1 :: -1] if n > 1 else wide[:n_rows, :1],
                wide[n_rows - 1 :: -1, :n],
                wide[::-2, ::-3],
                np.broadcast_to(wide[0, :n], (n_rows, n)),
                np.broadcast_to(wide[:n_rows, :1], (n_rows, n)),
            ):
                assert_same_bits(operation(view, extras), operation(view.copy(), extras))

    def test_fortran_order(self, compiled_backend, operation, dtype):
        """Along a row and across problems: the compiled kernels add up in the same order."""
        for shape in SHAPES + LONG_SHAPES:
            x, extras = rows_and_extras(*shape, dtype)
            expected = operation(x, extras)
            assert_same_bits(operation(np.asfortranarray(x), extras), expected)
            assert_same_bits(operation(columns(x), extras, axis=0), expected)

    @pytest.mark.parametrize("n", [17, 40, 63, 64, 65, 100, 129, 200, 1000])
    def test_tied_maxima(self, compiled_backend, operation, dtype, n):
        """Which of equal maxima is left out of the sum decides its order."""
        x, extras = rows_and_extras(20, n, dtype)
        x = np.random.default_rng(n).integers(0, 4, x.shape).astype(dtype) / 3
        x[::2][x[::2] == 1] = 0
        x[::2, n // 3], x[::2, n // 3 + 11], x[::2, n - 3] = 1, 1, 1
        expected = operation(x, extras)
        assert_same_bits(operation(np.asfortranarray(x), extras), expected)
        alone = [operation(x[i : i + 1], extras.of(slice(i, i + 1))) for i in range(len(x))]
        assert_same_bits(tuple(np.concatenate(part) for part in zip(*alone, strict=True)), expected)

    def test_repetition(self, backend, operation, dtype):
        x, extras = rows_and_extras(70, 100, dtype)
        assert_same_bits(operation(x, extras), operation(x, extras))

    @pytest.mark.skipif(len(FUSED) < 2, reason="one backend with fused multiply-add at most")
    def test_backends_with_fused_multiply_add(self, operation, dtype):
        for shape in SHAPES + LONG_SHAPES:
            x, extras = rows_and_extras(*shape, dtype)
            results = {}
            for name in FUSED:
                with fastlse.use_backend(name):
                    results[name] = (
                        *operation(x, extras),
                        *operation(columns(x), extras, axis=0),
                        *operation(x[::-1, ::-1], extras),
                    )
            for name in FUSED[1:]:
                assert_same_bits(results[name], results[FUSED[0]])


@pytest.mark.parametrize("operation", WITH_ROWS_OUT.values(), ids=WITH_ROWS_OUT)
class TestOut:
    def test_out_or_not_and_in_place(self, backend, operation, dtype):
        for shape in SHAPES + LONG_SHAPES:
            x, extras = rows_and_extras(*shape, dtype)
            expected = operation(x, extras)
            out = np.empty_like(x)
            assert_same_bits(operation(x, extras, out=out), expected)
            assert_same_bits((out,), expected[-1:])
            wide = np.empty((2 * shape[0], 3 * shape[1]), dtype)
            assert_same_bits(operation(x, extras, out=wide[::2, ::-3]), expected)
            in_place = x.copy()
            assert_same_bits(operation(in_place, extras, out=in_place), expected)
            in_place = np.asfortranarray(x)
            expected = operation(in_place, extras)
            assert_same_bits(operation(in_place, extras, out=in_place), expected)

    def test_byte_offset_of_out(self, backend, operation, dtype):
        for shape in [(20, 10), (3, 100)]:
            x, extras = rows_and_extras(*shape, dtype)
            expected = operation(x, extras)
            buffer = bytearray(x.nbytes + 64)
            for offset in range(64):
                out = np.ndarray(x.shape, dtype, buffer, offset)
                assert_same_bits(operation(x, extras, out=out), expected)


@each_operation
class TestBands:
    """Long rows that are neighbours in memory are worked on many tiles at a time."""

    @pytest.mark.parametrize("n", [95, 96, 97, 200, 1000])
    def test_as_along_the_row(
        self, compiled_backend, threads_for_small_problems, operation, dtype, n
    ):
        """More rows than one band has, and a last tile that is not whole; a NaN; a masked class."""
        x, extras = rows_and_extras(1100, n, dtype)
        x = np.random.default_rng(n).standard_normal(x.shape).astype(dtype) * 5
        x[77, 5], x[78, 6] = np.nan, -np.inf
        expected = operation(x, extras)
        by_column = np.asfortranarray(x)
        for n_threads in (1, 2, 3):
            assert_same_bits(operation(by_column, extras, n_threads=n_threads), expected)
        rows = slice(3, None)
        assert_same_bits(operation(by_column[rows], extras.of(rows)), [e[rows] for e in expected])

    def test_infinite_maxima(self, compiled_backend, operation, dtype):
        x, extras = rows_and_extras(200, 128, dtype)
        x[:] = np.random.default_rng(0).standard_normal(x.shape)
        for value in (np.inf, -np.inf, np.nan):
            x[70] = value
            assert_same_bits(operation(np.asfortranarray(x), extras), operation(x, extras))


PLAIN_RESULTS = {
    "softmax": lambda x, target, **options: fastlse.softmax(x, axis=1, **options),
    "log_softmax": lambda x, target, **options: fastlse.log_softmax(x, axis=1, **options),
    "gradient": lambda x, target, **options: fastlse.cross_entropy_and_grad(
        x, target, reduction="sum", **options
    )[1],
}


@pytest.fixture
def streaming_backend(compiled_backend):
    """A compiled backend that writes all results of long rows past the caches."""
    module = fastlse._backends.active
    before = module.stream_from(0)
    yield compiled_backend
    module.stream_from(before)


class TestLargeResults:
    """Results that no cache holds are written past the caches, whole lines of them."""

    @pytest.mark.parametrize("n", [512, 513, 1000, 4097, 70_001])
    @pytest.mark.parametrize("function", PLAIN_RESULTS.values(), ids=PLAIN_RESULTS)
    def test_as_in_the_caches(
        self, streaming_backend, threads_for_small_problems, dtype, function, n
    ):
        x, extras = rows_and_extras(7, n, dtype)
        in_place = x.copy()
        expected = function(in_place, extras.target, out=in_place)  # what is in place is not
        for offset in range(16):  # elements from where malloc's memory begins
            out = np.full(x.size + offset + 1, 7, dtype)
            results = out[offset:-1].reshape(x.shape)
            for n_threads in (1, 2):
                results.fill(7)
                assert function(x, extras.target, out=results, n_threads=n_threads) is results
                assert_same_bits((results,), (expected,))
            assert (out[:offset] == 7).all()
            assert out[-1] == 7

    @pytest.mark.parametrize("n", [513, 1000, 2600, 40_000])
    def test_ignored_rows_and_every_target(
        self, streaming_backend, threads_for_small_problems, dtype, n
    ):
        """A row may be written while the next one is worked on, or after ignored ones."""
        rng = np.random.default_rng(n)
        x = rng.standard_normal((37, n)).astype(dtype)
        target = np.linspace(0, n - 1, 37).astype(int)
        target[rng.random(37) < 0.4] = -100
        for ignored in (slice(0, 0), slice(0, 2), slice(-2, None), slice(None)):
            target[ignored] = -100
            in_place = x.copy()
            fastlse.cross_entropy_and_grad(in_place, target, reduction="sum", out=in_place)
            for n_threads in (1, 2):
                out = np.full_like(x, 7)
                fastlse.cross_entropy_and_grad(
                    x, target, reduction="sum", out=out, n_threads=n_threads
                )
                assert_same_bits((out,), (in_place,))

    @pytest.mark.parametrize("n", [1000, 2561, 4097])
    def test_the_sum_of_the_losses(self, streaming_backend, dtype, n):
        """As the backend gives it, before it is rounded to the results' type."""
        kernel = fastlse._backends.active.cross_entropy
        rest = None, None, -100, 0.0, 0.0, 0.0, 1.0, 1
        rng = np.random.default_rng(n)
        for _ in range(20):
            x = rng.standard_normal((19, n)).astype(dtype)
            target = rng.integers(n, size=19)
            in_place = x.copy()
            expected = kernel(in_place, target, None, None, in_place, *rest)
            assert kernel(x, target, None, None, np.empty_like(x), *rest) == expected


class TestMean:
    """The sum over the rows, too, does not depend on who added what."""

    def test_number_of_threads(self, compiled_backend, dtype, threads_for_small_problems):
        for shape in SHARED_SHAPES:
            x, extras = shared_rows(*shape, dtype)
            x = np.maximum(x, -50)  # no loss is infinite
            for reduction in ("mean", "sum"):
                results = [
                    fastlse.cross_entropy_and_grad(
                        x, extras.target, reduction=reduction, n_threads=n_threads
                    )
                    for n_threads in (1, 2, 3, 7)
                ]
                assert np.isfinite(results[0][0])
                for result in results[1:]:
                    assert_same_bits(result, results[0])

    def test_with_and_without_a_gradient(self, compiled_backend, dtype):
        """The same batches or others: as the backend gives it, before it is rounded."""
        kernel = fastlse._backends.active.cross_entropy
        rest = None, None, -100, 0.0, 0.0, 0.0, 1.0, 1
        rng = np.random.default_rng(3)
        for n_rows, n in [(70, 3), (70, 30), (300, 100), (900, 300), (150, 2000), (60, 3000)]:
            x = rng.standard_normal((n_rows, n)).astype(dtype)
            target = rng.integers(n, size=n_rows)
            expected = kernel(x, target, None, None, None, *rest)
            assert kernel(x, target, None, None, np.empty_like(x), *rest) == expected

    def test_fast_lane(self, backend, dtype):
        for shape in [(1, 1), (1, 10), (8, 10), (9, 10), (3, 1000), *SHAPES]:
            x, _ = rows_and_extras(*shape, dtype)
            target = np.argmax(x, axis=1)
            assert_same_bits(
                fastlse.cross_entropy_and_grad(x, target),
                fastlse.cross_entropy_and_grad(x, target, n_threads=1),
            )
            assert_same_bits(
                (fastlse.cross_entropy(x, target),),
                (fastlse.cross_entropy(x, target, n_threads=1),),
            )

    def test_small_batches(self, backend, dtype):
        """The mean over any few rows is that of their losses."""
        for n in (1, 2, 10, 16, 17, 33, 40, 41, 50, 62, 64, 100):
            for n_rows in (1, 7, 8, 9, 31, 32, 33, 34, 48, 51, 63, 64, 65, 100):
                x, _ = rows_and_extras(n_rows, n, dtype)
                x, target = np.maximum(x, -50), np.arange(n_rows) % n
                losses = fastlse.cross_entropy(x, target, reduction="none").astype(float)
                tolerance = 2 * float(np.finfo(dtype).eps)
                for loss in (
                    fastlse.cross_entropy(x, target),
                    fastlse.cross_entropy_and_grad(x, target)[0],
                    fastlse.cross_entropy(x, target, axis=np.int64(1)),
                ):
                    assert float(loss) == pytest.approx(losses.mean(), rel=tolerance)

    def test_columns(self, compiled_backend, dtype, threads_for_small_problems):
        """Tiles that overlap (not in place) count each row once."""
        for n_rows in (64, 65, 100, 1100):
            x, _ = rows_and_extras(n_rows, 120, dtype)
            x, target = np.asfortranarray(np.maximum(x, -50)), np.arange(n_rows) % 120
            losses = fastlse.cross_entropy(x, target, reduction="none").astype(float)
            expected = fastlse.cross_entropy_and_grad(x, target, n_threads=1)
            assert float(expected[0]) == pytest.approx(
                losses.mean(), rel=2 * float(np.finfo(dtype).eps)
            )
            for n_threads in (2, 3):
                result = fastlse.cross_entropy_and_grad(x, target, n_threads=n_threads)
                assert_same_bits(result, expected)
            in_place = x.copy(order="F")
            result = fastlse.cross_entropy_and_grad(in_place, target, out=in_place)
            assert_same_bits(result, expected)

    @pytest.mark.parametrize("option", LOSS_OPTIONS)
    def test_the_lane_of_options_is_the_general_way(
        self, compiled_backend, monkeypatch, dtype, option
    ):
        """An axis that is no int goes the general way; a call of plain arrays does not."""
        for shape in [(1, 1), (1, 10), (8, 10), (3, 1000), (300, 33), (3, 70_001)]:
            x, extras = rows_and_extras(*shape, dtype)
            x = np.maximum(x, -50)
            arguments = {"target": extras.target, **LOSS_OPTIONS[option](x)}
            for reduction in ("mean", "sum", "none"):
                options = {**arguments, "reduction": reduction, "n_threads": 1}
                expected = fastlse.cross_entropy_and_grad(x, axis=np.int64(1), **options)
                alone = fastlse.cross_entropy(x, axis=np.int64(1), **options)
                with monkeypatch.context() as patch:
                    patch.setattr(fastlse.losses, "loss_problem", None)
                    assert_same_bits(fastlse.cross_entropy_and_grad(x, **options), expected)
                    in_place = x.copy()
                    result = fastlse.cross_entropy_and_grad(in_place, out=in_place, **options)
                    assert result[1] is in_place
                    assert_same_bits(result, expected)
                    loss = fastlse.cross_entropy(x, **options)
                    assert type(loss) is type(alone)
                    assert_same_bits((loss,), (alone,))

    @pytest.mark.parametrize("option", LOSS_OPTIONS)
    def test_options_of_a_few_rows(self, compiled_backend, dtype, option):
        """Rows side by side have the losses and gradients that they have seven at a time."""
        for n in (2, 3, 5, 10, 12, 13, 17, 32, 33, 52):
            x, extras = rows_and_extras(131, n, dtype)
            x = np.maximum(x, -50)
            arguments = {"target": extras.target, **LOSS_OPTIONS[option](x)}
            x[70, 0] = -np.inf
            expected = fastlse.cross_entropy_and_grad(x, reduction="none", **arguments)
            by_column = np.asfortranarray(x)
            assert_same_bits(
                fastlse.cross_entropy_and_grad(
                    by_column, out=by_column, reduction="none", **arguments
                ),
                expected,
            )
            for start in range(0, len(x), 7):
                rows = slice(start, start + 7)
                of_rows = {
                    name: value[rows] if name in ("target", "sample_weight") else value
                    for name, value in arguments.items()
                }
                result = fastlse.cross_entropy_and_grad(x[rows], reduction="none", **of_rows)
                assert_same_bits(result, [e[rows] for e in expected])

    @pytest.mark.skipif(len(FUSED) < 2, reason="one backend with fused multiply-add at most")
    def test_backends_with_fused_multiply_add(self, dtype):
        for shape in SHAPES + LONG_SHAPES:
            x, extras = rows_and_extras(*shape, dtype)
            results = []
            for name in FUSED:
                with fastlse.use_backend(name):
                    results.append(fastlse.cross_entropy_and_grad(x, extras.target, extras.weight))
            for result in results[1:]:
                assert_same_bits(result, results[0])
