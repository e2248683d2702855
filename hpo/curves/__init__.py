"""Learning curves: forecasts over steps, and estimates over training-set sizes.

Pure functions of arrays; nothing here knows of studies.
"""

from hpo.curves.distributions import Distribution
from hpo.curves.forecasts import Forecast, forecast, forecast_batch
from hpo.curves.seen import Curve

__all__ = ["Curve", "Distribution", "Forecast", "forecast", "forecast_batch"]
