"""The front door: parsing and printing, nothing else; one module per group of commands."""
