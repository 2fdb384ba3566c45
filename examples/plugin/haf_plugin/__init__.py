"""An example of a package that adds components to hafbench and asap-train: one file each."""
