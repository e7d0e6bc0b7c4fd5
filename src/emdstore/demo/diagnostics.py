"""The diagnostics of the ensemble: what each evaluates, and the patterns that its quantity is made of."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

METRICS: Mapping[str, str] = {
    "bias": "Bias",
    "rmse": "Root mean square error",
    "correlation": "Correlation",
    "standard_deviation_ratio": "Ratio of standard deviations",
}
"""The metrics that are computed for each region and season, with their names."""


@attrs.frozen
class Amount:
    """The amplitude of a pattern: in the yearly mean, in summer's deviation from it, and in the errors of models."""

    mean: float = 0.0
    summer: float = 0.0
    error: float = 0.0


@attrs.frozen
class Diagnostic:
    """What is evaluated.

    Attributes
    ----------
    provider, name
        Who made it, and what it is called.
    variable, long_name, units
        Of the quantity.
    reference
        The observations.
    domain
        Where there are values: ``all``, ``land`` or ``ocean``.
    change, noise
        How far the quantity moves over the years, and from one year to the next, as a share of what it is.
    patterns
        The reference, and how models differ from it.
    """

    provider: str
    name: str
    variable: str
    long_name: str
    units: str
    reference: str
    domain: str
    change: float
    noise: float
    patterns: Mapping[str, Amount] = attrs.field(hash=False, repr=False)


DIAGNOSTICS = (
    Diagnostic(
        "meanstate", "surface-temperature", "tas", "Near-surface air temperature", "K", "ERA5", "all", 0.0038, 0.0004,
        {
            "everywhere": Amount(287.5, 0, 0.7),
            "poleward": Amount(-44, 0, 2.6),
            "northward": Amount(1.5, 9, 0.9),
            "land": Amount(-2, 0, 1.1),
            "continents": Amount(-3, 14, 1.3),
            "waves": Amount(1.2, 0, 0.8),
            "storm tracks": Amount(0.8, -0.6, 1.2),
            "southern ocean": Amount(-6, 0, 1.8),
        },
    ),
    Diagnostic(
        "landmark", "gross-primary-production", "gpp", "Gross primary production", "g m-2 day-1", "FLUXCOM", "land",
        0.12, 0.02,
        {
            "equatorward": Amount(2.6, 0, 0.6),
            "summer": Amount(0.3, 2, 0.5),
            "rain belt": Amount(3.4, 0, 0.8),
            "second belt": Amount(2, 0, 0.6),
            "waves": Amount(-0.7, 0, 0.25),
        },
    ),
    Diagnostic(
        "tideline", "sea-surface-temperature", "tos", "Sea surface temperature", "degC", "HadISST", "ocean",
        0.04, 0.005,
        {
            "everywhere": Amount(17.5, 0, 0.4),
            "poleward": Amount(-28, 0, 1.1),
            "northward": Amount(0.8, 4, 0.7),
            "waves": Amount(1, 0, 0.4),
            "cold tongue": Amount(-3, -0.5, 0.9),
            "southern ocean": Amount(-1.5, 0, 0.9),
        },
    ),
    Diagnostic(
        "meanstate", "precipitation", "pr", "Precipitation", "mm day-1", "GPCP-2-3", "all", 0.02, 0.01,
        {
            "everywhere": Amount(0.9, 0, 0.08),
            "equatorward": Amount(1.2, 0, 0.22),
            "summer": Amount(0, 0.5, 0.2),
            "rain belt": Amount(4.2, 0.9, 0.6),
            "second belt": Amount(0.6, -0.4, 0.8),
            "cold tongue": Amount(-1.2, 0, 0.3),
            "storm tracks": Amount(0.5, 0, 0.2),
        },
    ),
    Diagnostic(
        "tideline", "sea-ice-concentration", "siconc", "Sea ice concentration", "%", "OSI-450", "ocean", -0.2, 0.03,
        {
            "arctic": Amount(66, -16, 9),
            "southern ocean": Amount(58, 22, 11),
        },
    ),
    Diagnostic(
        "meanstate", "sea-level-pressure", "psl", "Sea level pressure", "hPa", "ERA5", "all", 0.0001, 0.0002,
        {
            "everywhere": Amount(1011.5, 0, 0.3),
            "poleward": Amount(-6, 0, 2),
            "northward": Amount(4, -2, 1.2),
            "continents": Amount(2, -7, 1),
            "storm tracks": Amount(5, -2, 1.6),
            "rain belt": Amount(-3, 0, 0.8),
            "southern ocean": Amount(-12, 0, 3),
        },
    ),
    Diagnostic(
        "landmark", "leaf-area", "lai", "Leaf area index", "1", "AVHRR-LAI", "land", 0.1, 0.012,
        {
            "equatorward": Amount(1.7, 0, 0.45),
            "summer": Amount(0.2, 1.2, 0.35),
            "rain belt": Amount(2.4, 0, 0.6),
            "second belt": Amount(1.4, 0, 0.5),
            "waves": Amount(-0.4, 0, 0.2),
        },
    ),
    Diagnostic(
        "tideline", "sea-surface-salinity", "sos", "Sea surface salinity", "1e-3", "WOA23", "ocean", -0.001, 0.0006,
        {
            "everywhere": Amount(34.1, 0, 0.2),
            "equatorward": Amount(1.6, 0, 0.3),
            "rain belt": Amount(-1.1, -0.2, 0.25),
            "waves": Amount(-0.8, 0, 0.3),
            "arctic": Amount(-3, -0.4, 0.9),
            "southern ocean": Amount(-0.3, 0, 0.2),
        },
    ),
    Diagnostic(
        "meanstate", "outgoing-longwave", "rlut", "Outgoing longwave radiation", "W m-2", "CERES-EBAF", "all",
        0.002, 0.0012,
        {
            "everywhere": Amount(240, 0, 1.5),
            "poleward": Amount(-105, 0, 4),
            "northward": Amount(4, 20, 1.5),
            "rain belt": Amount(-34, 0, 5),
            "second belt": Amount(-6, 4, 5),
            "land": Amount(4, 0, 2),
        },
    ),
    Diagnostic(
        "landmark", "soil-moisture", "mrsos", "Moisture in the upper soil", "kg m-2", "ESA-CCI", "land", -0.025, 0.012,
        {
            "everywhere": Amount(19, 0, 1.5),
            "poleward": Amount(5, 0, 2),
            "rain belt": Amount(9, 2, 2.5),
            "second belt": Amount(6, -2, 2),
            "waves": Amount(2, 0, 1),
        },
    ),
    Diagnostic(
        "tideline", "mixed-layer-depth", "mlotst", "Ocean mixed layer depth", "m", "Argo", "ocean", -0.04, 0.025,
        {
            "everywhere": Amount(52, 0, 5),
            "northward": Amount(0, -24, 4),
            "storm tracks": Amount(12, -4, 5),
            "southern ocean": Amount(25, 0, 12),
        },
    ),
    Diagnostic(
        "meanstate", "cloud-cover", "clt", "Total cloud cover", "%", "ESACCI-CLOUD", "all", -0.006, 0.004,
        {
            "everywhere": Amount(60, 0, 2),
            "poleward": Amount(10, 0, 3),
            "land": Amount(-9, 0, 3),
            "rain belt": Amount(9, 2, 3),
            "cold tongue": Amount(-8, 0, 3),
            "southern ocean": Amount(7, 0, 3),
        },
    ),
)  # fmt: skip
"""The available diagnostics. Names of models and observations are real, all numbers are made up."""
