"""The YAMLs that `recgen run --config` and RecBole find by name."""
