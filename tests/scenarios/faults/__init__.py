"""Tests of the faults, one file for each module."""
