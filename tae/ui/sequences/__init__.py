"""The page "Sequences": the sequences of a session, what models make of them, and its parts, a file each."""
