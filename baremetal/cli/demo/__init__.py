"""`baremetal lab demo`: blank virtual machines to configured nodes, through the verbs a real rack uses.

script.py says what is done, run.py does it, view.py shows it, result.py sums it up.
"""
