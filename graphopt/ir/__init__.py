"""The intermediate representation: dims, types, constants, operators, graphs, and their text form."""
