"""The files that the fake serves and fetches: videos, images, refusals; of `server` it imports only `request`."""
