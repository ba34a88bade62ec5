//! Site, area, asset, shaft, measurement point, channel: one validated model.
