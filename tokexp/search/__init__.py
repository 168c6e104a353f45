"""Search: Optuna by ask and tell, from the controller alone.

`study.py` is the way in; `space.py` turns dimensions into distributions, `samplers.py` and `pruners.py` the words of a
sweep into Optuna's classes, `trials.py` and `journal.py` keep what is known, `analysis.py` reads it for reports.
"""
