"""A course at the terminal: lessons that build containers by hand, and find the same things in real ones.

A lesson is a text (`lesson`, and one in each file of `course/`). `play` performs it, at `terminals` that are real
shells, on a screen (`screens`); `script` prints it as a shell script. `docs/learn.md` says how to write one.
"""
