"""Learning curves: forecasts over steps, and estimates over training-set sizes.

Pure functions of arrays; nothing here knows of studies.
"""

from hpo.curves.data_needs import DataNeeds, data_needs
from hpo.curves.diagnosis import Diagnosis, diagnose
from hpo.curves.distributions import Distribution
from hpo.curves.forecasts import Forecast, forecast, forecast_batch
from hpo.curves.seen import Curve

__all__ = [
    "Curve",
    "DataNeeds",
    "Diagnosis",
    "Distribution",
    "Forecast",
    "data_needs",
    "diagnose",
    "forecast",
    "forecast_batch",
]
