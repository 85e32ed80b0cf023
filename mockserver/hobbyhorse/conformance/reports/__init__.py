"""Further forms of a report (SARIF, Markdown), and what can be done with several reports."""
