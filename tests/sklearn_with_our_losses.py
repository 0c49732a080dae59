"""A pytest plugin: scikit-learn's loss objects are made of fastlse's low-level losses."""

import sklearn._loss.loss

from fastlse.sklearn import CyHalfBinomialLoss, CyHalfMultinomialLoss

sklearn._loss.loss.CyHalfBinomialLoss = CyHalfBinomialLoss
sklearn._loss.loss.CyHalfMultinomialLoss = CyHalfMultinomialLoss
