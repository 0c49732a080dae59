"""fastlse and everybody else, at the shapes that users have."""


def test_peers(compete):
    compete()
