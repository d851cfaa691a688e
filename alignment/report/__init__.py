"""Self-contained HTML pages and inline SVG plots, shared by data, runs, evaluation and the app."""
