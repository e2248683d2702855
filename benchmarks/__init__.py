"""How fast hpo is and how well it searches: each module is a command that prints a table."""
