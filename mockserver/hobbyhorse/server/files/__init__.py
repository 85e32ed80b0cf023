"""The files that the fake serves and fetches: videos, images; imports only `request` from `server`."""
