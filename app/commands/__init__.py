"""The commands of `concept-forget`, one file per noun. Each imports its heavy parts when it is called, not before."""
