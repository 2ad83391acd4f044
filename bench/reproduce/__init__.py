"""The published cells, run one after the other in order of value per hour."""
