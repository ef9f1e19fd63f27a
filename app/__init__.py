"""The desk: where model, dictionaries and instruments come together. Imported by nothing to its left."""
