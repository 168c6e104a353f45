"""From a spec to the graph of stages that it needs, with their keys and what they will cost. No torch here."""
