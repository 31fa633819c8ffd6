"""The audit log: who used which door, when, how long and with what outcome; never what was said.

    folder/
      <chain>.000001.jsonl      segments of one chain: every process that writes has a chain of its own
      <chain>.000002.jsonl
      <chain>.head              how far the chain has come, written after its lines

Each line carries the sum of the line before it and of itself, keyed where there is a key (`lines.py`). A
chain begins each segment with a line that names where all other chains of the folder stood, ends it with a
closing line, and says in lines of its own what was deleted for its age or erased on request. So a changed
byte, a line that was taken out or moved, and a cut end are seen (`verify.py`).

What cannot be seen: lines that were cut off together with an older copy of the head put back, where no other
chain has begun since; and, without a key, a chain that was written anew as a whole. Against both, keep what
`sotto audit heads` prints where the service cannot write, and hand it to `sotto audit verify --heads`.
"""
