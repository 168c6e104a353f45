"""What each verb of the command line does: plain arguments in, text or one JSON object out, an exit code back."""
