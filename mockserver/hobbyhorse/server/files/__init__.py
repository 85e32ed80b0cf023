"""The files that the fake serves and fetches: videos, images, refusals. Imports only `request` from `server`."""
