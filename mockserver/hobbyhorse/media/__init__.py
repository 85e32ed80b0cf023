"""Pictures and films: what a job is given and what it gives; knows no contract, no HTTP, no clock."""
