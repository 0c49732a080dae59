"""A pytest plugin: scikit-learn is patched before its tests are imported."""

import fastlse.sklearn

fastlse.sklearn.patch()
