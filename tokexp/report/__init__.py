"""What people see of runs: tables, curves, pictures, one HTML file. Reads what was recorded; changes nothing."""
