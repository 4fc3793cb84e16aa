"""The house: each folder is a room. Data flow from left to right, and a room imports only from rooms to its left.

faces (tree or video -> crops) | synthff (people -> tree) | learn (crops -> scores) | results (scores -> tables, figures,
report) | checks (what could be wrong with the data) | run (drives all). `config` holds every number,
`protocol` those of the large study, `paths` every path.
"""
