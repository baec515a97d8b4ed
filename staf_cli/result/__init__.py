"""What a clip's folder holds: tables, parameters, and the journal of passes."""
