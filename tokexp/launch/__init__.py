"""How attempts get to run, and the controller that carries out a plan with them. No torch at import."""
