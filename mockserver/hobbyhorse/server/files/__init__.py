"""The files that the fake serves and fetches: videos, pictures, signed links; imports no other part of `server` but `request`."""
