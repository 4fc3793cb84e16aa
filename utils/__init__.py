"""Shared helpers of the notebooks: video -> frames -> faces -> data set -> model -> predictions -> metrics -> figures."""
