"""Print the constants of ``src/fastlse/_backends/simd_math.pxi`` and their errors.

Run it with mpmath installed: ``python tools/make_constants.py``. Each polynomial is the weighted
least squares fit on Chebyshev nodes in 200-bit arithmetic, which is minimax to within a few per
cent, with its coefficients then rounded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import mpmath as mp

mp.mp.prec = 200
Real = Callable[[mp.mpf], mp.mpf]


def chebyshev_nodes(low: mp.mpf, high: mp.mpf, count: int) -> list[mp.mpf]:
    middle, half = (low + high) / 2, (high - low) / 2
    return [middle + half * mp.cos(mp.pi * (2 * i + 1) / (2 * count)) for i in range(count)]


def fit(function: Real, weight: Real, low: mp.mpf, high: mp.mpf, terms: int) -> list[mp.mpf]:
    """Coefficients of the polynomial nearest to `function`, its error weighted."""
    nodes = chebyshev_nodes(low, high, 8 * terms)
    rows = [[weight(x) * x**k for k in range(terms)] for x in nodes]
    solution, _ = mp.qr_solve(mp.matrix(rows), mp.matrix([weight(x) * function(x) for x in nodes]))
    return list(solution)


def round_f32(value: mp.mpf) -> mp.mpf:
    return mp.mpf(struct.unpack("f", struct.pack("f", float(value)))[0])


def round_f64(value: mp.mpf) -> mp.mpf:
    return mp.mpf(float(value))


def evaluate(coefficients: list[mp.mpf], x: mp.mpf) -> mp.mpf:
    return sum((c * x**k for k, c in enumerate(coefficients)), mp.mpf(0))


def worst(error: Real, low: mp.mpf, high: mp.mpf) -> mp.mpf:
    steps = 2000
    return max(abs(error(low + (high - low) * i / steps)) for i in range(1, steps))


def show(name: str, coefficients: list[mp.mpf], relative_error: mp.mpf, suffix: str = "") -> None:
    print(f"\n{name}: relative error 2^{mp.nstr(mp.log(relative_error, 2), 4)}")
    for c in coefficients:
        print(f"  {float(c).hex()}{suffix}")


def exponential(
    terms: int, rounding: Callable[[mp.mpf], mp.mpf], name: str, suffix: str, parts: int = 1
) -> None:
    """exp(r) = 1 + r + r^2 q(r) on [-h, h], h = log(2) / (2 parts): q."""
    half = mp.log(2) / (2 * parts) * mp.mpf("1.0001")

    def q(r: mp.mpf) -> mp.mpf:
        return sum((r**i / mp.factorial(i + 2) for i in range(40)), mp.mpf(0))

    def weight(r: mp.mpf) -> mp.mpf:
        return r * r * mp.exp(-r)

    c = [rounding(value) for value in fit(q, weight, -half, half, terms)]
    show(
        name,
        c,
        worst(lambda r: (1 + r + r * r * evaluate(c, r)) / mp.exp(r) - 1, -half, half),
        suffix,
    )


def eighths() -> None:
    """The fraction bits of 2^(j/8) in float32, less j << 20."""
    print("\n2^(j/8), f32: bits to be added to (8 k + j) << 20, errors in 2^-24")
    for j in range(8):
        exact = mp.mpf(2) ** (mp.mpf(j) / 8)
        bits = struct.unpack("I", struct.pack("f", float(round_f32(exact))))[0]
        entry = (bits - (127 << 23) - (j << 20)) % 2**32
        print(f"  0x{entry:08x}", mp.nstr((round_f32(exact) / exact - 1) * 2**24, 2))


def half_coth(terms: int, rounding: Callable[[mp.mpf], mp.mpf], name: str, suffix: str) -> None:
    """2^r = (b + r) / (b - r), b = r coth(r log(2) / 2), on [-1/2, 1/2]: b in powers of r^2."""
    half, rate = mp.mpf("0.50005"), mp.log(2) / 2

    def b(s: mp.mpf) -> mp.mpf:
        r = mp.sqrt(s)
        return r * mp.coth(r * rate) if s else 1 / rate

    c = [rounding(value) for value in fit(b, lambda s: 1 / b(s), mp.mpf(0), half**2, terms)]
    show(name, c, worst(lambda s: evaluate(c, s) / b(s) - 1, mp.mpf(0), half**2), suffix)


def tanh_ratio(terms: int, rounding: Callable[[mp.mpf], mp.mpf], name: str, suffix: str) -> None:
    """tanh(u) / u = 1 + u^2 q(u^2) for u in [0, 3/4]: q."""
    high = mp.mpf("0.75") ** 2 * mp.mpf("1.0001")

    def ratio(s: mp.mpf) -> mp.mpf:
        u = mp.sqrt(s)
        return mp.tanh(u) / u if s else mp.mpf(1)

    c = [
        rounding(value)
        for value in fit(
            lambda s: (ratio(s) - 1) / s, lambda s: s / ratio(s), mp.mpf(0), high, terms
        )
    ]
    show(
        name,
        c,
        worst(lambda s: (1 + s * evaluate(c, s)) / ratio(s) - 1, mp.mpf(0), high),
        suffix,
    )


def logarithm(terms: int) -> None:
    """2 atanh(t) = 2 t + t^3 g(t^2) for t = z / (2 + z), 1 + z in [sqrt(1/2), sqrt(2)]: g."""
    high = (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1) * mp.mpf("1.0001")

    def g(s: mp.mpf) -> mp.mpf:
        return sum((2 * s**i / (2 * i + 3) for i in range(60)), mp.mpf(0))

    c = [round_f64(value) for value in fit(g, lambda s: s, mp.mpf(0), high**2, terms)]

    def error(t: mp.mpf) -> mp.mpf:
        return (2 * t + t**3 * evaluate(c, t * t)) / (2 * mp.atanh(t)) - 1

    show("log, f64", c, worst(error, mp.mpf(0), high))


def logarithm_to_two(
    terms: int, rounding: Callable[[mp.mpf], mp.mpf], name: str, suffix: str
) -> None:
    """log(1 + e) = 2 s + s^3 g(s^2) for s = e / (2 + e), e in [0, 1]: g."""
    high = mp.mpf(1) / 3 * mp.mpf("1.0001")

    def g(s: mp.mpf) -> mp.mpf:
        return sum((2 * s**i / (2 * i + 3) for i in range(100)), mp.mpf(0))

    c = [rounding(value) for value in fit(g, lambda s: s, mp.mpf(0), high**2, terms)]

    def error(s: mp.mpf) -> mp.mpf:
        return (2 * s + s**3 * evaluate(c, s * s)) / (2 * mp.atanh(s)) - 1

    show(name, c, worst(error, mp.mpf(0), high), suffix)


def main() -> None:
    exponential(5, round_f32, "exp, f32", "f")
    exponential(2, round_f32, "exp of a sixteenth of log(2), f32", "f", parts=8)
    eighths()
    exponential(10, round_f64, "exp, f64", "")
    half_coth(3, round_f32, "r coth(r log(2) / 2), f32", "f")
    half_coth(6, round_f64, "r coth(r log(2) / 2), f64", "")
    tanh_ratio(5, round_f32, "tanh(u) / u, f32", "f")
    tanh_ratio(12, round_f64, "tanh(u) / u, f64", "")
    logarithm(7)
    logarithm_to_two(4, round_f32, "log(1 + e), f32", "f")
    logarithm_to_two(10, round_f64, "log(1 + e), f64", "")
    log2 = mp.log(2)
    print(
        "\nlog(2), f32:",
        float(round_f32(log2)).hex(),
        float(round_f32(log2 - round_f32(log2))).hex(),
    )
    print("log(2), f64:", float(log2).hex(), float(log2 - round_f64(log2)).hex())
    high = mp.floor(log2 * 2**32) / 2**32
    print("log(2), f64, 32 bits and the rest:", float(high).hex(), float(log2 - high).hex())
    high = mp.floor(log2 * 2**9 + mp.mpf(1) / 2) / 2**9
    print(
        "log(2), f32, 9 bits and the rest:", float(high).hex(), float(round_f32(log2 - high)).hex()
    )
    print("log2(e):", float(round_f32(1 / log2)).hex(), float(1 / log2).hex())
    print(
        "log(2^-178), log(2^-1107):", float(round_f32(-178 * log2)).hex(), float(-1107 * log2).hex()
    )
    print("2 log2(e):", float(2 / log2).hex())
    print("sqrt(1/2) as bits:", hex(struct.unpack("<Q", struct.pack("<d", float(mp.sqrt(0.5))))[0]))


if __name__ == "__main__":
    main()
