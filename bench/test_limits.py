"""fastlse and what the machine can do: its bandwidth and its arithmetic."""


def test_limits(compete):
    compete()
