"""Instruments that read a model: tracing, probing, figures. They hand back data and change nothing."""
