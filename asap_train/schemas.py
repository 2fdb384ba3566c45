"""The JSON schemas of what asap-train reads and writes, by name."""

from hafbench.schemas import Schemas

SCHEMAS: Schemas = {
    "synth": ("what `asap-train synth --config` reads", "asap_train.data.spec:SynthSpec"),
    "redraw": ("what `asap-train redraw --config` reads", "asap_train.data.spec:RedrawSpec"),
    "fit": ("what `asap-train fit --config` reads, fit.yaml", "asap_train.training.config:FitConfig"),
    "hap": ("hap.json of a data set", "asap_train.hap.manifest:HapManifest"),
    "families": ("the options of each degradation family, by its name", "asap_train.degrade:FAMILIES"),
    "objectives": ("the numbers of each objective, by its name", "asap_train.training.objectives:OBJECTIVES"),
}
