"""Typed settings: one object per component, one YAML per deployment, and nothing configured anywhere else.

`load(path, overrides)` reads the YAML, applies `key.sub=value` overrides and checks everything at once;
an unknown key or an impossible value is a SettingsError that names the key and the fix.
"""

from foretaste.settings.data import (
    CampaignColumns,
    CampaignFile,
    DescribedFile,
    EventColumns,
    IngestSettings,
    ItemColumns,
    ItemFile,
    PromotionColumns,
    PromotionFile,
    SequenceSettings,
    SeriesSettings,
    SessionSettings,
    SourceSettings,
    SparkSettings,
    TimeFormat,
    WarehouseSettings,
)
from foretaste.settings.deployment import Settings, load
from foretaste.settings.learning import (
    AugmentSettings,
    Baseline,
    BlendSettings,
    CountedSettings,
    FitSettings,
    LossSettings,
    ModelSettings,
    NegativeSettings,
    SearchSettings,
    SharedSettings,
    TaskSettings,
    TrainingSettings,
)
from foretaste.settings.using import EvaluationSettings, FilterSettings, ReasonSettings, ScoringSettings, SegmentSettings, SynthesisSettings

__all__ = [
    "AugmentSettings",
    "Baseline",
    "BlendSettings",
    "CampaignColumns",
    "CampaignFile",
    "CountedSettings",
    "DescribedFile",
    "EvaluationSettings",
    "EventColumns",
    "FilterSettings",
    "FitSettings",
    "IngestSettings",
    "ItemColumns",
    "ItemFile",
    "LossSettings",
    "ModelSettings",
    "NegativeSettings",
    "PromotionColumns",
    "PromotionFile",
    "ReasonSettings",
    "ScoringSettings",
    "SearchSettings",
    "SegmentSettings",
    "SequenceSettings",
    "SeriesSettings",
    "SessionSettings",
    "Settings",
    "SharedSettings",
    "SourceSettings",
    "SparkSettings",
    "SynthesisSettings",
    "TaskSettings",
    "TimeFormat",
    "TrainingSettings",
    "WarehouseSettings",
    "load",
]
