"""Files that are whole or not there, and that cannot run anything.

- atomic: files written whole or not at all
- regular: regular files of a bounded size, and strict JSON
- sealed: safetensors containers with texts, digests and a seal, checked before they are believed
- card: the model card
- checkpoint: checkpoints of autoencoders
- foreign: those of other programs, pickles too, made into ours
- locker: a visitor's uploads, for a day, in a folder that a secret names
- names: file names and texts of strangers made plain
- refusals: a line in the log for each that is refused
- places: where the project's own files lie
"""
